# SPDX-License-Identifier: Apache-2.0
"""k-sigma refinement of a recipe: each bound of a filter becomes `mean - k*std` or `mean + k*std` of the
filter's own statistic.

Pure: plain data in, plain data out, no import of Data-Juicer. The rule is Data-Juicer's
(`tools/hpo/execute_hpo_3sigma.py`); it differs where that tool goes wrong: an operator with several
statistics gets each bound from the right one, bounds left at their default are refined too, and what comes
out is valid for the operator (whole numbers rounded outward, proportions within [0, 1]).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .bounds import Argument, bounds_of, with_bounds


@dataclass(frozen=True)
class Change:
    """One refined bound: `before` and `after` as the recipe writes them, `bound` the figure before rounding
    and clamping.
    """

    index: int
    op: str
    arg: str
    stat: str
    before: Any
    bound: float
    after: Any


def refine(
    process: Sequence[Mapping[str, Any]],
    overall: Mapping[str, Mapping[str, float]],
    op_stats: Mapping[str, Collection[str]],
    op_args: Mapping[str, Mapping[str, Argument]],
    k: float = 3.0,
) -> tuple[list[dict[str, Any]], list[Change]]:
    """Return a refined copy of `process` and what changed.

    `overall` holds `mean` and `std` (of the sample) for each statistic. A statistic without them, or with NaN
    (the std of one row), changes nothing; nor does an argument that no statistic of its operator names.
    """
    if not (math.isfinite(k) and k > 0):
        raise ValueError(f"k must be a positive number, not {k!r}")
    measured = {stat for stat, figures in overall.items() if _is_measured(figures)}
    changes: list[Change] = []
    for bound in bounds_of(process, measured, op_stats, op_args):
        mean, spread = overall[bound.stat]["mean"], k * overall[bound.stat]["std"]
        figure = mean - spread if bound.is_lower else mean + spread
        after = bound.written(figure if spread > 0 else _outward(figure, bound.is_lower))
        if after != bound.before:
            changes.append(Change(bound.index, bound.op, bound.arg, bound.stat, bound.before, figure, after))
    return with_bounds(process, changes), changes


def _is_measured(figures: Mapping[str, float]) -> bool:
    return all(isinstance(figures.get(name), int | float) and math.isfinite(figures[name]) for name in ("mean", "std"))


def _outward(bound: float, is_lower: bool) -> float:
    """The mean of equal values may miss them by a rounding error, and the bound would then drop every row."""
    return bound + math.copysign(abs(bound) * 1e-9, -1 if is_lower else 1)
