# SPDX-License-Identifier: Apache-2.0
"""video_inception_evaluator through the runtime's process, with toy detectors, on videos made here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectors import Clips, Frames, NotFinite, clips_of, frames_of, moving, save, write_videos
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.models.warm_pod import WarmPod

from sandbox_runtime.easyanimate.video import write_video

D = 6


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    """Thirty real videos, twenty generated ones that are darker, and two detectors."""
    pod = WarmPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    write_videos(pod.inputs / "real", range(30))
    write_videos(pod.inputs / "fake", range(100, 120), brightness=0.7)
    save(Clips(D), pod.inputs / "clips.pt")
    save(Frames(D), pod.inputs / "frames.pt")
    return pod


def described(detector: Any) -> dict[str, Any]:
    return detector.model_dump(mode="json")


CLIPS = {
    "fake_mm_dir": "inputs/fake",
    "real_mm_dir": "inputs/real",
    "detector_path": "inputs/clips.pt",
    "detector": described(clips_of(D)),
}
FRAMES = {**CLIPS, "detector_path": "inputs/frames.pt", "detector": described(frames_of(D))}


def evaluate(pod: HookPod, metric: str = "fvd2048_16f", **extra: Any) -> Ended:
    settings = {**CLIPS, "metric": metric, **extra}
    contract = job_contract(
        "EvaluateDataHook",
        stage="evaluation",
        meta_name="judge",
        type="video_inception_evaluator",
        extra={key: value for key, value in settings.items() if value is not None},
        outputs=["value", "report"],
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


def test_fvd_tells_its_number_its_samples_and_upstreams_report(pod: HookPod) -> None:
    ended = evaluate(pod, result_path="outputs/results.jsonl")
    found = figures(ended)
    assert found[""] == found["fvd2048_16f"] > 0.1
    assert (found["samples.real"], found["samples.fake"], found["valid"], found["broken"]) == (30, 20, 1, 0)
    assert ended.result.outputs["value"].value == found[""]
    (line,) = lines(ended)
    assert line["results"] == {"fvd2048_16f": found[""]}
    assert {"metric", "total_time", "total_time_str", "world_size", "num_runs"} < line.keys()
    assert (line["fake_data_path"], line["real_data_path"]) == ("inputs/fake", "inputs/real")
    assert (pod.experiment / "outputs/results.jsonl").read_text() == ended.output("report").read_text()
