# SPDX-License-Identifier: Apache-2.0
"""The claim of a shared volume: of an experiment, or of all trials of a sweep."""

from __future__ import annotations

from typing import Any

from sandbox_api.base import API_VERSION
from sandbox_api.experiment import NewClaim

from .defaults import Defaults
from .names import claim_name, experiment_labels, sweep_labels

EXPERIMENT = "SandboxExperiment"
SWEEP = "SandboxSweep"


def owner_reference(name: str, uid: str, kind: str = EXPERIMENT) -> dict[str, Any]:
    """Makes an object go when the experiment goes, or the sweep."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def workspace_claim(
    *, name: str, namespace: str, uid: str, claim: NewClaim, retention: str, defaults: Defaults, kind: str = EXPERIMENT
) -> dict[str, Any]:
    """The claim to make for an experiment or a sweep; with retention Retain it has no owner and outlives it."""
    storage_class = claim.storage_class_name or defaults.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(name),
            "namespace": namespace,
            "labels": sweep_labels(name, uid) if kind == SWEEP else experiment_labels(name, uid),
            "ownerReferences": claim_owners(name, uid, retention, kind),
        },
        "spec": {
            "accessModes": list(claim.access_modes),
            "resources": {"requests": {"storage": str(claim.size)}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }


def claim_owners(name: str, uid: str, retention: str, kind: str = EXPERIMENT) -> list[dict[str, Any]]:
    """Owners of a made claim: the experiment or the sweep with retention Delete, nobody with Retain."""
    return [owner_reference(name, uid, kind)] if retention == "Delete" else []
