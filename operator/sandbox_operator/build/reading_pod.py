# SPDX-License-Identifier: Apache-2.0
"""A pod that prints one file of an experiment's volume and is gone: for who can't mount the volume."""

from __future__ import annotations

from typing import Any

from sandbox_api import contract as wire
from sandbox_api.experiment import PodProfile

from . import parts
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
            **parts.ALONE,
            "activeDeadlineSeconds": SECONDS,
            "terminationGracePeriodSeconds": 0,
            "securityContext": parts.as_user(run_as),
            **parts.placement(profile, nodeSelector=profile.node_selector, affinity=profile.affinity),
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
                    "securityContext": parts.RESTRICTED,
                    "volumeMounts": [{**parts.WORKSPACE_MOUNT, "readOnly": True}],
                }
            ],
            "volumes": [parts.workspace_volume(claim)],
        },
    }
