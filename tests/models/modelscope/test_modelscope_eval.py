# SPDX-License-Identifier: Apache-2.0
"""EvaluateModelHook of type modelscope through the real runtime: a training's own checkpoints, judged by hand as well."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.models.warm_pod import WarmPod

from sandbox_runtime.modelscope.tiny import save_bert, save_gpt2

ROWS = [
    {"content": text, "label": label}
    for label, texts in {
        "good": ["good fine day", "nice and kind", "a fine joy", "kind and good", "joy"],
        "bad": ["bad ugly rain", "sad and mean", "an ugly loss", "mean and bad", "rain"],
        "dull": ["grey", "so so", "a plain day"],
    }.items()
    for text in texts
]
COLUMNS = {"train": {"first_sequence": "content", "label": "label"}}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> HookPod:
    """A volume with two trainings of a tiny BERT, a short one and a long one, whose outputs are at inputs/models."""
    pod = WarmPod(tmp_path_factory.mktemp("shelf"), environ={"OMP_NUM_THREADS": "1"})
    save_bert(pod.inputs / "models" / "bert")
    save_gpt2(pod.inputs / "models" / "gpt2")
    write_jsonl(pod.inputs / "rows.jsonl", ROWS)
    for name, epochs in (("short", 1), ("long", 30)):
        train = {
            "max_epochs": epochs,
            "optimizer": {"type": "AdamW", "lr": 2e-3},
            "dataloader": {"batch_size_per_gpu": 4, "workers_per_gpu": 0},
        }
        extra = {
            "model_name": "inputs/models/bert",
            "train_dataset": "inputs/rows.jsonl",
            "task": "text-classification",
            "dataset": COLUMNS,
            "train": train,
        }
        ended = pod.run(
            job_contract(
                "TrainModelHook", stage="execution", meta_name="train", type="modelscope", extra=extra,
                outputs=["model", "checkpoints"], attempt=epochs,
            )
        )  # fmt: skip
        assert ended.code == 0, ended.log
        shutil.copytree(ended.output("model") / "output", pod.inputs / "models" / name)
    return pod


def evaluate(pod: HookPod, *names: str, **more: Any) -> Ended:
    extra = {
        "models": [f"inputs/models/{name}" for name in names],
        "eval_dataset": "inputs/rows.jsonl",
        "evaluation": {"dataloader": {"batch_size_per_gpu": 5, "workers_per_gpu": 0}},
        **more,
    }
    return pod.run(
        job_contract("EvaluateModelHook", stage="evaluation", type="modelscope", meta_name="judge", extra=extra)
    )


def said(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def accuracy(model: Path) -> float:
    from modelscope.pipelines import pipeline

    answers = pipeline("text-classification", model=str(model))([row["content"] for row in ROWS])
    best = [each["labels"][max(range(3), key=each["scores"].__getitem__)] for each in answers]
    return sum(label == row["label"] for label, row in zip(best, ROWS, strict=True)) / len(ROWS)


def test_checkpoints_are_ranked_by_what_the_trainer_evaluates(shelf: HookPod) -> None:
    """Columns, classes and task are the training's own."""
    ended = evaluate(shelf, "short", "long")
    assert ended.code == 0, ended.log
    figures = ended.message.metrics
    for name in ("short", "long"):
        assert figures[f"judge.{name}.accuracy"] == pytest.approx(accuracy(shelf.inputs / "models" / name))
    assert figures["judge"] == figures["judge.accuracy"] == figures["judge.long.accuracy"]
    assert figures["judge.short.accuracy"] < figures["judge.long.accuracy"]
    assert 0 < figures["judge.short.macro_f1"] < 1.0
    assert ended.result.outputs["best"].value == "inputs/models/long"
    assert [row["name"] for row in ended.result.outputs["ranking"].value] == ["long", "short"]
    assert [row["name"] for row in ended.result.outputs["results"].value] == ["short", "long"]

    f1 = evaluate(shelf, "long", "short", metric="macro_f1", goal="minimize")
    assert f1.code == 0, f1.log
    assert f1.result.outputs["best"].value == "inputs/models/short"
    assert f1.message.metrics["judge"] == pytest.approx(figures["judge.short.macro_f1"])


def test_equal_checkpoints_have_equal_ranks(shelf: HookPod) -> None:
    shutil.copytree(shelf.inputs / "models" / "long", shelf.inputs / "models" / "again", dirs_exist_ok=True)
    ended = evaluate(shelf, "again", "long")
    assert ended.code == 0, ended.log
    assert [(row["name"], row["rank"], row["equal"]) for row in ended.result.outputs["ranking"].value] == [
        ("again", 1, True),
        ("long", 1, True),
    ]
    assert "long equal to it, so the first in the list is taken" in ended.result.message


def test_an_average_loss_may_rank_and_one_that_is_nan_is_last(shelf: HookPod) -> None:
    broken = shelf.inputs / "models" / "diverged"
    shutil.copytree(shelf.inputs / "models" / "short", broken, dirs_exist_ok=True)
    weights = torch.load(broken / "pytorch_model.bin", weights_only=True)
    [*weights.values()][-1].fill_(float("nan"))
    torch.save(weights, broken / "pytorch_model.bin")
    how = {"dataloader": {"batch_size_per_gpu": 13, "workers_per_gpu": 0}, "metrics": ["loss-metric", "seq-cls-metric"]}
    ended = evaluate(shelf, "diverged", "short", metric="loss", evaluation=how)
    assert ended.code == 0, ended.log
    first, last = ended.result.outputs["ranking"].value
    assert (first["name"], first["rank"], last["name"], last["rank"]) == ("short", 1, "diverged", None)
    assert last["error"] == "its loss is nan, which is no finite number"


@pytest.mark.parametrize(
    ("names", "extra", "words"),
    [
        (["none"], {}, "there is no file or folder inputs/models/none"),
        (["org/model"], {"models": ["org/model"]}, "extraConfigs.models: there is no folder org/model"),
        (["gpt2"], {}, "extraConfigs.models: gpt2 is a language model of transformers"),
        (["bert"], {"task": "text-classification"}, "extraConfigs.dataset.train.labels: name the classes in the model's order"),
        (["short"], {"eval_dataset": "inputs/none.jsonl"}, "extraConfigs.eval_dataset: there is no file"),
        (["short"], {"eval_dataset": "inputs/empty.jsonl"}, "extraConfigs.eval_dataset: the data set has no rows"),
        (["short"], {"eval_dataset": "inputs/torn.jsonl"}, "inputs/torn.jsonl, line 2: not JSON"),
        (["short"], {"dataset": {"train": {"label": "class"}}}, "extraConfigs.eval_dataset: row 1 has no 'class'"),
        (["short"], {"metric": "bleu", "goal": "maximize"}, "extraConfigs.metric: there is no figure 'bleu'; there is: accuracy"),
        (["short"], {"metric": "bleu"}, "extraConfigs.goal: say whether the best checkpoint has the largest bleu"),
        (["short"], {"trainer_name": "nlp-bass-trainer"}, "did you mean 'nlp-base-trainer'?"),
        (["models"], {"models": ["inputs"]}, "extraConfigs.models: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_sentence(
    shelf: HookPod, names: list[str], extra: dict[str, Any], words: str
) -> None:
    (shelf.inputs / "empty.jsonl").touch()
    (shelf.inputs / "torn.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"content": ')
    ended = evaluate(shelf, *names, **extra)
    assert ended.code == 2, ended.log
    assert words in said(ended)


def test_a_folder_whose_weights_do_not_reach_the_model_is_refused(shelf: HookPod) -> None:
    odd = shelf.inputs / "models" / "odd"
    shutil.copytree(shelf.inputs / "models" / "long", odd, dirs_exist_ok=True)
    weights = torch.load(odd / "pytorch_model.bin", weights_only=True)
    torch.save({f"net.inner.deep.{name}": tensor for name, tensor in weights.items()}, odd / "pytorch_model.bin")
    ended = evaluate(shelf, "odd")
    assert ended.code == 2, ended.log
    assert "it would begin at random" in said(ended)
    assert said(ended).startswith("extraConfigs.models: ")
