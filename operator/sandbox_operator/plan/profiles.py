# SPDX-License-Identifier: Apache-2.0
"""Checks what users say about pods: nothing of it may take away what a hook's pod needs to be one."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox_api.experiment import ExperimentSpec, JobConfig

from .limits import resource_problems

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
        for key in profile.patch or {}:
            if key in _KEPT:
                yield f"{where}.patch.{key}: can't be patched: {_KEPT[key]}"


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
