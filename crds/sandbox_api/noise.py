# SPDX-License-Identifier: Apache-2.0
"""Figures of several repeats: their mean, and whether two of them differ by more than chance.

With three or five repeats a bootstrap of the mean is too narrow (it never looks beyond what it has seen), so intervals
are Student's, of differences from repeat to repeat: those share their seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

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
    """95 % of the difference; None without repeats, and where they all differ by the same."""

    @property
    def is_noise(self) -> bool | None:
        """Whether there may be no difference at all; None where nobody can tell."""
        return None if self.interval is None else self.interval[0] <= 0 <= self.interval[1]


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation over repeats; None of a single one."""
    return stdev(values) if len(values) > 1 else None


def change(before: Sequence[float], after: Sequence[float]) -> Change:
    """From one figure to another, each of one or of several repeats. Repeats of equal number share their seeds and are
    compared one by one. A single one is taken for exact beside several: of a job that no seed changes."""
    base = fmean(before)
    difference = fmean(after) - base
    far = abs(base) * FAR > abs(difference)
    return Change(difference, difference / abs(base) if far else None, _interval(before, after))


def _interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    first, second = len(before), len(after)
    if first == 1 == second:
        return None
    middle = fmean(after) - fmean(before)
    if first == second:
        freedom = float(first - 1)
        error = stdev([two - one for one, two in zip(before, after, strict=True)]) / first**0.5
    else:  # Welch's, of which one side may have no spread
        shares = [(variance(values) / len(values), len(values) - 1) for values in (before, after) if len(values) > 1]
        error = sum(share for share, _ in shares) ** 0.5
        freedom = error**4 / sum(share**2 / free for share, free in shares) if error else 1.0
    if not error and middle:
        return None  # figures too coarse to show their spread: it is unknown, not none
    half = _quantile(freedom) * error
    return middle - half, middle + half


def _quantile(freedom: float) -> float:
    """Rounded down to whole degrees of freedom: wider rather than narrower."""
    whole = int(freedom + 1e-6)
    return STUDENT[whole - 1] if whole <= len(STUDENT) else 1.96 + 2.5 / whole
