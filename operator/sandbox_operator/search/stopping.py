# SPDX-License-Identifier: Apache-2.0
"""Early stopping: whether a trial that comes to a rung goes on. Each decision is final.

A trial that comes to a rung is compared with those that came there before it, never with later ones (ASHA, Li et al.
2020, in the form that stops). So the decisions of a rung follow from the values in the order in which they arrived,
and the count of earlier arrivals that each decision records is all that is needed to make them again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from sandbox_api.sweep import EarlyTerminate

Decision = Literal["Continue", "Stop"]
Goal = Literal["minimize", "maximize"]


def decide(
    early: EarlyTerminate, goal: Goal, value: float | None, earlier: Sequence[float | None], best: float | None = None
) -> Decision:
    """Whether the trial that comes to a rung with `value` goes on; None: the figure was no finite number there.

    `earlier`: values of the other trials at this rung, those that came before. `best`: of this trial at rungs before,
    None at its first; W&B compares it in place of `value` unless `strict` is set. hyperband: goes on when it is among
    the best 1/eta, itself counted; the first to come always is. median: goes on when it is as good as the median of
    the earlier ones or better. Equal values are as good. None is worse than any, and stops even the first: such a
    trial has failed already.
    """
    if value is None:
        return "Stop"
    mine = _cost(value, goal)
    if best is not None and not early.strict:
        mine = min(mine, _cost(best, goal))
    costs = [_cost(each, goal) for each in earlier]
    if early.type == "median":
        goes_on = not costs or mine <= median(costs)
    else:
        better = sum(cost < mine for cost in costs)
        goes_on = better == 0 or (better + 1) * early.eta <= len(costs) + 1
    return "Continue" if goes_on else "Stop"


def _cost(value: float | None, goal: Goal) -> float:
    """Low is good."""
    if value is None:
        return math.inf
    return value if goal == "minimize" else -value


def value_in_words(value: float | None) -> str:
    """How a sentence says what a trial had at a rung."""
    return "no finite number" if value is None else repr(value)


@dataclass(frozen=True)
class Arrival:
    """A decision as a trial records it: it came to `rung` with `value` when `seen` others had been there."""

    trial: int
    rung: int
    value: float | None
    seen: int
    decision: Decision


def arrive(
    early: EarlyTerminate, goal: Goal, recorded: Sequence[Arrival], trial: int, rung: int, value: float | None
) -> Arrival:
    """The decision on a trial that comes to a rung now, after all that is recorded of the sweep."""
    earlier = [each.value for each in recorded if each.rung == rung and each.trial != trial]
    best = _best_before(recorded, goal, trial, rung)
    return Arrival(trial, rung, value, len(earlier), decide(early, goal, value, earlier, best))


def replay(early: EarlyTerminate, goal: Goal, arrivals: Iterable[Arrival]) -> tuple[str, ...]:
    """Makes all recorded decisions again. A sentence for each that does not follow from those before it."""
    recorded = list(arrivals)
    problems = list(_climbs(recorded))
    for rung in sorted({each.rung for each in recorded}):
        came = sorted((each for each in recorded if each.rung == rung), key=lambda each: (each.seen, each.trial))
        for place, each in enumerate(came):
            if each.seen != place:
                problems.append(
                    f"trial {each.trial}: at rung {rung} it has seen {each.seen} others, but {place} came before it"
                )
                break  # without their order, the later ones can't be judged
            values = [other.value for other in came[:place]]
            decision = decide(early, goal, each.value, values, _best_before(recorded, goal, each.trial, rung))
            if decision != each.decision:
                problems.append(
                    f"trial {each.trial}: at rung {rung} with {value_in_words(each.value)} after {place} others,"
                    f" {decision} is right, and {each.decision} is recorded"
                )
    return tuple(problems)


def _best_before(recorded: Iterable[Arrival], goal: Goal, trial: int, rung: int) -> float | None:
    """The trial's best value at lower rungs."""
    own = [each.value for each in recorded if each.trial == trial and each.rung < rung and each.value is not None]
    return min(own, key=lambda value: _cost(value, goal), default=None)


def _climbs(recorded: Sequence[Arrival]) -> Iterable[str]:
    """What can't be in a trial's way up: a rung twice, or one after it was stopped."""
    for trial in sorted({each.trial for each in recorded}):
        own = sorted((each for each in recorded if each.trial == trial), key=lambda each: each.rung)
        for one, two in pairwise(own):
            if one.rung == two.rung:
                yield f"trial {trial}: was decided on twice at rung {one.rung}"
            elif one.decision == "Stop":
                yield f"trial {trial}: went on to rung {two.rung} after it was stopped at rung {one.rung}"
