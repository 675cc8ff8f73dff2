# SPDX-License-Identifier: Apache-2.0
"""Whether `make bench-scale` works: every kind of load once, as small as it gets. Figures mean nothing here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.api.lab import REPOSITORY
from tests.ports import free_ports
from tests.progress import deep_only

SIZES = {"--one-hook": 3, "--four-hooks-fewer": 2, "--idle": 1, "--stored": 4, "--items": 5}
LOADS = ("floor one hook", "one hook", "floor four hooks", "four hooks", "floor idle", "idle", "stored", "items")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "result.json"
    options = [f"--output={path}", f"--port={free_ports(9)}", "--small"]
    options += [f"--only={load}" for load in LOADS] + [f"{name}={size}" for name, size in SIZES.items()]
    done = bench(*options)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "floor" in done.stdout
    return dict(json.loads(path.read_text()))


def environment() -> dict[str, str]:
    paths = [str(REPOSITORY / part) for part in ("crds", "operator", "images/runtime", ".")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "tests.bench.scale", *options]


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options), cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(900)
@deep_only
def test_every_load_is_measured(result: dict[str, Any]) -> None:
    assert list(result["loads"]) == list(LOADS)
    assert {name: load["jobs"] for name, load in result["loads"].items() if "jobs" in load} == {
        "floor one hook": 3, "one hook": 3, "floor four hooks": 8, "four hooks": 8, "floor idle": 4, "idle": 4, "items": 5,
    }  # fmt: skip
    assert all(load["cpu"] for load in result["loads"].values())


@deep_only
def test_what_the_operator_asked_for_is_counted_from_the_audit_log(result: dict[str, Any]) -> None:
    requests = result["loads"]["four hooks"]["requests"]
    assert requests["create jobs"] == 8
    assert requests["create events"] == 2
    assert requests["update sandboxexperiments/status"] >= 2 * (4 + 1)
    assert "requests" not in result["loads"]["floor four hooks"]


@deep_only
def test_each_step_of_an_idle_chain_has_its_time(result: dict[str, Any]) -> None:
    steps = {
        "apply to first Job": 1, "apply to first pod": 1, "pod's end to next Job": 3, "pod's end to next pod": 3, "a chain": 1,
    }  # fmt: skip
    loads = result["loads"]
    assert {name: times["count"] for name, times in loads["floor idle"]["ms"].items()} == steps
    assert {name: times["count"] for name, times in loads["idle"]["ms"].items()} == steps | {
        "last pod's end to Succeeded": 1
    }


@deep_only
def test_a_start_among_stored_experiments_ends_in_a_job(result: dict[str, Any]) -> None:
    stored = result["loads"]["stored"]
    assert stored["stored"] == 4
    assert stored["ready after"] > 0
    assert stored["first Job after"] > 0
    assert stored["memory"]["peak"] > 0


@pytest.mark.timeout(300)
@deep_only
def test_a_run_that_was_ended_keeps_its_figures_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    options = [f"--output={path}", f"--port={free_ports(9)}", "--small", "--one-hook=2"]
    with subprocess.Popen(
        command(*options, "--only=floor one hook", "--only=one hook"), cwd=REPOSITORY, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as bench_process:  # fmt: skip
        while not path.exists():
            assert bench_process.poll() is None, bench_process.communicate()[0]
            time.sleep(0.1)
        bench_process.send_signal(signal.SIGTERM)
        said, _ = bench_process.communicate(timeout=60)
    assert bench_process.returncode == 1, said
    assert "--resume (RESUME=1) goes on" in said
    first = json.loads(path.read_text())["loads"]
    assert list(first) == ["floor one hook"]
    again = bench(*options, "--resume", "--only=floor one hook", "--only=floor idle")
    assert again.returncode == 0, again.stderr
    loads = json.loads(path.read_text())["loads"]
    assert list(loads) == ["floor one hook", "floor idle"]
    assert loads["floor one hook"] == first["floor one hook"], "it was measured again"


def test_a_load_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = bench("--only=one hok", f"--output={tmp_path / 'none.json'}")
    assert done.returncode == 2
    assert "there is no load one hok; there are: floor one hook, one hook" in done.stderr


@deep_only
@pytest.mark.timeout(1200)
def test_the_bench_of_progress_hears_all_pods_and_writes_at_its_pace(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    options = [f"--output={path}", f"--port={free_ports(10)}", "--pods=30", "--chains=1", "--rounds=2"]
    program = [sys.executable, "-m", "tests.bench.scale.progress", *options]
    done = subprocess.run(program, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    for found in json.loads(path.read_text())["shapes"].values():
        assert (found["pods"], found["hand-overs of each"]) == (30, 6)
        assert set(found["answers"]) == {"200"}
        assert found["quiet"]["progress writes a second"] < found["progress"]["progress writes a second"] <= 3.5
