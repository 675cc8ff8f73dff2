# SPDX-License-Identifier: Apache-2.0
"""Proof of a sweep: every suggestion and every early stop computed again from what the trials record.

Points are compared to within 1e-9: on one machine they come out bit for bit, but another processor may round the last
bits of a logarithm otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sandbox_api.rungs import rungs_of
from sandbox_api.sweep import EarlyTerminate

from .observed import SEEN_AT_MOST, Seen, decode_observed
from .space import Point
from .stopping import Arrival, Decision, replay, value_in_words
from .studies import StudyCache
from .suggest import LOOKS_BACK, Settings, suggest

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class RungRecord:
    """A decision of early stopping, as a trial's status records it."""

    rung: int
    value: float | None
    """None: no finite number."""
    seen: int
    decision: Decision


@dataclass(frozen=True)
class Recorded:
    """A trial as its own resource records it, and how it stands now.

    `point` and `observed` are what its spec says, `state` and `value` what became of it: of a pruned trial the value at
    its last rung.
    """

    number: int
    name: str
    point: Point
    parameters: Mapping[str, Any]
    observed: str
    state: Literal["running", "failed", "pruned", "succeeded"]
    value: float | None = None
    decisions: tuple[RungRecord, ...] = field(default=())

    @property
    def who(self) -> str:
        """How a sentence calls it."""
        return f"trial {self.number} ({self.name})"


def verify(
    settings: Settings, trials: Sequence[Recorded], early: EarlyTerminate | None = None, *, begun: int = 0
) -> tuple[str, ...]:
    """A sentence for each thing that does not follow from the records; none when all does.

    begun: how many trials there are by the sweep's own count.
    """
    ordered = sorted(trials, key=lambda trial: trial.number)
    by_number = {trial.number: trial for trial in ordered}
    problems = list(_numbers(ordered, begun))
    study = StudyCache()
    for trial in ordered:
        problems += _observed(settings, trial, by_number, study)
    problems += _decisions(settings, ordered, early)
    return tuple(problems)


def _numbers(ordered: Sequence[Recorded], begun: int) -> Iterator[str]:
    """None lost, none twice."""
    for number, count in Counter(trial.number for trial in ordered).items():
        if count > 1:
            names = ", ".join(trial.name for trial in ordered if trial.number == number)
            yield f"trial {number}: is there {count} times ({names})"
    there = {trial.number for trial in ordered}
    last = max(there, default=-1)
    for number in range(last):
        if number not in there:
            yield f"trial {number}: is missing, but later trials are there"
    if last + 1 < begun:
        which = f"trial {last + 1}: is" if last + 2 == begun else f"trials {last + 1} to {begun - 1}: are"
        yield f"{which} missing, the sweep's status counts {begun}"


def _observed(settings: Settings, trial: Recorded, others: Mapping[int, Recorded], study: StudyCache) -> Iterator[str]:
    """Whether what it saw has become what is there, and leads to its point."""
    try:
        seen = decode_observed(trial.observed, {number: other.point for number, other in others.items()})
    except ValueError as error:
        yield f"{trial.who}: {error}"
        return
    yield from _history(settings, trial, seen, others)
    dimensions = settings.space.dimensions
    misfits = [each for each in (trial.point, *(each.point for each in seen)) if not _fits(each, dimensions)]
    if misfits:
        yield f"{trial.who}: it or a trial that it saw has a point that is not {dimensions} numbers in [0, 1]"
        return
    try:
        again = suggest(settings, trial.number, seen, study=study)
    except (IndexError, ValueError) as error:
        yield f"{trial.who}: {error}"
        return
    yield from _point(settings, trial, again.point)
    values = settings.space.values(trial.point)
    for name in sorted(values.keys() | trial.parameters.keys()):
        if name not in trial.parameters:
            yield f"{trial.who}: has no {name}, its point gives {values[name]!r}"
        elif name not in values:
            yield f"{trial.who}: has {name} = {trial.parameters[name]!r}, which is no parameter of the sweep"
        elif not _same(values[name], trial.parameters[name]):
            yield f"{trial.who}: has {name} = {trial.parameters[name]!r}, its point gives {values[name]!r}"


def _fits(point: Point, dimensions: int) -> bool:
    return len(point) == dimensions and all(0 <= x <= 1 for x in point)


def _history(
    settings: Settings, trial: Recorded, seen: Sequence[Seen], others: Mapping[int, Recorded]
) -> Iterator[str]:
    for each in seen:
        now = others[each.number]
        if each.number >= trial.number:
            yield f"{trial.who}: saw trial {each.number}, which is not before it"
        elif each.state != "running" and (each.state != now.state or each.value != now.value):
            then, is_now = _standing(each.state, each.value), _standing(now.state, now.value)
            yield f"{trial.who}: saw that {now.who} was {then}, but it is {is_now}"
    if settings.method in LOOKS_BACK:
        there = {each.number for each in seen}
        first = min(there) if len(there) >= SEEN_AT_MOST else 0
        for number in sorted(number for number in others if first <= number < trial.number and number not in there):
            yield f"{trial.who}: did not see trial {number}, which was begun before it"


def _standing(state: str, value: float | None) -> str:
    return state if value is None else f"{state} with {value!r}"


def _point(settings: Settings, trial: Recorded, again: Point) -> Iterator[str]:
    for parameter, own, right in zip(settings.space.searched, trial.point, again, strict=True):
        if not math.isclose(own, right, rel_tol=0, abs_tol=_TOLERANCE):
            yield (
                f"{trial.who}: {settings.method} suggests {right!r} for {parameter.name} from what it saw,"
                f" its point has {own!r}"
            )


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 2 and 2.0 are, True and 1 are not; floats to the last bits."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or _is_close(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _is_close(one: float, other: float) -> bool:
    try:
        return math.isclose(one, other, rel_tol=_TOLERANCE)
    except OverflowError:  # an integer that no float holds
        return False


def _decisions(settings: Settings, ordered: Sequence[Recorded], early: EarlyTerminate | None) -> Iterator[str]:
    decided = [trial for trial in ordered if trial.decisions]
    if early is None:
        for trial in decided:
            yield f"{trial.who}: has decisions of early stopping, which the sweep does not ask for"
        return
    rungs = rungs_of(early)
    for trial in decided:
        for each in trial.decisions:
            if each.rung not in rungs:
                yield f"{trial.who}: was decided on at {each.rung}, which is no rung"
    for trial in ordered:
        stopped = any(each.decision == "Stop" for each in trial.decisions)
        if trial.state == "pruned" and not stopped:
            yield f"{trial.who}: is pruned, but no decision says so"
        if trial.state == "pruned" and stopped and trial.decisions[-1].value != trial.value:
            had = value_in_words(trial.decisions[-1].value)
            yield f"{trial.who}: counts with {value_in_words(trial.value)}, at its last rung it had {had}"
    arrivals = [
        Arrival(trial.number, each.rung, each.value, each.seen, each.decision)
        for trial in decided
        for each in trial.decisions
    ]
    yield from replay(early, settings.goal, arrivals)
