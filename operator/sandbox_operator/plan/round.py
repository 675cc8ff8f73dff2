# SPDX-License-Identifier: Apache-2.0
"""What one round of planning gathers before it becomes a plan: the jobs as they will stand, and what is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import FINISHED_STATES, EarlierResult, JobStatus

from ..build.defaults import Defaults
from .actions import Action, Event
from .contracts import Asked
from .doubt import busy
from .facts import JobFact, PodFact, Snapshot, WarningFact
from .job import PlannedJob
from .rerun import is_live


@dataclass
class Round:
    snapshot: Snapshot
    spec: ExperimentSpec
    defaults: Defaults
    images: Mapping[str, str]
    contract_version: int
    """That the images read: they may be older than the operator."""
    claim: str
    access_mode: str | None
    may_start: bool
    """Whether a further attempt may start: the volume is there and nothing is suspended."""
    now: datetime
    planned: dict[str, PlannedJob]
    """The jobs of this iteration, in written order."""
    jobs: dict[str, JobStatus]
    earlier: Mapping[str, JobStatus] = field(default_factory=dict)
    """Committed jobs of the iteration before this one."""
    before: Mapping[str, str] = field(default_factory=dict)
    """By the id of a job: the one whose figures its own are compared with."""
    history: list[EarlierResult] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    requeue: list[float] = field(default_factory=list)
    urgent: bool = False
    held: bool = False
    """Whether an attempt would start now if only it might."""
    again: bool = False
    """Whether a job that comes earlier in order has to be looked at once more."""
    begun: set[str] = field(default_factory=set)
    """Jobs for which this round makes a Kubernetes Job: nothing can be known of it yet."""
    active: dict[str, set[int]] | None = None
    """Items at work by the forEach that limits them; see `start.py`."""

    @property
    def asked(self) -> Asked:
        """What contracts are made of."""
        committed = {**self.earlier, **self.jobs}
        return Asked(
            self.snapshot, self.spec, self.defaults, self.claim, self.images, self.contract_version, committed,
            self.before,
        )  # fmt: skip

    @property
    def node_may_be_lost(self) -> bool:
        """Whether a pod on a silent node may be given up: with ReadWriteMany another node has the volume as well."""
        return self.access_mode == "ReadWriteMany"

    def failed(self) -> JobStatus | None:
        """The first job whose failure ends the experiment."""
        return next(
            (
                self.jobs[job.id]
                for job in self.planned.values()
                if self.jobs[job.id].state == "Failed" and job.on_failure == "Fail"
            ),
            None,
        )

    def is_decided_now(self, job_id: str) -> bool:
        """Whether it is this round that has ended the job's last attempt, or asks for another."""
        return any(entry.id == job_id and entry.retry_at is None for entry in self.snapshot.status.jobs)

    def is_finished(self, job_id: str) -> bool:
        """Whether a job has ended; one of an earlier iteration has."""
        entry = self.jobs.get(job_id)
        return entry is None or entry.state in FINISHED_STATES

    def at_work(self, but: str) -> list[PlannedJob]:
        """The jobs, this one apart, that have a pod which may use the volume."""
        return [
            self.planned[entry.id]
            for entry in self.jobs.values()
            if entry.id != but and entry.id in self.planned and (is_live(entry) or entry.job_name in self.busy)
        ]

    @cached_property
    def busy(self) -> set[str]:
        """Names of the Jobs, wanted or not, that have a pod which may still work or may get one."""
        return busy(self.snapshot)

    def update(self, job_id: str, **changes: Any) -> None:
        """Replace fields of a job's status."""
        self.jobs[job_id] = self.jobs[job_id].model_copy(update=changes)

    def children(self, name: str) -> tuple[JobFact | None, tuple[PodFact, ...], tuple[WarningFact, ...]]:
        """The Job of an attempt, its pods, and the warnings about either, or about a claim that has no volume yet."""
        pods = tuple(pod for pod in self.snapshot.pods if pod.job_name == name)
        job = next((job for job in self.snapshot.jobs if job.name == name), None)
        return job, pods, self.snapshot.warnings_about(name, pods)
