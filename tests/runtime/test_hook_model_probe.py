# SPDX-License-Identifier: Apache-2.0
"""ProbeViaModelInferHook on real transformers models that are made and trained here, in seconds."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

TOPICS = ("sport", "food", "music")
WORDS = {topic: [f"{topic}{number}" for number in range(12)] for topic in TOPICS}
EVERY = ["[PAD]", "[UNK]", "[EOS]", "the", "a", *(word for words in WORDS.values() for word in words)]
ROWS = 1000
FLIPPED = 50


def rows() -> list[dict[str, Any]]:
    chance = random.Random(1)
    found = []
    for number in range(ROWS):
        topic = chance.choice(TOPICS)
        words = [chance.choice(["the", "a", *WORDS[topic]]) for _ in range(12)]
        others = [other for other in TOPICS if other != topic]
        label = chance.choice(others) if number < FLIPPED else topic
        found.append({"text": " ".join(words), "label": label, "truth": topic})
    chance.shuffle(found)
    return found


def save_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(EVERY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]")
    fast.save_pretrained(folder)
    return fast


def train(model: Any, folder: Path, texts: list[str], labels: list[int] | None, seed: int) -> None:
    """A few passes over a bootstrap sample."""
    tokenizer = save_tokenizer(folder)
    torch.manual_seed(seed)
    chance = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(50):
        chosen = [chance.randrange(len(texts)) for _ in range(32)]
        batch = tokenizer([texts[place] for place in chosen], return_tensors="pt", padding=True)
        batch.pop("token_type_ids", None)
        wanted = batch["input_ids"] if labels is None else torch.tensor([labels[place] for place in chosen])
        optimizer.zero_grad()
        model(**batch, labels=wanted).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bert-0` to `bert-2`, classifiers that were trained on the labels as they are, and `gpt-0`, `gpt-1`."""
    folder = tmp_path_factory.mktemp("models")
    torch.set_num_threads(1)  # for so small models more only wait for each other
    texts = [row["text"] for row in rows()]
    labels = [TOPICS.index(row["label"]) for row in rows()]
    names = dict(enumerate(TOPICS))
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    for seed in range(3):
        torch.manual_seed(seed)
        config = BertConfig(vocab_size=len(EVERY), max_position_embeddings=32, id2label=names, pad_token_id=0, **small)
        train(BertForSequenceClassification(config), folder / f"bert-{seed}", texts, labels, seed)
    for seed in range(2):
        torch.manual_seed(seed)
        gpt = GPT2Config(
            vocab_size=len(EVERY), n_positions=32, n_embd=32, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=2
        )
        train(GPT2LMHeadModel(gpt), folder / f"gpt-{seed}", texts, None, seed)
    return folder


def probe(pod: HookPod, data: list[dict[str, Any]], extra: dict[str, Any], **dj: Any) -> Ended:
    write_jsonl(pod.experiment / "data.jsonl", data)
    contract = job_contract(
        "ProbeViaModelInferHook",
        stage="probe",
        meta_name="ask",
        dj={"dataset_path": "data.jsonl", **dj},
        extra={"type": "transformers", **extra},
        outputs=["results", "hard", "dirty"],
        type="transformers",
    )
    return pod.run(contract)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def pod(tmp_path: Path, models: Path) -> HookPod:
    pod = HookPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    shutil.copytree(models, pod.experiment / "models")
    return pod


def test_flipped_labels_come_out_dirty(pod: HookPod) -> None:
    """Of 1 000 rows 50 have another's label; of the 50 that come out on top at least 40 are such."""
    data = rows()
    wrong = {place for place, row in enumerate(data) if row["label"] != row["truth"]}
    assert (len(data), len(wrong)) == (1000, 50)
    ended = probe(pod, data, {"objective": "classification", "models": [f"models/bert-{seed}" for seed in range(3)]})
    assert ended.code == 0, ended.log
    dirty = lines(ended.output("dirty"))
    assert len(dirty) <= 50
    assert sum(row["label"] != row["truth"] for row in dirty) >= 40, "chance is 2.5"
    results = lines(ended.output("results"))
    top = sorted(range(ROWS), key=lambda place: -results[place]["loss"])[:50]
    assert len(wrong.intersection(top)) >= 40, "chance is 2.5"
    assert [row["__sandbox_id__"] for row in results if row["verdict"] == "dirty"] == [
        row["__sandbox_id__"] for row in dirty
    ]
    figures = ended.message.metrics
    assert (figures["ask.rows"], figures["ask.dirty"]) == (ROWS, len(dirty))
    assert figures["ask.score.mean"] > 0.3


def test_a_texts_loss_is_the_models_own(pod: HookPod, models: Path) -> None:
    data = [
        *rows()[:20],
        {"text": "zebra " * 12, "label": "sport", "truth": "none"},
        {"text": "the", "label": "", "truth": ""},
    ]
    ended = probe(pod, data, {"models": ["models/gpt-0", "models/gpt-1"], "batch_size": 5, "top_share": 0.1})
    assert ended.code == 0, ended.log
    results = lines(ended.output("results"))
    model, tokenizer = (
        GPT2LMHeadModel.from_pretrained(models / "gpt-1"),
        PreTrainedTokenizerFast.from_pretrained(models / "gpt-1"),
    )
    for row, found in zip(data[:20], results, strict=False):
        tokens = tokenizer(row["text"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            alone = model(tokens, labels=tokens).loss.item()
        assert found["losses"]["gpt-1"] == pytest.approx(alone, abs=1e-4), "a batch changes nothing"
        assert found["tokens"] == tokens.shape[1] - 1
    assert results[-1]["loss"] is None, "one word: there is nothing to predict"
    worst = max(results[:-1], key=lambda row: row["loss"])
    assert worst is results[20], "words that nobody has seen"
    assert worst["verdict"] in ("hard", "dirty")


def test_dropout_makes_passes_of_one_model(pod: HookPod) -> None:
    extra = {"objective": "classification", "models": ["models/bert-0"], "dropout_seeds": [1, 2, 3]}
    first, second = (probe(pod, rows()[:50], extra) for _ in range(2))
    assert first.code == second.code == 0, first.log
    names = [f"bert-0 (dropout {seed})" for seed in (1, 2, 3)]
    found = lines(first.output("results"))
    assert list(found[0]["losses"]) == names
    assert any(row["spread"] > 0 for row in found)
    assert found == lines(second.output("results")), "a seed is a seed"


def test_only_the_rows_that_were_chosen_are_asked_about(pod: HookPod) -> None:
    extra = {"models": ["models/gpt-0"]}
    ended = probe(pod, rows(), extra, data_probe_ratio=0.05)
    assert ended.code == 0, ended.log
    assert ended.message.metrics["ask.rows"] == 50
    ended = probe(
        pod, rows(), {**extra, "field_key": "label", "topk": 1}, data_probe_algo="frequency_specified_field_selector"
    )
    assert ended.code == 0, ended.log
    most = max(TOPICS, key=lambda topic: sum(row["label"] == topic for row in rows()))
    assert ended.message.metrics["ask.rows"] == sum(row["label"] == most for row in rows())


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"models": ["models/none"]}, "extraConfigs.models: the model models/none can't be loaded"),
        ({"models": ["models/gpt-0"], "text_key": "body"}, "extraConfigs.text_key: there is no 'body' in every row"),
        (
            {"objective": "classification", "models": ["models/bert-0"], "labels": ["a", "b", "c"]},
            "extraConfigs.label_key: 'sport' is no class of the models; they know: a, b, c",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_field(pod: HookPod, extra: dict[str, Any], said: str) -> None:
    ended = probe(pod, [{"text": "the a", "label": "sport"}] * 3, extra)
    assert ended.code == 2, ended.log
    assert ended.message.error is not None
    assert said in ended.message.error.message
