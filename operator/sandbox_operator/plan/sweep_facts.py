# SPDX-License-Identifier: Apache-2.0
"""What the planner of sweeps knows, and what it asks for. All that a sweep has to remember stands in its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sandbox_api.status import TrialDecision
from sandbox_api.sweep import SweepStatus

from ..build.volume import SWEEP
from .actions import CreateClaim, Event, Manifest, PatchClaim
from .facts import ClaimFact, JobFact, Refusal, WarningFact

AT_ONCE = 16
"""Trials that one round makes at most: its status names them all, and a suggestion takes up to 50 ms."""
State = Literal["Running", "Succeeded", "Failed", "Pruned"]


@dataclass(frozen=True, slots=True)
class TrialFact:
    """One trial, as its experiment tells of it."""

    number: int
    name: str
    """Of its experiment."""
    state: State
    """Pruned and Failed before its experiment has ended too: its outcome is known then."""
    value: float | None = None
    """Of the metric; of a pruned trial at its last rung."""
    reason: str | None = None
    """Why it failed, or was stopped without a value."""
    message: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    point: tuple[float, ...] | None = None
    """Where its suggestion lies in the unit cube."""
    is_over: bool = False
    """Whether it holds no place among those that run."""
    suspended: bool = False
    """Its experiment's spec.suspend."""
    stopping: bool = False
    """Whether its experiment was told to end."""
    decisions: tuple[TrialDecision, ...] = ()
    """Of early stopping, as its experiment records them."""
    artifacts: Literal["Removing", "Removed"] | None = None
    """What has become of its large files."""
    is_exporting: bool = False
    """Whether an exporter reads them, or is to; one that can't is given up in the end."""


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """What a trial has on the volume of its own; what it took from others is not its own."""

    folder: str
    """Of its experiment, relative to the volume's root."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """How many its jobs have begun, of those that have, by their ids."""
    results: Mapping[str, str] = field(default_factory=dict)
    """Paths of its committed results, replaced ones too, with the job's id."""
    removed: frozenset[str] = frozenset()
    """Those of them that stand for no other job any more."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """An experiment that has the name of a trial and is none of this sweep."""

    is_leaving: bool
    """It goes by itself: a trial of an earlier sweep of this name, or one that is being deleted."""


@dataclass(frozen=True, slots=True)
class RungArrival:
    """A trial has come to a rung, as its pod tells."""

    trial: int
    rung: int
    value: float | None
    """None: no finite number."""


@dataclass(frozen=True)
class SweepSnapshot:
    """All that is known of one sweep at one moment."""

    kind: ClassVar[str] = SWEEP
    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    spec: Mapping[str, Any]
    status: SweepStatus
    deleting: bool = False
    trials: tuple[TrialFact, ...] = ()
    """By number; those that somebody has deleted are not there."""
    arrivals: tuple[RungArrival, ...] = ()
    """What trials that run have told of rungs, in the order in which it was heard."""
    files: Mapping[int, TrialFiles] = field(default_factory=dict)
    """By number of the trial; where the search has ended and not all files are kept."""
    taken: frozenset[str] = frozenset()
    """Paths of results that another experiment than the one that made them has taken, or has decided to take."""
    removal: JobFact | None = None
    """The Job that removes files of the trials that are being removed, if it is there."""
    strangers: Mapping[str, Stranger] = field(default_factory=dict)
    """By name."""
    claims: Mapping[str, ClaimFact] = field(default_factory=dict)
    """Claims in the namespace by name."""
    warnings: tuple[WarningFact, ...] = ()
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """By the name of the object that could not be made. Forgotten by a restart, then heard again."""

    @property
    def has_results(self) -> bool:
        """Whether there is something on the volume that is still to be read."""
        return bool(self.trials)

    @property
    def after_a_loss(self) -> str:
        """What a person may do when the claim has gone with all results."""
        return "or delete the sweep and apply it again"


@dataclass(frozen=True)
class CreateTrial:
    """Create the experiment of one trial. Where it stands already it is left as it is, and the plan made anew."""

    manifest: Manifest


@dataclass(frozen=True)
class PatchTrial:
    """Change the spec of a trial's experiment: `suspend` and `stop`, nothing else."""

    name: str
    spec: Manifest


@dataclass(frozen=True)
class DecideTrial:
    """Write a decision of early stopping into the status of a trial's experiment, unless that has changed since."""

    name: str
    decision: TrialDecision


@dataclass(frozen=True)
class MarkTrial:
    """Write into the status of a trial's experiment what becomes of its files, unless that has changed since."""

    name: str
    artifacts: Literal["Removing", "Removed"]
    results: frozenset[str] = frozenset()
    """Paths of its results that stand for no other job from now on."""


@dataclass(frozen=True)
class CreateRemoval:
    """Create the Job that removes files; where it stands already it is left as it is."""

    manifest: Manifest


SweepAction = CreateClaim | PatchClaim | CreateTrial | PatchTrial | DecideTrial | MarkTrial | CreateRemoval


@dataclass(frozen=True)
class SweepPlan:
    """One step: a status to write first, then actions in order, then events, then a look at a later time."""

    status: SweepStatus
    actions: tuple[SweepAction, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    """Seconds."""
    urgent: bool = False
    """Something is decided: this status may not wait to be coalesced."""


def in_words(trials: int) -> str:
    """How a sentence says so many trials."""
    return f"{trials} trial{'' if trials == 1 else 's'}"


def best_of(trials: Sequence[TrialFact], goal: str) -> list[TrialFact]:
    """Trials with a value, the best first; of equal ones the earlier."""
    sign = 1 if goal == "minimize" else -1
    valued = [t for t in trials if t.state == "Succeeded" and t.value is not None and math.isfinite(t.value)]
    return sorted(valued, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def unseen(status: SweepStatus, numbers: set[int]) -> list[int]:
    """Trials that were begun, or were to be, and are not among those known by `numbers`: they have to be asked for,
    since a watch may be late."""
    return [number for number in range(status.counts.total) if number not in numbers]


def to_be_made(status: SweepStatus) -> set[int]:
    """Numbers of trials that are decided on and whose experiments have not been seen yet.

    The status names a trial before its experiment is made. One that is named and is not there was never made; any other
    that is not there was deleted by somebody, and is not made again.
    """
    return {row.number for row in status.trials if row.state == "Pending"}
