# SPDX-License-Identifier: Apache-2.0
"""The workflow of pools as an experiment, by the real planner and the real runtime: cut, judge each, rank, combine, draw."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_run_local import Shell
from tests.hook_pod import write_jsonl

from sandbox_runtime.data_juicer.dataset import ROW_ID

POOLS = "DataPoolManipulationHook"
pytestmark = pytest.mark.timeout(600)


def experiment() -> dict[str, Any]:
    cut = {
        "hook": POOLS,
        "metaName": "cut",
        "extraConfigs": {
            "type": "data_pool_construction",
            "dataset_path": "inputs/raw/rows.jsonl",
            "random_pool": True,
            "export_path": "outputs/cut",
        },
    }
    judge = {
        "hook": "EvaluateDataHook",
        "metaName": "judge",
        "input": {"extraConfigs.predicted_dataset_path": "item.pool"},
        "extraConfigs": {"type": "mse", "predicted_value_key": "guess", "ground_truth_value_key": "truth"},
    }
    rank = {
        "hook": "GeneralProbeHook",
        "metaName": "rank",
        "input": {"extraConfigs.dataset_path": "single.cut.paths", "extraConfigs.metrics": "tries.judge.value"},
        "extraConfigs": {"type": "data_pool_ranking", "descending": False, "top_n": 2},
    }
    combine = {
        "hook": POOLS,
        "metaName": "combine",
        "input": {"extraConfigs.dataset_path": "several.rank.ranked"},
        "extraConfigs": {"type": "data_pool_combination"},
    }
    draw = {
        "hook": POOLS,
        "metaName": "draw",
        "input": {"extraConfigs.dataset_path": "several.combine.paths"},
        "extraConfigs": {"type": "data_pool_downsampling", "export_path": "outputs/drawn"},
    }
    spec = {
        "workspace": {"claim": {"size": "1Gi"}},
        "inputs": [{"name": "raw", "claimName": "raw"}],
        "pipelines": [
            {"name": "single", "executionJobConfigs": [cut]},
            {"name": "tries", "forEach": {"item": "pool", "in": "single.cut.paths"}, "evaluationJobConfigs": [judge]},
            {"name": "several", "probeJobConfigs": [rank], "executionJobConfigs": [combine, draw]},
        ],
    }
    return {
        "apiVersion": "sandbox.datajuicer.io/v1alpha1",
        "kind": "SandboxExperiment",
        "metadata": {"name": "pools"},
        "spec": spec,
    }


def test_the_best_pools_of_two_statistics_meet(tmp_path: Path) -> None:
    """Guesses are good where `a` is low, and best where `b` is high as well."""
    rows = [
        {"truth": 0, "guess": a + (9 - b) / 10, "__dj__stats__": {"a": a, "b": b}, "number": 10 * a + b}
        for a in range(9)
        for b in range(9)
    ]
    write_jsonl(tmp_path / "raw" / "rows.jsonl", rows)
    (tmp_path / "pools.yaml").write_text(yaml.safe_dump(experiment()))
    shell = Shell(tmp_path / "pools.yaml", tmp_path / "run", tmp_path / "raw")
    code, output = shell.run()
    assert code == 0, output

    def paths(name: str, stage: str, result: str) -> list[Path]:
        return [shell.folder / "workspace" / path for path in shell.job(name, stage)["outputs"][result]]

    errors = [job["outputs"]["value"] for job in shell.status["jobs"] if job["metaName"] == "judge"]
    cut = paths("cut", "execution", "paths")
    assert [path.stem for path in cut] == [*(f"rows_{stat}_{i}" for stat in "ab" for i in range(3)), "rows_random"]
    by_error = sorted(range(len(errors)), key=errors.__getitem__)
    ranked = paths("rank", "probe", "ranked")
    assert ranked == [cut[place] for place in by_error[:2]]
    assert ranked[0].stem == "rows_a_0"
    numbers = [{json.loads(line)["number"] for line in path.read_text().splitlines()} for path in ranked]
    combined = paths("combine", "execution", "paths")
    wanted = [numbers[0], numbers[1], *([numbers[0] & numbers[1]] if numbers[0] & numbers[1] else [])]
    lines = [[json.loads(line) for line in path.read_text().splitlines()] for path in combined]
    assert [{row["number"] for row in pool} for pool in lines] == wanted
    drawn = sorted((shell.folder / "workspace").glob("experiments/*/outputs/drawn/*.jsonl"))
    smallest = min(map(len, wanted))
    assert [len(path.read_text().splitlines()) for path in drawn] == [smallest] * len(combined)
    ids = {row["number"]: row[ROW_ID] for row in lines[0]}
    assert all(ids[row["number"]] == row[ROW_ID] for pool in lines for row in pool if row["number"] in ids)
