# SPDX-License-Identifier: Apache-2.0
"""Which rows of a data set a model is asked about: Data-Juicer's own ways by their names, without Data-Juicer.

The images of models do not have it. Rows and their order are those of its operators; `tests/runtime` compares them.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError

Row = Mapping[str, Any]
SEED = 42
"""Data-Juicer's."""


def uniform(rows: Sequence[Row], ratio: float = 1.0) -> list[int]:
    """Indices of `ceil(ratio * n)` rows in random order, or of all in theirs; each again where the ratio is above 1."""
    count = math.ceil(len(rows) * ratio)
    if count == len(rows) or not rows:
        return list(range(len(rows)))
    order = np.random.default_rng(SEED).permutation(len(rows))
    repeats = math.ceil(count / len(rows)) - 1
    places = [*range(len(rows))] * repeats + [*range(count - repeats * len(rows))]
    return [int(order[place]) for place in places]


def frequency_specified_field_selector(
    rows: Sequence[Row],
    field_key: str = "",
    top_ratio: float | None = None,
    topk: int | None = None,
    reverse: bool = True,
) -> list[int]:
    """Indices of the rows that have one of the most frequent values (or the rarest) of a field, value by value.

    top_ratio, topk: how many of the values, the smaller number counts; without either, all rows.
    """
    if len(rows) <= 1 or not field_key or not (top_ratio or topk):
        return list(range(len(rows)))
    places: dict[Any, list[int]] = {}
    for place, row in enumerate(rows):
        value = _value(row, field_key)
        if not (value is None or isinstance(value, (str, int, float))):
            raise ConfigError(f"field_key: {field_key!r} of row {place} is neither text nor a number")
        places.setdefault(value, []).append(place)
    ordered = sorted(places.values(), key=len, reverse=reverse)
    return [place for group in ordered[: _count(len(places), top_ratio, topk)] for place in group]


def topk_specified_field_selector(
    rows: Sequence[Row],
    field_key: str = "",
    top_ratio: float | None = None,
    topk: int | None = None,
    reverse: bool = True,
) -> list[int]:
    """Indices of the rows with the largest (or smallest) values of a field, in their order.

    top_ratio, topk: how many rows, the smaller number counts; without either, all in their own order.
    """
    if len(rows) <= 1 or not field_key or not (top_ratio or topk):
        return list(range(len(rows)))
    values = [_value(row, field_key) for row in rows]
    if "." in field_key:  # as the operator: a field at the top is compared as it is
        values = [_number(value, reverse) for value in values]
    choose: Callable[..., list[int]] = heapq.nlargest if reverse else heapq.nsmallest
    try:
        return choose(_count(len(rows), top_ratio, topk), range(len(rows)), key=values.__getitem__)
    except TypeError as error:
        raise ConfigError(f"field_key: the values of {field_key!r} can't be compared: {error}") from error


SELECTORS: Mapping[str, Callable[..., list[int]]] = {
    function.__name__: function
    for function in (uniform, frequency_specified_field_selector, topk_specified_field_selector)
}


def _count(of: int, top_ratio: float | None, topk: int | None) -> int:
    if not top_ratio:
        return topk or 0
    count = top_ratio * of
    return int(topk if topk and topk < count else count)


def _value(row: Row, field_key: str) -> Any:
    value: Any = row
    for key in field_key.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise ConfigError(f"field_key: there is no {field_key!r} in every row")
        value = value[key]
    return value


def _number(value: Any, reverse: bool) -> float:
    """As Data-Juicer makes a number of a statistic: the mean of a list; what is none comes last."""
    try:
        if isinstance(value, str):
            return float(value)
        if value is None or value == []:
            raise ValueError
        return float(np.asarray(value).mean())
    except (TypeError, ValueError):
        return -sys.maxsize if reverse else sys.maxsize
