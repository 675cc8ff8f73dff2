# SPDX-License-Identifier: Apache-2.0
"""An experiment that fetches its data, by `sandboxctl run --local`: the planner, the Secret, the fetch, the job after it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dj_data import REPOSITORY
from tests.file_server import FileServer
from tests.hook_pod import PATHS
from tests.runtime.test_fetch_web import SECRET, zipped

LIMIT = 300.0
pytestmark = pytest.mark.timeout(2 * LIMIT)


def test_a_fetched_pool_is_processed_by_the_next_job(
    tmp_path: Path, server: FileServer, rows: list[dict[str, Any]]
) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    archive = zipped({"rows/part.jsonl": lines.encode(), "clips/a.mp4": b"no rows"})
    url = server.serve("/pool.zip", archive, token=f"Bearer {SECRET}")
    spec = {
        "workspace": {"claim": {"size": "1Gi"}},
        "executionJobConfigs": [
            {
                "hook": "FetchHook",
                "metaName": "pool",
                "secrets": [{"env": "POOL_TOKEN", "name": "pool", "key": "token"}],
                "extraConfigs": {"source": url, "token_env": "POOL_TOKEN", "export_path": "outputs/pool"},
            },
            {
                "hook": "ProcessDataHook",
                "djConfigs": {"suffixes": ["jsonl"], "process": [{"text_length_filter": {"max_len": 1000}}]},
                "input": {"djConfigs.dataset_path": "anonymous.pool.path"},
            },
        ],
    }
    experiment = {
        "apiVersion": "sandbox.datajuicer.io/v1alpha1",
        "kind": "SandboxExperiment",
        "metadata": {"name": "fetched"},
        "spec": spec,
    }
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    ended = subprocess.run(
        [
            sys.executable, "-c", "from sandbox_operator.cli.main import app; app(prog_name='sandboxctl')",
            "run", "--local", str(tmp_path / "experiment.yaml"), "--folder", str(tmp_path / "run"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, [*PATHS, REPOSITORY / "operator"])),
            "POOL_TOKEN": SECRET,
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout
    status = json.loads((tmp_path / "run/status.json").read_text())
    fetched, processed = status["jobs"]
    assert fetched["metrics"]["pool.bytes"] == len(archive)
    assert processed["metrics"]["process.rows_in"] == len(rows)
    assert processed["metrics"]["process.rows_out"] == sum(len(row["text"]) <= 1000 for row in rows)
    assert processed["result"]["cacheKey"]
    assert not fetched["result"].get("cacheKey")  # a plain address without a digest may be something else tomorrow
    assert SECRET not in ended.stdout
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
