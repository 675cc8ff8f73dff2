# SPDX-License-Identifier: Apache-2.0
"""Suggests the parameters of a trial: a pure function of the settings, the trial's number and what it saw.

Nothing else is known, kept or drawn: the same call gives the same bits in any process. random, sobol and grid see
nothing at all, so their trials are the same whatever happens around them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sandbox_api.sweep import Method

from .observed import Seen
from .space import Point, Space
from .studies import StudyCache

Goal = Literal["minimize", "maximize"]
STARTUP = 10
"""bayes suggests at random until so many trials have a value."""
LOOKS_BACK: frozenset[Method] = frozenset({"bayes"})
"""Methods whose suggestions depend on what was seen."""


@dataclass(frozen=True)
class Settings:
    """What stays the same for all trials of a sweep."""

    method: Method
    goal: Goal
    seed: int
    space: Space


@dataclass(frozen=True)
class Suggestion:
    """A point in the unit cube, and the parameters' values there by flat name."""

    point: Point
    values: dict[str, Any]


def suggest(
    settings: Settings, number: int, observed: tuple[Seen, ...] = (), *, study: StudyCache | None = None
) -> Suggestion:
    """The suggestion for a trial. `observed` may come in any order.

    `study` remembers what it was told before: it saves time and changes nothing.
    Raises IndexError past the end of a grid, ValueError where the space has none.
    """
    point = _point(settings, number, observed, study or StudyCache())
    return Suggestion(point, settings.space.values(point))


def _point(settings: Settings, number: int, observed: tuple[Seen, ...], study: StudyCache) -> Point:
    dimensions = settings.space.dimensions
    match settings.method:
        case "grid":
            return settings.space.grid_point(number)
        case "sobol":
            return _sobol(settings.seed, dimensions, number)
        case "random":
            return _random(settings.seed, dimensions, number)
        case "bayes":
            known = sum(each.value is not None for each in observed)
            if known < STARTUP or dimensions == 0:
                return _random(settings.seed, dimensions, number)
            return study.ask(settings.goal, dimensions, observed, seed_of(settings.seed, number) % 2**32)


def seed_of(seed: int, number: int) -> int:
    """The seed of one trial, 64 bits: a hash of the sweep's seed and the trial's number."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:8], "big")


def _random(seed: int, dimensions: int, number: int) -> Point:
    generator = np.random.Generator(np.random.PCG64(seed_of(seed, number)))
    return tuple(generator.random(dimensions).tolist())


def _sobol(seed: int, dimensions: int, number: int) -> Point:
    if dimensions == 0:
        return ()
    from scipy.stats.qmc import Sobol  # half a second, which only this method needs

    points = Sobol(dimensions, scramble=True, rng=np.random.Generator(np.random.PCG64(seed)))
    if number > 0:  # it refuses 0
        points.fast_forward(number)
    return tuple(points.random(1)[0].tolist())
