# SPDX-License-Identifier: Apache-2.0
"""The statistics that an analysis has left in the rows of a data set, one number a row, and where they cut it.

Which statistics count, and what of them, is Data-Juicer's sandbox's: numbers, and the mean of lists of numbers (0 where
the list is empty). Others (texts, boxes) can't be sorted by. Memory holds 8 bytes a row and statistic.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ..data_juicer.errors import DatasetError
from ..data_juicer.rows import Row
from .pool import Order

STATS = "__dj__stats__"
DATA = "dataset_path"
"""The setting that problems are about."""


class Statistics:
    """Gathers them row by row. Each row must have all that the first one has."""

    def __init__(self, wanted: Sequence[str] = ()) -> None:
        self.others: list[str] = []
        """Names of those that are no numbers."""
        self._wanted = wanted
        self._columns: dict[str, array[float]] = {}
        self._has_begun = False
        self._filled: set[str] = set()
        """Those that were more than empty lists so far."""

    def add(self, row: Row, where: str) -> None:
        """Raises DatasetError where one is missing, or is of another kind than in the rows before."""
        stats = row.get(STATS)
        if not isinstance(stats, dict) or not stats:
            raise DatasetError(
                f"{where}: has no statistics ({STATS}); take the `dataset` of a ProbeViaAnalyzerHook with"
                " export_original_dataset: true, or set ignore_stats",
                DATA,
            )
        if not self._has_begun:
            self._begin(stats, where)
        for name in stats:
            if name not in self._columns and name not in self.others and self._counts(name):
                raise DatasetError(f"{where}: has a statistic {name!r}, which rows before it have not", DATA)
        for name in [*self._columns]:
            self._add(name, stats, where)

    def orders(self) -> Iterator[tuple[str, Order]]:
        """The rows in rising order of each statistic; equal ones in the data set's order. Raises DatasetError."""
        if not self._columns:
            raise DatasetError(f"none of the statistics is a number: {', '.join(self.others)}", DATA)
        for name, column in self._columns.items():
            yield name, np.argsort(np.frombuffer(column), kind="stable")

    def _begin(self, stats: Row, where: str) -> None:
        self._has_begun = True
        self._columns = {name: array("d") for name in stats if self._counts(name)}
        for name in self._wanted:
            if name not in stats:
                raise DatasetError(f"{where}: has no statistic {name!r}; it has: {', '.join(stats)}", "stats")

    def _counts(self, name: str) -> bool:
        return not self._wanted or name in self._wanted

    def _add(self, name: str, stats: Row, where: str) -> None:
        if (value := stats.get(name)) is None:
            raise DatasetError(f"{where}: has no statistic {name!r}; every row needs it", DATA)
        if not _is_numeric(value):
            if name in self._filled:
                raise DatasetError(f"{where}: the statistic {name!r} is no number here, as it is in rows before", DATA)
            if name in self._wanted:
                raise DatasetError(f"{where}: the statistic {name!r} is no number; no pools can be cut by it", "stats")
            del self._columns[name]
            self.others.append(name)
            return
        if value != []:
            self._filled.add(name)
        figure = float(np.mean(value)) if value != [] else 0.0
        if not math.isfinite(figure):
            raise DatasetError(f"{where}: the statistic {name!r} is {figure}, which has no place in an order", DATA)
        self._columns[name].append(figure)


def _is_numeric(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, int | float) for each in values)


def borders(rows: int, ratios: Sequence[float | str], each: int | None) -> list[int]:
    """Where pools begin, and where the last one ends: at shares of the rows, or after `each` rows."""
    if each is not None:
        return [*range(0, rows, each), rows]
    return [0, *(int(rows * float(Fraction(ratio)) + 0.5) for ratio in ratios), rows]
