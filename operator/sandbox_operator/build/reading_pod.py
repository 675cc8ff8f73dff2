# SPDX-License-Identifier: Apache-2.0
"""A pod that prints one file of an experiment's volume and is gone: for who can't mount the volume."""

from __future__ import annotations

from typing import Any

from sandbox_api import contract as wire
from sandbox_api.experiment import PodProfile

from .job import WORKSPACE
from .volume import owner_reference

SECONDS = 600
"""After so long it ends, whoever made it."""


def reading_pod(
    *,
    name: str,
    namespace: str,
    experiment: tuple[str, str],
    image: str,
    claim: str,
    path: str,
    run_as: int,
    profile: PodProfile,
) -> dict[str, Any]:
    """The pod, under restricted Pod Security; `experiment` is its owner's name and uid, `path` counts from the volume's
    root, the profile is that of the hook whose file it is."""
    placed = {
        "nodeSelector": profile.node_selector,
        "tolerations": [t.model_dump(by_alias=True, exclude_none=True) for t in profile.tolerations or ()],
        "affinity": profile.affinity,
        "imagePullSecrets": [{"name": secret} for secret in profile.image_pull_secrets or ()],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "sandboxctl-export"},
            "ownerReferences": [{**owner_reference(*experiment), "controller": False, "blockOwnerDeletion": False}],
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": SECONDS,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": run_as,
                "runAsGroup": run_as,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **{key: value for key, value in placed.items() if value},
            "containers": [
                {
                    "name": "read",
                    "image": image,
                    "command": ["cat", "--", f"{wire.WORKSPACE}/{path}"],
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "16Mi"},
                        "limits": {"cpu": "500m", "memory": "128Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": WORKSPACE, "mountPath": wire.WORKSPACE, "readOnly": True}],
                }
            ],
            "volumes": [{"name": WORKSPACE, "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
