# SPDX-License-Identifier: Apache-2.0
"""Figures of several repeats: their mean, and whether two of them differ by more than chance.

With three or five repeats a bootstrap of the mean is too narrow (it never looks beyond what it has seen), so intervals
are Student's, of differences from repeat to repeat: those share their seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""0.975 quantiles of Student's t distribution for 1, 2, ... degrees of freedom."""
FAR = 1000
"""A change of so many times what it began with has a base near 0: a share of that says nothing."""


@dataclass(frozen=True)
class Change:
    difference: float
    relative: float | None
    """Difference as a share of where it began; None where that is near 0."""
    interval: tuple[float, float] | None
    """95 % of the difference; None without repeats."""

    @property
    def is_noise(self) -> bool | None:
        """Whether there may be no difference at all; None where nobody can tell."""
        return None if self.interval is None else self.interval[0] <= 0 <= self.interval[1]


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation over repeats; None of a single one."""
    return stdev(values) if len(values) > 1 else None


def change(before: Sequence[float], after: Sequence[float]) -> Change:
    """From one figure to another, each of one or of equally many repeats. A single one stands for all repeats."""
    number = max(len(before), len(after))
    pairs = zip(_as_many(before, number), _as_many(after, number), strict=True)
    differences = [second - first for first, second in pairs]
    difference, base = fmean(differences), fmean(before)
    return Change(
        difference,
        difference / abs(base) if abs(base) * FAR > abs(difference) else None,
        interval(differences),
    )


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean; None of a single value."""
    if len(values) < 2:
        return None
    freedom = len(values) - 1
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.5 / freedom
    half = quantile * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half


def _as_many(values: Sequence[float], number: int) -> Sequence[float]:
    return values if len(values) == number else [fmean(values)] * number
