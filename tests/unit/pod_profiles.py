# SPDX-License-Identifier: Apache-2.0
"""Pod profiles with a mistake that Kubernetes refuses, and one of all that it takes."""

from typing import Any


def node_terms(*expressions: Any) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [*expressions]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


REQUIRED = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"nodeSelector": {"gpu type": "a"}}, "nodeSelector.gpu type", "is no label key"),
    ({"nodeSelector": {"Example.com/gpu": "a"}}, "nodeSelector.Example.com/gpu", "is no label key"),
    ({"nodeSelector": {"gpu": "A 100"}}, "nodeSelector.gpu", "is no label value"),
    ({"nodeSelector": {"gpu": "a" * 64}}, "nodeSelector.gpu", "is no label value"),
    ({"tolerations": [{"operator": "Equal", "value": "x"}]}, "tolerations[0]", "needs operator: Exists"),
    ({"tolerations": [{"key": "a b", "operator": "Exists"}]}, "tolerations[0].key", "is no label key"),
    ({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}, "tolerations[0]", "takes no value"),
    ({"tolerations": [{"key": "a", "tolerationSeconds": 5}]}, "tolerations[0]", "needs effect: NoExecute"),
    ({"tolerations": [{"key": "a", "operator": "Is"}]}, "tolerations[0].operator", "there is no 'Is'; write Exists or Equal"),
    ({"tolerations": [{"key": "a", "effect": "Never"}]}, "tolerations[0].effect", "there is no 'Never'; write NoSchedule, PreferNoSchedule or NoExecute"),
    ({"priorityClassName": "Very High"}, "priorityClassName", "small letters"),
    ({"runtimeClassName": "nvidia/cdi"}, "runtimeClassName", "small letters"),
    ({"resources": {"limits": {"nvidia.com/": 1}}}, "resources.limits.nvidia.com/", "no resource has such a name"),
    ({"affinity": {"nodeAfinity": {}}}, "affinity.nodeAfinity", "did you mean 'nodeAffinity'?"),
    ({"affinity": {"nodeAffinity": "gpu"}}, "affinity.nodeAffinity", "write keys and values"),
    (
        {"affinity": node_terms({"key": "gpu", "operator": "Is", "values": ["a"]})},
        f"{REQUIRED}.matchExpressions[0].operator", "there is no 'Is'; write In, NotIn, Exists",
    ),
    ({"affinity": node_terms({"key": "gpu", "operator": "In"})}, f"{REQUIRED}.matchExpressions[0]", "needs values"),
    (
        {"affinity": node_terms({"key": "gpu", "operator": "Gt", "values": ["1", "2"]})},
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
]  # fmt: skip
"""With where it is, and words that tell it."""

SAME_NODE = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
TAKEN: dict[str, Any] = {
    "nodeSelector": {"kubernetes.io/arch": "amd64", "gpu": ""},
    "tolerations": [
        {"operator": "Exists"},
        {"key": "", "operator": "Exists"},
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 60},
    ],
    "affinity": {
        **node_terms({"key": "gpu", "operator": "Exists"}, {"key": "cores", "operator": "Gt", "values": ["8"]}),
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": SAME_NODE}]
        },
    },
    "priorityClassName": "high",
    "resources": {"limits": {"nvidia.com/gpu": 1, "hugepages-2Mi": "4Mi", "memory": "1Gi"}},
    "patch": {"hostNetwork": None, "nodeSelector": {"gpu": None}, "fieldOfAYearToCome": 1, "hostIPC": False},
}
