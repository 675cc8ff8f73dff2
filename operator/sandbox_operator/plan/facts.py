# SPDX-License-Identifier: Apache-2.0
"""What the planner knows: small frozen projections of objects, and the snapshot of one experiment made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sandbox_api.ranges import numbers_in
from sandbox_api.status import DONE_STATES, ExperimentStatus, JobStatus, Reason

from ..build.volume import EXPERIMENT

CLAIM = "PersistentVolumeClaim"


@dataclass(frozen=True, slots=True)
class JobFact:
    """A Kubernetes Job of ours."""

    name: str
    uid: str
    owner_uid: str | None
    job_id: str
    attempt: int
    contract: str
    """Digest of the job contract it was made from."""
    complete: bool = False
    failed: str | None = None
    """Reason of its Failed condition."""
    failed_message: str = ""
    deleting: bool = False
    numbers: str = ""
    """With several pods: what they are by their index, ranks or pieces, e.g. `0,2-5`."""
    done_indexes: str = ""
    """Indexes of pods that it has counted as succeeded."""
    failed_indexes: str = ""
    """Indexes of pods that it has counted as failed, where each fails for itself."""

    @property
    def size(self) -> int:
        """How many pods it has in all; none is ever replaced."""
        return max(1, len(numbers_in(self.numbers)))


@dataclass(frozen=True, slots=True)
class ContainerFact:
    """The container named `hook`; the others of a pod say nothing about the job."""

    waiting_reason: str | None = None
    waiting_message: str = ""
    running_since: str | None = None
    exit_code: int | None = None
    exit_reason: str = ""
    termination_message: str = ""
    finished_at: str | None = None


@dataclass(frozen=True, slots=True)
class PodFact:
    name: str
    uid: str
    job_name: str
    contract: str
    phase: str
    hook: ContainerFact = ContainerFact()
    node: str | None = None
    unschedulable: str | None = None
    """The scheduler's words while it finds no node."""
    disruption: str | None = None
    """Words of the DisruptionTarget condition: preemption, drain, eviction."""
    reason: str = ""
    """The pod's own reason, e.g. Evicted."""
    message: str = ""
    deleting: bool = False
    deleting_since: str | None = None
    """When it should have been gone, its grace period included."""
    job_uid: str = ""
    """Of the Job that made it: another one may have had its name."""
    index: int = 0
    """Which one of its Job's pods."""
    numbers: str = ""
    """As its Job's."""

    @property
    def number(self) -> int:
        """Its rank, or the piece that it works at."""
        numbers = numbers_in(self.numbers)
        return numbers[self.index] if self.index < len(numbers) else self.index

    @property
    def is_over(self) -> bool:
        """No process of this pod can write any more."""
        return self.phase in ("Succeeded", "Failed") or self.hook.exit_code is not None

    @property
    def is_running(self) -> bool:
        return self.hook.running_since is not None and not self.is_over

    @property
    def has_ended_well(self) -> bool:
        return self.phase == "Succeeded" or self.hook.exit_code == 0


@dataclass(frozen=True, slots=True)
class ClaimFact:
    name: str
    uid: str
    phase: str
    access_mode: str | None = None
    experiment: str | None = None
    """The label that says which experiment it was made for."""
    sweep: str | None = None
    """The same where it was made for a sweep."""
    owner_uid: str | None = None
    deleting: bool = False
    created: str | None = None


@dataclass(frozen=True, slots=True)
class WarningFact:
    """A Warning Event about a Job, a pod or a claim: quota refusals, mount failures and missing storage classes stand
    only there."""

    kind: str
    name: str
    reason: str
    message: str
    time: str = ""
    namespace: str = ""
    uid: str = ""
    """Of the object, whose name another one may have had."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server's answer to something this operator wanted to create."""

    reason: Reason
    message: str
    final: bool
    """Whether asking again is of no use."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A committed result of some experiment on the claim."""

    experiment: str
    job: JobStatus


@dataclass(frozen=True)
class Snapshot:
    """All that is known of one experiment at one moment."""

    kind: ClassVar[str] = EXPERIMENT
    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    spec: Mapping[str, Any]
    status: ExperimentStatus
    deleting: bool = False
    jobs: tuple[JobFact, ...] = ()
    pods: tuple[PodFact, ...] = ()
    exporters: tuple[JobFact, ...] = ()
    """Jobs that export the experiment's figures; nothing but `tracking.py` looks at them."""
    exporter_pods: tuple[PodFact, ...] = ()
    """Their pods."""
    claims: Mapping[str, ClaimFact] = field(default_factory=dict)
    """Claims in the namespace by name."""
    warnings: tuple[WarningFact, ...] = ()
    """Newest last; about its Jobs, those of exporters too, their pods, and its claims."""
    cached: Mapping[str, CacheEntry] = field(default_factory=dict)
    """Committed results on the claim, those of the experiment itself included, by cache key."""
    running_keys: Mapping[str, str] = field(default_factory=dict)
    """Cache keys that other experiments on the claim are working at, with the experiment's name."""
    claim_is_shared: bool = False
    """Whether other experiments are at work on the claim."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """By the name of the object that could not be made. Forgotten by a restart, then heard again."""

    def warnings_about(self, job: str, pods: Iterable[PodFact]) -> tuple[WarningFact, ...]:
        """Warnings about a Job, by its name, and its pods, or about a claim that has no volume yet."""
        names = {("Job", job), *(("Pod", pod.name) for pod in pods)}
        return tuple(w for w in self.warnings if w.kind == CLAIM or (w.kind, w.name) in names)

    @property
    def has_results(self) -> bool:
        """Whether there are results that a job may read: not those which a rerun of everything is to replace."""
        return (self.status.iteration or 1) > 1 or any(job.state in DONE_STATES for job in self.status.jobs)

    @property
    def after_a_loss(self) -> str:
        """What a person may do when the claim has gone with all results."""
        anew = "" if (self.status.iteration or 1) > 1 else "run them all again (spec.rerun.from: the first job), "
        return f"{anew}or delete the experiment and apply it again"
