# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes Job of an exporter: one small pod beside the hooks, which tells Weights & Biases what they wrote."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sandbox_api import contract as wire
from sandbox_api.experiment import PodProfile
from sandbox_api.export import (
    API_KEY_ENV,
    BASE_URL_ENV,
    EXPORT_COMMAND,
    EXPORT_ENV,
    ExportContract,
    encode_export,
    export_digest,
)
from sandbox_api.tracking import SecretKey

from . import parts
from .defaults import Defaults
from .names import (
    ANNOTATION_CONTRACT,
    ANNOTATION_JOB_ID,
    LABEL_ATTEMPT,
    LABEL_CLAIM,
    LABEL_TASK,
    claim_hash,
    experiment_labels,
    job_hash,
)

EXPORT = "export"
"""Stands where a hook's Job has the id of its job, and as its task."""
IMAGE = "tracking"
SYNC = "sync"
"""Suffix of the exporter that a person asks for: `sandboxctl wandb sync`."""
PODS = 50
"""How many pods may fail before the Job does: between them the Job controller waits ever longer, 10 min at most."""
_NAME_CUT = 30  # with -<hash10>-export-<hash6> and a pod's suffix it stays under 63


@dataclass(frozen=True)
class ExportRequest:
    """All that an exporter's manifest depends on."""

    contract: ExportContract
    image: str
    claim: str
    api_key: SecretKey | None = None
    base_url: str | None = None
    run_as: int = 1000
    profile: PodProfile | None = None
    deadline: int = 0
    """Seconds for all its pods together; 0: without."""
    pinned: bool = False
    """Whether it must run on the node of the other live pods of the claim."""
    suffix: str = ""
    """Of its name, where it is not that of the contract."""

    @property
    def name(self) -> str:
        experiment = self.contract.experiment
        return export_name(experiment.name, experiment.uid, self.suffix)


def export_name(experiment: str, uid: str, suffix: str = "") -> str:
    """Name of an exporter's Job; one begins with what the other is: `is_export_name` knows them all."""
    name = f"{experiment[:_NAME_CUT].rstrip('-.')}-{job_hash(uid, EXPORT)}-{EXPORT}"
    return f"{name}-{suffix}" if suffix else name


def end_suffix(completion_time: str) -> str:
    """Of the exporter after one of an experiment's ends: each rerun has another."""
    return hashlib.sha256(completion_time.encode()).hexdigest()[:6]


def is_export_name(name: str, experiment: str, uid: str) -> bool:
    """Whether a Job of that name is one of the experiment's exporters."""
    first = export_name(experiment, uid)
    return name == first or name.startswith(f"{first}-")


def export_job(request: ExportRequest, defaults: Defaults) -> dict[str, Any]:
    """The Job: one pod at a time, replaced until one ends well, or too many have failed."""
    experiment = request.contract.experiment
    labels = {
        "app.kubernetes.io/name": "sandbox-export",
        **experiment_labels(experiment.name, experiment.uid),
        LABEL_ATTEMPT: "0",
        LABEL_TASK: EXPORT,
        LABEL_CLAIM: claim_hash(request.claim),
    }
    annotations = {ANNOTATION_JOB_ID: EXPORT, ANNOTATION_CONTRACT: export_digest(request.contract)}
    meta = parts.metadata(request.name, experiment, labels, annotations=annotations)
    return parts.job(meta, {"backoffLimit": PODS}, _pod(request, defaults), request.deadline)


def _pod(request: ExportRequest, defaults: Defaults) -> dict[str, Any]:
    profile = request.profile or PodProfile()
    return {
        **parts.ALONE,
        "terminationGracePeriodSeconds": parts.GRACE_SECONDS,
        "securityContext": parts.as_owner(request.run_as),
        **parts.placement(profile, affinity=parts.beside_the_others({}, request.claim) if request.pinned else None),
        "containers": [
            {
                "name": wire.CONTAINER,
                "image": request.image,
                "imagePullPolicy": defaults.image_pull_policy,
                "command": list(EXPORT_COMMAND),
                "env": _environment(request),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
                "securityContext": parts.RESTRICTED,
                "volumeMounts": [parts.WORKSPACE_MOUNT, parts.TMP_MOUNT],
            }
        ],
        "volumes": [parts.workspace_volume(request.claim), parts.TMP],
    }


def _environment(request: ExportRequest) -> list[dict[str, Any]]:
    key = request.api_key if request.contract.mode == "online" else None
    return [
        {"name": EXPORT_ENV, "value": encode_export(request.contract)},
        parts.from_field(wire.POD_UID_ENV, "metadata.uid"),
        *([parts.literal(BASE_URL_ENV, request.base_url)] if request.base_url else []),
        *([parts.from_secret(API_KEY_ENV, key.name, key.key)] if key is not None else []),
    ]
