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

Side = tuple[str, bool]
"""One side of a statistic: its name, and whether it is the lower one."""

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
    """The bounds of a recipe's filters set to where a pool ends, on the sides that it was cut on.

    Only a side that keeps rows out which no other one does is bounded. The other sides stay as the recipe has them: the
    best row of the analysed data is the end of their range only by chance, and all data may have better ones. One of a
    statistic with a bounded side is moved nevertheless where it would keep out rows of the pool. Bounds are rounded
    outward where an operator takes whole numbers.
    """
    usable = {stat: column for stat, column in values.items() if not np.isnan(column[inside]).any()}
    bounds = [*bounds_of(process, usable, op_stats, op_args)]
    ends = {side: _end(usable[side[0]][inside], side) for side in sorted({_side(bound) for bound in bounds})}
    telling = _telling({side: _within(usable[side[0]], end, side) for side, end in ends.items()}, inside)
    stats = tuple(dict.fromkeys(stat for stat, _ in telling))
    moved = tuple(
        Set(bound, bound.written(end))
        for bound in bounds
        for side, end in [(_side(bound), ends[_side(bound)])]
        if side in telling or (bound.stat in stats and not _within(np.array([end]), bound.value, side).all())
    )
    kept = np.ones_like(inside)
    for side in telling:
        kept &= _within(usable[side[0]], ends[side], side)
    return Selection(moved, int(kept.sum()), stats)


def _side(bound: Bound) -> Side:
    return bound.stat, bound.is_lower


def _end(pool: NDArray[np.float64], side: Side) -> float:
    return float(pool.min() if side[1] else pool.max())


def _within(column: NDArray[np.float64], end: float, side: Side) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = column >= end if side[1] else column <= end
    return kept


def _telling(kept: Mapping[Side, NDArray[np.bool_]], inside: NDArray[np.bool_]) -> list[Side]:
    """Sides, each time the one that keeps most others out, until no further one keeps any out; then without those that
    the later ones have made needless."""
    chosen: list[Side] = []
    mask = np.ones_like(inside)
    while True:
        left = {side: int((mask & rows).sum()) for side, rows in kept.items() if side not in chosen}
        best = min(left, key=lambda side: (left[side], side), default=None)
        if best is None or left[best] == int(mask.sum()):
            break
        chosen.append(best)
        mask = mask & kept[best]
    for side in [*chosen]:
        others = [kept[other] for other in chosen if other != side]
        if others and bool((np.logical_and.reduce(others) == mask).all()):
            chosen.remove(side)
    return chosen
