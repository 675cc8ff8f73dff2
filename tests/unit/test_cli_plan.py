# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl plan`: what the operator would make of a file, without a cluster."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.unit.builders import RECIPE, a_spec, four_jobs, probe, process
from typer.testing import CliRunner, Result

from sandbox_api.hooks import HOOKS
from sandbox_operator.cli.main import app
from sandbox_operator.cli.preview import FilePlan
from sandbox_operator.cli.projected import contract_of
from sandbox_operator.plan.compile import compile_spec

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("examples", "pools", "recipes")
EXAMPLES = sorted(
    [
        *(ROOT / "configs").rglob("experiment*.yaml"),
        *(path for folder in FOLDERS for path in (ROOT / "configs" / folder).glob("*.yaml")),
    ]
)


def manifest(spec: Any, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "sandbox.datajuicer.io/v1alpha1",
        "kind": "SandboxExperiment",
        "metadata": {"name": "demo"},
        "spec": spec,
        **more,
    }


def planned(folder: Path, *documents: Any, options: tuple[str, ...] = (), columns: int = 250) -> Result:
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return CliRunner().invoke(app, ["plan", str(file), *options], env={"COLUMNS": str(columns)})


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
    bad = manifest(a_spec(queueName="q"), metadata={"name": "bad"})
    result = planned(tmp_path, manifest(a_spec()), {"kind": "ConfigMap"}, bad)

    assert result.exit_code == 1
    assert "demo: 1 job" in result.output
    assert "bad: 1 job" in result.output
    assert "spec.queueName: this version can't do it yet" in result.output


def test_experiments_of_one_name_are_told(tmp_path: Path) -> None:
    """The second would be a change of the first; in another namespace it is another."""
    elsewhere = manifest(a_spec(), metadata={"name": "demo", "namespace": "lab"})
    assert planned(tmp_path, manifest(a_spec()), elsewhere).exit_code == 0

    result = planned(tmp_path, manifest(a_spec()), manifest(four_jobs()), elsewhere)
    assert result.exit_code == 1
    assert "SandboxExperiment demo: metadata.name: there are 2 of this name; rename all but one" in result.output


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
        ("method: random\nparameters: {a: {value: 1}}", "is told by sandboxctl convert "),
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


@pytest.mark.parametrize("name", ["Bad_Name", "a-", "a..b", "-"])
def test_a_name_that_no_object_may_have_is_told_before_the_server_does(tmp_path: Path, name: str) -> None:
    result = planned(tmp_path, manifest(a_spec(), metadata={"name": name}))

    assert result.exit_code == 1
    assert f"metadata.name: {name!r} is not a name; write lower-case letters" in result.output


def test_text_that_looks_like_markup_is_printed_as_it_is(tmp_path: Path) -> None:
    spec = a_spec(probes=[probe(), probe(input={"djConfigs.[/red]": "-1.rows"})])
    result = planned(tmp_path, manifest(spec))

    assert result.exit_code == 1
    assert "djConfigs.[/red]" in result.output


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_example_that_users_copy_is_right(example: Path) -> None:
    """With the SandboxHook beside it."""
    hook = example.with_name("hook.yaml")
    files = [str(hook)] * hook.exists() + [str(example)]
    result = CliRunner().invoke(app, ["plan", *files])

    assert result.exit_code == 0, result.output


def test_there_is_an_example_of_each_hook_and_of_each_component() -> None:
    shown: set[tuple[str, str | None]] = set()
    for path in EXAMPLES:
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "SandboxExperiment":
                compiled = compile_spec(document["spec"], {})
                shown |= {(job.hook.name, job.config.type) for job in compiled.jobs}
    there_are = {(hook.name, type_) for hook in HOOKS.values() for type_ in hook.components or (None,)}
    assert there_are - shown == set()


def test_a_hook_alone_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "hook.yaml"
    hook = {"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxHook", "metadata": {"name": "Mine"}}
    file.write_text(yaml.safe_dump({**hook, "spec": {"image": "x", "contract": "raw"}}))
    result = CliRunner().invoke(app, ["plan", str(file), "-o", "json"])

    assert result.exit_code == 1
    assert [p.split(":")[0] for p in json.loads(result.stdout)["problems"]] == ["SandboxHook Mine"] * 2
    assert "contract: raw needs a command" in result.stderr


def test_a_job_whose_hook_is_faulty_is_told_what_is_wrong_with_that_hook(tmp_path: Path) -> None:
    """As the operator tells it, not as if the hook were misspelt."""
    hook = {"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxHook", "metadata": {"name": "mine"}}
    result = planned(
        tmp_path, {**hook, "spec": {}}, manifest(a_spec(executions=[{"hook": "mine"}])), options=("-o", "json")
    )
    (problem,) = json.loads(result.stdout)["experiments"][0]["problems"]

    assert result.exit_code == 1
    assert problem.startswith(
        "spec.executionJobConfigs[0].hook: the SandboxHook 'mine' can't be used: spec.image: give"
    )


GPUS = {"default": {"resources": {"limits": {"nvidia.com/gpu": 2, "cpu": "4"}, "requests": {"cpu": "1"}}}}


def as_data(folder: Path, *documents: Any, form: str = "json") -> tuple[Result, dict[str, Any]]:
    result = planned(folder, *documents, options=("-o", form))
    return result, json.loads(result.stdout) if form == "json" else yaml.safe_load(result.stdout)


def test_order_resources_and_gpu_hours_are_told_as_data(tmp_path: Path) -> None:
    """Two probes at once, then one that waits for both."""
    spec = a_spec(
        probes=[probe(metaName="a"), probe(metaName="b", dependsOn=[]), probe(metaName="c", dependsOn=["a", "b"])],
        pods=GPUS, timeouts={"active": "90m"},
    )  # fmt: skip
    result, data = as_data(tmp_path, manifest(spec))
    (plan,) = data["experiments"]

    assert result.exit_code == 0
    assert [(job["metaName"], job["step"], job["after"]) for job in plan["jobs"]] == [
        ("a", 1, []), ("b", 1, []), ("c", 2, ["anonymous/1/probe/0", "anonymous/1/probe/1"]),
    ]  # fmt: skip
    assert (plan["steps"], plan["gpusAtOnce"], plan["gpuHours"]) == (2, 4, 9.0)
    assert plan["jobs"][0]["resources"] == {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": 2, "cpu": "4"}}
    assert (plan["jobs"][0]["activeSeconds"], plan["jobs"][0]["gpuHours"]) == (5400, 3.0)

    table = planned(tmp_path, manifest(spec)).output
    assert "demo: 3 jobs in 2 steps, up to 2 side by side" in table
    assert "GPUs: 4 at once, at most 9 GPU-hours" in table
    assert "at most 1h30m" in table


def test_a_narrow_terminal_gets_lines_that_fit(tmp_path: Path) -> None:
    output = planned(tmp_path, manifest(four_jobs(pods=GPUS)), columns=80).output
    lines = [line.rstrip() for line in output.splitlines()]
    begin = lines.index("3. anonymous/1/execution/0")

    assert lines[begin : begin + 9] == [
        "3. anonymous/1/execution/0",
        "   ProcessDataHook as process",
        "   inputs    djConfigs = analysis.refined_recipe",
        "   outputs   processed",
        "   image     data",
        "   requests  cpu 1",
        "   limits    cpu 4, nvidia.com/gpu 2",
        "   runs      at most 1d",
        "",
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("iterations", "words"),
    [
        ({}, "at most 48 GPU-hours (each"),
        ({"maxIterNum": 3}, "at most 144 GPU-hours in 3 iterations (each"),
        ({"maxIterNum": 0, "iterTargets": ["anonymous.probe.rows > 1"]}, "at most 48 GPU-hours an iteration (each"),
    ],
)
def test_gpu_hours_are_those_of_all_iterations(tmp_path: Path, iterations: dict[str, Any], words: str) -> None:
    assert f"GPUs: 2 at once, {words}" in planned(tmp_path, manifest(a_spec(pods=GPUS, **iterations))).output


def test_items_of_a_literal_list_stand_one_by_one_within_their_limit(tmp_path: Path) -> None:
    each = {"item": "set", "in": ["a.jsonl", "b.jsonl", "c.jsonl"], "maxParallel": 2}
    spec = a_spec(probes=[probe(forEach=each, input={"djConfigs.dataset_path": "item.set"})], pods=GPUS)
    _, data = as_data(tmp_path, manifest(spec))
    (plan,) = data["experiments"]

    assert [(job["id"], job["step"], job["inputs"][0]["value"]) for job in plan["jobs"]] == [
        ("anonymous/1/probe/0[0]", 1, "a.jsonl"),
        ("anonymous/1/probe/0[1]", 1, "b.jsonl"),
        ("anonymous/1/probe/0[2]", 2, "c.jsonl"),
    ]
    assert (plan["gpusAtOnce"], plan["gpuHours"]) == (4, 3 * 2 * 24)


def test_items_that_are_known_later_stand_once(tmp_path: Path) -> None:
    hook = {"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxHook", "metadata": {"name": "lister"},
            "spec": {"imageName": "data", "outputs": ["paths"]}}  # fmt: skip
    spec = a_spec(
        probes=[{"hook": "lister", "metaName": "first"}],
        executions=[process(forEach={"item": "part", "in": "anonymous.first.paths"}, input={"djConfigs": "item.part"}),
                    process(metaName="other", input={"djConfigs.dataset_path": "-1.dataset"}, djConfigs={"process": RECIPE})],
    )  # fmt: skip
    result, data = as_data(tmp_path, hook, manifest(spec))
    (plan,) = data["experiments"]

    assert plan["problems"] == [], result.output
    assert [(job["id"], job["step"]) for job in plan["jobs"]] == [
        ("anonymous/1/probe/0", 1), ("anonymous/1/execution/0[*]", 2), ("anonymous/1/execution/1", 3),
    ]  # fmt: skip
    assert plan["jobs"][1]["inputs"] == [{"target": "djConfigs", "sources": [], "item": "part"}]
    assert "Jobs with [*] run once for each item" in planned(tmp_path, hook, manifest(spec)).output


def test_one_iteration_is_shown_and_how_many_there_may_be(tmp_path: Path) -> None:
    _, data = as_data(tmp_path, manifest(a_spec(maxIterNum=3)))
    (plan,) = data["experiments"]

    assert (plan["iterations"], [job["id"] for job in plan["jobs"]]) == (3, ["anonymous/1/probe/0"])
    assert "Iterations: at most 3; this is one." in planned(tmp_path, manifest(a_spec(maxIterNum=3))).output
    targets = a_spec(maxIterNum=0, iterTargets=["anonymous.probe.rows >= 5"])
    assert "Iterations: until the targets are met" in planned(tmp_path, manifest(targets)).output


def test_data_for_programs_holds_the_problems_and_stderr_tells_them_too(tmp_path: Path) -> None:
    result, data = as_data(tmp_path, manifest(a_spec(probes=[probe(hook="Nope")])), form="yaml")
    (plan,) = data["experiments"]

    assert result.exit_code == 1
    assert plan["problems"][0].startswith("spec.probeJobConfigs[0].hook: there is no hook 'Nope'")
    assert "there is no hook 'Nope'" in result.stderr
    assert "gpuHours" not in plan


def test_the_shape_of_the_data_is_the_documented_one(tmp_path: Path) -> None:
    schema = json.loads((ROOT / "docs/reference/plan.schema.json").read_text())
    for document in (manifest(four_jobs()), manifest(a_spec(probes=[probe(hook="Nope")]))):
        _, data = as_data(tmp_path, document)
        jsonschema.Draft202012Validator(schema).validate(data)
    assert schema == FilePlan.model_json_schema(by_alias=True)


def test_manifests_are_those_that_the_operator_creates(tmp_path: Path) -> None:
    """Golden ones of the builder stand elsewhere; here it is that all are there, in order, with the right images."""
    options = ("--manifests", "--image", "data=registry.example.com/data:1")
    result = planned(tmp_path, manifest(four_jobs(), metadata={"name": "demo", "namespace": "lab"}), options=options)
    made = list(yaml.safe_load_all(result.stdout))

    assert result.exit_code == 0
    assert [item["kind"] for item in made] == ["PersistentVolumeClaim", "Job", "Job", "Job", "Job"]
    assert {item["metadata"]["namespace"] for item in made} == {"lab"}
    pods = [item["spec"]["template"]["spec"] for item in made[1:]]
    assert {pod["containers"][0]["image"] for pod in pods} == {"registry.example.com/data:1"}
    contracts = [contract_of(item, None) for item in made[1:]]
    assert [contract.job.stage for contract in contracts] == ["probe", "refine", "execution", "evaluation"]
    assert contracts[2].inputs["djConfigs"].job == "anonymous/1/refine/0"  # type: ignore[union-attr]
    assert "&id" not in result.stdout

    listed = planned(tmp_path, manifest(four_jobs()), options=("--manifests", "-o", "json"))
    assert [item["kind"] for item in json.loads(listed.stdout)["items"]] == [item["kind"] for item in made]
    assert "name them with --image" in listed.stderr


def test_a_file_may_come_from_standard_input() -> None:
    text = yaml.safe_dump(manifest(four_jobs()))
    result = CliRunner().invoke(app, ["plan", "-"], input=text, env={"COLUMNS": "250"})
    assert (result.exit_code, "demo: 4 jobs" in result.output) == (0, True)

    result = CliRunner().invoke(app, ["plan", "-"], input="a: [")
    assert result.exit_code == 1
    assert "standard input: " in result.output


def test_a_claim_of_ones_own_and_a_suspended_experiment_are_planned_as_well(tmp_path: Path) -> None:
    spec = {**four_jobs(), "workspace": {"claimName": "mine"}, "suspend": True}
    result, data = as_data(tmp_path, manifest(spec))
    (plan,) = data["experiments"]

    assert (plan["claim"], plan["steps"], result.exit_code) == ("mine", 4, 0)
    assert plan["warnings"] == ["spec.suspend: is true; nothing starts until it is false"]
