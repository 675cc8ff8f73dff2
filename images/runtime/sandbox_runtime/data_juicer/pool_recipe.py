# SPDX-License-Identifier: Apache-2.0
"""From a pool of rows back to the recipe that selects it: bounds that hold its rows and as few others as can be.

Pure: the statistics of all rows and which of them the pool has in, bounds out. How the pool was made does not matter:
cut by one statistic, or the intersection of several such pools.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bounds import Argument, Bound, bounds_of

Columns = Mapping[str, NDArray[np.float64]]
"""By statistic: a value a row, NaN where there is none."""


@dataclass(frozen=True)
class Set:
    """A bound that was set to where the pool ends."""

    bound: Bound
    after: Any

    @property
    def index(self) -> int:
        return self.bound.index

    @property
    def op(self) -> str:
        return self.bound.op

    @property
    def arg(self) -> str:
        return self.bound.arg

    @property
    def before(self) -> Any:
        return self.bound.before


@dataclass(frozen=True)
class Selection:
    moved: tuple[Set, ...]
    kept: int
    """Rows, of all that were analysed, within the ranges of these statistics."""
    stats: tuple[str, ...]
    """Those that tell the pool from the rest, the most telling one first."""


def selection_of(
    process: Sequence[Mapping[str, Any]],
    values: Columns,
    inside: NDArray[np.bool_],
    op_stats: Mapping[str, Collection[str]],
    op_args: Mapping[str, Mapping[str, Argument]],
) -> Selection:
    """The bounds of a recipe's filters set to the ranges that a pool has.

    Only statistics that keep rows out which no other one does are bounded: a filter that has nothing to do with how the
    pool was chosen stays as it is. Bounds are rounded outward where an operator takes whole numbers.
    """
    usable = {stat: column for stat, column in values.items() if not np.isnan(column[inside]).any()}
    bounds = [*bounds_of(process, usable, op_stats, op_args)]
    ranges = {stat: _within(usable[stat], usable[stat][inside]) for stat in sorted({b.stat for b in bounds})}
    stats, mask = _telling(ranges, inside)
    moved = tuple(
        Set(bound, bound.written(float(column.min() if bound.is_lower else column.max())))
        for bound in bounds
        if bound.stat in stats
        for column in [usable[bound.stat][inside]]
    )
    return Selection(moved, int(mask.sum()), stats)


def _within(column: NDArray[np.float64], pool: NDArray[np.float64]) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = (column >= pool.min()) & (column <= pool.max())
    return kept


def _telling(
    ranges: Mapping[str, NDArray[np.bool_]], inside: NDArray[np.bool_]
) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Statistics, each time the one that keeps most others out, until no further one keeps any out."""
    chosen: list[str] = []
    mask = np.ones_like(inside)
    while True:
        left = {stat: int((mask & kept).sum()) for stat, kept in ranges.items() if stat not in chosen}
        best = min(left, key=lambda stat: (left[stat], stat), default=None)
        if best is None or left[best] == int(mask.sum()):
            return tuple(chosen), mask
        chosen.append(best)
        mask = mask & ranges[best]
