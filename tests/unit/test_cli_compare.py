# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl compare` of runs without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sandbox_api.status import ComparisonRow, ExperimentStatus, JobStatus, RankRow
from sandbox_operator.cli.local_folder import LocalFolder, Stored
from sandbox_operator.cli.main import app


def a_run(folder: Path, rows: float, name: str = "demo") -> str:
    """A folder as `run --local` leaves it, of an experiment that has counted so many rows."""
    job = JobStatus(
        id="anonymous/1/probe/0", hook="toy", meta_name="look", state="Succeeded", metrics={"look.rows": rows}
    )
    row = ComparisonRow(metric="rows", before=9.0, after=rows, change=rows - 9.0, before_job="raw", after_job="look")
    status = ExperimentStatus(
        outcome="Succeeded", jobs=[job], comparison=[row], ranking=[RankRow(item="low", mean=rows, repeats=1)]
    )
    folder.mkdir()
    run = LocalFolder(folder)
    run.write_experiment(Stored(name, "local", f"uid-{folder.name}", 1, {"probeJobConfigs": [{"hook": "toy"}]}))
    run.write_status(status)
    return str(folder)


def compare(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def test_a_local_run_is_compared_as_one_of_a_cluster(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "a", 6.0)
    table = compare("demo", "-f", folder)
    assert table.exit_code == 0, table.output
    assert "Before (raw) and after (look)" in table.stdout
    assert "Ranking" in table.stdout
    found = json.loads(compare("demo", "-f", folder, "-o", "json").stdout)
    assert [(row["before"], row["after"]) for row in found["comparison"]] == [(9.0, 6.0)]
    assert [row["item"] for row in found["ranking"]] == ["low"]


def test_two_local_runs_are_compared_in_the_order_of_their_folders(tmp_path: Path) -> None:
    first, second = a_run(tmp_path / "a", 6.0), a_run(tmp_path / "b", 8.0)
    ended = compare("demo", "demo", "-f", first, "-f", second, "-o", "json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    [row] = found["comparison"]
    assert (row["metric"], row["before"], row["after"], row["change"]) == ("rows", 6.0, 8.0, 2.0)
    assert found["ranking"] == []


@pytest.mark.parametrize(
    ("names", "folders", "sentence"),
    [
        (["demo", "demo"], ["a"], "--folder: give one for each experiment: 2, not 1"),
        (["demo"], ["a", "a"], "--folder: give one for each experiment: 1, not 2"),
        (["other"], ["a"], "--folder: {}/a holds a run of 'demo', not of 'other'"),
        (["demo", "demo"], ["a", "none"], "--folder: {}/none holds no run"),
    ],
)
def test_a_folder_that_does_not_fit_is_told(
    tmp_path: Path, names: list[str], folders: list[str], sentence: str
) -> None:
    a_run(tmp_path / "a", 6.0)
    options = [text for folder in folders for text in ("-f", str(tmp_path / folder))]
    ended = compare(*names, *options)
    assert (ended.exit_code, ended.stderr) == (1, f"{sentence.format(tmp_path)}\n")
