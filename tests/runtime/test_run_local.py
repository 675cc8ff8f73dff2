# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl run --local` for real: the demo's experiment with Data-Juicer, interrupted, killed and resumed; and a hook
that fails."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import demo_rows
from dj_data import REPOSITORY, fetch_models
from tests.hook_pod import PATHS
from tests.progress import deep_only

DEMO = REPOSITORY / "configs" / "demo" / "experiment.yaml"
SANDBOXCTL = "from sandbox_operator.cli.main import app; app(prog_name='sandboxctl')"
LIMIT = 600.0
pytestmark = pytest.mark.timeout(2 * LIMIT)


@dataclass
class Shell:
    """`sandboxctl run --local FILE` in one folder."""

    file: Path
    folder: Path
    data: Path

    def start(self, *options: str) -> "subprocess.Popen[str]":
        paths = [*PATHS, REPOSITORY / "operator"]
        arguments = ["run", "--local", self.file, "--folder", self.folder, "--input", f"raw={self.data}", *options]
        return subprocess.Popen(
            [sys.executable, "-c", SANDBOXCTL, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "200"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *options: str) -> tuple[int, str]:
        process = self.start(*options)
        output, _ = process.communicate(timeout=LIMIT)
        return process.returncode, output

    @property
    def status(self) -> dict[str, Any]:
        file = self.folder / "status.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def job(self, meta_name: str, stage: str) -> dict[str, Any]:
        jobs = self.status.get("jobs", ())
        return next((job for job in jobs if job["metaName"] == meta_name and f"/{stage}/" in job["id"]), {})

    def until(self, condition: Callable[[], object], process: "subprocess.Popen[str]", what: str) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert process.poll() is None, f"it ended before {what}:\n{process.communicate()[0]}"
            if time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"not in time: {what}\n{process.communicate()[0]}")
            time.sleep(0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the demo's, with fewer rows."""
    fetch_models()
    file = tmp_path_factory.mktemp("data") / "demo.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in demo_rows())
    return file


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Shell, str]:
    """The demo, undisturbed, and what it printed."""
    shell = Shell(DEMO, tmp_path_factory.mktemp("demo") / "run", data)
    code, output = shell.run()
    assert code == 0, output
    return shell, output


def outcome(status: dict[str, Any]) -> dict[str, Any]:
    """What must be the same whatever happened on the way."""
    jobs = [{key: job.get(key) for key in ("id", "state", "metrics")} for job in status["jobs"]]
    return {"outcome": status["outcome"], "comparison": status["comparison"], "jobs": jobs}


def test_the_demo_runs_without_a_cluster_and_ends_with_its_table(demo: tuple[Shell, str]) -> None:
    shell, output = demo

    assert shell.status["outcome"] == "Succeeded"
    assert [job["attempts"] for job in shell.status["jobs"]] == [1, 1, 1, 1]
    assert "Before (analysis_ori_data) and after (analysis_processed_data)" in output
    assert "Refined bounds" in output
    rows = {row["metric"]: (row["before"], row["after"]) for row in shell.status["comparison"]}["rows"]
    assert rows[0] == 300
    assert rows[1] < rows[0]
    dataset = shell.folder / "workspace" / shell.job("process", "execution")["outputs"]["processed"]
    assert len(dataset.read_text().splitlines()) == rows[1]
    assert output.count("resources are not enforced here") == 1


@deep_only
def test_interrupted_and_killed_it_goes_on_to_the_same_end(demo: tuple[Shell, str], data: Path, tmp_path: Path) -> None:
    """Ctrl-C while the recipe is refined; kill -9 while the data is processed."""
    shell = Shell(DEMO, tmp_path / "run", data)
    running = shell.start()
    shell.until(
        lambda: shell.job("analysis_ori_data", "refine").get("state") == "Running", running, "the second hook runs"
    )
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=LIMIT)
    probe = shell.job("analysis_ori_data", "probe")
    assert running.returncode == 130, output
    assert "interrupted; the same command with --resume goes on" in output
    assert "Suspended" in {c["type"] for c in shell.status["conditions"]}

    running = shell.start("--resume")
    shell.until(lambda: shell.job("process", "execution").get("state") == "Running", running, "the third hook runs")
    running.kill()
    running.wait()
    assert shell.job("process", "execution")["state"] == "Running"

    code, output = shell.run("--resume")
    assert code == 0, output
    assert outcome(shell.status) == outcome(demo[0].status)
    assert shell.job("analysis_ori_data", "probe") == probe
    assert shell.job("analysis_ori_data", "refine").get("failures") is None, "an interruption is no failure"
    assert shell.job("process", "execution")["failures"]["preempted"] == 1

    code, output = shell.run()
    assert code == 1
    assert "holds a run of 'demo' already" in output


def test_a_failing_hook_is_tried_again_and_then_ends_the_run(data: Path, tmp_path: Path) -> None:
    experiment = yaml.safe_load(DEMO.read_text())
    spec = experiment["spec"]
    spec["retry"] = {"user": 1, "backoff": "1s"}
    spec["timeouts"] = {"active": "1s"}  # less than Data-Juicer's own start
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment))
    shell = Shell(file, tmp_path / "run", data)
    code, output = shell.run()

    assert code == 1
    job = shell.job("analysis_ori_data", "probe")
    assert (job["state"], job["reason"], job["attempts"]) == ("Failed", "Timeout", 2)
    assert re.search(r"demo: anonymous/1/probe/0 .* failed: the job's time of 1 s \(timeouts.active\) ran out", output)
    assert [job["state"] for job in shell.status["jobs"]] == ["Failed", "Skipped", "Skipped", "Skipped"]


def test_each_item_of_a_list_runs_on_its_own_and_what_follows_gets_them_all_in_order(
    tmp_path: Path, data: Path
) -> None:
    """The libraries take paths of their own kind: a folder named after an item must be one that they find."""
    file = tmp_path / "each.yaml"
    spec = {
        "workspace": {"claim": {"size": "1Gi"}},
        "inputs": [{"name": "raw", "configMapName": "raw"}],
        "pipelines": [
            {
                "name": "tries",
                "forEach": {"item": "limit", "in": [1, 100000]},
                "executionJobConfigs": [
                    {
                        "hook": "ProcessDataHook",
                        "djConfigs": {
                            "dataset_path": f"inputs/raw/{data.name}",
                            "process": [{"text_length_filter": {}}],
                            "export_path": "outputs/cut.jsonl",
                        },
                        "input": {"djConfigs.process.0.text_length_filter.min_len": "item.limit"},
                    }
                ],
            }
        ],
    }
    experiment = {"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxExperiment", "spec": spec}
    file.write_text(yaml.safe_dump({**experiment, "metadata": {"name": "each"}}))
    shell = Shell(file, tmp_path / "run", data)
    code, output = shell.run()

    assert code == 0, output
    rows = {job["id"]: job["metrics"]["process.rows_out"] for job in shell.status["jobs"]}
    assert rows["tries[0]/1/execution/0"] > 0
    assert rows["tries[1]/1/execution/0"] == 0
    published = {path.parent.name: path.resolve() for path in (tmp_path / "run").rglob("outputs/item_*/cut.jsonl")}
    assert "tries.0" in str(published["item_0"])
