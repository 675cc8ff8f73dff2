# SPDX-License-Identifier: Apache-2.0
"""The bench experiments in both of their sizes, and that each finds what the one before has made."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sandbox_api.vbench import DIMENSIONS
from sandbox_operator.cli.main import app

BENCH = Path(__file__).resolve().parents[2] / "configs" / "bench"
NAMES = ("1_single_op", "2_multi_op", "3_duplicate")
SIZES = ("tiny", "gpu")


def of_size(command: str, name: str, size: str, *options: str) -> str:
    values = str(BENCH / f"{size}.yaml")
    result = CliRunner().invoke(app, [command, str(BENCH / f"{name}.yaml"), "--values", values, *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def jobs_of(name: str, size: str) -> dict[str, Any]:
    """Jobs by metaName, as they would be applied."""
    spec = yaml.safe_load(of_size("render", name, size))["spec"]
    lists = ("probeJobConfigs", "executionJobConfigs", "evaluationJobConfigs")
    return {job["metaName"]: job for each in lists for job in spec[each]}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_they_are_right_in_every_size(name: str, size: str) -> None:
    (plan,) = json.loads(of_size("plan", name, size, "-o", "json"))["experiments"]

    assert plan["problems"] == []
    assert plan["warnings"] == []


@pytest.mark.parametrize("size", SIZES)
def test_what_one_has_done_is_the_same_job_in_the_next(size: str) -> None:
    """Only an equal job is taken from the step cache."""
    one, two, three = (jobs_of(name, size) for name in NAMES)

    assert one["look"] == two["look"] == three["look"]
    assert two["pool"] == three["pool"]
    assert two["select"] == three["select"]
    assert three["train"]["extraConfigs"] == {**two["train"]["extraConfigs"], "epochs": 2}
    specs = [yaml.safe_load((BENCH / f"{name}.yaml").read_text())["spec"] for name in NAMES]
    assert {spec["workspace"]["claimName"] for spec in specs} == {"bench"}
    assert specs[0]["inputs"] == specs[1]["inputs"] == specs[2]["inputs"]


def test_the_prompts_are_of_every_dimension() -> None:
    prompts = json.loads((BENCH / "VBench_mini_info.json").read_text())

    assert {dimension for prompt in prompts for dimension in prompt["dimension"]} == set(DIMENSIONS)
