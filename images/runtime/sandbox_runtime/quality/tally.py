# SPDX-License-Identifier: Apache-2.0
"""Figures over all scores of a data set, in constant memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 1_000_000
"""Quantiles are exact to the width of one: a millionth."""
QUANTILES = (5, 25, 50, 75, 95)


class Tally:
    def __init__(self) -> None:
        self.rows = self.kept = self.words = 0
        self._mean = self._squares = 0.0
        self._sum = 0.0
        self._least, self._most = math.inf, -math.inf
        self._histogram = np.zeros(BINS, np.int64)

    def add(self, scores: NDArray[np.float64], kept: int, words: int) -> None:
        if not len(scores):
            return
        mean, count = float(scores.mean()), len(scores)
        together = self.rows + count
        squares = float(((scores - mean) ** 2).sum())
        self._squares += squares + (mean - self._mean) ** 2 * self.rows * count / together
        self._sum = math.fsum([self._sum, *scores.tolist()])
        self._mean = self._sum / together
        self._least, self._most = min(self._least, float(scores.min())), max(self._most, float(scores.max()))
        np.add.at(self._histogram, np.minimum((scores * BINS).astype(np.int64), BINS - 1), 1)
        self.rows, self.kept, self.words = together, self.kept + kept, self.words + words

    @property
    def mean(self) -> float:
        return self._mean

    def figures(self) -> dict[str, float]:
        """The most telling first. `std` is the sample's; without one (a single row) it is not a number."""
        return {
            "mean": self._mean,
            "kept_share": self.kept / self.rows,
            **{f"{share}%": self._quantile(share / 100) for share in QUANTILES},
            "std": math.sqrt(self._squares / (self.rows - 1)) if self.rows > 1 else math.nan,
            "min": self._least,
            "max": self._most,
            "rows": self.rows,
            "kept": self.kept,
            "tokens": self.words,
        }

    def _quantile(self, share: float) -> float:
        """The smallest score that at least this share of the rows do not exceed, to half a bin."""
        place = int(np.searchsorted(np.cumsum(self._histogram), max(1, math.ceil(share * self.rows))))
        return min(max((place + 0.5) / BINS, self._least), self._most)
