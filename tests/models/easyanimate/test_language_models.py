# SPDX-License-Identifier: Apache-2.0
"""EvaluateModelHook of type lm through the real runtime: tiny GPT-2s, an adapter, and sums made here by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.models.warm_pod import WarmPod
from tokenizers import Tokenizer, decoders
from tokenizers import models as cuts
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sandbox_runtime.language.windows import windows

END = "<|endoftext|>"
TEXTS = ["a short one", "", "Sein oder Nichtsein — das ist hier die Frage: " * 3, "x", "the same words, the same words"]


def save_gpt2(folder: Path, seed: int, merges: tuple[tuple[str, str], ...] = (), length: int = 32) -> Path:
    """A GPT-2 of two layers over bytes, and what is merged of them. length: tokens that it can take."""
    letters = [END, *sorted(ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(cuts.BPE(vocab={each: place for place, each in enumerate(letters)}, merges=list(merges)))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(letters), n_positions=length, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    for weight in model.parameters():
        weight.data *= 4  # so that predictions differ from each other
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `checkpoint-1` to `-3`, `pairs` with another tokenizer, and `adapter` of checkpoint-1."""
    folder = tmp_path_factory.mktemp("models")
    for number in (1, 2, 3):
        save_gpt2(folder / f"checkpoint-{number}", number)
    save_gpt2(folder / "pairs", 1, (("t", "h"), ("th", "e")))
    base = AutoModelForCausalLM.from_pretrained(folder / "checkpoint-1")
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = "inputs/models/checkpoint-1"
    adapted.save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def pod(tmp_path: Path, shelf: Path) -> HookPod:
    pod = WarmPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    shutil.copytree(shelf, pod.inputs / "models")
    write_jsonl(pod.inputs / "heldout" / "rows.jsonl", [{"doc": {"text": text}} for text in TEXTS])
    return pod


def evaluate(pod: HookPod, *names: str, attempt: int = 1, cache_key: str = "", **more: Any) -> Ended:
    extra = {
        "models": [f"inputs/models/{name}" for name in names],
        "dataset_path": "inputs/heldout/rows.jsonl",
        "text_key": "doc.text",
        **more,
    }
    return pod.run(
        job_contract(
            "EvaluateModelHook",
            stage="evaluation",
            type="lm",
            meta_name="judge",
            extra=extra,
            attempt=attempt,
            cache_key=cache_key,
        )
    )


def said(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def direct(model: Any, tokenizer: Any, length: int, stride: int, *, start: bool = True) -> tuple[float, int]:
    """Loss and number of tokens, one token at a time, each from a pass of its own over what it may see."""
    nats, count = 0.0, 0
    for text in TEXTS:
        tokens = ([0] if start else []) + tokenizer(text)["input_ids"]
        for place in range(1, len(tokens)):
            begin = 0
            while begin + length <= place:  # the first window that has it
                begin += stride
            with torch.inference_mode():
                logits = model(torch.tensor([tokens[begin:place]])).logits[0, -1].double()
            nats -= float(logits.log_softmax(0)[tokens[place]])
            count += 1
    return nats / count, count


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_perplexity_is_that_of_one_token_after_the_other(pod: HookPod, shelf: Path, batch_size: int) -> None:
    ended = evaluate(pod, "checkpoint-1", max_length=24, stride=7, batch_size=batch_size)
    assert ended.code == 0, ended.log
    folder = shelf / "checkpoint-1"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    loss, count = direct(model, tokenizer, 24, 7)
    figures = ended.message.metrics
    assert count == figures["judge.tokens"] == sum(len(text.encode()) for text in TEXTS), "bytes are its tokens"
    assert figures["judge.loss"] == pytest.approx(loss, abs=1e-5)
    assert figures["judge"] == figures["judge.perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert figures["judge.bits_per_byte"] == pytest.approx(loss / math.log(2), abs=1e-5)
    assert (figures["judge.rows"], figures["judge.empty"]) == (5, 1)
    assert ended.result.outputs["value"].value == figures["judge"]


def test_without_a_start_token_the_first_one_does_not_count(pod: HookPod, shelf: Path) -> None:
    """The model takes 32 tokens, whatever max_length says."""
    ended = evaluate(pod, "checkpoint-1", add_start_token=False)
    assert ended.code == 0, ended.log
    folder = shelf / "checkpoint-1"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    loss, count = direct(model, tokenizer, 32, 16, start=False)
    figures = ended.message.metrics
    assert (figures["judge.tokens"], figures["judge.empty"]) == (count, 2)
    assert figures["judge.loss"] == pytest.approx(loss, abs=1e-5)
    assert "judge.bits_per_byte" not in figures


def test_each_token_but_the_first_counts_once() -> None:
    for tokens in range(40):
        for length in range(2, 12):
            for stride in range(1, length):
                counted = []
                for begin, end, first in windows(tokens, length, stride):
                    assert begin < first < end <= begin + length
                    counted += range(first, end)
                assert counted == list(range(1, tokens))


def test_checkpoints_are_ranked_and_ties_are_said(pod: HookPod) -> None:
    """Equal weights in two folders are as good as each other; a diverged one is last, and the others stand."""
    shutil.copytree(pod.inputs / "models" / "checkpoint-1", pod.inputs / "models" / "again")
    broken = pod.inputs / "models" / "diverged"
    model = AutoModelForCausalLM.from_pretrained(pod.inputs / "models" / "checkpoint-2")
    model.transformer.ln_f.weight.data.fill_(float("nan"))
    model.save_pretrained(broken)
    AutoTokenizer.from_pretrained(pod.inputs / "models" / "checkpoint-2").save_pretrained(broken)
    names = ["diverged", "checkpoint-1", "checkpoint-2", "again", "checkpoint-3"]
    ended = evaluate(pod, *names, batch_size=4)
    assert ended.code == 0, ended.log
    results, ranking = (ended.result.outputs[name].value for name in ("results", "ranking"))
    assert [row["name"] for row in results] == names
    figures = ended.message.metrics
    by_name = {row["name"]: row for row in results}
    assert by_name["checkpoint-1"]["perplexity"] == by_name["again"]["perplexity"]
    assert [row["name"] for row in results if row.get("equal")] == ["checkpoint-1", "again"]
    values = [row["perplexity"] for row in ranking[:-1]]
    assert values == sorted(values)
    expected = [1 + sum(other < value for other in values) for value in values]
    assert [row["rank"] for row in ranking] == [*expected, None]
    assert ranking[-1]["name"] == "diverged"
    assert ranking[-1]["error"] == "its loss is nan in row 1 of inputs/heldout/rows.jsonl"
    assert "diverged is last: its loss is nan" in ended.result.message
    assert "equal" in ended.result.message
    best = ranking[0]
    assert ended.result.outputs["best"].value == best["model"] == f"inputs/models/{best['name']}"
    assert figures["judge"] == best["perplexity"] == figures[f"judge.{best['name']}.perplexity"]

    worst = evaluate(pod, *names[1:3], metric="loss", goal="maximize")
    assert worst.code == 0, worst.log
    assert worst.result.outputs["ranking"].value[0]["loss"] == max(by_name[name]["loss"] for name in names[1:3])

    alone = evaluate(pod, "diverged")
    assert alone.code == 1
    assert said(alone) == "inputs/models/diverged: its loss is nan in row 1 of inputs/heldout/rows.jsonl"


def test_an_adapter_is_judged_on_its_base(pod: HookPod, shelf: Path) -> None:
    ended = evaluate(pod, "adapter", max_length=24, stride=7, cache_key="k")
    assert ended.code == 0, ended.log
    models = {f"inputs/models/{name}" for name in ("adapter", "checkpoint-1")}
    read = {name[name.index("inputs/") :] for name in ended.result.externals}
    assert read == {"inputs/heldout/rows.jsonl", *models}, "what a later use must find unchanged"
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(shelf / "checkpoint-1")
    model = PeftModel.from_pretrained(base, shelf / "adapter").eval()
    loss, _ = direct(model, AutoTokenizer.from_pretrained(shelf / "checkpoint-1"), 24, 7)
    base = AutoModelForCausalLM.from_pretrained(shelf / "checkpoint-1").eval()
    bare, _ = direct(base, AutoTokenizer.from_pretrained(shelf / "checkpoint-1"), 24, 7)
    assert ended.message.metrics["judge.loss"] == pytest.approx(loss, abs=1e-5)
    assert abs(loss - bare) > 1e-3


def test_other_tokenizers_are_compared_by_bytes_alone(pod: HookPod) -> None:
    ended = evaluate(pod, "checkpoint-1", "pairs")
    assert ended.code == 2
    assert "read the texts in different tokens or windows, so that their perplexity can't be compared" in said(ended)
    ended = evaluate(pod, "checkpoint-1", "pairs", metric="bits_per_byte")
    assert ended.code == 0, ended.log
    figures = ended.message.metrics
    assert figures["judge.pairs.tokens"] < figures["judge.checkpoint-1.tokens"]
    assert figures["judge"] == min(figures[f"judge.{name}.bits_per_byte"] for name in ("pairs", "checkpoint-1"))


def test_models_are_compared_in_windows_that_both_can_take(pod: HookPod) -> None:
    save_gpt2(pod.inputs / "models" / "small", 4, length=16)
    ended = evaluate(pod, "checkpoint-1", "small")
    assert ended.code == 2
    assert "or set max_length to what each can take" in said(ended)
    ended = evaluate(pod, "checkpoint-1", "small", max_length=16)
    assert ended.code == 0, ended.log


def test_checkpoints_of_a_training_come_as_a_list_and_the_best_goes_on(pod: HookPod) -> None:
    """Both trainings call their folders the same; the best is a result with a digest."""
    trained = []
    for index in (0, 1):
        source = pod.experiment / "outputs" / f"trained-{index}" / "last"
        shutil.copytree(pod.inputs / "models" / f"checkpoint-{index + 1}", source)
        trained.append(str(source))
    ended = evaluate(pod, models=[trained])
    assert ended.code == 0, ended.log
    assert [row["name"] for row in ended.result.outputs["results"].value] == ["last_1", "last_2"]
    best = ended.result.outputs["best"]
    assert (best.kind, best.sha256 is not None) == ("path", True)
    assert str(ended.output("best")) in trained
    second = str(pod.experiment / "outputs" / "last_1")
    shutil.copytree(trained[1], second)
    both = evaluate(pod, models=[*trained, second], max_length=16)
    assert [row["name"] for row in both.result.outputs["results"].value] == ["last_1", "last_2", "last_1_3"]
    chosen = job_contract(
        "EvaluateModelHook",
        stage="evaluation",
        type="lm",
        index=1,
        meta_name="again",
        extra={"dataset_path": "inputs/heldout/rows.jsonl", "text_key": "doc.text"},
        inputs={"extraConfigs.model": ended.reference("best")},
    )
    later = pod.run(chosen)
    assert later.code == 0, later.log
    assert later.message.metrics["again"] == ended.message.metrics["judge"]
    (ended.output("best") / "config.json").write_text("{}")
    assert pod.run(chosen.model_copy(update={"attempt": 2, "generation": 2})).code == 3, (
        "it was changed after its choice"
    )


def test_a_later_attempt_judges_what_is_missing_or_has_changed(pod: HookPod, shelf: Path) -> None:
    broken = pod.inputs / "models" / "checkpoint-2" / "config.json"
    broken.write_text("{}")
    first = evaluate(pod, "checkpoint-1", "checkpoint-2")
    assert first.code == 2, first.log
    assert "extraConfigs.models: inputs/models/checkpoint-2 can't be loaded: " in said(first)
    shutil.copy(shelf / "checkpoint-2" / "config.json", broken)
    second = evaluate(pod, "checkpoint-1", "checkpoint-2", attempt=2)
    assert second.code == 0, second.log
    kept = "checkpoint-1: an earlier attempt has judged it"
    assert kept in second.log
    whole = evaluate(pod, "checkpoint-2", "checkpoint-1", attempt=3)
    assert whole.code == 0, whole.log
    assert kept not in whole.log, "what a job has kept goes with its success"
    names = ("loss", "checkpoint-1.loss", "checkpoint-2.loss", "tokens")
    for name in names:
        assert second.message.metrics[f"judge.{name}"] == whole.message.metrics[f"judge.{name}"]

    broken.write_text("{}")
    assert evaluate(pod, "checkpoint-1", "checkpoint-2", attempt=4, batch_size=3).code == 2
    shutil.copy(shelf / "checkpoint-2" / "config.json", broken)
    write_jsonl(pod.inputs / "heldout" / "rows.jsonl", [{"doc": {"text": "other texts"}}])
    other = evaluate(pod, "checkpoint-1", "checkpoint-2", attempt=5, batch_size=3)
    assert other.code == 0, other.log
    assert kept not in other.log
    assert other.message.metrics["judge.tokens"] == len("other texts")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"models": ["inputs/models/checkpoint-9"]}, "extraConfigs.models[0]: there is no file or folder inputs/models/checkpoint-9"),
        ({"models": ["outputs/none"]}, "extraConfigs.models: there is no folder outputs/none"),
        ({"models": ["inputs/models"]}, "has neither config.json nor adapter_config.json, so it is no model of transformers; name what is in it: "),
        ({"models": ["inputs/heldout/rows.jsonl"]}, "is a file; a checkpoint is a folder"),
        ({"models": []}, "extraConfigs.models: name the checkpoints"),
        ({"model": "inputs/models/pairs"}, "extraConfigs.model: models are named as well"),
        ({"dataset_path": "inputs/heldout/empty.jsonl"}, "extraConfigs.dataset_path: inputs/heldout/empty.jsonl holds no rows"),
        ({"dataset_path": "inputs/heldout/blank.jsonl"}, "extraConfigs.dataset_path: inputs/heldout/blank.jsonl has no text with a token"),
        ({"text_key": "text"}, "extraConfigs.text_key: row 1 of rows.jsonl has no text under 'text'; its fields are doc"),
        ({"stride": 40}, "extraConfigs.stride: 40 is not less than the 32 tokens that inputs/models/checkpoint-1 can take"),
        ({"metric": "accuracy"}, "extraConfigs.metric: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(pod: HookPod, extra: dict[str, Any], words: str) -> None:
    (pod.inputs / "heldout" / "empty.jsonl").touch()
    write_jsonl(pod.inputs / "heldout" / "blank.jsonl", [{"doc": {"text": ""}}])
    ended = evaluate(pod, "checkpoint-1", **extra)
    assert ended.code == 2, ended.log
    assert words in said(ended)


def test_an_adapter_without_its_base_is_named(pod: HookPod) -> None:
    path = pod.inputs / "models" / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "outputs/gone"}))
    ended = evaluate(pod, "adapter")
    assert ended.code == 2, ended.log
    assert "adapts the model outputs/gone, and there is no such folder" in said(ended)
