# SPDX-License-Identifier: Apache-2.0
"""TrainModelHook and InferModelHook of type easyanimate through the real runtime process: train, then make videos."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl

SMALL = {"frames": 5, "height": 32, "width": 32}


@pytest.fixture
def pod(tmp_path: Path, base: Path, rows: list[dict[str, Any]]) -> HookPod:
    """A volume with the tiny model, and the clips beside the data set, as relative names."""
    pod = HookPod(tmp_path, environ={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    shutil.copytree(base, pod.inputs / "weights" / "tiny")
    clips = pod.inputs / "raw"
    clips.mkdir()
    relative = []
    for row in rows[:8]:
        path = Path(row["videos"][0])
        shutil.copy(path, clips / path.name)
        relative.append({**row, "videos": [path.name]})
    write_jsonl(clips / "clips.jsonl", relative)
    return pod


def run(pod: HookPod, hook: str, outputs: list[str], attempt: int = 1, **extra: Any) -> Ended:
    name = {"TrainModelHook": "train", "InferModelHook": "infer"}[hook]
    contract = job_contract(
        hook, stage="execution", meta_name=name, type="easyanimate", attempt=attempt, extra=extra, outputs=outputs
    )
    return pod.run(contract)


def train(pod: HookPod, **extra: Any) -> Ended:
    settings = {"steps": 6, "buckets": [SMALL], "frame_stride": 2, "lr_warmup_steps": 0, "precision": "fp32"}
    where = {"base_model": "inputs/weights/tiny", "dataset_path": "inputs/raw/clips.jsonl"}
    return run(pod, "TrainModelHook", ["model", "checkpoints"], **{**settings, **where, **extra})


def test_a_trained_lora_makes_videos(pod: HookPod) -> None:
    trained = train(pod, checkpoint_every=3, output_dir="outputs/lora")
    assert trained.code == 0, trained.log
    figures = trained.message.metrics
    assert figures["train.steps"] == 6
    assert figures["train.clips"] + figures["train.broken"] <= 8
    lines = [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    assert {1, 2, 3, 4, 5, 6} <= {line["step"] for line in lines if "train.loss" in line}, "while it trained"
    assert [line["train.lr"] for line in lines if "train.lr" in line]
    names = sorted(path.name for path in trained.output("model").glob("*.safetensors"))
    assert names == ["checkpoint-3.safetensors", "checkpoint-6.safetensors"]
    assert (pod.experiment / "outputs/lora/checkpoint-6.safetensors").is_file()

    asked = {
        **SMALL,
        "prompts": ["a bicycle"],
        "video_num_per_prompt": 2,
        "num_inference_steps": 2,
        "precision": "fp32",
    }
    base = run(pod, "InferModelHook", ["dir", "dataset"], base_model="inputs/weights/tiny", **asked)
    assert base.code == 0, base.log
    lora = {"lora_path": str(trained.output("model")), "lora_scale": 1.0}
    adapted = run(
        pod, "InferModelHook", ["dir", "dataset"], attempt=2, base_model="inputs/weights/tiny", **lora, **asked
    )
    assert adapted.code == 0, adapted.log
    videos = [sorted(path.name for path in ended.output("dir").glob("*.mp4")) for ended in (base, adapted)]
    assert videos == [["a bicycle-0.mp4", "a bicycle-1.mp4"]] * 2
    rows = [json.loads(line) for line in adapted.output("dataset").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["a bicycle"] * 2
    assert adapted.message.metrics["infer.videos"] == 2


def test_the_sandboxs_own_layout_trains_and_says_what_differs(pod: HookPod) -> None:
    old = {
        "model_path": {"pretrained_model_name_or_path": "inputs/weights/tiny", "transformer_path": "mm.safetensors"},
        "dataset_path": {"dataset_name": "", "dataset_meta_name": "inputs/raw/clips.jsonl"},
        "training_config": {"sample_size": 32, "mixed_precision": "no", "batch_size_per_gpu": 4, "num_train_epochs": 1},
        "saving_config": {"output_dir": "outputs/lora"},
        "tracker_config": {"project_name": "p", "experiment_name": "e"},
    }
    trained = run(pod, "TrainModelHook", ["model", "checkpoints"], type="easyanimate", train=old)
    assert trained.code == 0, trained.log
    assert "extraConfigs.train: this is EasyAnimate V5.1 on diffusers" in trained.log
    assert "extraConfigs.train.model_path.transformer_path is not used" in trained.log


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"base_model": "inputs/weights"}, "base_model: inputs/weights is not a model in diffusers' layout"),
        ({"dataset_path": "inputs/raw/none.jsonl"}, "extraConfigs.dataset_path: there is no file"),
        ({"stepz": 3}, "extraConfigs.stepz: TrainModelHook has no such setting"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(pod: HookPod, extra: dict[str, Any], said: str) -> None:
    ended = train(pod, **extra)
    assert ended.code in (2, 3), ended.log
    assert ended.message.error is not None
    assert said in ended.message.error.message
