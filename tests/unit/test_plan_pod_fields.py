# SPDX-License-Identifier: Apache-2.0
"""What the API server or a node would refuse only when a job's pod is made is told before the first Job."""

from typing import Any

import pytest
from tests.unit.builders import a_spec

from sandbox_operator.plan.compile import compile_spec


def told(**fields: Any) -> list[str]:
    return [*compile_spec(a_spec(**fields)).problems]


def of_profile(**profile: Any) -> list[str]:
    return [problem.removeprefix("spec.pods.default.") for problem in told(pods={"default": profile})]


def node_terms(*expressions: Any) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [*expressions]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


REQUIRED = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"


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


@pytest.mark.parametrize(
    ("profile", "where", "words"),
    [
        ({"nodeSelector": {"gpu type": "a"}}, "nodeSelector.gpu type", "is no label key"),
        ({"nodeSelector": {"Example.com/gpu": "a"}}, "nodeSelector.Example.com/gpu", "is no label key"),
        ({"nodeSelector": {"gpu": "A 100"}}, "nodeSelector.gpu", "is no label value"),
        ({"nodeSelector": {"gpu": "a" * 64}}, "nodeSelector.gpu", "is no label value"),
        ({"tolerations": [{"operator": "Equal", "value": "x"}]}, "tolerations[0]", "needs operator: Exists"),
        ({"tolerations": [{"key": "a b", "operator": "Exists"}]}, "tolerations[0].key", "is no label key"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}, "tolerations[0]", "takes no value"),
        ({"tolerations": [{"key": "a", "tolerationSeconds": 5}]}, "tolerations[0]", "needs effect: NoExecute"),
        ({"tolerations": [{"key": "a", "operator": "Is"}]}, "tolerations[0].operator", "'Exists' or 'Equal'"),
        ({"tolerations": [{"key": "a", "effect": "Never"}]}, "tolerations[0].effect", "'NoSchedule'"),
        ({"priorityClassName": "Very High"}, "priorityClassName", "small letters"),
        ({"runtimeClassName": "nvidia/cdi"}, "runtimeClassName", "small letters"),
        ({"resources": {"limits": {"nvidia.com/": 1}}}, "resources.limits.nvidia.com/", "no resource has such a name"),
        ({"affinity": {"nodeAfinity": {}}}, "affinity.nodeAfinity", "did you mean 'nodeAffinity'?"),
        ({"affinity": {"nodeAffinity": "gpu"}}, "affinity.nodeAffinity", "write keys and values"),
        (
            {"affinity": node_terms({"key": "gpu", "operator": "Is", "values": ["a"]})},
            f"{REQUIRED}.matchExpressions[0].operator", "'In'",
        ),
        ({"affinity": node_terms({"key": "gpu", "operator": "In"})}, f"{REQUIRED}.matchExpressions[0]", "needs values"),
        (
            {"affinity": node_terms({"key": "gpu", "operator": "Gt", "values": ["many"]})},
            f"{REQUIRED}.matchExpressions[0]", "needs one value, a whole number",
        ),
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}}},
            "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey", "is missing",
        ),
        ({"patch": {"hostNetwork": "yes"}}, "patch.hostNetwork", "write true or false"),
        ({"patch": {"hostNetwrok": True}}, "patch.hostNetwrok", "a pod has no such field; did you mean 'hostNetwork'?"),
        ({"patch": {"tolerations": [{"key": "a", "efect": "NoSchedule"}]}}, "patch.tolerations[0].efect", "'effect'"),
        ({"patch": {"nodeSelector": {"gpu": 1}}}, "patch.nodeSelector.gpu", "write text"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_pod_profile_is_told_with_its_field(profile: dict[str, Any], where: str, words: str) -> None:
    (problem,) = of_profile(**profile)
    assert problem.startswith(f"{where}: ")
    assert words in problem


def test_what_kubernetes_takes_is_taken() -> None:
    same_node = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    assert of_profile(
        nodeSelector={"kubernetes.io/arch": "amd64", "gpu": ""},
        tolerations=[
            {"operator": "Exists"},
            {"key": "", "operator": "Exists"},
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 60},
        ],
        affinity={
            **node_terms({"key": "gpu", "operator": "Exists"}, {"key": "cores", "operator": "Gt", "values": ["8"]}),
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": same_node}]
            },
        },
        priorityClassName="high",
        resources={"limits": {"nvidia.com/gpu": 1, "hugepages-2Mi": "4Mi", "memory": "1Gi"}},
        patch={"hostNetwork": None, "nodeSelector": {"gpu": None}, "fieldOfAYearToCome": 1, "hostIPC": False},
    ) == []  # fmt: skip


def test_a_key_that_no_secret_has_is_refused() -> None:
    secret = {"env": "TOKEN", "name": "hub", "key": "the key"}
    spec = a_spec()
    spec["probeJobConfigs"] = [{**spec["probeJobConfigs"][0], "secrets": [secret]}]
    (problem,) = compile_spec(spec).problems
    assert problem.startswith("spec.probeJobConfigs[0].secrets[0].key: 'the key' is no key of a Secret")
