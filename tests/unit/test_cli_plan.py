# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl plan`: what the operator would make of a file, without a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.builders import a_spec, four_jobs, probe
from typer.testing import CliRunner, Result

from sandbox_operator.cli.main import app

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "configs").rglob("experiment*.yaml"))


def manifest(spec: Any, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "sandbox.datajuicer.io/v1alpha1",
        "kind": "SandboxExperiment",
        "metadata": {"name": "demo"},
        "spec": spec,
        **more,
    }


def planned(folder: Path, *documents: Any) -> Result:
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return CliRunner().invoke(app, ["plan", str(file)], env={"COLUMNS": "250"})


def test_a_file_that_is_right_is_shown_as_a_table_of_jobs(tmp_path: Path) -> None:
    result = planned(tmp_path, manifest(four_jobs()))

    assert result.exit_code == 0
    assert "demo: 4 jobs, one after another" in result.output
    (row,) = [
        line for line in result.output.splitlines() if "anonymous/1/execution/0" in line and "ProcessDataHook" in line
    ]
    assert "djConfigs = analysis.refined_recipe" in row
    assert "processed" in row


def test_every_problem_is_printed_with_its_field_and_the_exit_code_is_one(tmp_path: Path) -> None:
    result = planned(tmp_path, manifest(a_spec(probes=[probe(hook="Nope"), probe(pod="big")])))

    assert result.exit_code == 1
    assert "spec.probeJobConfigs[0].hook: there is no hook 'Nope'" in result.output
    assert "spec.probeJobConfigs[1].pod: spec.pods has no profile 'big'" in result.output


def test_a_warning_is_printed_and_is_no_failure(tmp_path: Path) -> None:
    result = planned(tmp_path, manifest(a_spec(executions=[probe()])))

    assert result.exit_code == 0
    assert (
        "warning: spec.executionJobConfigs[0].hook: ProbeViaAnalyzerHook belongs to probe or evaluation"
        in result.output
    )


def test_several_experiments_of_a_file_are_all_shown(tmp_path: Path) -> None:
    bad = manifest(a_spec(repeats=3), metadata={"name": "bad"})
    result = planned(tmp_path, manifest(a_spec()), {"kind": "ConfigMap"}, bad)

    assert result.exit_code == 1
    assert "demo: 1 job" in result.output
    assert "bad: 1 job" in result.output
    assert "spec.repeats: this version can't do it yet" in result.output


@pytest.mark.parametrize(
    "empty",
    [
        {"stop": None, "comparison": None, "inputs": [{"name": "raw", "configMapName": "raw", "claimName": None}]},
        {"probeJobConfigs": [probe(nodes=None, metaName=None, local=None)]},
        {"probeJobConfigs": [probe(djConfigs={"dataset_path": "a", "process": [{"text_length_filter": None}]})]},
    ],
)
def test_a_field_set_to_null_is_as_good_as_absent(tmp_path: Path, empty: dict[str, Any]) -> None:
    """As the API server stores it; inside a configuration of Data-Juicer a null means what it says there."""
    result = planned(tmp_path, manifest({**a_spec(), **empty}))

    assert (result.exit_code, "spec." in result.output) == (0, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no SandboxExperiment in it"),
        ("kind: ConfigMap", "there is no SandboxExperiment in it"),
        ("- a\n- b", "there is no SandboxExperiment in it"),
        ("kind: SandboxExperiment", "apiVersion: write sandbox.datajuicer.io/v1alpha1, not None"),
        ("kind: SandboxExperiment\napiVersion: sandbox.datajuicer.io/v1", "not 'sandbox.datajuicer.io/v1'"),
        ("a: [", "experiment.yaml: while parsing"),
        ("kind: SandboxExperiment\napiVersion: sandbox.datajuicer.io/v1alpha1", "spec.workspace: is missing"),
        (
            "kind: SandboxExperiment\napiVersion: sandbox.datajuicer.io/v1alpha1\nspec: [1]\nmetadata: 5",
            "spec: write keys",
        ),
    ],
)
def test_a_file_that_is_no_experiment_is_told_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    result = CliRunner().invoke(app, ["plan", str(file)], env={"COLUMNS": "250"})

    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_file_that_is_no_text_is_told_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_bytes(b"\xff\xfe\x00\x81")
    result = CliRunner().invoke(app, ["plan", str(file)])

    assert result.exit_code == 1
    assert "experiment.yaml: " in result.output


def test_a_name_that_is_too_long_is_told_before_the_server_does(tmp_path: Path) -> None:
    result = planned(tmp_path, manifest(a_spec(), metadata={"name": "a" * 53}))

    assert result.exit_code == 1
    assert "metadata.name: " in result.output
    assert "more than 52 characters" in result.output


def test_text_that_looks_like_markup_is_printed_as_it_is(tmp_path: Path) -> None:
    spec = a_spec(probes=[probe(), probe(input={"djConfigs.[/red]": "-1.rows"})])
    result = planned(tmp_path, manifest(spec))

    assert result.exit_code == 1
    assert "djConfigs.[/red]" in result.output


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_that_users_copy_is_right(example: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(example)])

    assert result.exit_code == 0, result.output
