# SPDX-License-Identifier: Apache-2.0
"""What a plan asks for. Each action is idempotent by name: doing it twice is doing it once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sandbox_api.status import ExperimentStatus

Manifest = dict[str, Any]


@dataclass(frozen=True)
class CreateClaim:
    manifest: Manifest


@dataclass(frozen=True)
class PatchClaim:
    name: str
    patch: Manifest


@dataclass(frozen=True)
class CreateJob:
    """Create the Job of one attempt; `contract` tells our Job from another one of the same name."""

    manifest: Manifest
    contract: str
    config_map: Manifest | None = None
    """Carries a contract that is too long for an environment variable."""
    service: Manifest | None = None
    """By which its pods find each other; one for all Jobs of the experiment."""


@dataclass(frozen=True)
class DeleteJob:
    name: str


@dataclass(frozen=True)
class DeleteFinishedJobs:
    """Remove all Jobs of the experiment, which has ended and whose results are committed."""


Action = CreateClaim | PatchClaim | CreateJob | DeleteJob | DeleteFinishedJobs


@dataclass(frozen=True)
class Event:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def made_by(actions: Iterable[Action]) -> set[str]:
    """Names of the Jobs that are made."""
    return {action.manifest["metadata"]["name"] for action in actions if isinstance(action, CreateJob)}


@dataclass(frozen=True)
class Plan:
    """One step: a status to write first, then actions in order, then events, then a look at a later time."""

    status: ExperimentStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    """Seconds."""
    urgent: bool = False
    """A result is committed or something is decided: this status may not wait to be coalesced."""
    exports: tuple[Action, ...] = ()
    """What the exporter needs: done last, since nothing may wait for it."""
