# SPDX-License-Identifier: Apache-2.0
"""Parts that several manifests share: of the pods that work for an experiment, and of the Jobs that they belong to.

All these pods keep to restricted Pod Security, and mount the workspace's claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox_api import contract as wire
from sandbox_api.experiment import PodProfile

from .names import LABEL_CLAIM, claim_hash
from .volume import owner_reference

WORKSPACE = "workspace"
"""Name of its volume in a pod."""
GRACE_SECONDS = 60
"""Between SIGTERM and SIGKILL: a hook saves its state in that time, an exporter sends what is left."""
ALONE: Mapping[str, Any] = {
    "restartPolicy": "Never",
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
}
"""Each further try is another pod's, and none speaks with the API server."""
RESTRICTED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""A container's security context."""
WORKSPACE_MOUNT: Mapping[str, Any] = {"name": WORKSPACE, "mountPath": wire.WORKSPACE}
TMP_MOUNT: Mapping[str, Any] = {"name": "tmp", "mountPath": "/tmp"}
TMP: Mapping[str, Any] = {"name": "tmp", "emptyDir": {}}


def workspace_volume(claim: str) -> dict[str, Any]:
    return {"name": WORKSPACE, "persistentVolumeClaim": {"claimName": claim}}


def as_user(uid: int) -> dict[str, Any]:
    """A pod's security context; `uid` is its group, too."""
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def as_owner(uid: int) -> dict[str, Any]:
    """The same of a pod that writes: its volumes belong to that group."""
    return {**as_user(uid), "fsGroup": uid, "fsGroupChangePolicy": "OnRootMismatch"}


def placement(profile: PodProfile, **fields: Any) -> dict[str, Any]:
    """Which nodes a pod tolerates, how its image is pulled, and those `fields` of its spec that say something."""
    fields["tolerations"] = [t.model_dump(by_alias=True, exclude_none=True) for t in profile.tolerations or ()]
    fields["imagePullSecrets"] = [{"name": secret} for secret in profile.image_pull_secrets or ()]
    return {name: value for name, value in fields.items() if value}


def beside_the_others(affinity: Mapping[str, Any], claim: str) -> dict[str, Any]:
    """Affinity to the live pods of a claim that one node at a time can mount. The pod matches its own term, so it can
    be placed when the others have gone meanwhile."""
    term = {"labelSelector": {"matchLabels": {LABEL_CLAIM: claim_hash(claim)}}, "topologyKey": "kubernetes.io/hostname"}
    pods = affinity.get("podAffinity") or {}
    required = [*(pods.get("requiredDuringSchedulingIgnoredDuringExecution") or ()), term]
    return {**affinity, "podAffinity": {**pods, "requiredDuringSchedulingIgnoredDuringExecution": required}}


def literal(name: str, value: str) -> dict[str, Any]:
    """An environment variable that arrives as it was written: the kubelet turns $$ into $ and expands $(NAME)."""
    return {"name": name, "value": value.replace("$", "$$")}


def from_field(name: str, path: str) -> dict[str, Any]:
    """An environment variable whose value is a field of the pod itself."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    """An environment variable whose value is a key of a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def metadata(name: str, experiment: wire.ExperimentRef, labels: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Of an object that goes when the experiment goes."""
    return {
        "name": name,
        "namespace": experiment.namespace,
        "labels": labels,
        **more,
        "ownerReferences": [owner_reference(experiment.name, experiment.uid)],
    }


def job(meta: Mapping[str, Any], pods: Mapping[str, Any], pod: Mapping[str, Any], deadline: int) -> dict[str, Any]:
    """A Job; `pods` says how many there are and what the end of one means, `deadline` is in seconds (0: none)."""
    own = {name: meta[name] for name in ("labels", "annotations") if name in meta}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            **pods,
            "podReplacementPolicy": "Failed",
            **({"activeDeadlineSeconds": deadline} if deadline else {}),
            "template": {"metadata": own, "spec": pod},
        },
    }
