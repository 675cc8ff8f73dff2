# SPDX-License-Identifier: Apache-2.0
"""The claim of an experiment's shared volume."""

from __future__ import annotations

from typing import Any

from sandbox_api.base import API_VERSION
from sandbox_api.experiment import NewClaim

from .defaults import Defaults
from .names import claim_name, experiment_labels


def owner_reference(name: str, uid: str) -> dict[str, Any]:
    """Makes an object go when the experiment goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": "SandboxExperiment",
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def workspace_claim(
    *, name: str, namespace: str, uid: str, claim: NewClaim, retention: str, defaults: Defaults
) -> dict[str, Any]:
    """The claim to make for an experiment; with retention Retain it has no owner and outlives it."""
    storage_class = claim.storage_class_name or defaults.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(name),
            "namespace": namespace,
            "labels": experiment_labels(name, uid),
            "ownerReferences": claim_owners(name, uid, retention),
        },
        "spec": {
            "accessModes": list(claim.access_modes),
            "resources": {"requests": {"storage": str(claim.size)}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }


def claim_owners(name: str, uid: str, retention: str) -> list[dict[str, Any]]:
    """Owners of a made claim: the experiment with retention Delete, nobody with Retain."""
    return [owner_reference(name, uid)] if retention == "Delete" else []
