# SPDX-License-Identifier: Apache-2.0
"""The demo's recipe on the demo's data and the real library: it catches most of the noise and spares the rest."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from configs.demo import report
from dj_data import REPOSITORY, fetch_models

from sandbox_runtime.data_juicer.analyze import analyze
from sandbox_runtime.data_juicer.dataset import prepare
from sandbox_runtime.data_juicer.k_sigma import Change, refine
from sandbox_runtime.data_juicer.operators import op_statistics
from sandbox_runtime.data_juicer.process import process

DEMO = REPOSITORY / "configs" / "demo"
SPEC = yaml.safe_load((DEMO / "experiment.yaml").read_text())["spec"]


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Change]]:
    """What the report says after analyse, refine and process, and the bounds that were set."""
    fetch_models()
    folder = tmp_path_factory.mktemp("demo")
    original = folder / "demo.jsonl.gz"
    subprocess.run([DEMO / "make_data.sh", original], check=True, capture_output=True)
    settings = SPEC["refineRecipeJobConfigs"][0]
    raw = {**SPEC["probeJobConfigs"][0]["djConfigs"], "dataset_path": str(original)}
    prepared = prepare(raw, folder / "in")
    work = {"work_dir": folder / "work", "job_id": "demo", "np": 2}

    analysis = analyze(raw, prepared, out_dir=folder / "analysis", **work)
    recipe, changes = refine(
        raw["process"], analysis.overall, *op_statistics(raw["process"]), k=settings["extraConfigs"]["k"]
    )
    processed: Path = folder / "out" / "processed.jsonl"
    process({**raw, "process": recipe}, prepared, export_path=processed, state_dir=folder / "state", attempt=1, **work)
    return report.report(report.count(original), report.count(processed)), changes


def test_most_noise_is_caught_and_clean_rows_are_spared(refined: tuple[dict[str, Any], list[Change]]) -> None:
    figures, _ = refined
    assert figures["rows_before"] >= 5000
    assert figures["noise_recall"] >= 0.6, report.table(figures)
    assert figures["clean_loss"] <= 0.05, report.table(figures)


@pytest.mark.parametrize("kind", ["duplicate", "near_duplicate", "foreign", "mojibake", "symbols", "digits", "long"])
def test_what_the_recipe_is_made_for_is_caught(refined: tuple[dict[str, Any], list[Change]], kind: str) -> None:
    assert refined[0]["kinds"][kind]["recall"] >= 0.95


def test_every_filter_got_bounds_from_the_data(refined: tuple[dict[str, Any], list[Change]]) -> None:
    filters = [next(iter(operator)) for operator in SPEC["probeJobConfigs"][0]["djConfigs"]["process"]][:-1]
    assert list(dict.fromkeys(change.op for change in refined[1])) == filters
