# SPDX-License-Identifier: Apache-2.0
"""Conditions by kstatus' rules: `Ready` always stands there; `Reconciling` and `Stalled` only while they are true.

So `kubectl wait`, Argo CD and Flux understand an experiment without knowing it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sandbox_api.status import Condition, Outcome, Reason

from .claim import ClaimDecision
from .clock import stamp

Truth = Literal["True", "False", "Unknown"]
_MESSAGE_LENGTH = 4096


@dataclass(frozen=True)
class Headline:
    """What is to be said of the experiment as a whole."""

    outcome: Outcome
    reason: str
    message: str
    stalled: bool = False
    """Nothing will go on until a person does something; with an outcome that is an end, about what came after it."""
    suspended: bool = False


@dataclass(frozen=True)
class Said:
    """What one condition says."""

    status: Truth
    reason: str
    message: str


def condition_in(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of this type, where it stands."""
    return next((condition for condition in conditions if condition.type == kind), None)


def condition_of(kind: str, said: Said, previous: Iterable[Condition], generation: int, now: datetime) -> Condition:
    """A condition now; its transition's time changes only with its status."""
    before = condition_in(previous, kind)
    return Condition(
        type=kind,
        status=said.status,
        observed_generation=generation,
        last_transition_time=(
            before.last_transition_time if before is not None and before.status == said.status else stamp(now)
        ),
        reason=said.reason,
        message=said.message[:_MESSAGE_LENGTH],
    )


def conditions_of(
    previous: Iterable[Condition], headline: Headline, claim: ClaimDecision | None, generation: int, now: datetime
) -> list[Condition]:
    """The conditions now; a transition's time changes only with its status.

    What is wrong with a spec that an experiment got after its end stands in `Ready` and `Stalled`; `Succeeded` goes on
    saying how it ended.
    """
    known = {condition.type: condition for condition in previous}
    outcome = headline.outcome
    finished = outcome in ("Succeeded", "Failed", "Stopped")
    reason, message = headline.reason, headline.message
    ended = known.get("Succeeded") if finished and headline.stalled else None
    wanted: list[tuple[str, Truth, str, str]] = [
        ("Ready", "True" if outcome == "Succeeded" and not headline.stalled else "False", reason, message),
        (
            "Succeeded",
            "True" if outcome == "Succeeded" else "False" if finished else "Unknown",
            *((ended.reason, ended.message) if ended is not None else (reason, message)),
        ),
    ]
    if headline.stalled or outcome == "Failed":
        wanted.append(("Stalled", "True", reason, message))
    elif not finished and not headline.suspended:
        wanted.append(("Reconciling", "True", reason, message))
    if headline.suspended:
        wanted.append(("Suspended", "True", Reason.SUSPENDED, message))
    if claim is not None:
        bound = claim.reason == Reason.CLAIM_BOUND
        wanted.append(("StorageReady", "True" if bound else "False", claim.reason, claim.message))
    if claim is None and "StorageReady" in known:
        storage = known["StorageReady"]
        wanted.append(("StorageReady", storage.status, storage.reason, storage.message))
    return [
        condition_of(kind, Said(truth, why, words), known.values(), generation, now)
        for kind, truth, why, words in wanted
    ]
