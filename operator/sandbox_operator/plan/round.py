# SPDX-License-Identifier: Apache-2.0
"""What one round of planning gathers before it becomes a plan: the jobs as they will stand, and what is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import JobStatus

from ..build.defaults import Defaults
from .actions import Action, Event
from .facts import JobFact, PodFact, Snapshot, WarningFact


@dataclass
class Round:
    snapshot: Snapshot
    spec: ExperimentSpec
    defaults: Defaults
    images: Mapping[str, str]
    claim: str
    may_start: bool
    """Whether a further attempt may start: the volume is there and nothing is suspended."""
    node_may_be_lost: bool
    """Whether a pod on a silent node may be given up: with ReadWriteMany another node can have the volume as well."""
    now: datetime
    jobs: dict[str, JobStatus]
    actions: list[Action] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    requeue: list[float] = field(default_factory=list)
    urgent: bool = False
    held: bool = False
    """Whether an attempt would start now if only it might."""

    def update(self, job_id: str, **changes: Any) -> None:
        """Replace fields of a job's status."""
        self.jobs[job_id] = self.jobs[job_id].model_copy(update=changes)

    def children(self, name: str) -> tuple[JobFact | None, tuple[PodFact, ...], tuple[WarningFact, ...]]:
        """The Job of an attempt, its pods, and the warnings about either."""
        pods = tuple(pod for pod in self.snapshot.pods if pod.job_name == name)
        names = {("Job", name), *(("Pod", pod.name) for pod in pods)}
        warnings = tuple(w for w in self.snapshot.warnings if (w.kind, w.name) in names)
        return next((job for job in self.snapshot.jobs if job.name == name), None), pods, warnings
