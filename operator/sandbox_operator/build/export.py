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

from .defaults import Defaults
from .job import WORKSPACE, beside_the_others
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
from .volume import owner_reference

EXPORT = "export"
"""Stands where a hook's Job has the id of its job, and as its task."""
IMAGE = "tracking"
GRACE_SECONDS = 60
"""Between SIGTERM and SIGKILL: what is left is sent in that time."""
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
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": request.name,
            "namespace": experiment.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner_reference(experiment.name, experiment.uid)],
        },
        "spec": {
            "backoffLimit": PODS,
            "podReplacementPolicy": "Failed",
            **({"activeDeadlineSeconds": request.deadline} if request.deadline else {}),
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": _pod(request, defaults)},
        },
    }


def _pod(request: ExportRequest, defaults: Defaults) -> dict[str, Any]:
    profile = request.profile or PodProfile()
    fields: dict[str, Any] = {
        "tolerations": [t.model_dump(by_alias=True, exclude_none=True) for t in profile.tolerations or ()],
        "affinity": beside_the_others({}, request.claim) if request.pinned else None,
        "imagePullSecrets": [{"name": secret} for secret in profile.image_pull_secrets or ()],
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": request.run_as,
            "runAsGroup": request.run_as,
            "fsGroup": request.run_as,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **{name: value for name, value in fields.items() if value},
        "containers": [
            {
                "name": wire.CONTAINER,
                "image": request.image,
                "imagePullPolicy": defaults.image_pull_policy,
                "command": list(EXPORT_COMMAND),
                "env": _environment(request),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": WORKSPACE, "mountPath": wire.WORKSPACE},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }
        ],
        "volumes": [
            {"name": WORKSPACE, "persistentVolumeClaim": {"claimName": request.claim}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _environment(request: ExportRequest) -> list[dict[str, Any]]:
    key = request.api_key
    return [
        {"name": EXPORT_ENV, "value": encode_export(request.contract)},
        {"name": wire.POD_UID_ENV, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        # The kubelet turns $$ into $: doubling each makes the address arrive as it was written.
        *([{"name": BASE_URL_ENV, "value": request.base_url.replace("$", "$$")}] if request.base_url else []),
        *(
            [{"name": API_KEY_ENV, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}]
            if key is not None and request.contract.mode == "online"
            else []
        ),
    ]
