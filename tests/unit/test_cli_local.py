# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl run --local` before anything starts: what must be given, what is wrong, all of it at once."""

import base64
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.local_lab import ENVIRON
from tests.unit.builders import a_spec, four_jobs, probe
from typer.testing import CliRunner, Result

from sandbox_api.base import API_VERSION
from sandbox_api.status import ExperimentStatus
from sandbox_operator.cli.local import interpreters_of
from sandbox_operator.cli.local_inputs import place_inputs
from sandbox_operator.cli.local_pod import Programs
from sandbox_operator.cli.main import app, programs_of
from sandbox_operator.plan.compile import compile_spec


def manifest(spec: Any, name: str = "demo") -> dict[str, Any]:
    meta = {"name": name}
    return {"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxExperiment", "metadata": meta, "spec": spec}


def ran(
    folder: Path, *documents: Any, options: tuple[str, ...] = ("--local",), environ: dict[str, str] | None = None
) -> Result:
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    arguments = ["run", str(file), "--folder", str(folder / "run"), *options]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "250", **(environ or {})})


def test_without_local_it_says_how_experiments_run_on_a_cluster(tmp_path: Path) -> None:
    result = ran(tmp_path, manifest(a_spec()), options=())

    assert result.exit_code == 1
    assert "kubectl apply -f" in result.output


def test_all_that_is_missing_is_told_at_once_and_nothing_is_made(tmp_path: Path) -> None:
    secret = {"env": "NOBODY_HAS_THIS", "name": "hf", "key": "token"}
    spec = a_spec(
        probes=[probe(secrets=[secret])],
        inputs=[{"name": "raw", "claimName": "datasets"}, {"name": "more", "configMapName": "more"}],
    )
    result = ran(tmp_path, manifest(spec), options=("--local", "--input", "rwa=/tmp"))

    assert result.exit_code == 1
    for words in (
        "demo: spec.probeJobConfigs[0].secrets[0]: the Secret hf is in a cluster; export its value as the environment"
        " variable NOBODY_HAS_THIS",
        "demo: spec.inputs[0]: the claim 'datasets' is in a cluster; give its files with --input raw=PATH",
        "demo: spec.inputs[1]: the ConfigMap 'more' is in a cluster; give its files with --input more=PATH",
        "--input rwa: spec.inputs has no 'rwa'; there is: more, raw",
    ):
        assert words in result.output
    assert not (tmp_path / "run").exists()


def test_a_sweep_is_no_experiment_and_what_can_be_run_is_said(tmp_path: Path) -> None:
    result = ran(tmp_path, {"apiVersion": API_VERSION, "kind": "SandboxSweep", "metadata": {"name": "s"}, "spec": {}})

    assert result.exit_code == 1
    assert "a SandboxSweep needs a cluster, its spec.template alone can be run here" in result.output


def test_what_the_operator_would_refuse_is_refused(tmp_path: Path) -> None:
    result = ran(tmp_path, manifest(a_spec(probes=[probe(hook="Nope")])))

    assert result.exit_code == 1
    assert "demo: spec.probeJobConfigs[0].hook: there is no hook 'Nope'" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--input", "raw"), "--input: write NAME=PATH, not 'raw'"),
        (("--input", "raw=/nowhere/at/all"), "--input raw=/nowhere/at/all: there is no such file or folder"),
        (("--python", "/no/python", "--input", "raw=/etc/hostname"), "/no/python can't run hooks: "),
        (("--python", "/bin/true", "--input", "raw=/etc/hostname"), "/bin/true is no Python with sandbox_runtime"),
        (("--python", "data=", "--input", "raw=/etc/hostname"), "--python: write PATH or IMAGE=PATH, not 'data='"),
    ],
)
def test_options_that_are_wrong_are_told_in_a_sentence(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    result = ran(tmp_path, manifest(a_spec()), options=("--local", *options))

    assert result.exit_code == 1
    assert said in result.output


def test_an_input_that_holds_the_runs_own_folder_is_refused(tmp_path: Path) -> None:
    """Copying it would copy the copy."""
    result = ran(tmp_path, manifest(a_spec()), options=("--local", "--input", f"raw={tmp_path}"))

    assert result.exit_code == 1
    assert f"--input raw={tmp_path}: holds the folder of this run (" in result.output


def test_an_interpreter_without_data_juicer_is_told_before_a_hook_fails(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho python 3.11\necho sandbox-operator 0\n")
    bare.chmod(0o755)
    options = ("--local", "--python", str(bare), "--input", "raw=/etc/hostname")
    result = ran(tmp_path, manifest(four_jobs()), options=options)

    assert result.exit_code == 1
    assert f"{bare} has no Data-Juicer, which " in result.output


def a_folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "a.jsonl").write_text("a")
    (source / "inner" / "b.jsonl").write_text("b")
    return source


def placed(tmp_path: Path, given: dict[str, Path], config_maps: dict[str, Any], *inputs: dict[str, Any]) -> Path:
    spec = compile_spec(a_spec(inputs=list(inputs))).spec
    assert spec is not None
    place_inputs(spec, given, config_maps, tmp_path / "inputs")
    return tmp_path / "inputs"


def test_a_folder_and_a_file_stand_where_the_claims_would(tmp_path: Path) -> None:
    source = a_folder(tmp_path)
    (source / "link.jsonl").symlink_to(source / "a.jsonl")
    volumes = [{"name": "raw", "claimName": "x"}, {"name": "one", "claimName": "y"}]
    inputs = placed(tmp_path, {"raw": source, "one": source / "a.jsonl"}, {}, *volumes)

    assert (inputs / "raw" / "inner" / "b.jsonl").read_text() == "b"
    assert (inputs / "raw" / "link.jsonl").read_text() == "a"
    assert (inputs / "one" / "a.jsonl").read_text() == "a"
    assert not any(path.is_symlink() for path in inputs.rglob("*")), "the runtime takes no path that leads out"


def test_a_config_map_of_the_same_file_needs_not_be_given(tmp_path: Path) -> None:
    binary = {"c.bin": base64.b64encode(b"\x00\xff").decode()}
    config_map = {"data": {"recipe.yaml": "process: []\n"}, "binaryData": binary}
    inputs = placed(tmp_path, {}, {"recipes": config_map}, {"name": "r", "configMapName": "recipes"})

    assert (inputs / "r" / "recipe.yaml").read_text() == "process: []\n"
    assert (inputs / "r" / "c.bin").read_bytes() == b"\x00\xff"


def test_an_input_of_an_earlier_run_stays_until_a_new_one_is_given(tmp_path: Path) -> None:
    source, volume = a_folder(tmp_path), {"name": "raw", "claimName": "x"}
    placed(tmp_path, {"raw": source}, {}, volume)
    (source / "a.jsonl").unlink()
    inputs = placed(tmp_path, {}, {}, volume)
    assert (inputs / "raw" / "a.jsonl").read_text() == "a"
    placed(tmp_path, {"raw": source}, {}, volume)
    assert not (inputs / "raw" / "a.jsonl").exists()


def test_a_run_is_not_begun_again_by_mistake(tmp_path: Path) -> None:
    """A spec that is suspended from its start makes a run without a hook."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho sandbox-operator 0\necho py-data-juicer 1\n")
    fake.chmod(0o755)
    spec = a_spec(suspend=True)
    options = ("--local", "--python", str(fake), "--input", "raw=/etc/hostname")
    first = ran(tmp_path, manifest(spec), options=options)
    assert first.exit_code == 1
    assert "demo: no further job is started until spec.suspend is false" in first.output
    assert (tmp_path / "run" / "inputs" / "raw" / "hostname").exists()

    again = ran(tmp_path, manifest(spec), options=options)
    assert "holds a run of 'demo' already; --resume goes on with it, another --folder starts anew" in again.output
    resumed = ran(tmp_path, manifest(spec), options=(*options, "--resume"))
    assert "no further job is started" in resumed.output
    other = ran(tmp_path, manifest(spec, name="other"), options=(*options, "--resume"))
    assert "the folder holds a run of 'demo', not of 'other'" in other.output


def test_what_is_other_than_on_a_cluster_is_said_once(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho sandbox-operator 0\necho py-data-juicer 1\n")
    fake.chmod(0o755)
    limits = {"resources": {"limits": {"cpu": "2", "nvidia.com/gpu": 1}}}
    spec = a_spec(suspend=True, pods={"default": limits}, images={"data": "mine:1"}, probes=[probe(), probe()])
    result = ran(tmp_path, manifest(spec), options=("--local", "--python", str(fake), "--input", "raw=/etc/hostname"))

    for words in ("resources are not enforced here", "GPUs are not handed out here", "spec.images is not used here"):
        assert result.output.count(words) == 1


def test_the_default_interpreter_is_this_one() -> None:
    named = Programs(*interpreters_of(["/a/python", "easyanimate=/b/python"]))

    assert Programs(*interpreters_of([])).python_for("local:data") == sys.executable
    assert (named.python_for("local:data"), named.python_for("local:easyanimate")) == ("/a/python", "/b/python")


def test_an_interpreter_is_found_from_any_folder() -> None:
    assert interpreters_of([".venv/bin/python", "data=python3"]) == (
        str(Path(".venv/bin/python").absolute()),
        {"data": "python3"},
    )


def test_a_program_is_found_from_any_folder() -> None:
    assert programs_of(["dedup=bin/dedup", "sort=sort"]) == {"dedup": str(Path("bin/dedup").absolute()), "sort": "sort"}


def a_hook(**spec: Any) -> dict[str, Any]:
    body = {"image": "registry.example/dedup:1", "outputs": ["rows"], **spec}
    return {"apiVersion": API_VERSION, "kind": "SandboxHook", "metadata": {"name": "dedup"}, "spec": body}


DEDUP = {"workspace": {"claim": {"size": "1Gi"}}, "executionJobConfigs": [{"hook": "dedup"}]}


def test_a_program_that_only_an_image_has_is_asked_for(tmp_path: Path) -> None:
    hook = a_hook(contract="raw", command=["/dedup", "--fast"])
    result = ran(tmp_path, hook, manifest(DEDUP))

    assert result.exit_code == 1
    assert "spec.executionJobConfigs[0].hook: dedup runs /dedup, which is in its image and not here" in result.output
    assert "--program dedup=PATH" in result.output


def test_what_is_wrong_with_a_hook_beside_the_experiment_is_told(tmp_path: Path) -> None:
    result = ran(tmp_path, a_hook(contract="raw"), manifest(DEDUP))

    assert result.exit_code == 1
    assert "SandboxHook dedup: spec.command: contract: raw needs a command" in result.output


def test_a_path_that_only_pods_have_is_told(tmp_path: Path) -> None:
    settings = {"dataset_path": "/inputs/raw/demo.jsonl", "process": [{"text_length_filter": {}}]}
    result = ran(tmp_path, manifest(a_spec(probes=[probe(djConfigs=settings)])))

    assert "djConfigs.dataset_path: '/inputs/raw/demo.jsonl' is there in a pod only; write 'inputs/raw/demo.jsonl'" in (
        result.output
    )


TOY = {
    "apiVersion": API_VERSION,
    "kind": "SandboxHook",
    "metadata": {"name": "toy"},
    "spec": {"image": "registry.example/toy:1", "outputs": ["text", "seen", "folder"], "figures": ["rows"]},
}


def test_a_file_with_its_hook_and_its_data_runs_to_its_end(tmp_path: Path) -> None:
    """As `convert` writes files: everything in one. Then the same again, which has nothing left to do."""
    config_map = {"kind": "ConfigMap", "metadata": {"name": "texts"}, "data": {"a.txt": "hello"}}
    spec = {
        "workspace": {"claim": {"size": "1Gi"}},
        "inputs": [{"name": "texts", "configMapName": "texts"}],
        "probeJobConfigs": [{"hook": "toy", "metaName": "before", "extraConfigs": {"text": "x"}}],
        "evaluationJobConfigs": [{"hook": "toy", "metaName": "after", "extraConfigs": {"text": "y"}}],
    }
    documents = (TOY, config_map, manifest(spec))
    result = ran(tmp_path, *documents, environ=ENVIRON)

    assert result.exit_code == 0, result.output
    assert "anonymous/1/evaluation/0   toy                        Succeeded  1 text written" in result.output
    assert "Before (before) and after (after)" in result.output
    assert f"Artifacts in {tmp_path / 'run' / 'workspace'}" in result.output
    status = ExperimentStatus.model_validate_json((tmp_path / "run" / "status.json").read_bytes())
    seen = (status.jobs[0].outputs or {})["seen"]
    assert Path(seen["cwd"], "inputs", "texts", "a.txt").read_text() == "hello"
    compared = CliRunner().invoke(app, ["compare", "demo", "-f", str(tmp_path / "run")])
    assert "Before (before) and after (after)" in compared.output

    again = ran(tmp_path, *documents, options=("--local", "--resume"), environ=ENVIRON)
    assert again.exit_code == 0
    assert ExperimentStatus.model_validate_json((tmp_path / "run" / "status.json").read_bytes()) == status


def test_several_experiments_run_one_after_another_each_in_its_folder(tmp_path: Path) -> None:
    good = {"workspace": {"claim": {}}, "probeJobConfigs": [{"hook": "toy"}]}
    bad = {
        "workspace": {"claim": {}},
        "probeJobConfigs": [{"hook": "toy", "extraConfigs": {"do": "fail", "say": "no"}}],
    }
    result = ran(tmp_path, TOY, manifest(bad, "bad"), manifest(good, "good"), environ=ENVIRON)

    assert result.exit_code == 1
    assert "bad: anonymous/1/probe/0 (toy, toy) failed: ValueError: no" in result.output
    outcomes = [
        ExperimentStatus.model_validate_json((tmp_path / "run" / name / "status.json").read_bytes()).outcome
        for name in ("bad", "good")
    ]
    assert outcomes == ["Failed", "Succeeded"]
