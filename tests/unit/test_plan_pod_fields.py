# SPDX-License-Identifier: Apache-2.0
"""What the API server or a node would refuse only when a job's pod is made is told before the first Job."""

from typing import Any

import pytest
from tests.unit.builders import a_spec
from tests.unit.pod_profiles import MISTAKES, TAKEN, node_terms

from sandbox_operator.plan.compile import compile_spec


def told(**fields: Any) -> list[str]:
    return [*compile_spec(a_spec(**fields)).problems]


def of_profile(**profile: Any) -> list[str]:
    return [problem.removeprefix("spec.pods.default.") for problem in told(pods={"default": profile})]


@pytest.mark.parametrize(
    "image",
    [
        "data", "registry.example:5000/team/data", "registry.example/data:v1.2", "[fd00::1]:5000/data", "a/b__c/d-e.f:T_1",
        f"registry.example/data@sha256:{'0' * 64}", f"data:v1@sha256:{'a' * 64}",
    ],
)  # fmt: skip
def test_an_image_reference_as_registries_have_them_is_taken(image: str) -> None:
    assert told(images={"data": image}) == []


@pytest.mark.parametrize(
    "image",
    [
        "", " data", "data:", "registry.example/Data:v1", "https://registry.example/data", "data:v1:v2", "a//b",
        "data@sha256:0123", "registry.example:port/data", "data:-x", "a_/b",
    ],
)  # fmt: skip
def test_a_malformed_image_reference_is_refused(image: str) -> None:
    (problem,) = told(images={"data": image})
    assert problem.startswith(
        f"spec.images.data: {image!r} is no image reference; write it like registry/path/name:tag"
    )


@pytest.mark.parametrize("path", ["/data", "../data", "a/../../b", ".."])
def test_a_folder_outside_of_its_claim_is_refused(path: str) -> None:
    (problem,) = told(inputs=[{"name": "raw", "claimName": "raw", "subPath": path}])
    assert problem.startswith(f"spec.inputs[0].subPath: {path!r} leaves the claim; write a folder inside it")


def test_a_folder_whose_name_only_looks_like_it_is_taken() -> None:
    assert told(inputs=[{"name": "raw", "claimName": "raw", "subPath": "a/..b/c.."}]) == []


@pytest.mark.parametrize(("profile", "where", "words"), MISTAKES)
def test_a_mistake_in_a_pod_profile_is_told_with_its_field(profile: dict[str, Any], where: str, words: str) -> None:
    (problem,) = of_profile(**profile)
    assert problem.startswith(f"{where}: ")
    assert words in problem


def test_what_kubernetes_takes_is_taken() -> None:
    assert of_profile(**TAKEN) == []


def test_a_number_that_is_none_is_refused() -> None:
    """The API server takes it, and no node ever fits."""
    (problem,) = of_profile(affinity=node_terms({"key": "cores", "operator": "Gt", "values": ["many"]}))
    assert problem.endswith("matchExpressions[0]: operator Gt needs one value, a whole number as text")


def test_a_key_that_no_secret_has_is_refused() -> None:
    secret = {"env": "TOKEN", "name": "hub", "key": "the key"}
    spec = a_spec()
    spec["probeJobConfigs"] = [{**spec["probeJobConfigs"][0], "secrets": [secret]}]
    (problem,) = compile_spec(spec).problems
    assert problem.startswith("spec.probeJobConfigs[0].secrets[0].key: 'the key' is no key of a Secret")


@pytest.mark.parametrize("size", ["0", 0, "0Gi", "0.0"])
def test_a_volume_of_no_size_is_refused(size: int | str) -> None:
    (problem,) = told(workspace={"claim": {"size": size}})
    assert problem.startswith(f"spec.workspace.claim.size: {size!r} is no size of a volume; write one above zero")
