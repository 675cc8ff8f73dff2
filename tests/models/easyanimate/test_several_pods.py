# SPDX-License-Identifier: Apache-2.0
"""Several pods: videos in pieces are the videos of one job; a training of two pods is one training, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import Ended, HookPod, Running, job_contract, write_jsonl
from tests.ports import free_ports
from tests.progress import DEEP, deep_only
from trainings import PROMPTS, infer_config

from sandbox_api.contract import INDEX_ENV, RENDEZVOUS_ENV, JobContract
from sandbox_runtime.data_juicer.rows import read_json
from sandbox_runtime.easyanimate import InferResult, infer, merged_videos

SMALL = {"frames": 5, "height": 32, "width": 32}


# Videos in pieces


def told(videos: InferResult) -> list[tuple[Any, ...]]:
    """Each row with the bytes of its video."""
    rows = [(row["text"], row["index"], row["seed"], Path(row["videos"][0])) for row in videos.rows]
    return [(*row, path.name, path.read_bytes()) for *row, path in rows]


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(("batch_size", "shards"), [(1, 3), (2, 2), (3, 4)])
def test_pieces_are_merged_to_what_one_job_makes(base: Path, tmp_path: Path, batch_size: int, shards: int) -> None:
    """The last case has a piece without any video."""
    config = infer_config(base, batch_size=batch_size, video_num_per_prompt=4 if batch_size > 1 else 2)
    whole = infer(config, out=tmp_path / "whole", state=tmp_path / "other", scratch=tmp_path / "scratch")
    pieces = []
    for number in range(shards):
        out = tmp_path / f"piece-{number}"
        made = infer(
            config, out=out, state=tmp_path / "state", scratch=tmp_path / f"scratch-{number}", shard=(number, shards)
        )
        pieces.append((out, made.rows))
    merged = merged_videos(pieces, batch_size=batch_size, out=tmp_path / "merged", seconds=1.0)

    assert told(merged) == told(whole)
    names = [json.loads((folder / "names.json").read_text()) for folder in (merged.folder, whole.folder)]
    assert names[0] == names[1]
    assert list(names[0]) == list(names[1])
    assert names[0]  # one of the prompts can't be a name
    assert sorted(path.name for path in merged.folder.iterdir()) == sorted(path.name for path in whole.folder.iterdir())


@pytest.fixture
def pod(tmp_path: Path, base: Path, rows: list[dict[str, Any]]) -> HookPod:
    """A volume with the tiny model and a few clips."""
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


def inference(**more: Any) -> JobContract:
    extra = {
        **SMALL, "base_model": "inputs/weights/tiny", "prompts": PROMPTS, "video_num_per_prompt": 2,
        "num_inference_steps": 2, "precision": "fp32", "output_video_dir": "outputs/videos",
    }  # fmt: skip
    return job_contract(
        "InferModelHook", stage="execution", meta_name="infer", type="easyanimate", extra=extra,
        outputs=["dir", "dataset"], **more,
    )  # fmt: skip


def test_a_divided_inference_is_one_result(pod: HookPod) -> None:
    """Through the runtime's own processes, as its pods run them."""
    divided = inference(shards=2, pieces="0-1", cache_key="k")
    pieces = [pod.run(divided, **{INDEX_ENV: str(index)}) for index in range(2)]
    assert [ended.code for ended in pieces] == [0, 0], pieces[0].log
    assert not (pod.experiment / "outputs/videos").exists()

    merged = pod.run(divided.model_copy(update={"task": "merge"}))

    assert merged.code == 0, merged.log
    assert merged.message.metrics["infer.videos"] == 4
    assert merged.message.message == "4 videos in 2 pieces"
    rows = [*read_json(merged.output("dataset"))]
    assert [(row["text"], row["index"]) for row in rows] == [(prompt, n) for prompt in PROMPTS for n in range(2)]
    assert all(Path(row["videos"][0]).parent == merged.output("dir") for row in rows)
    assert all(Path(row["videos"][0]).is_file() for row in rows)
    assert (pod.experiment / "outputs/videos").resolve() == merged.output("dir")
    externals = merged.result.externals
    assert len(externals["inputs/weights/tiny"]) == 64, "the model is what it depends on, and all have seen the same"
    assert externals == pieces[0].result.externals


# A training of two pods


def training(**more: Any) -> JobContract:
    settings = {
        "steps": 8, "buckets": [SMALL], "frame_stride": 2, "lr_warmup_steps": 0, "precision": "fp32",
        "batch_size": 4, "batch_size_per_gpu": 1, "heldout": 1, "heldout_every": 4, "checkpoint_every": 4,
        "base_model": "inputs/weights/tiny", "dataset_path": "inputs/raw/clips.jsonl",
    }  # fmt: skip
    extra = {**settings, **more.pop("extra", {})}
    return job_contract(
        "TrainModelHook", stage="execution", meta_name="train", type="easyanimate", extra=extra,
        outputs=["model", "checkpoints"], **more,
    )  # fmt: skip


def start(pod: HookPod, **more: Any) -> list[Running]:
    place = {RENDEZVOUS_ENV: f"127.0.0.1:{free_ports()}"}
    contract = training(nodes=2, **more)
    return [pod.start(contract, **{INDEX_ENV: str(rank), **place}) for rank in range(2)]


def losses(ended: Ended | Running) -> dict[int, float]:
    file = ended.folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {line["step"]: line["train.loss"] for line in lines if "train.loss" in line}


def kill_all(running: Running) -> None:
    """As a node that loses its power: nobody says anything."""
    mark = f"SANDBOX_POD_UID={running.uid}".encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def until_step(running: Running, step: int) -> None:
    running.wait_for("metrics.jsonl", 240)
    while max(losses(running), default=0) < step:
        assert running.process.poll() is None, running.process.communicate()[0]


@pytest.mark.timeout(900)
def test_two_pods_train_as_one_and_go_on_after_one_of_them_was_told_to_end(pod: HookPod) -> None:
    """In full, also beside two pods that nobody interrupts, for these come to the very same file."""
    alone = pod.run(training(index=1))
    assert alone.code == 0, alone.log
    stopped = start(pod, index=2)
    until_step(stopped[0], 3)
    stopped[1].process.send_signal(signal.SIGTERM)
    first = [running.end(120) for running in stopped]
    assert first[1].code == 143, first[1].log
    assert first[0].code in (4, 143), first[0].log
    error = first[0].message.error
    assert error is not None
    assert (error.class_, error.type) == ("Infra", "PeerLost")
    second = [running.end(400) for running in start(pod, index=2, attempt=2)]

    assert [ended.code for ended in second] == [0, 0], second[0].log
    assert min(losses(second[0])) == max(losses(first[0])) + 1, "it goes on from where all have stopped"
    both = losses(first[0]) | losses(second[0])
    assert both == pytest.approx(losses(alone), abs=1e-5), "the same training, but for rounding"
    assert losses(second[1]) == {}, "rank 0 speaks for all"
    assert (second[1].message.rank, second[1].message.outputs) == (1, {})
    names = [f"checkpoint-{step}.safetensors" for step in (4, 8)]
    made = second[0].output("model")
    assert sorted(path.name for path in made.glob("*.safetensors")) == names
    encoded = [ended.log.count("left out") for ended in second]
    assert encoded[0] == encoded[1], "both pods know what all have encoded"

    if DEEP:
        whole = [running.end(400) for running in start(pod, index=3)]
        assert [ended.code for ended in whole] == [0, 0], "\n".join(ended.log for ended in whole)
        assert (whole[0].output("model") / names[1]).read_bytes() == (made / names[1]).read_bytes()


@deep_only
@pytest.mark.timeout(900)
def test_a_pod_that_vanishes_is_not_the_fault_of_the_one_that_is_left(pod: HookPod) -> None:
    pods = start(pod, extra={"steps": 2000, "checkpoint_every": 5})
    until_step(pods[0], 6)
    kill_all(pods[1])
    pods[1].process.communicate()
    left = pods[0].end(240)

    assert left.code == 4, left.log
    error = left.message.error
    assert error is not None
    assert (error.class_, error.type) == ("Infra", "PeerLost")
