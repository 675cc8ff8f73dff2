# SPDX-License-Identifier: Apache-2.0
"""Checks what users say about pods: nothing of it may take away what a hook's pod needs to be one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sandbox_api.experiment import ExperimentSpec, JobConfig
from sandbox_api.pod_fields import Affinity, PodPatch
from sandbox_api.sentences import schema_problems

from .limits import resource_problems
from .references import did_you_mean

OUR_ENV = "SANDBOX_"
_KEPT = {
    "containers": "it would replace the hook's own container",
    "volumes": "it would replace the workspace",
    "restartPolicy": "an attempt is one pod, started once",
}
"""Parts of a pod that a patch may not set, and why."""


def profile_problems(spec: ExperimentSpec) -> Iterator[str]:
    """A sentence for each mistake in the pod profiles."""
    for name, profile in spec.pods.items():
        where = f"spec.pods.{name}"
        yield from resource_problems(profile.resources, f"{where}.resources")
        for number, variable in enumerate(profile.env or ()):
            yield from _env_problem(variable.name, f"{where}.env[{number}].name")
        if profile.affinity is not None:
            yield from _problems_in(Affinity, profile.affinity, f"{where}.affinity")
        if profile.patch is not None:
            yield from _patch_problems(profile.patch, f"{where}.patch")


def _patch_problems(patch: Mapping[str, Any], where: str) -> Iterator[str]:
    fields = {field.alias or name for name, field in PodPatch.model_fields.items()}
    for key in patch:
        if key in _KEPT:
            yield f"{where}.{key}: can't be patched: {_KEPT[key]}"
        elif key not in fields and (hint := did_you_mean(key, fields)):  # else a newer Kubernetes may know it
            yield f"{where}.{key}: a pod has no such field{hint}"
    yield from _problems_in(PodPatch, patch, where)


def _problems_in(model: type[BaseModel], value: Mapping[str, Any], where: str) -> Iterator[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        yield from schema_problems(error, model, where)


def secret_problems(job: JobConfig, where: str) -> Iterator[str]:
    """A sentence for each mistake in a job's environment variables from Secrets."""
    first: dict[str, int] = {}
    for number, secret in enumerate(job.secrets or ()):
        field = f"{where}.secrets[{number}].env"
        yield from _env_problem(secret.env, field)
        if (other := first.setdefault(secret.env, number)) != number:
            yield f"{field}: {secret.env} is set by {where}.secrets[{other}] already; take another name"


def _env_problem(name: str, where: str) -> Iterator[str]:
    if name.startswith(OUR_ENV):
        yield f"{where}: names that begin with {OUR_ENV} are the runtime's own; take another"
