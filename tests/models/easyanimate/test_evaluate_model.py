# SPDX-License-Identifier: Apache-2.0
"""EvaluateModelHook of type easyanimate through the runtime's process: videos made with each checkpoint of a tiny model,
judged in one job, and ranked."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from detectors import Clips, clips_of, save, write_videos
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.models.warm_pod import WarmPod
from trainings import Figures, a_training, never, train_config

from sandbox_runtime.easyanimate import Prepared
from sandbox_runtime.easyanimate.names import checkpoint_name

D = 3
STEPS = (5, 12)
LORAS = [f"inputs/lora/{checkpoint_name(step)}" for step in STEPS]
VIDEOS = {
    "base_model": "inputs/weights/tiny",
    "prompts": ["a red square moves", "a blue one / stands"],
    "video_num_per_prompt": 3,
    "frames": 17,
    "height": 32,
    "width": 32,
    "num_inference_steps": 2,
    "lora_scale": 1.0,
    "precision": "fp32",
}
FVD = {
    "real_mm_dir": "inputs/real",
    "detector_path": "inputs/clips.pt",
    "detector": clips_of(D).model_dump(mode="json"),
}
HELDOUT = {
    "dataset_path": "inputs/raw/clips.jsonl",
    "buckets": [{"frames": 9, "height": 32, "width": 32}, {"frames": 5, "height": 32, "width": 48}],
    "frame_stride": 2,
    "precision": "fp32",
}
EVALUATORS = [
    {"type": "video_inception_evaluator", "name": "fvd", "extraConfigs": FVD},
    {"type": "heldout_flow_loss", "name": "heldout", "extraConfigs": HELDOUT},
]


@pytest.fixture(scope="module")
def loras(base: Path, prepared: Prepared, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of one training."""
    folder = tmp_path_factory.mktemp("loras")
    assert a_training(train_config(base), prepared, cache, folder).train(Figures(), never)
    return folder / "models"


@pytest.fixture
def pod(tmp_path: Path, base: Path, loras: Path, rows: list[dict[str, Any]]) -> HookPod:
    pod = WarmPod(tmp_path, environ={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    shutil.copytree(base, pod.inputs / "weights" / "tiny")
    (pod.inputs / "lora").mkdir()
    for step in STEPS:
        shutil.copy(loras / checkpoint_name(step), pod.inputs / "lora")
    write_videos(pod.inputs / "real", range(8))
    save(Clips(D), pod.inputs / "clips.pt")
    (pod.inputs / "raw").mkdir()
    for row in rows[:4]:
        shutil.copy(row["videos"][0], pod.inputs / "raw")
    held = [{**row, "videos": [Path(row["videos"][0]).name]} for row in rows[:4]]
    write_jsonl(pod.inputs / "raw" / "clips.jsonl", held)
    return pod


def evaluate(pod: HookPod, attempt: int = 1, **extra: Any) -> Ended:
    settings = {**VIDEOS, "models": LORAS, "evaluators": EVALUATORS, "metric": "fvd", **extra}
    contract = job_contract(
        "EvaluateModelHook",
        stage="evaluation",
        meta_name="judge",
        type="easyanimate",
        attempt=attempt,
        extra=settings,
        outputs=["best", "ranking", "value", "results"],
    )
    return pod.run(contract)


def alone(pod: HookPod, hook: str, type_: str, outputs: list[str], **extra: Any) -> Ended:
    """The same by a job of its own, as one would do it without EvaluateModelHook."""
    contract = job_contract(hook, stage="evaluation", meta_name="alone", type=type_, extra=extra, outputs=outputs)
    ended = pod.run(contract)
    assert ended.code == 0, ended.log
    return ended


def figures(ended: Ended) -> dict[str, float]:
    assert ended.code == 0, ended.log
    return {name.removeprefix("judge").removeprefix("."): value for name, value in ended.message.metrics.items()}


def results(ended: Ended) -> list[dict[str, Any]]:
    assert ended.code == 0, ended.log
    found: list[dict[str, Any]] = ended.result.outputs["results"].value
    return found


def said(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def made(ended: Ended) -> int:
    """Videos that the attempt itself has made."""
    lines = [json.loads(line) for line in (ended.folder / "metrics.jsonl").read_text().splitlines()]
    return max((line["judge.videos"] for line in lines if "judge.videos" in line), default=0)


def test_checkpoints_are_ranked_by_what_jobs_of_their_own_say(pod: HookPod) -> None:
    ended = evaluate(pod)
    rows, told = results(ended), figures(ended)
    assert [row["name"] for row in rows] == ["checkpoint-5", "checkpoint-12"]
    assert made(ended) == 12
    for row, lora in zip(rows, LORAS, strict=True):
        infer = alone(pod, "InferModelHook", "easyanimate", ["dir", "dataset"], lora_path=lora, **VIDEOS)
        fake = shutil.copytree(infer.output("dir"), pod.inputs / row["name"])
        videos = ended.folder / "out" / row["name"] / "videos"
        names = sorted(path.name for path in videos.glob("*.mp4"))
        assert len(names) == 6
        assert all((videos / name).read_bytes() == (fake / name).read_bytes() for name in names)
        outputs = ["value", "report"]
        settings = {"fake_mm_dir": f"inputs/{fake.name}", **FVD}
        fvd = alone(pod, "EvaluateDataHook", "video_inception_evaluator", outputs, **settings)
        model = {"base_model": VIDEOS["base_model"], "lora_path": lora}
        loss = alone(pod, "EvaluateDataHook", "heldout_flow_loss", outputs, **model, **HELDOUT)
        assert row["fvd"] == row["fvd.fvd2048_16f"] == fvd.result.outputs["value"].value
        assert row["heldout"] == row["heldout.loss"] == loss.result.outputs["value"].value
        assert told[f"{row['name']}.fvd"] == row["fvd"]
        assert row["fvd.samples.fake"] == row["fvd.videos.fake"] == 6
        report = ended.folder / "out" / row["name"] / "heldout" / "losses.jsonl"
        assert report.read_text() == loss.output("report").read_text()
    order = sorted(rows, key=lambda row: row["fvd"])
    assert order[0]["fvd"] < order[1]["fvd"]
    assert [row["name"] for row in ended.result.outputs["ranking"].value] == [row["name"] for row in order]
    assert ended.result.outputs["best"].value == f"inputs/lora/{order[0]['name']}.safetensors"
    assert told[""] == told["fvd"] == ended.result.outputs["value"].value == order[0]["fvd"]
    backwards = evaluate(pod, metric="heldout.loss", goal="maximize", evaluators=EVALUATORS[1:])
    worst = max(rows, key=lambda row: row["heldout.loss"])
    assert backwards.result.outputs["best"].value == f"inputs/lora/{worst['name']}.safetensors"


def test_the_held_out_loss_alone_makes_no_videos(pod: HookPod) -> None:
    ended = evaluate(pod, evaluators=EVALUATORS[1:], metric="heldout", prompts=[], models=["inputs/lora"])
    (row,) = results(ended)
    assert row["name"] == "checkpoint-12", "the last one of a training's folder"
    assert not list(ended.folder.rglob("*.mp4"))


def test_a_later_attempt_makes_only_the_videos_that_are_missing(pod: HookPod) -> None:
    """The first one has made them all; then an evaluator could not read a clip."""
    clip = sorted((pod.inputs / "raw").glob("*.mp4"))[0]
    content = clip.read_bytes()
    clip.write_text("no video")
    first = evaluate(pod)
    assert first.code == 1, first.log
    assert said(first).count("broken_limit: more than 0 of 4 clips can't be used") == 2, "of each checkpoint"
    assert made(first) == 12
    clip.write_bytes(content)
    kept = sorted((pod.experiment / "jobs").rglob("state/**/*.mp4"))
    assert len(kept) == 12
    before = kept[0].read_bytes()
    kept[0].unlink()
    second = evaluate(pod, attempt=2)
    assert [row["fvd.samples.fake"] for row in results(second)] == [6, 6]
    assert made(second) == 1
    made_again = [path.read_bytes() for path in (second.folder / "out").rglob(kept[0].name)]
    assert before in made_again, "it is the same video"


def test_a_checkpoint_that_makes_no_videos_is_last_with_the_reason(pod: HookPod) -> None:
    source = pod.inputs / "lora" / checkpoint_name(12)
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    tensors = {name: torch.full_like(tensor, float("nan")) for name, tensor in load_file(source).items()}
    save_file(tensors, pod.inputs / "lora" / "overflown.safetensors", metadata=metadata)
    ended = evaluate(pod, models=["inputs/lora/overflown.safetensors", *LORAS], evaluators=EVALUATORS[:1])
    rows = results(ended)
    assert [(row["name"], row["rank"] is None) for row in rows] == [
        ("overflown", True), ("checkpoint-5", False), ("checkpoint-12", False),
    ]  # fmt: skip
    assert rows[0]["error"].startswith("its videos can't be made: the model made values that are not finite")
    assert ended.result.outputs["ranking"].value[-1]["name"] == "overflown"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"models": ["inputs/lora/gone.safetensors"]}, "extraConfigs.models[0]: there is no file or folder inputs/lora/gone.safetensors"),
        ({"models": ["inputs/raw"]}, "extraConfigs.models: there is no checkpoint-<step>.safetensors in inputs/raw"),
        ({"evaluators": [{**EVALUATORS[0], "extraConfigs": {**FVD, "detector_path": "inputs/real"}}]}, "extraConfigs.evaluators.0.extraConfigs.detector_path: there is no file inputs/real/i3d_torchscript.pt"),
        ({"evaluators": [EVALUATORS[0], {**EVALUATORS[1], "extraConfigs": {**HELDOUT, "dataset_path": "inputs/raw/empty.jsonl"}}]}, "extraConfigs.evaluators.1.extraConfigs.dataset_path: inputs/raw/empty.jsonl holds no rows"),
        ({"evaluators": [{**EVALUATORS[0], "extraConfigs": {}}]}, "extraConfigs.evaluators.0.extraConfigs.real_data_path: name the real videos"),
        ({"metric": "fvd.kvd2048_16f"}, "extraConfigs.metric: video_inception_evaluator has no figure 'kvd2048_16f'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_any_video_is_made(pod: HookPod, extra: dict[str, Any], words: str) -> None:
    (pod.inputs / "raw" / "empty.jsonl").touch()
    ended = evaluate(pod, **extra)
    assert ended.code in (2, 3), ended.log
    assert said(ended).startswith(words)
    assert not list(ended.folder.rglob("*.mp4"))
