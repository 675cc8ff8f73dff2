# SPDX-License-Identifier: Apache-2.0
"""A SandboxHook becomes an entry of the catalogue, or sentences; and what its schema says of a job's settings."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from tests.unit.test_api_models import nodes, properties

from sandbox_api.crd import crd_yaml, hook_crd
from sandbox_api.hook import STAGES, Hook
from sandbox_api.hook_resource import HOOK_NAME, HookSpec, extra_problems, hook_of, hooks_in, merged_extra
from sandbox_api.hooks import HOOKS

Resource = dict[str, Any]
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["dataset_path"],
    "properties": {
        "dataset_path": {"type": "string"},
        "k": {"type": "number", "maximum": 5},
        "train": {"type": "object", "properties": {"lr": {"type": "number"}, "steps": {"type": "integer"}}},
        "export_path": {"type": "string"},
    },
}


def resource(name: str = "my-hook", **spec: Any) -> Resource:
    """A SandboxHook; without an image it runs on data."""
    if not {"image", "imageName"} & set(spec):
        spec["imageName"] = "data"
    return {
        "apiVersion": "sandbox.datajuicer.io/v1alpha1",
        "kind": "SandboxHook",
        "metadata": {"name": name},
        "spec": spec,
    }


def a_hook(**spec: Any) -> Hook:
    found = hook_of(resource(**spec))
    assert isinstance(found, Hook), found
    return found


# The entry of the catalogue


def test_the_shortest_hook_is_named_by_its_resource() -> None:
    hook = a_hook()

    assert (hook.name, hook.meta_name, hook.image, hook.image_reference) == ("my-hook", "my-hook", "data", None)
    assert (hook.stages, hook.outputs, hook.command, hook.schema) == (STAGES, (), (), None)
    assert not hook.cacheable, "nobody has said that it gives the same twice"
    assert not hook.has_figure("rows")


def test_a_whole_hook_says_all_that_the_planner_asks() -> None:
    hook = a_hook(
        image="registry.example/dedup@sha256:" + "0" * 64,
        contract="raw",
        command=["/dedup", "-v"],
        metaName="dedup",
        stages=["execution"],
        outputs=["dataset", "removed"],
        writes={"extraConfigs.export_path": "dataset"},
        figures=["rows_in", "share.*.after"],
        readsDataJuicer=True,
        cacheable=True,
        defaults={"k": 3},
        schema=SCHEMA,
    )

    assert hook.image_reference == "registry.example/dedup@sha256:" + "0" * 64
    assert hook.image == "my-hook", "what spec.images may override for one experiment"
    assert (hook.command, hook.meta_name, hook.stages) == (("/dedup", "-v"), "dedup", ("execution",))
    assert (hook.outputs, hook.writes) == (("dataset", "removed"), {"extraConfigs.export_path": "dataset"})
    assert (hook.reads_dj, hook.cacheable, hook.defaults) == (True, True, {"k": 3})
    assert [name for name in ("rows_in", "share.web.after", "share.a.b.after", "rows", "share.web", "xshare.a.after") if hook.has_figure(name)] == ["rows_in", "share.web.after", "share.a.b.after"]  # fmt: skip


def test_no_hook_of_ours_has_a_name_that_a_resource_may_have() -> None:
    assert not [name for name in HOOKS if re.fullmatch(HOOK_NAME, name)]


def test_a_job_can_name_whatever_a_hook_may_be_called() -> None:
    from sandbox_api.experiment import JobConfig

    for name in ("a", "a-b", "x1", "a" * 63):
        assert isinstance(hook_of(resource(name)), Hook)
        assert JobConfig.model_validate({"hook": name}).hook == name


@pytest.mark.parametrize("figures", [["*a*b"], ["a" * 128]])
def test_a_figure_pattern_can_not_be_made_slow(figures: list[str]) -> None:
    assert not a_hook(figures=figures).has_figure("a" * 5000)


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({"name": "ProcessDataHook"}, ["metadata.name: 'ProcessDataHook' is not a hook's name: at most 63 lower-case letters, digits and '-', a letter first"]),
        ({"name": "a.b"}, ["metadata.name: 'a.b' is not a hook's name: at most 63 lower-case letters, digits and '-', a letter first"]),
        ({"name": "data"}, ["metadata.name: 'data' is the name of an image that the operator's own hooks run on; take another name"]),
        ({"name": ""}, ["metadata.name: is missing; jobs name the hook by it"]),
        ({"image": "a", "imageName": "data"}, ["spec.image: give either image (a reference) or imageName (one of the operator's images), not both"]),
        ({"contract": "raw", "command": ["/x"]}, ["spec.image: contract: raw needs an image of its own"]),
        ({"contract": "raw", "image": "a"}, ["spec.command: contract: raw needs a command; contract: runtime has none, the runtime is started"]),
        ({"command": ["/x"]}, ["spec.command: contract: raw needs a command; contract: runtime has none, the runtime is started"]),
        ({"outputs": ["a", "b", "a"]}, ["spec.outputs: 'a' stands there twice"]),
        ({"outputs": ["a"], "writes": {"extraConfigs.p": "b"}}, ["spec.writes[\"extraConfigs.p\"]: there is no result 'b'; spec.outputs has: a"]),
        ({"outputs": ["a"], "writes": {"djConfigs.p": "a"}}, ['spec.writes["djConfigs.p"]: its jobs have no djConfigs; set readsDataJuicer: true']),
        ({"outputs": ["a"], "writes": {"extraConfigs.p": "a"}, "schema": {"additionalProperties": False}}, ["spec.writes: the schema has no setting 'p'"]),
        ({"schema": {"properties": {"k": {"minimum": "x"}}}}, ["spec.schema.properties.k.minimum: write a number, not 'x'"]),
        ({"schema": SCHEMA, "defaults": {"k": 7, "tain": {}}}, ["spec.defaults.k: 7 is more than the maximum 5", "spec.defaults.tain: my-hook has no such setting; did you mean 'train'?"]),
        ({"schema": SCHEMA, "defaults": {"train": {"steps": 1.5}}}, ["spec.defaults.train.steps: write a whole number, not 1.5"]),
        ({"imagename": "data"}, ["spec.imagename: there is no such field; see kubectl explain sbh.spec"]),
        ({"stages": ["train"]}, ["spec.stages[0]: input should be 'probe', 'refine', 'execution' or 'evaluation'"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_hook_is_told_with_its_field(change: Resource, problems: list[str]) -> None:
    found = hook_of(resource(**change))

    assert isinstance(found, tuple)
    assert sorted(found) == sorted(problems)


# Settings of a job


def test_settings_lie_over_the_defaults_key_by_key() -> None:
    hook = a_hook(defaults={"k": 3, "train": {"lr": 1, "steps": 2}, "list": [1, 2]})

    assert merged_extra(hook, None) == {"k": 3, "train": {"lr": 1, "steps": 2}, "list": [1, 2]}
    assert merged_extra(hook, {"train": {"lr": 5}, "list": [9], "new": None}) == {
        "k": 3,
        "train": {"lr": 5, "steps": 2},
        "list": [9],
        "new": None,
    }
    assert merged_extra(hook, {"train": None})["train"] is None
    assert hook.defaults["train"] == {"lr": 1, "steps": 2}, "the hook itself stays as it was"
    assert merged_extra(a_hook(), None) is None
    assert merged_extra(a_hook(), "inputs/x.yaml") == "inputs/x.yaml"


@pytest.mark.parametrize(
    ("extra", "filled", "problems"),
    [
        ({"dataset_path": "a", "k": 5}, (), []),
        ({"dataset_path": "a", "k": 7}, (), [".extraConfigs.k: 7 is more than the maximum 5"]),
        (None, (), [".extraConfigs.dataset_path: is missing"]),
        ({"dataset_path": "a", "kk": 7}, (), [".extraConfigs.kk: my-hook has no such setting; did you mean 'k'?"]),
        ({}, ("extraConfigs.dataset_path", "djConfigs.process"), []),
        ({}, ("extraConfigs.datasetpath",), [".extraConfigs.dataset_path: is missing", ".extraConfigs.datasetpath: my-hook has no such setting; did you mean 'dataset_path'?"]),
        ({"train": {"lr": "x"}}, ("extraConfigs.dataset_path", "extraConfigs.train.lr"), []),
        ({"dataset_path": "a", "train": {"lr": "x"}}, ("extraConfigs.train.steps",), [".extraConfigs.train.lr: write a number, not 'x'"]),
        ("inputs/x.yaml", (), [".extraConfigs: my-hook has defaults and a schema; write the settings inline, so that they are checked and its defaults filled in before anything starts"]),
        (None, ("extraConfigs",), [".extraConfigs: my-hook has defaults and a schema; write the settings inline, so that they are checked and its defaults filled in before anything starts"]),
        ([1], (), [".extraConfigs: my-hook has defaults and a schema; write the settings inline, so that they are checked and its defaults filled in before anything starts"]),
    ],
)  # fmt: skip
def test_settings_are_checked_with_the_defaults_in(extra: Any, filled: tuple[str, ...], problems: list[str]) -> None:
    hook = a_hook(schema=SCHEMA, defaults={"k": 3})

    assert sorted(extra_problems(hook, extra, filled)) == sorted(problems)


def test_a_default_may_be_what_the_schema_asks_for() -> None:
    assert extra_problems(a_hook(schema=SCHEMA, defaults={"dataset_path": "a"}), None) == []


def test_a_hook_without_schema_and_defaults_takes_anything() -> None:
    for extra in (None, {"x": {"y": [1]}}, "inputs/x.yaml"):
        assert extra_problems(a_hook(), extra, ("extraConfigs",)) == []


# A file of documents


def test_the_hooks_of_a_file_are_found_among_its_documents() -> None:
    text = yaml.safe_dump_all([{"kind": "SandboxExperiment"}, resource("one"), resource("two", schema={"properties": {1: {}}}), None, "text", []])  # fmt: skip

    hooks, problems = hooks_in(list(yaml.safe_load_all(text)))

    assert list(hooks) == ["one", "two"]
    assert problems == ()


def test_what_is_wrong_with_hooks_of_a_file_names_each() -> None:
    old = {**resource("old"), "apiVersion": "v1"}
    elsewhere = resource("elsewhere")
    elsewhere["metadata"]["namespace"] = "other"
    unnamed = {"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxHook", "metadata": 5, "spec": None}

    hooks, problems = hooks_in(
        [resource("one"), resource("one"), resource("bad", command=["x"]), old, elsewhere, unnamed], "here"
    )

    assert {name: type(found) for name, found in hooks.items()} == {"one": Hook, "bad": tuple, "old": tuple}
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["SandboxHook one", "metadata.name"],
        ["SandboxHook bad", "spec.command"],
        ["SandboxHook old", "apiVersion"],
        ["SandboxHook (without a name)", "metadata.name"],
        ["SandboxHook (without a name)", "spec.image"],
    ]


# The definition


def test_the_definition_is_small_structural_and_explained() -> None:
    crd = hook_crd()
    (version,) = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]

    assert len(crd_yaml(crd).encode()) < 150_000
    assert crd["spec"]["names"]["shortNames"] == ["sbh"]
    assert [c["name"] for c in version["additionalPrinterColumns"] if c["priority"] == 0] == [
        "Ready",
        "Contract",
        "Image",
        "Image Name",
        "Age",
    ]
    silent = [path for path, node in properties(schema) if path.startswith((".spec", ".status")) and not re.fullmatch(r".{5,160}", node.get("description", ""))]  # fmt: skip
    assert silent == []
    for node in nodes(schema):
        assert not set(node) & {"$ref", "$defs", "title", "const", "oneOf", "allOf", "anyOf", "patternProperties"}


def test_what_the_server_fills_in_is_what_the_model_means() -> None:
    fields = hook_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}

    assert HookSpec.model_validate({**defaults, "image": "a"}) == HookSpec.model_validate({"image": "a"})
