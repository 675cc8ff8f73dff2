# SPDX-License-Identifier: Apache-2.0
"""The models and the definition that is generated from them. What a real API server makes of it stands in tests/api."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.builders import a_spec, four_jobs

from sandbox_api.base import seconds
from sandbox_api.crd import ALWAYS_MUTABLE, crd_yaml, experiment_crd, write_crds
from sandbox_api.data_juicer import catalogue, configuration_problems
from sandbox_api.experiment import ExperimentSpec
from sandbox_api.hook import STAGES
from sandbox_api.hooks import HOOKS
from sandbox_api.paths import data_sets_in, paths_in
from sandbox_api.status import ExperimentStatus, Reason

CRDS = Path(__file__).resolve().parents[2] / "crds"


def schema() -> dict[str, Any]:
    root: dict[str, Any] = experiment_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def properties(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property at any depth, with its path."""
    for name, below in (node.get("properties") or {}).items():
        yield f"{path}.{name}", below
        yield from properties(below, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(node.get(key), dict):
            yield from properties(node[key], path + mark)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(below)


def test_the_definition_in_the_repository_is_the_one_that_the_models_give(tmp_path: Path) -> None:
    written = write_crds(tmp_path)

    assert {path.name: path.read_text() for path in written} == {
        path.name: path.read_text() for path in CRDS.glob("*.yaml")
    }


def test_the_definition_stays_under_150_kb() -> None:
    """Client-side apply keeps a copy in an annotation, which ends at 256 KiB."""
    assert len(crd_yaml(experiment_crd()).encode()) < 150_000


def test_kubectl_explain_says_something_about_every_field_in_one_line() -> None:
    silent = [
        path
        for path, node in properties(schema())
        if path.startswith((".spec", ".status")) and not re.fullmatch(r".{5,160}", node.get("description", ""))
    ]

    assert silent == []


def test_the_schema_is_structural() -> None:
    for node in nodes(schema()):
        assert not set(node) & {"$ref", "$defs", "title", "const", "oneOf", "allOf", "patternProperties"}
        if "anyOf" in node:
            assert node.get("x-kubernetes-int-or-string") is True


def test_the_columns_are_those_that_a_user_looks_for() -> None:
    version = experiment_crd()["spec"]["versions"][0]
    columns = version["additionalPrinterColumns"]

    assert [c["name"] for c in columns if c["priority"] == 0] == ["Outcome", "Reason", "Stage", "Progress", "Age"]
    assert [f["jsonPath"] for f in version["selectableFields"]] == [
        ".status.outcome",
        ".spec.queueName",
        ".spec.suspend",
    ]
    assert version["subresources"] == {"status": {}}
    assert experiment_crd()["spec"]["names"]["shortNames"] == ["sbx"]


def test_the_freezing_rule_knows_every_field_of_the_spec() -> None:
    """A field that somebody adds is frozen unless they say otherwise."""
    rule = schema()["x-kubernetes-validations"][1]["rule"]
    names = {field.alias or name for name, field in ExperimentSpec.model_fields.items()}
    mentioned = set(re.findall(r"self\.spec\.([A-Za-z]+)\b", rule))

    assert mentioned == names - (set(ALWAYS_MUTABLE) - {"rerun"})  # a new rerun token may change jobs
    assert "self.spec.workspace.claim)" in rule
    assert "retention" not in rule


def test_defaults_stand_in_the_schema() -> None:
    spec = schema()["properties"]["spec"]["properties"]

    assert spec["suspend"]["default"] is False
    assert spec["cache"]["default"] == "Auto"
    assert spec["workspace"]["properties"]["retention"]["default"] == "Retain"


def test_what_the_server_would_store_is_what_the_models_read() -> None:
    """Defaults of the schema, filled in by the API server, are values that the models accept and mean the same."""

    def filled(value: Any, node: dict[str, Any]) -> Any:
        if isinstance(value, dict) and "properties" in node:
            defaults = {name: below["default"] for name, below in node["properties"].items() if "default" in below}
            both = {**defaults, **value}
            return {name: filled(item, node["properties"].get(name, {})) for name, item in both.items()}
        if isinstance(value, list):
            return [filled(item, node.get("items", {})) for item in value]
        return value

    spec = four_jobs(onFailure={}, retry={}, tracking={"wandb": {}})
    stored = filled(spec, schema()["properties"]["spec"])

    assert stored["probeJobConfigs"][0]["nodes"] == 1
    assert ExperimentSpec.model_validate(stored) == ExperimentSpec.model_validate(spec)


def test_the_spec_and_its_parts_refuse_what_they_do_not_know() -> None:
    for node in nodes(ExperimentSpec.model_json_schema(by_alias=True)):
        if "properties" in node and node.get("type") == "object":
            assert node.get("additionalProperties") is False


def test_a_status_of_a_newer_operator_can_be_read() -> None:
    status = ExperimentStatus.model_validate({"outcome": "Running", "mood": "good", "jobs": []})

    assert status.outcome == "Running"


def test_reasons_are_words_for_machines() -> None:
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", reason) for reason in Reason)
    assert len({reason.value for reason in Reason}) == len(Reason)


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("0s", 0), ("1d1h1m1s", 90_061)]
)
def test_durations_are_read_as_kubernetes_users_write_them(text: str, expected: int) -> None:
    assert seconds(text) == expected


# The catalogue of hooks


@pytest.mark.parametrize("hook", HOOKS.values(), ids=lambda hook: hook.name)
def test_every_hook_is_whole(hook: Any) -> None:
    assert set(hook.stages) <= set(STAGES)
    assert set(hook.writes.values()) <= set(hook.outputs)
    assert set(hook.only_with) <= set(hook.outputs)
    assert len(set(hook.outputs)) == len(hook.outputs)
    for figures in (hook.figures, *(component.figures for component in hook.components.values())):
        assert all(re.fullmatch(r"[a-z_A-Z0-9.%*]+", figure) for figure in figures), "names, with * for any text"


@pytest.mark.parametrize(
    ("hook", "figure", "known"),
    [
        ("ProbeViaAnalyzerHook", "rows", True),
        ("ProbeViaAnalyzerHook", "text_len.mean", True),
        ("ProbeViaAnalyzerHook", "text_len.2.5%", True),
        ("ProbeViaAnalyzerHook", "text_len.median", False),
        ("ProcessDataHook", "rows_out", True),
        ("ProcessDataHook", "ops.3_text_length_filter.rows_in", True),
        ("ProcessDataHook", "rows", False),
        ("RefineRecipeViaKSigmaHook", "refined.text_length_filter.min_len.after", True),
        ("RefineRecipeViaModelFeedbackHook", "expected_kept", True),
        ("RefineRecipeViaModelFeedbackHook", "refineRecipe.refined.text_length_filter.min_len.after", True),
        ("RefineRecipeViaModelFeedbackHook", "score", False),
        ("TrainModelHook", "loss", False),
    ],
)
def test_a_figure_is_known_by_its_form(hook: str, figure: str, known: bool) -> None:
    assert HOOKS[hook].has_figure(figure) is known


# Data-Juicer's names


def test_the_catalogue_is_of_the_version_that_the_image_carries() -> None:
    lock = (CRDS.parent / "images/data/requirements.lock").read_text()

    assert f"\npy-data-juicer=={catalogue()['version']} " in f"\n{lock}"
    assert {"text_length_filter", "document_deduplicator", "language_id_score_filter"} <= set(catalogue()["operators"])


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        ({}, []),
        ({"process": None}, []),
        ({"process": ["text_length_filter", {"document_deduplicator": None}]}, []),
        ({"custom_operator_paths": ["x.py"], "process": [{"my_own_filter": {"a": 1}}]}, []),
        ({"process": "text_length_filter"}, [".process"]),
        ({"process": [5, {}, {"a": {}, "b": {}}]}, [".process[0]", ".process[1]", ".process[2]"]),
        ({"process": [{"text_length_filter": [1]}]}, [".process[0].text_length_filter"]),
        ({"nope": 1, "process": [{"nope": None}]}, [".nope", ".process[0]"]),
    ],
)
def test_a_configuration_is_checked_by_name(config: dict[str, Any], problems: list[str]) -> None:
    assert [problem.split(": ")[0] for problem in configuration_problems(config)] == problems


# Paths in configurations


@pytest.mark.parametrize(
    ("config", "paths"),
    [
        ({"dataset_path": "a"}, {"x.dataset_path": "a"}),
        ({"project_name": "a", "np": 4}, {}),
        ({"dataset": {"configs": [{"type": "local", "path": "a"}]}}, {"x.dataset.configs[0].path": "a"}),
        ({"custom_operator_paths": ["a", "b"]}, {"x.custom_operator_paths[0]": "a", "x.custom_operator_paths[1]": "b"}),
        ({"dataset_path": "s3://bucket/a"}, {}),
        ({"dataset_path": "file:///etc/passwd"}, {"x.dataset_path": "file:///etc/passwd"}),
        ({"hf_model": "Qwen/Qwen2"}, {"x.hf_model": "Qwen/Qwen2"}),
    ],
)
def test_texts_that_name_files_are_found_by_their_keys(config: dict[str, Any], paths: dict[str, str]) -> None:
    assert dict(paths_in(config, "x")) == paths


@pytest.mark.parametrize(
    ("text", "paths"),
    [("a b", ["a", "b"]), ("0.5 a 1 b", ["a", "b"]), ("one file.jsonl", ["one", "file.jsonl"]), ("a", ["a"])],
)
def test_one_text_may_name_several_data_sets(text: str, paths: list[str]) -> None:
    assert data_sets_in(text) == paths


def test_a_spec_that_was_read_from_yaml_is_a_spec() -> None:
    assert ExperimentSpec.model_validate(yaml.safe_load(yaml.safe_dump(a_spec()))).workspace.retention == "Retain"
