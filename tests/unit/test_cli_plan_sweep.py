# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl plan` of a SandboxSweep: what it would search, or all that is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.unit.sweep_dumps import FILTERS, PROCESSING, TRAINING
from typer.testing import CliRunner, Result

from sandbox_api.sweep import SweepSpec
from sandbox_operator.cli.main import app

ROOT = Path(__file__).parents[2]
EXAMPLES = [ROOT / "configs/hpo/sweep.yaml", ROOT / "gitops/examples/experiments/text-length-search/sweep.yaml"]
PROBE = {"hook": "ProbeViaAnalyzerHook", "metaName": "before", "djConfigs": {"dataset_path": "data/demo.jsonl"}}


def a_sweep(**more: Any) -> dict[str, Any]:
    spec = {
        "method": "bayes", "metric": {"name": "rows_out", "goal": "maximize"}, "parameters": dict(FILTERS),
        "template": {"probeJobConfigs": [PROBE], **PROCESSING}, "run_cap": 30, "maxTrials": 12, "parallelism": 3, **more,
    }  # fmt: skip
    head = {"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxSweep", "metadata": {"name": "find"}}
    return {**head, "spec": spec}


def planned(folder: Path, *documents: Any, options: tuple[str, ...] = ()) -> Result:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return CliRunner().invoke(app, ["plan", str(file), *options], env={"COLUMNS": "250"})


def test_what_would_be_searched_is_told(tmp_path: Path) -> None:
    result = planned(tmp_path, a_sweep(program="train.py", command=["python", "x"], keep={"bestTrials": 3}))

    assert result.exit_code == 0, result.output
    for line in (
        "find: bayes, 12 trials, 3 at a time, all on the claim find-workspace",
        "maximize process.rows_out of anonymous/1/execution/0",
        "  text_length_filter.min_len: q_log_uniform_values, 16 to 8192, multiples of 1 -> text_length_filter.min_len of"
        " process (anonymous/1/execution/0)",
        "run once, and taken by all trials: anonymous/1/probe/0",
        "run in each trial: anonymous/1/execution/0",
        "no further trial once more than 3 failed",
        "at the end large artifacts of the best 3 and the failed stay, and what others took",
        "accepted and ignored: program, command",
    ):
        assert line in result.output.splitlines()


def test_a_job_that_a_constant_reaches_is_equal_in_all_trials_and_what_reads_a_searched_one_is_not(
    tmp_path: Path,
) -> None:
    template = {**TRAINING, "repeats": 2, "probeJobConfigs": [PROBE]}
    parameters = {
        "train.extraConfigs.train.max_epochs": {"min": 1, "max": 40},
        "before.djConfigs.np": {"value": 2},
    }
    sweep = a_sweep(template=template, parameters=parameters, metric={"name": "judge.accuracy"})
    data = json.loads(planned(tmp_path, sweep, options=("-o", "json")).stdout)
    schema = json.loads((ROOT / "docs/reference/plan.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(data)

    (plan,) = data["sweeps"]
    assert plan["shared"] == ["anonymous/1/probe/0"]
    assert {job.partition("~")[0] for job in plan["own"]} == {
        "anonymous/1/execution/0", "anonymous/1/execution/1", "anonymous/1/evaluation/0",
    }  # fmt: skip
    by_name = {each["name"]: each for each in plan["parameters"]}
    assert by_name["train.extraConfigs.train.max_epochs"]["hits"] == [
        {"job": "anonymous/1/execution/0", "metaName": "train", "sets": "extraConfigs.train.max_epochs"}
    ]


def test_every_mistake_is_a_sentence_and_the_exit_code_is_one(tmp_path: Path) -> None:
    sweep = a_sweep(metric={"name": "process.rows_uot"}, parameters={"text_lengt_filter.min_len": {"min": 1, "max": 9}})
    sweep["metadata"]["name"] = "x" * 47
    result = planned(tmp_path, sweep)

    assert result.exit_code == 1
    for words in (
        "has more than 46 characters",
        "spec.metric.name: ",
        'spec.parameters["text_lengt_filter.min_len"]: ',
    ):
        assert words in result.output


@pytest.mark.parametrize(
    ("early", "words"),
    [
        ({"type": "hyperband", "min_iter": 2, "max_iter": 20}, "no trial will be ended early, because process"),
        ({"type": "hyperband"}, "spec.early_terminate: does not say where the rungs are"),
    ],
)
def test_early_stopping_that_stops_nothing_is_told(tmp_path: Path, early: dict[str, Any], words: str) -> None:
    assert words in planned(tmp_path, a_sweep(early_terminate=early)).output


@pytest.mark.parametrize(
    ("early", "rungs"),
    [
        ({"type": "median", "min_iter": 10}, "10, 30, 90, 270, 810, 2430 and so on"),
        ({"type": "hyperband", "min_iter": 10, "max_iter": 100}, "10, 30, 90"),
    ],
)
def test_of_many_rungs_the_first_are_shown(tmp_path: Path, early: dict[str, Any], rungs: str) -> None:
    lines = planned(tmp_path, a_sweep(early_terminate=early)).output.splitlines()
    assert f"early stopping: {early['type']}, at process.step {rungs}" in lines


def test_what_the_api_servers_rules_refuse_is_refused_before_it_gets_there(tmp_path: Path) -> None:
    early = {"type": "hyperband", "min_iter": 2}
    result = planned(tmp_path, a_sweep(runCap=3, early_terminate=early, earlyTerminate=early))

    assert result.exit_code == 1
    rules = SweepSpec.model_json_schema()["x-kubernetes-validations"]
    for rule in rules[:2]:
        assert f"spec{rule['fieldPath']}: {rule['message']}" in result.output


def test_a_grid_of_which_a_sweep_can_try_a_part_alone_is_told(tmp_path: Path) -> None:
    sweep = a_sweep(method="grid", parameters={"text_length_filter.min_len": {"min": 1, "max": 100_000}})
    del sweep["spec"]["run_cap"], sweep["spec"]["maxTrials"]
    result = planned(tmp_path, sweep)

    assert result.exit_code == 0, result.output
    assert "find: grid, 10000 trials" in result.output
    assert "the grid has 100000 points, and only the first 10000 are tried" in result.output


def test_two_sweeps_of_a_name_and_one_of_another_version_are_refused(tmp_path: Path) -> None:
    twice = planned(tmp_path, a_sweep(), a_sweep())
    assert twice.exit_code == 1
    assert "SandboxSweep find: metadata.name: there are 2 of this name" in twice.output
    other = planned(tmp_path, {**a_sweep(), "apiVersion": "sandbox.datajuicer.io/v2"})
    assert other.exit_code == 1
    assert "apiVersion: write sandbox.datajuicer.io/v1alpha1" in other.output


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_that_users_copy_is_right(example: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(example)])

    assert result.exit_code == 0, result.output
    assert "run in each trial: " in result.output
