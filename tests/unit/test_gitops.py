# SPDX-License-Identifier: Apache-2.0
"""What `gitops/` ships: health and actions by Argo CD's interpreter, health by Flux's expressions, over resources that the
operator made (tests/api/test_gitops.py has it make them again), and what kustomize builds of it."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.api.conftest import tool_folder
from tests.gitops import GITOPS, KINDS, Lua, Manifest, acted, actions, flux, health

from sandbox_api.base import API_VERSION
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.sweep_definition import compile_sweep

STATES = {
    **dict.fromkeys(("created", "behind", "deleting", "pending", "running", "rerunning", "waiting"), "Progressing"),
    **dict.fromkeys(("claim_missing", "failed", "invalid", "invalid_after_success", "stopped"), "Degraded"),
    **dict.fromkeys(("succeeded", "valid"), "Healthy"),
    **dict.fromkeys(("suspended", "suspended_between"), "Suspended"),
}
"""What each state is in Argo CD."""
IN_FLUX = {
    "Healthy": ("Current",),
    "Degraded": ("Failed",),
    "Progressing": ("InProgress", "Waiting"),
    "Suspended": ("InProgress",),
}


def resource(path: Path) -> Manifest:
    return dict(yaml.safe_load(path.read_text()))


def cases() -> Iterator[Any]:
    """Argo CD's own test files: a resource, and the health that it has."""
    for kind in sorted(KINDS.iterdir()):
        for test in yaml.safe_load((kind / "health_test.yaml").read_text())["tests"]:
            path = kind / test["inputPath"]
            yield pytest.param(path, test["healthStatus"], id=f"{kind.name}-{path.stem}")


def files(*states: str) -> list[Path]:
    return [path for path in sorted(KINDS.glob("*/testdata/*.yaml")) if path.stem in states]


@pytest.mark.parametrize(("argument", "is_kept"), [({}, True), (None, False)])
def test_an_operator_without_arguments_survives_an_action_as_an_empty_mapping(argument: Any, is_kept: bool) -> None:
    before = resource(KINDS / "SandboxExperiment/testdata/running.yaml")
    before["spec"]["probeJobConfigs"][0]["djConfigs"] = {"process": [{"text_length_filter": argument}]}
    after = acted(before, "suspend")
    assert (after["spec"].pop("suspend"), before["spec"].pop("suspend", None)) == (True, False)
    assert (after["spec"] == before["spec"]) == is_kept


@pytest.mark.parametrize(("path", "expected"), list(cases()))
def test_the_health_in_argo_cd_is_what_its_test_file_says(path: Path, expected: Manifest) -> None:
    assert health(resource(path)) == expected
    assert expected["status"] == STATES[path.stem]


@pytest.mark.parametrize("path", files(*STATES), ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_flux_and_argo_cd_say_the_same(path: Path) -> None:
    assert flux(resource(path)) in IN_FLUX[STATES[path.stem]]
    assert (flux(resource(path)) == "Waiting") == (path.stem == "created")


def test_every_state_of_every_kind_is_in_a_test_file() -> None:
    tested = {case.values[0] for case in cases()}
    recorded = {path for path in KINDS.glob("*/testdata/*.yaml") if not path.stem.startswith("after_")}
    assert tested == recorded
    of_experiments = {path.stem for path in recorded if path.parts[-3] == "SandboxExperiment"}
    assert set(STATES) - of_experiments == {"valid"}


def action_tests() -> Iterator[Any]:
    for kind in sorted(KINDS.iterdir()):
        path = kind / "action_test.yaml"
        for test in yaml.safe_load(path.read_text())["actionTests"] if path.exists() else ():
            names = (test["action"], kind / test["inputPath"], kind / test["expectedOutputPath"])
            yield pytest.param(*names, id=f"{kind.name}-{test['action']}-{Path(test['inputPath']).stem}")


def discovery_tests() -> Iterator[Any]:
    for kind in sorted(KINDS.iterdir()):
        path = kind / "action_test.yaml"
        for test in yaml.safe_load(path.read_text())["discoveryTests"] if path.exists() else ():
            expected = {one["name"]: not one.get("disabled", False) for one in test["result"]}
            yield pytest.param(kind / test["inputPath"], expected, id=f"{kind.name}-{Path(test['inputPath']).stem}")


@pytest.mark.parametrize(("action", "before", "after"), action_tests())
def test_an_action_makes_what_its_test_file_says(action: str, before: Path, after: Path) -> None:
    assert acted(resource(before), action) == resource(after)
    assert actions(resource(before))[action], "and it can be chosen there"


@pytest.mark.parametrize(("path", "expected"), list(discovery_tests()))
def test_the_actions_that_can_be_chosen_are_those_of_the_test_file(path: Path, expected: dict[str, bool]) -> None:
    assert actions(resource(path)) == expected


@pytest.mark.parametrize(
    ("asked", "seen", "token"),
    [(None, None, "1"), ("3", "7", "8"), ("7", "3", "8"), ("2026120101", None, "2026120102")],
)
def test_a_retry_takes_a_token_that_was_not_used_before(asked: str | None, seen: str | None, token: str) -> None:
    assert retried(asked, seen) == token


@pytest.mark.parametrize("asked", ["mended", "1.5", "nan", "-3", "0x", "99999999999999999999", "2026-12-01"])
def test_where_tokens_are_no_numbers_a_retry_takes_the_time(asked: str) -> None:
    assert re.fullmatch(r"[0-9]{10}", retried(asked, "2"))
    assert re.fullmatch(r"[0-9]{10}", retried(None, asked))


def retried(asked: str | None, seen: str | None) -> str:
    obj: Manifest = {"kind": "SandboxExperiment", "spec": {"stop": "Now"}, "status": {}}
    if asked is not None:
        obj["spec"]["rerun"] = {"token": asked, "from": "train"}
    if seen is not None:
        obj["status"]["rerunToken"] = seen
    spec = acted(obj, "retry")["spec"]
    assert set(spec) == {"rerun"}, (
        "an experiment that was stopped goes on, and all that failed runs, not what once was asked"
    )
    assert set(spec["rerun"]) == {"token"}
    return str(spec["rerun"]["token"])


def test_the_interpreter_here_has_no_more_than_argo_cds() -> None:
    for name in ("string", "math", "io", "os", "debug", "dofile"):
        assert Lua().run(f"return {{type({name})}}", {}) == ["nil"]
    with pytest.raises(Exception, match="attempt to"):
        Lua().run("local s = 'a' return {s:upper()}", {})
    assert Lua().run("return {type(require('os').time())}", {}) == ["number"]


def test_the_config_map_holds_the_scripts_under_the_keys_that_argo_cd_looks_for() -> None:
    data = yaml.safe_load((GITOPS / "argocd/argocd-cm.yaml").read_text())["data"]
    for kind in KINDS.iterdir():
        about = f"sandbox.datajuicer.io_{kind.name}"
        assert data.pop(f"resource.customizations.health.{about}") == (kind / "health.lua").read_text()
        if (kind / "actions").exists():
            shown = yaml.safe_load(data.pop(f"resource.customizations.actions.{about}"))
            assert shown["discovery.lua"] == (kind / "actions/discovery.lua").read_text()
            scripts = {one["name"]: one["action.lua"] for one in shown["definitions"]}
            assert scripts == {path.parent.name: path.read_text() for path in kind.glob("actions/*/action.lua")}
            assert set(Lua().run(shown["discovery.lua"], {"metadata": {}, "spec": {}})) == set(scripts)
    assert data == {}


def test_the_config_map_is_what_make_generate_writes(tmp_path: Path) -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import generate; print(generate.config_map(generate.FOLDER), end='')"
    made = subprocess.run(
        [sys.executable, "-c", script, GITOPS], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert made.stdout == (GITOPS / "argocd/argocd-cm.yaml").read_text()


def built(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder."""
    kubectl = tool_folder("kubernetes") / "kubectl"
    made = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return list(yaml.safe_load_all(made.stdout))


def test_an_installation_of_argo_cd_gets_the_scripts_beside_its_own_settings(tmp_path: Path) -> None:
    own = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": {"url": "x"},
    }
    (tmp_path / "argocd-cm.yaml").write_text(yaml.safe_dump(own))
    component = os.path.relpath(GITOPS / "argocd", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["argocd-cm.yaml"], "components": [component]})
    )
    (found,) = built(tmp_path)
    assert found["data"]["url"] == "x"
    assert len(found["data"]) == 1 + len([*KINDS.glob("*/health.lua"), *KINDS.glob("*/actions/discovery.lua")])


def test_every_folder_of_the_examples_is_built_and_its_experiments_are_sound() -> None:
    found = built(GITOPS / "examples/experiments")
    named = {(item["kind"], item["metadata"]["name"]): item for item in found}
    ((_, recipe),) = [key for key in named if key[0] == "ConfigMap"]
    assert recipe.startswith("all-data-recipe-"), "named after its content"
    inputs = named["SandboxExperiment", "all-data"]["spec"]["inputs"]
    assert [one["configMapName"] for one in inputs if "configMapName" in one] == [recipe]
    for item in found:
        assert item["metadata"]["namespace"] == "research"
        if item["kind"] == "SandboxExperiment":
            assert compile_spec(item["spec"]).problems == (), item["metadata"]["name"]
        if item["kind"] == "SandboxSweep":
            assert compile_sweep(item["spec"], name=item["metadata"]["name"], uid="any").problems == ()


def experiment_folders(root: Path) -> list[Path]:
    """Those that Argo CD makes an application of, in a repository."""
    (application,) = (item for item in built(GITOPS / "examples/argocd") if item["kind"] == "ApplicationSet")
    listed = application["spec"]["generators"][0]["git"]["directories"]
    there: dict[bool, set[Path]] = {False: set(), True: set()}
    for entry in listed:
        there[entry.get("exclude", False)] |= {path for path in root.glob(entry["path"]) if path.is_dir()}
    return sorted(there[False] - there[True])


def a_repository(folder: Path) -> tuple[Path, list[str]]:
    """A repository as the tutorial has it made, beside a checkout of ours, and what it does there later."""
    tutorial = (GITOPS.parent / "docs/tutorial/gitops.md").read_text()
    first, *later = re.findall(r"^\$ ((?:cp|sed|echo) .*)$", tutorial, re.MULTILINE)
    (folder / "sandbox-operator").mkdir()
    shutil.copytree(GITOPS, folder / "sandbox-operator/gitops")
    (folder / "research").mkdir()
    subprocess.run(["bash", "-euc", first], cwd=folder / "research", check=True)
    shutil.rmtree(folder / "sandbox-operator")
    return folder / "research", later


def test_the_examples_are_built_in_a_repository_of_their_own_one_by_one_as_all_at_once(tmp_path: Path) -> None:
    repository, _ = a_repository(tmp_path)
    folders = experiment_folders(repository)
    assert [path.name for path in folders] == ["all-data", "shared", "text-length", "text-length-search"]
    together = {item["metadata"]["name"]: item for item in built(repository / "experiments")}
    alone = {item["metadata"]["name"]: item for folder in folders for item in built(folder)}
    assert {name: item.get("spec") for name, item in alone.items()} == {
        name: item.get("spec") for name, item in together.items()
    }
    of_flux = [item for item in built(GITOPS / "examples/flux") if item["kind"] == "Kustomization"]
    assert {repository / item["spec"]["path"] for item in of_flux} <= {*folders}


def test_the_next_winner_gets_a_folder_of_its_own_by_the_commands_of_the_tutorial(tmp_path: Path) -> None:
    repository, commands = a_repository(tmp_path)
    before = built(repository / "experiments")
    assert len(commands) == 3
    subprocess.run(["bash", "-euc", "\n".join(commands)], cwd=repository, check=True)
    (repository / "experiments/all-data-2/recipe.yaml").write_text("process: [{text_length_filter: {min_len: 64}}]\n")

    after = built(repository / "experiments")
    assert [item for item in after if item in before] == before, "what was tried stays as it was"
    made = {item["kind"]: item for item in after if item not in before}
    assert sorted(made) == ["ConfigMap", "SandboxExperiment"]
    assert made["SandboxExperiment"]["metadata"]["name"] == "all-data-2"
    inputs = {one["name"]: one.get("configMapName") for one in made["SandboxExperiment"]["spec"]["inputs"]}
    assert inputs["recipe"] == made["ConfigMap"]["metadata"]["name"]
    assert "min_len: 64" in made["ConfigMap"]["data"]["recipe.yaml"]
    assert built(repository / "experiments/all-data-2"), "and alone, for a tool that makes an application of each"


REFERENCES = {"configmap": "ConfigMap", "secret": "Secret", "claim": "PersistentVolumeClaim"}


def references(schema: Manifest, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where names of ConfigMaps, Secrets and claims stand, and of which. An item of a list is `[]`, any key `default`."""
    if schema.get("type") == "string":
        *above, own = (part for part in path if part != "[]")
        about = f"{above[-1]}Name" if own == "name" else own
        if about.endswith(("Name", "Secrets")):
            yield from ((path, kind) for word, kind in REFERENCES.items() if word in about.lower())
    for name, inner in (schema.get("properties") or {}).items():
        yield from references(inner, *path, name)
    for name, key in (("items", "[]"), ("additionalProperties", "default")):
        if isinstance(inner := schema.get(name), dict):
            yield from references(inner, *path, key)


def put(tree: Manifest, path: tuple[str, ...], value: str) -> None:
    """Write a value at a path, lists with one item."""
    here: Any = tree
    for part, below in itertools.pairwise((*path, None)):
        left = value if below is None else [] if below == "[]" else {}
        if part != "[]":
            here = here.setdefault(part, left)
        else:
            here[:] = here or [left]
            here = here[0]


def test_names_of_config_maps_secrets_and_claims_follow_wherever_the_language_has_them(tmp_path: Path) -> None:
    """A field that is new in the language is asked for here as well."""
    definition = yaml.safe_load((GITOPS.parent / "crds/sandbox.datajuicer.io_sandboxexperiments.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    fields = dict(references(version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec"))
    assert {*fields.values()} == {*REFERENCES.values()}
    written: Manifest = {}
    for path in fields:
        put(written, path, "own")
    generated = [{"name": "own", "literals": ["a=b"]}]
    kustomization = {
        "components": ["base"], "resources": ["resources.yaml"], "namePrefix": "team-",
        "configMapGenerator": generated, "secretGenerator": generated,
    }  # fmt: skip
    resources = [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "own"}},
        {"apiVersion": API_VERSION, "kind": "SandboxExperiment", "metadata": {"name": "demo"}, **written},
        {"apiVersion": API_VERSION, "kind": "SandboxSweep", "metadata": {"name": "demo"}, "spec": {"template": written["spec"]}},
    ]  # fmt: skip
    shutil.copytree(GITOPS / "examples/experiments/base", tmp_path / "base")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (tmp_path / "resources.yaml").write_text(yaml.safe_dump_all(resources))

    found = {item["kind"]: item for item in built(tmp_path)}
    names = {kind: found[kind]["metadata"]["name"] for kind in REFERENCES.values()}
    assert len({*names.values()}) == 3
    expected: Manifest = {}
    for path, kind in fields.items():
        put(expected, path, names[kind])
    assert found["SandboxExperiment"]["spec"] == expected["spec"]
    assert found["SandboxSweep"]["spec"]["template"] == expected["spec"]


def test_what_the_tools_are_told_is_built_and_flux_knows_how_to_see_health() -> None:
    argo, of_flux = built(GITOPS / "examples/argocd"), built(GITOPS / "examples/flux")
    assert {item["kind"] for item in argo} == {"Application", "ApplicationSet"}
    kustomizations = [item for item in of_flux if item["kind"] == "Kustomization"]
    assert len(kustomizations) == 2
    for item in kustomizations:
        assert {check["kind"] for check in item["spec"]["healthCheckExprs"]} == {path.name for path in KINDS.iterdir()}
