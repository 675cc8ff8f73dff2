# SPDX-License-Identifier: Apache-2.0
"""Reads what a score and the statistics of rows are joined from: an analysis's `stats`, and a file of scores.

Rows are joined by their id, never by their place in a file.
"""

import math
from array import array
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import ROW_ID
from .errors import DatasetError
from .rows import read_json, read_rows, value_at

STATS, META = "__dj__stats__", "__dj__meta__"
SEVERAL = "rows have several values of it"


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of analysed rows, in the analysis's order. A row without one has NaN. `unfit` names those that
    are no single number a row, and are NaN throughout.
    """

    ids: list[str]
    values: dict[str, NDArray[np.float64]]
    unfit: dict[str, str]


@dataclass(frozen=True)
class Scores:
    """Scores by row id; a row that was scored several times has their mean."""

    by_id: dict[str, float]
    rows: int
    without_id: int
    without_number: int
    columns: list[str]
    """Of the first row."""


def read_statistics(path: Path, wanted: Collection[str]) -> Statistics:
    """Read those of the wanted statistics that are numbers. Raises DatasetError when it is no analysis's file."""
    ids: list[str] = []
    values = {name: array("d") for name in wanted}
    seen, texts, several = set[str](), set[str](), set[str]()
    for row in read_json(path):
        if not isinstance(row.get(ROW_ID), str) or not isinstance(row.get(STATS), dict):
            raise DatasetError(f"row {len(ids) + 1} of {path.name} has no {ROW_ID} and {STATS}")
        ids.append(row[ROW_ID])
        measured = {**(row.get(META) or {}), **row[STATS]}
        for name, column in values.items():
            value = measured.get(name)
            column.append(_figure(value))
            if isinstance(value, str | dict):
                texts.add(name)
            elif isinstance(value, list) and len(value) > 1:
                several.add(name)
            elif name in measured:
                seen.add(name)
    if not ids:
        raise DatasetError(f"{path.name} holds no rows")
    numbers = {name: np.array(column) for name, column in values.items() if name in (seen | several) - texts}
    unfit = {name: SEVERAL for name in numbers if name in several}
    return Statistics(ids, {n: np.full_like(v, np.nan) if n in unfit else v for n, v in numbers.items()}, unfit)


def read_scores(path: Path, column: str) -> Scores:
    """Read the scores of rows from JSON lines, JSON or Parquet.

    `column` may lead into nested fields by dots. Raises DatasetError when the file can't be read.
    """
    sums: dict[str, tuple[float, int]] = {}
    rows = without_id = without_number = 0
    columns: list[str] = []
    for row in read_rows(path, constant=float):  # Python writes a score that is not a number as NaN
        rows += 1
        columns = columns or list(row)
        row_id, score = row.get(ROW_ID), _figure(value_at(row, column))
        if not isinstance(row_id, str):
            without_id += 1
        elif not math.isfinite(score):
            without_number += 1
        else:
            total, count = sums.get(row_id, (0.0, 0))
            sums[row_id] = (total + score, count + 1)
    means = {row_id: total / count for row_id, (total, count) in sums.items()}
    return Scores(means, rows, without_id, without_number, columns)


def _figure(value: Any) -> float:
    """A number, or the only one of a list; NaN for all else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, int | float) else math.nan
