# SPDX-License-Identifier: Apache-2.0
"""What a suggestion saw: the other trials as they stood, and the line in which a trial records it.

The line is `0=0.5 1=failed 2=running 3=pruned:0.4`: trials by number, rising, each with its value or its state. Points
are not in it; each stands in its own trial. Numbers are written so that they read back bit for bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .space import Point

SEEN_AT_MOST = 3_500
"""Trials that a suggestion looks back on, the newest: so many fit into a resource's field of 128 KiB."""
SeenState = Literal["running", "failed", "pruned", "succeeded"]
_ENTRY = re.compile(r"(0|[1-9][0-9]*)=(?:(running|failed)|(pruned:)?([-+.0-9eE]+))")

_STATES: dict[str, SeenState] = {"running": "running", "failed": "failed", "pruned:": "pruned", "": "succeeded"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A trial as a suggestion saw it. `value`, finite: of a pruned trial that of its last rung, else of the metric."""

    number: int
    state: SeenState
    value: float | None
    point: Point

    def __post_init__(self) -> None:
        wanted = self.state in ("pruned", "succeeded")
        if (self.value is not None and math.isfinite(self.value)) != wanted:
            has = "a finite value" if wanted else "no value"
            raise ValueError(f"trial {self.number}: one that is {self.state} has {has}, not {self.value}")


def encode_observed(observed: Iterable[Seen]) -> str:
    """The line that records what was seen, by number; empty when nothing was."""
    return " ".join(f"{each.number}={_word(each)}" for each in sorted(observed, key=lambda each: each.number))


def _word(seen: Seen) -> str:
    if seen.value is None:
        return seen.state
    return f"{'pruned:' if seen.state == 'pruned' else ''}{float(seen.value)!r}"


def decode_observed(text: str, points: Mapping[int, Point]) -> tuple[Seen, ...]:
    """What a line records. `points`: of each trial, by its number.

    Raises ValueError with a sentence where the line can't be read, or names a trial that has no point.
    """
    seen: list[Seen] = []
    for word in text.split():
        match = _ENTRY.fullmatch(word)
        if match is None:
            raise ValueError(
                f"observed: {word[:40]!r} is not `<trial>=<value>`, `=failed`, `=running` or `=pruned:<value>`"
            )
        number, value = int(match[1]), _number(match[4])
        state = _STATES[match[2] or match[3] or ""]
        if seen and number <= seen[-1].number:
            raise ValueError(f"observed: trial {number} comes after trial {seen[-1].number}; each stands once, rising")
        if number not in points:
            raise ValueError(f"observed: there is no trial {number}")
        seen.append(Seen(number, state, value, points[number]))
    return tuple(seen)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise ValueError(f"observed: {text!r} is not a number") from error
