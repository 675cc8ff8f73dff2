# SPDX-License-Identifier: Apache-2.0
"""heldout_flow_loss through the runtime's process: the loss of a tiny real model, with and without a LoRA."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.models.warm_pod import WarmPod
from trainings import Figures, a_training, never, train_config

from sandbox_api.result import ABSENT, UNKNOWN
from sandbox_runtime.easyanimate import Prepared, prepare
from sandbox_runtime.easyanimate.names import checkpoint_name

BUCKETS = [{"frames": 9, "height": 32, "width": 32}, {"frames": 5, "height": 32, "width": 48}]
SETTINGS = {
    "base_model": "inputs/weights/tiny",
    "dataset_path": "inputs/raw/clips.jsonl",
    "buckets": BUCKETS,
    "frame_stride": 2,
    "precision": "fp32",
}


@pytest.fixture
def pod(tmp_path: Path, base: Path, rows: list[dict[str, Any]]) -> HookPod:
    """A volume with the tiny model and eight clips beside their rows."""
    pod = WarmPod(tmp_path, environ={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    shutil.copytree(base, pod.inputs / "weights" / "tiny")
    write_rows(pod, rows[:8])
    return pod


def write_rows(pod: HookPod, rows: list[dict[str, Any]]) -> None:
    folder = pod.inputs / "raw"
    folder.mkdir(exist_ok=True)
    for row in rows:
        shutil.copy(row["videos"][0], folder)
    write_jsonl(folder / "clips.jsonl", [{**row, "videos": [Path(row["videos"][0]).name]} for row in rows])


def measure(pod: HookPod, cache_key: str = "", **extra: Any) -> Ended:
    contract = job_contract(
        "EvaluateDataHook",
        stage="evaluation",
        meta_name="judge",
        type="heldout_flow_loss",
        extra={**SETTINGS, **extra},
        outputs=["value", "report"],
        cache_key=cache_key,
    )
    return pod.run(contract)


def figures(ended: Ended) -> dict[str, float]:
    assert ended.code == 0, ended.log
    return {name.removeprefix("judge").removeprefix("."): value for name, value in ended.message.metrics.items()}


def lines(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.output("report").read_text().splitlines()]


def said(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def test_the_value_is_the_mean_of_the_clips_losses_and_always_the_same(pod: HookPod) -> None:
    ended = measure(pod, cache_key="k", export_path="outputs/losses.jsonl")
    found, report = figures(ended), lines(ended)
    losses = [line["loss"] for line in report]
    assert len(losses) == found["clips"] == 8
    assert found[""] == found["loss"] == ended.result.outputs["value"].value == pytest.approx(np.mean(losses))
    assert found["std"] == pytest.approx(np.std(losses, ddof=1))
    assert found["standard_error"] == pytest.approx(found["std"] / 8**0.5)
    assert found["loss.0.1"] == pytest.approx(np.mean([line["levels"]["0.1"] for line in report]))
    assert losses == pytest.approx([np.mean(list(line["levels"].values())) for line in report])
    assert {"__sandbox_id__", "videos", "text", "loss", "levels"} == report[0].keys()
    assert not {ABSENT, UNKNOWN} & set(ended.result.externals.values()), "the model, the rows and their clips"
    published = pod.experiment / "outputs/losses.jsonl"
    assert published.read_text() == ended.output("report").read_text()
    again = measure(pod, processes=2)
    assert lines(again) == report, "in whatever process a clip is measured"
    mixed = [json.loads(line) for line in (pod.inputs / "raw" / "clips.jsonl").read_text().splitlines()][::-1]
    write_jsonl(pod.inputs / "raw" / "clips.jsonl", mixed)
    assert {line["videos"][0]: line["loss"] for line in lines(measure(pod))} == {
        line["videos"][0]: line["loss"] for line in report
    }
    more = figures(measure(pod, draws=8))
    assert more["loss"] != found["loss"]
    assert more["loss"] == pytest.approx(found["loss"], rel=0.2)
    other = figures(measure(pod, draws=8, precision="bf16"))  # encoded in bf16, a clip is another one with other noise
    assert other["loss"] == pytest.approx(more["loss"], rel=0.05)


@pytest.mark.usefixtures("warm")
def test_it_is_the_held_out_loss_of_the_training_and_falls_with_it(
    pod: HookPod, base: Path, rows: list[dict[str, Any]], prepared: Prepared, cache: Path, tmp_path: Path
) -> None:
    """The training's own held-out clips, before and after it."""
    training = a_training(train_config(base), prepared, cache, tmp_path / "training")
    assert training.train(Figures(), never)
    before, after = (dict(training.progress.heldout)[step] for step in (0, 12))
    assert after < before
    kept = {sample.clip for sample in prepared.heldout}
    whole = prepare(train_config(base, heldout=0), rows, cache, scratch=tmp_path / "scratch")
    found = zip(whole.numbers, whole.samples, strict=True)
    write_rows(pod, [rows[number] for number, sample in found if sample.clip in kept])
    plain = figures(measure(pod))
    assert plain["clips"] == len(prepared.heldout)
    assert plain["loss"] == pytest.approx(before, rel=1e-5)
    folder = pod.inputs / "lora"
    folder.mkdir()
    for step in (5, 12):
        shutil.copy(tmp_path / "training" / "models" / checkpoint_name(step), folder)
    adapted = measure(pod, lora_path="inputs/lora")
    assert figures(adapted)["loss"] == pytest.approx(after, rel=1e-5), "the last checkpoint of a training's folder"
    halfway = figures(measure(pod, lora_path="inputs/lora/checkpoint-5.safetensors"))["loss"]
    assert halfway not in (before, after)
    assert figures(measure(pod, lora_path="inputs/lora", lora_scale=0.0))["loss"] == pytest.approx(before, rel=1e-5)


def test_broken_clips_are_named_and_may_be_left_out(pod: HookPod) -> None:
    rows = [json.loads(line) for line in (pod.inputs / "raw" / "clips.jsonl").read_text().splitlines()]
    (pod.inputs / "raw" / "text.mp4").write_text("no video")
    write_jsonl(pod.inputs / "raw" / "clips.jsonl", [*rows[:3], {"videos": ["text.mp4"], "text": "x"}, *rows[3:]])
    ended = measure(pod)
    assert ended.code == 1, ended.log
    assert "broken_limit: more than 0 of 9 clips can't be used: row 3: " in said(ended)
    allowed = measure(pod, broken_limit=0.2)
    assert (figures(allowed)["clips"], figures(allowed)["broken"]) == (8, 1)
    assert [line["videos"] for line in lines(allowed)] == [row["videos"] for row in rows]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"dataset_path": "inputs/raw/none.jsonl"}, "extraConfigs.dataset_path: there is no file"),
        ({"dataset_path": "inputs/raw/empty.jsonl"}, "extraConfigs.dataset_path: inputs/raw/empty.jsonl holds no rows"),
        ({"lora_path": "inputs/raw"}, "extraConfigs.lora_path: there is no checkpoint-<step>.safetensors in inputs/raw"),
        ({"lora_path": "inputs/raw/empty.jsonl"}, "lora_path: empty.jsonl is not a whole safetensors file"),
        ({"base_model": "inputs/raw"}, "base_model: inputs/raw is not a model in diffusers' layout"),
        ({"levels": [0.5, 0.5]}, "extraConfigs.levels: two of them are the same"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(pod: HookPod, extra: dict[str, Any], words: str) -> None:
    (pod.inputs / "raw" / "empty.jsonl").touch()
    ended = measure(pod, **extra)
    assert ended.code in (2, 3), ended.log
    assert said(ended).startswith(words)


def test_a_loss_that_is_not_finite_is_named(pod: HookPod) -> None:
    """A model whose weights have overflowed."""
    from safetensors.torch import load_file, save_file

    (weights,) = (pod.inputs / "weights" / "tiny" / "transformer").glob("*.safetensors")
    tensors = load_file(weights)
    tensors["proj.weight"] = tensors["proj.weight"] * float("inf")
    save_file(tensors, weights, metadata={"format": "pt"})
    ended = measure(pod)
    assert ended.code == 1, ended.log
    assert "the loss of row 0 (" in said(ended)
    assert "is not finite" in said(ended)
