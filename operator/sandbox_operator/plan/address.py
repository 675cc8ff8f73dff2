# SPDX-License-Identifier: Apache-2.0
"""Which field of the spec a waiting job's trouble is about: Kubernetes names objects, users wrote fields."""

from __future__ import annotations

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import Reason

from .job import PlannedJob
from .waiting import Waiting


def addressed(waiting: Waiting, job: PlannedJob, spec: ExperimentSpec) -> str:
    """The reason in words, after the field where there is one."""
    field = _field_of(waiting, job, spec)
    return f"{field}: {waiting.message}" if field else waiting.message


def _field_of(waiting: Waiting, job: PlannedJob, spec: ExperimentSpec) -> str | None:
    if waiting.reason == Reason.IMAGE_UNAVAILABLE:
        return f"spec.images.{job.hook.image}"
    if waiting.reason == Reason.INSUFFICIENT_GPU:
        profile = f"spec.pods.{job.config.pod or 'default'}"
        return f"{job.where if job.config.resources else profile}.resources"
    if waiting.reason == Reason.VOLUME_UNBOUND:
        for number, volume in enumerate(spec.inputs):
            if volume.claim_name is not None and f"the claim {volume.claim_name} waits:" in waiting.message:
                return f"spec.inputs[{number}].claimName"
        return f"spec.workspace.{'claim' if spec.workspace.claim else 'claimName'}"
    if waiting.reason == Reason.VOLUME_MOUNT:
        for number, volume in enumerate(spec.inputs):
            for name, field in ((volume.config_map_name, "configMapName"), (volume.claim_name, "claimName")):
                if name is not None and f'"{name}"' in waiting.message:
                    return f"spec.inputs[{number}].{field}"
    return None
