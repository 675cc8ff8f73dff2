# SPDX-License-Identifier: Apache-2.0
"""The step cache: whether an equal job on the same claim has been done already, here or in another experiment.

The index is the committed keys in the status of experiments on the claim; nothing else is stored. What no job made
(files in inputs, users' own paths) can't be seen from here: a hit that depends on them is confirmed by a pod without
GPUs that lives for seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox_api import contract as wire
from sandbox_api.digest import sha256_of
from sandbox_api.experiment import ExperimentSpec, InputVolume
from sandbox_api.status import JobStatus

from .configs import settled_extra
from .job import PlannedJob, references_in

CACHE_VERSION = 2


def is_cacheable(spec: ExperimentSpec, job: PlannedJob, entry: JobStatus) -> bool:
    """Whether a result of another job may stand for this one. Reruns, retries and remaking bypass the cache."""
    return has_key(spec, job) and entry.attempts == 0 and (entry.generation or 1) == 1


def has_key(spec: ExperimentSpec, job: PlannedJob) -> bool:
    """Whether a result of the job may stand for others: equal jobs, set like this one, give as good as equal ones."""
    if spec.cache != "Auto" or not job.hook.cacheable:
        return False
    return job.hook.pinned is None or job.hook.pinned(settled_extra(job))


def cache_key(
    job: PlannedJob,
    configs: wire.Configs,
    image: str,
    pull_policy: str,
    seed: int,
    inputs: Sequence[InputVolume],
    committed: Mapping[str, JobStatus],
    before: JobStatus | None = None,
) -> str:
    """Digest of everything that a result depends on, as far as it can be known before it runs. `before` is the job
    that it is compared with, in a table of its own."""
    contents = {
        target: [_content(committed[r.job_id], r.output, r.element) for r in references_in(source)]
        for target, source in sorted(job.inputs.items())
    }
    mutable = "" if "@sha256:" in image else pull_policy
    volumes = [volume.model_dump(mode="json", exclude_none=True) for volume in inputs]
    return sha256_of(
        [CACHE_VERSION, job.hook.name, job.config.type, list(job.hook.command), image, mutable, seed, job.meta_name,
         list(job.outputs), configs.model_dump(mode="json"), contents, volumes,
         *(["keep", job.keep_checkpoints] if job.keep_checkpoints is not None else ()),
         *(["nodes", job.config.nodes] if job.config.nodes > 1 else ()),
         *(["compared", before.meta_name, before.metrics] if before is not None else ())]
    )  # fmt: skip


def _content(entry: JobStatus, output: str, element: int | None) -> list[Any]:
    """What an input is, whoever made it and when: the digest of its producer's outputs, or a figure's value."""
    result = entry.result
    if output not in (entry.outputs or {}):
        figures = map((entry.metrics or {}).get, wire.figure_names(entry.meta_name, output))
        figure = next((value for value in figures if value is not None), None)
        return [output, figure if figure is not None else result.sha256 if result else None]
    return [output, element, (result.content or result.sha256) if result else None]
