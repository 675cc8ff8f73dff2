# SPDX-License-Identifier: Apache-2.0
"""What may not be decided by a cache alone: a watch may be late, or the others ahead of it, and the decision costs an
attempt or would let two of them live.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sandbox_api.status import ExperimentStatus

from .facts import JobFact

OPEN = ("Pending", "Running")


def to_ask_for_pods(status: ExperimentStatus, jobs: Mapping[str, JobFact], with_pods: Collection[str]) -> Iterator[str]:
    """Names of Jobs whose pods have to be asked for.

    A Job that is over without a known pod would be a lost result. An attempt that is over by our own decision may
    have a pod that nobody has heard of, and the next one starts only when no pod of the last is left.
    """
    for entry in status.jobs:
        if entry.state not in OPEN:
            continue
        for name in (entry.job_name, entry.helper_job):
            if name is None or name in with_pods:
                continue
            job = jobs.get(name)
            if entry.retry_at is not None or (job is not None and (job.complete or job.failed)):
                yield name


def to_ask_for(status: ExperimentStatus, jobs: Mapping[str, JobFact], with_pods: Collection[str]) -> Iterator[str]:
    """Names of Jobs that have to be asked for: a running hook without Job and pod would be a preemption."""
    for entry in status.jobs:
        name = entry.job_name
        known = name is None or name in with_pods or name in jobs
        if entry.state == "Running" and entry.retry_at is None and name is not None and not known:
            yield name
