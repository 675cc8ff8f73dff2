# SPDX-License-Identifier: Apache-2.0
"""The exporter as a process, with wandb's real client, against a server that keeps state and fails as it is told to."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.exports import ENDING, KEY, REPOSITORY, UID, Exporter, Volume
from tests.fake_wandb import Answer, FakeWandb, Request
from tests.progress import deep_only

from sandbox_api.export import Ending
from sandbox_api.status import ComparisonRow
from sandbox_runtime.tracking.session import REFUSAL
from sandbox_runtime.watcher import write_configs

STREAM = "/file_stream"


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    with FakeWandb().serving() as made:
        yield made


def losses(server: FakeWandb) -> list[float]:
    return server.run.values("train.loss")


def has(server: FakeWandb, count: int) -> bool:
    return bool(server.runs) and len(losses(server)) >= count


def test_one_run_has_every_line_once_through_kills_and_ends_with_the_experiment(
    volume: Volume, server: FakeWandb
) -> None:
    """Killed at any moment, the next exporter goes on where the run is; a smaller step is a line like any other."""
    volume.log([*range(50), 3, 2])
    write_configs(volume.attempt() / "configs.jsonl", [({"hub.api_key": "s3cret", "x": 1}, "train")])
    with Exporter(volume, server.url) as exporter:
        server.until(lambda: has(server, 52))
        exporter.kill()
    volume.log([50, 51])
    with Exporter(volume, server.url) as exporter:
        server.until(lambda: has(server, 54))
        volume.log([52])
        assert exporter.tell() == 143  # what came last is sent before it goes
    assert losses(server)[-1] == 520.0
    assert server.run.exit_code is None, "unfinished until the experiment ends"
    volume.log([53])  # written when no exporter looked
    row = ComparisonRow(metric="rows", before=3.0, after=2.0, change=-1.0)
    result = volume.succeed({"train.loss": 7.0}, {}, [])
    ending = ENDING.model_copy(update={"comparison": [row], "results": {"a": result}})
    with Exporter(volume, server.url, ending=ending) as exporter:
        assert exporter.wait() == 0, exporter.log
    run = server.run
    assert losses(server) == [step * 10.0 for step in (*range(50), 3, 2, 50, 51, 52, 53)] + [7.0]
    assert run.values("train.step") == [*range(50), 3, 2, 50, 51, 52, 53]
    assert [row["_step"] for row in run.history] == list(range(len(run.lines)))
    assert server.bad_offsets == []
    assert (run.name, run.project, run.display_name, run.group) == (
        UID.replace("-", ""),
        "proj",
        "run of demo",
        "a-sweep",
    )
    metrics = run.config["_wandb"]["value"][
        "m"
    ]  # as the client writes them: 1 name, 2 pattern, 5 number of the step metric
    (pattern,) = [metric for metric in metrics if metric.get("2") == "train.*"]
    assert metrics[pattern["5"] - 1]["1"] == "train.step"
    assert run.config["train.x"]["value"] == 1
    assert run.config["parameters.op.arg"]["value"] == 3
    assert "s3cret" not in json.dumps(run.config)
    assert [row["comparison"]["nrows"] for row in run.history if "comparison" in row] == [1]
    assert run.history[-2 if "comparison" in run.history[-1] else -1]["sandbox.job"] == "anonymous/1/execution/0"
    assert run.exit_code == 0
    assert run.name in exporter.said
    before = len(run.lines)
    with Exporter(volume, server.url, ending=ending) as exporter:  # as `sandboxctl wandb sync` does it
        assert exporter.wait() == 0, exporter.log
    assert (len(run.lines), run.exit_code) == (before, 0)
    assert set(server.keys) == {KEY}


def test_lost_answers_errors_and_a_dead_helper_double_nothing_and_lose_nothing(
    volume: Volume, server: FakeWandb
) -> None:
    """The server takes rows and its answer is lost; answers 500; its client's helper process is killed."""
    lost = iter([True, True])

    def lose(request: Request) -> Answer:
        if request.path.endswith(STREAM) and b"train.loss" in request.body and next(lost, False):
            raise ConnectionError
        return None

    failed = iter([True] * 3)
    server.fault = lambda _: (500, b"{}") if next(failed, False) else None
    server.after = lose
    volume.log(list(range(40)))
    with Exporter(volume, server.url) as exporter:
        server.until(lambda: has(server, 40))
        helpers = [pid for pid in exporter.below() if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert helpers, "wandb has a helper process"
        for pid in helpers:
            os.kill(pid, signal.SIGKILL)
        volume.log(list(range(40, 60)))
        server.until(lambda: has(server, 60))
        exporter.tell()
    assert losses(server) == [step * 10.0 for step in range(60)]
    assert next(lost, None) is None, "answers were lost"


def test_a_key_that_is_refused_is_said_and_waits_for_another_pod(volume: Volume, server: FakeWandb) -> None:
    server.fault = lambda _: (401, json.dumps({"errors": [{"message": "invalid api key"}]}).encode())
    volume.log([1])
    with Exporter(volume, server.url) as exporter:
        assert exporter.wait() == 2, exporter.log
    assert exporter.said.startswith("refused: "), exporter.log


def test_a_pod_without_wandb_says_so_and_ends(volume: Volume, tmp_path: Path) -> None:
    """What is not installed does not come by trying again."""
    broken = tmp_path / "broken" / "wandb"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no module of that name')\n")
    paths = [str(broken.parent), str(REPOSITORY / "crds"), str(REPOSITORY / "images/runtime")]
    volume.log([1])
    with Exporter(volume, "http://127.0.0.1:9", environ={"PYTHONPATH": os.pathsep.join(paths)}) as exporter:
        assert exporter.wait() == 2, exporter.log
    assert exporter.said == "refused: wandb can't be used here: no module of that name"


@pytest.mark.parametrize(
    ("words", "is_refused"),
    [
        ('upsert failed: returned error 401: {"errors":[{"message":"user is not logged in"}]}', True),
        ("returned error 403 Forbidden: {}", True),
        ('returned error 404: {"message":"permission denied"}', True),
        ("HTTP 401: who are you?", True),
        ("returned error 500: run 4031401f is not there", False),
        ("returned error 502: Bad Gateway: lab/401/403", False),
        ("Run initialization has timed out after 403.0 sec", False),
    ],
)
def test_a_refusal_is_told_from_a_fault_by_its_status(words: str, is_refused: bool) -> None:
    assert bool(REFUSAL.search(words)) is is_refused


def test_a_trial_that_its_sweep_ended_early_is_no_failed_run(volume: Volume, server: FakeWandb) -> None:
    volume.log([1])
    with Exporter(volume, server.url, ending=Ending(outcome="Stopped", reason="Pruned")) as exporter:
        assert exporter.wait() == 0, exporter.log
    assert server.run.exit_code == 0
    assert (server.run.summary["sandbox.outcome"], server.run.summary["sandbox.reason"]) == ("Stopped", "Pruned")


@deep_only
def test_a_server_that_hangs_is_given_up_and_asked_again(volume: Volume, server: FakeWandb) -> None:
    hung, free = threading.Event(), threading.Event()

    def hang(_: Request) -> Answer:
        if not free.is_set():
            hung.set()
            free.wait(100)
        return None

    server.fault = hang
    volume.log(list(range(10)))
    with Exporter(volume, server.url, ending=ENDING, patience=12) as exporter:
        assert hung.wait(100)
        while "the next one in" not in exporter.log:
            assert exporter.process is not None
            assert exporter.process.poll() is None, exporter.log
            free.wait(0.2)
        free.set()
        assert exporter.wait() == 0, exporter.log
    assert losses(server) == [step * 10.0 for step in range(10)]


def test_a_video_whose_upload_was_cut_off_is_sent_again(volume: Volume, server: FakeWandb) -> None:
    out = volume.attempt() / "out"
    out.mkdir()
    (out / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"v" * 50_000)
    (out / "overall.csv").write_text("stat,mean\nlen,3.5\nwords,\n")
    (out / "refined_recipe.yaml").write_text("process: []\n")
    volume.log(list(range(5)))
    volume.succeed({"train.loss": 1.0}, {"dir": out, "recipe": out / "refined_recipe.yaml"}, [out / "overall.csv"])
    stuck, never = threading.Event(), threading.Event()

    def stall(request: Request) -> Answer:
        if request.method == "PUT" and ".mp4" in request.path and not never.is_set():
            stuck.set()
            never.wait(100)
            raise ConnectionError
        return None

    server.fault = stall
    with Exporter(volume, server.url) as exporter:
        assert stuck.wait(100), exporter.log
        server.until(lambda: has(server, 6))
        exporter.kill()
    never.set()
    assert not [name for name in server.run.files if name.endswith(".mp4")]
    with Exporter(volume, server.url, ending=ENDING) as exporter:
        assert exporter.wait() == 0, exporter.log
    files = server.run.files
    assert [len(content) for name, content in files.items() if name.endswith(".mp4")] == [50_012]
    tables = [json.loads(content) for name, content in files.items() if "train.overall" in name]
    assert tables
    assert tables[0]["data"] == [["len", 3.5], ["words", None]]
    assert files["recipes/train/refined_recipe.yaml"] == b"process: []\n"
    assert losses(server) == [step * 10.0 for step in range(5)] + [1.0]
