# SPDX-License-Identifier: Apache-2.0
"""The real thing: worker processes as a job starts them, from rows to videos; and a pod's SIGTERM in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest
from tests.models import forked
from tests.progress import DEEP, long
from trainings import PROMPTS, Figures, infer_config, train_config

from sandbox_runtime.easyanimate import infer, train
from sandbox_runtime.workers import launch


def test_from_rows_to_videos(base, prepared, cache, tmp_path, monkeypatch) -> None:
    """train -> LoRA -> infer -> mp4s, with two processes for each, as a job starts them."""
    log = Figures()
    places = {"state": tmp_path / "state", "scratch": tmp_path / "scratch", "processes": 2}
    config = train_config(base, steps=6, heldout_every=3)

    trained = train(config, prepared, cache, out=tmp_path / "model", log_metrics=log, **places)
    monkeypatch.setattr(launch, "_start", forked.start)  # processes on their own were started by `prepare` already
    made = infer(infer_config(base, lora_path=str(trained.path)), out=tmp_path / "videos", **places)

    assert (trained.steps, trained.finished, trained.resumed_from) == (6, True, 0)
    assert [path.name for path in trained.checkpoints] == ["checkpoint-5.safetensors", "checkpoint-6.safetensors"]
    assert trained.path == trained.checkpoints[-1] == tmp_path / "model" / "checkpoint-6.safetensors"
    assert list(log.of("loss")) == [1, 2, 3, 4, 5, 6]
    assert trained.loss == pytest.approx(sum(log.of("loss").values()) / 6)
    assert trained.heldout_loss == log.of("heldout_loss")[6]
    seconds = {"step_seconds", "compute_seconds"}
    assert set(trained.metrics()) == {"loss", "heldout_loss", "lr", "steps", "heldout_loss_before", *seconds}
    assert 0 < trained.compute_seconds < trained.step_seconds
    names = [
        "a red square moves-0.mp4", "a red square moves-1.mp4", "a-blue-one-stands~HASH-0.mp4", "a-blue-one-stands~HASH-1.mp4",
    ]  # fmt: skip
    assert [re.sub(r"~\w{16}", "~HASH", Path(row["videos"][0]).name) for row in made.rows] == names
    assert [(row["text"], row["index"]) for row in made.rows] == [(p, i) for p in PROMPTS for i in range(2)]
    assert (made.made, made.finished) == (4, True)
    mapped = json.loads((tmp_path / "videos" / "names.json").read_text())
    assert {name: entry["prompt"] for name, entry in mapped.items()} == {
        Path(row["videos"][0]).name: PROMPTS[1] for row in made.rows[2:]
    }
    assert "names.json" in made.notes[0]
    for row in made.rows:
        with av.open(row["videos"][0]) as container:
            stream = container.streams.video[0]
            assert (stream.frames, stream.height, stream.width, stream.average_rate) == (5, 32, 48, 8)


STOPPED_TRAINING = """
import json, signal, sys
from pathlib import Path
from sandbox_api.easyanimate import EasyAnimateTrainConfig
from sandbox_runtime.easyanimate import Prepared, train
from sandbox_runtime.signals import Stop, Stopped

folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
stop = Stop()
stop.install()
try:
    with stop.armed():
        train(
            EasyAnimateTrainConfig.model_validate(job["config"]), Prepared.of_json(job["prepared"]), Path(job["cache"]),
            out=folder / "out", state=folder / "state", scratch=folder / "scratch", cpus=1,
            log_metrics=lambda figures, step: print(step, sorted(figures), flush=True),
        )
except Stopped as stopped:
    print("stopped", stopped.class_, flush=True)
"""


@long
@pytest.mark.usefixtures("warm")
def test_sigterm_saves_a_checkpoint_and_the_next_attempt_ends_the_same(base, prepared, cache, tmp_path) -> None:
    """The real thing: a pod's SIGTERM to the parent, at a moment that chance decides; then another attempt."""
    config = train_config(base, steps=100, checkpoint_every=1000, heldout_every=1000)
    places = {"out": tmp_path / "out", "state": tmp_path / "state", "scratch": tmp_path / "scratch"}
    whole = train(config, prepared, cache, **places)
    again = train(config, prepared, cache, **places)
    assert (again.resumed_from, again.path.read_bytes()) == (100, whole.path.read_bytes())
    for number in range(10 if DEEP else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        job = {
            "config": config.model_dump(mode="json"),
            "prepared": prepared.to_json(),
            "cache": str(cache),
        }
        (folder / "job.json").write_text(json.dumps(job))
        parent = subprocess.Popen(
            [sys.executable, "-c", STOPPED_TRAINING, str(folder)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert parent.stdout is not None
        for line in parent.stdout:
            if line.startswith(f"{3 + 2 * number} "):
                break
        parent.send_signal(signal.SIGTERM)
        rest = parent.stdout.read()
        assert parent.wait(60) == 0
        assert "stopped Preempted" in rest

        saved = list((folder / "state").glob("*/checkpoints/step-*.safetensors"))
        assert len(saved) == 1
        resumed = train(
            config,
            prepared,
            cache,
            out=folder / "out-2",
            state=folder / "state",
            scratch=folder / "scratch",
        )

        assert 3 + 2 * number <= resumed.resumed_from < 100
        assert resumed.path.read_bytes() == whole.path.read_bytes()
        assert (resumed.loss, resumed.heldout_loss) == (whole.loss, whole.heldout_loss)
