# SPDX-License-Identifier: Apache-2.0
"""What `sandboxctl convert` makes of upstream's files runs, with Data-Juicer, and does what upstream's file only said."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import demo_rows
from dj_data import REPOSITORY
from tests.hook_pod import PATHS, write_jsonl

SANDBOXCTL = "from sandbox_operator.cli.main import app; app(prog_name='sandboxctl')"
LIMIT = 600.0
pytestmark = pytest.mark.timeout(2 * LIMIT)

RECIPE = """\
dataset_path: './demos/data/demo-dataset.jsonl'
export_path: './outputs/demo-process/demo-processed.jsonl'
np: 2
process:
  - text_length_filter: {min_len: 1, max_len: 100000}
  - special_characters_filter:
"""
GUIDE = """\
project_name: 'demo-sandbox'
experiment_name: 'guide'
hpo_config: null
probe_job_configs:
  - {hook: ProbeViaAnalyzerHook, meta_name: analysis_ori_data, dj_configs: configs/demo/process.yaml, extra_configs: }
refine_recipe_job_configs:
  - hook: RefineRecipeViaKSigmaHook
    meta_name: analysis_ori_data
    dj_configs: configs/demo/process.yaml
    extra_configs: {path_k_sigma_recipe: ./outputs/demo-process/k_sigma_new_recipe.yaml}
execution_job_configs:
  - {hook: ProcessDataHook, meta_name: , dj_configs: ./outputs/demo-process/k_sigma_new_recipe.yaml, extra_configs: }
evaluation_job_configs:
  - {hook: ProbeViaAnalyzerHook, meta_name: analysis_processed_data, dj_configs: configs/demo/process.yaml, extra_configs: }
"""
NEWEST = """\
experiment_name: newest
pipelines:
  look:
    probe_job_configs:
      - hook: ProbeViaAnalyzerHook
        meta_name: all rows
        output: with_stats
        dj_configs: configs/look.yaml          # long: it goes into a ConfigMap
  clean:
    execution_job_configs:
      - hook: ProcessDataHook                  # by the name of a result that upstream only exports when told to
        input: {dj_configs.dataset_path: look.all rows.with_stats}
        dj_configs:
          export_path: ./outputs/clean.jsonl
          process: [{text_length_filter: {max_len: 500}}]
      - hook: ProcessDataHook                  # in place, by a path with upstream's iter_1
        dj_configs:
          dataset_path: ./outputs/iter_1/clean.jsonl
          export_path: ./outputs/clean.jsonl
          process: [{document_deduplicator: {}}]
"""


def sandboxctl(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join(str(path) for path in [*PATHS, REPOSITORY / "operator"])
    return subprocess.run(
        [sys.executable, "-c", SANDBOXCTL, *arguments],
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"},
        cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


def ran(folder: Path, text: str, **side_files: str) -> dict[str, dict[str, Any]]:
    """Convert a file and run what comes out, with the folder that it says to upload; the jobs by metaName and stage."""
    write_jsonl(folder / "demos/data/demo-dataset.jsonl", demo_rows())
    (folder / "configs/demo").mkdir(parents=True)
    (folder / "configs/demo/process.yaml").write_text(RECIPE)
    for name, content in side_files.items():
        (folder / f"configs/{name}.yaml").write_text(content)
    (folder / "sandbox.yaml").write_text(text)
    converted = sandboxctl(folder, "convert", "sandbox.yaml", "-o", "experiment.yaml")
    assert (converted.returncode, "problem" in converted.stderr) == (0, False), converted.stderr
    assert "upload: demos/data/demo-dataset.jsonl -> inputs/data: kubectl create configmap" in converted.stderr
    run = sandboxctl(folder, "run", "--local", "experiment.yaml", "--folder", "run", "--input", "data=demos/data")
    assert run.returncode == 0, run.stdout + run.stderr
    status = json.loads((folder / "run/status.json").read_text())
    return {f"{job['metaName']} {job['id'].split('/')[-2]}": job for job in status["jobs"]}


def test_the_guides_example_analyses_what_it_has_processed(tmp_path: Path) -> None:
    jobs = ran(tmp_path, GUIDE)

    before = jobs["analysis_ori_data probe"]["metrics"]["analysis_ori_data.rows"]
    kept = jobs["process execution"]["metrics"]["process.rows_out"]
    assert jobs["process execution"]["metrics"]["process.rows_in"] == before == 300
    assert kept < before
    assert jobs["analysis_processed_data evaluation"]["metrics"]["analysis_processed_data.rows"] == kept


def test_jobs_of_the_newest_form_read_what_the_ones_before_them_wrote(tmp_path: Path) -> None:
    steps = "".join(f"# threshold {number}, and a line on where it is from\n" for number in range(200))
    jobs = ran(tmp_path, NEWEST, look=f"{steps}{RECIPE}")

    assert "kind: ConfigMap" in (tmp_path / "experiment.yaml").read_text()
    counts = [
        (
            jobs[f"{name} execution"]["metrics"][f"{name}.rows_in"],
            jobs[f"{name} execution"]["metrics"][f"{name}.rows_out"],
        )
        for name in ("process", "process_2")
    ]
    assert counts[0][0] == jobs["all_rows probe"]["metrics"]["all_rows.rows"] == 300
    assert counts[0][1] == counts[1][0] == 290
    assert counts[1][1] < counts[1][0]
