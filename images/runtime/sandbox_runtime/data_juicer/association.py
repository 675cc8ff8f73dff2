# SPDX-License-Identifier: Apache-2.0
"""Whether a score hangs on a statistic, where it is best, and how sure that is.

The rows are cut into bins of about equal size along the statistic. What is tested is the greatest difference
between the mean score of a range of bins and that of the others, in standard errors, over all ranges that the
bounds of a filter can express: a scan statistic. The search for the range is so part of what is permuted, and
a p-value needs no correction for it. Ranges and shapes are chosen on the real scores alone, after the fact,
and cost nothing more: the chosen range's difference is never above the greatest.

Pure: arrays in, figures out. Sources: the scan statistic, Kulldorff 1997; permutation p-values that are never
0, Phipson and Smyth 2010; Holm 1979.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shape = Literal["up", "down", "band"]
ROUNDING = 1e-9
"""Sums of the same scores in another order differ by less; in standard errors."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Ranges of a statistic that hold at least `min_support` rows each. Equal values are in one bin."""

    order: Ints
    """The rows by their statistic, ascending; (rows,)."""
    offsets: Ints
    """Where each bin begins in that order; (bins,)."""
    starts: Floats
    """Smallest value in each bin; (bins,)."""
    ends: Floats
    """Largest value in each bin; (bins,)."""

    @property
    def counts(self) -> Ints:
        return np.diff(self.offsets, append=len(self.order))

    def sums(self, ordered: Floats) -> Floats:
        """Sum over each bin of what is given in the bins' order."""
        return np.add.reduceat(ordered, self.offsets)


@dataclass(frozen=True, eq=False)
class Association:
    """How a score hangs on a statistic. The score is best in the bins from `first` up to, not with, `last`."""

    bins: Bins
    shape: Shape
    first: int
    last: int
    difference: float
    """Mean score in the range less that of the other rows, in standard errors if the two did not hang together."""
    p: float
    """Chance of so great a difference in any range, if they did not."""
    inside: float
    """Mean score in the range."""
    outside: float
    """Mean score of the other rows."""


def quantile_bins(values: Floats, bins: int, min_support: int, apart: Sequence[float] = ()) -> Bins:
    """Cut rows into at most `bins` bins. Fewer where there are too few rows for them, or too few different
    values; a constant statistic has one.

    Below and from each figure in `apart` rows are in different bins, if both sides have their support.
    """
    order = np.argsort(values, kind="stable")
    ordered, rows = values[order], len(values)
    wanted = [int(np.searchsorted(ordered, figure)) for figure in apart]
    bins = min(bins, rows // min_support)
    for place in (number * rows // bins for number in range(1, bins)):
        sides = [int(np.searchsorted(ordered, ordered[place], side)) for side in ("left", "right")]
        wanted.append(min(sides, key=lambda side: abs(side - place)))  # equal values stay together
    cuts = [0, rows]
    for cut in wanted:
        if min(abs(cut - other) for other in cuts) >= min_support:
            cuts.append(cut)
    offsets = np.array(sorted(cuts)[:-1])
    return Bins(order, offsets, ordered[offsets], ordered[np.append(offsets[1:], rows) - 1])


def associate(
    bins: Bins, scores: Floats, *, lower: bool, upper: bool, resamples: int, rng: np.random.Generator
) -> Association:
    """Find the range of at least two bins where the score is highest, and test it.

    `scores` belong to the rows that were binned, in their own order. `lower` and `upper` say which bounds there
    are: with one alone, a range ends where the statistic ends.
    """
    ordered = scores[bins.order]
    spread = ordered.std()
    centred = (ordered - ordered.mean()) / spread if spread > 0 else np.zeros_like(ordered)
    scan = _Scan(bins.counts, lower, upper)
    differences = scan.differences(bins.sums(centred))
    shape = _shape(bins, centred, float(differences.max()), lower, upper)
    chosen = int(np.argmax(np.where(scan.has(shape), differences, -np.inf)))
    greatest = [scan.differences(bins.sums(rng.permutation(centred))).max() for _ in range(resamples)]
    above = int(np.count_nonzero(np.array(greatest) >= differences[chosen] - ROUNDING))
    first, last = (int(end[chosen]) for end in (scan.first, scan.last))
    inside = np.zeros(len(ordered), dtype=bool)
    inside[bins.offsets[first] : np.append(bins.offsets, len(ordered))[last]] = True
    return Association(
        bins=bins,
        shape=shape,
        first=first,
        last=last,
        difference=float(differences[chosen]),
        p=(1 + above) / (1 + resamples),
        inside=float(ordered[inside].mean()),
        outside=float(ordered[~inside].mean()),
    )


class _Scan:
    """All ranges of bins that bounds can express, without the one that holds every bin."""

    def __init__(self, counts: Ints, lower: bool, upper: bool) -> None:
        bins = len(counts)
        ranges = [
            (first, last)
            for first in range(bins if lower else 1)
            for last in range(first + 1 if upper else bins, bins + 1)
            if last - first < bins
        ]
        self.first, self.last = np.array(ranges).T
        self._bins = bins
        number = np.arange(bins)
        self._members = ((number >= self.first[:, None]) & (number < self.last[:, None])).astype(float)
        rows, inside = counts.sum(), self._members @ counts
        self._errors = np.sqrt(inside * (rows - inside) / rows)

    def differences(self, sums: Floats) -> Floats:
        """For each range: mean within less mean without, in standard errors. `sums` are of standardised scores."""
        return (self._members @ sums) / self._errors

    def has(self, shape: Shape) -> NDArray[np.bool_]:
        """Which ranges are of a shape: up to the highest bin, down to the lowest, or any."""
        at_end = {"up": self.last == self._bins, "down": self.first == 0}
        return at_end.get(shape, np.ones(len(self.first), dtype=bool))


def _shape(bins: Bins, centred: Floats, greatest: float, lower: bool, upper: bool) -> Shape:
    """What explains more of the score (sum of squares): a monotone fit, or the best band."""
    if not (lower and upper):
        return "up" if lower else "down"
    means = bins.sums(centred) / bins.counts
    explained: dict[Shape, float] = {}
    for shape in ("up", "down"):
        fit = isotonic_regression(means, weights=bins.counts, increasing=shape == "up").x
        explained[shape] = float((bins.counts * fit**2).sum())
    monotone = max(explained, key=lambda shape: explained[shape])
    return monotone if explained[monotone] >= greatest**2 * (1 - ROUNDING) else "band"


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several tests so that the chance of any false one is what is asked for."""
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's coefficient over rows that have both statistics; 0 where there is none."""
    both = np.isfinite(one) & np.isfinite(other)
    if np.count_nonzero(both) < 3 or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return 0.0
    return float(spearmanr(one[both], other[both]).statistic)
