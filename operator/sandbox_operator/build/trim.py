# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes Job that removes large files of trials that a sweep does not keep: the operator has no volume."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sandbox_api import contract as wire
from sandbox_api.experiment import PodProfile
from sandbox_api.trim import TRIM_COMMAND, TRIM_ENV, TrimContract, encode_trim

from . import parts
from .defaults import Defaults
from .names import LABEL_CLAIM, claim_hash, job_hash, sweep_labels
from .volume import SWEEP, owner_reference

TRIM = "trim"
PODS = 3
"""How many pods may fail before the Job does."""
DEADLINE_SECONDS = 3600
KEPT_SECONDS = 3600
"""After so long the Job goes, and one that has failed is made again."""
_NAME_CUT = 40


@dataclass(frozen=True)
class TrimRequest:
    """All that the manifest depends on."""

    name: str
    contract: TrimContract
    namespace: str
    sweep_uid: str
    image: str
    claim: str
    run_as: int = 1000
    profile: PodProfile | None = None
    pinned: bool = False
    """Whether it must run on the node of the other live pods of the claim."""


def trim_name(sweep: str, uid: str, trials: Iterable[int]) -> str:
    """Name of the Job for these trials: for the same ones the same."""
    numbers = ",".join(map(str, sorted(trials)))
    return f"{sweep[:_NAME_CUT].rstrip('-.')}-{job_hash(uid, f'{TRIM}/{numbers}')}-{TRIM}"


def trim_job(request: TrimRequest, defaults: Defaults) -> dict[str, Any]:
    """The Job; it goes with its sweep."""
    sweep = request.contract.sweep
    labels = {
        "app.kubernetes.io/name": "sandbox-trim",
        **sweep_labels(sweep, request.sweep_uid),
        LABEL_CLAIM: claim_hash(request.claim),
    }
    meta = {
        "name": request.name,
        "namespace": request.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(sweep, request.sweep_uid, SWEEP)],
    }
    pods = {"backoffLimit": PODS - 1, "ttlSecondsAfterFinished": KEPT_SECONDS}
    return parts.job(meta, pods, _pod(request, defaults), DEADLINE_SECONDS)


def _pod(request: TrimRequest, defaults: Defaults) -> dict[str, Any]:
    profile = request.profile or PodProfile()
    return {
        **parts.ALONE,
        "securityContext": parts.as_owner(request.run_as),
        **parts.placement(profile, affinity=parts.beside_the_others({}, request.claim) if request.pinned else None),
        "containers": [
            {
                "name": wire.CONTAINER,
                "image": request.image,
                "imagePullPolicy": defaults.image_pull_policy,
                "command": list(TRIM_COMMAND),
                "env": [{"name": TRIM_ENV, "value": encode_trim(request.contract)}],
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                "securityContext": parts.RESTRICTED,
                "volumeMounts": [parts.WORKSPACE_MOUNT],
            }
        ],
        "volumes": [parts.workspace_volume(request.claim)],
    }
