# SPDX-License-Identifier: Apache-2.0
"""Predictions against the truth, row by row, as Data-Juicer's sandbox compares them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sandbox_api.evaluate import AccuracyConfig, MseConfig, PairsConfig, as_list

from ..data_juicer.errors import DatasetError
from ..data_juicer.row_ids import ROW_ID
from ..data_juicer.rows import Row, read_rows, value_at
from ..errors import ConfigError
from ..hooks.base import HookContext, HookResult
from ..hooks.recipe import counted
from .base import BaseEvaluator

PREDICTED, TRUE = "predicted", "ground_truth"
MISSING = object()


class AccuracyEvaluator(BaseEvaluator):
    """type: accuracy. Value: the highest accuracy. Report: a list with `pred_path`, `gt_path`, `accuracy` (share of
    rows whose labels are equal as text) and `rows` of each data set.

    Metrics: `accuracy` (the value), `rows` (of all data sets).
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: AccuracyConfig = context.extra
        results = []
        for predicted, truth in data_sets(config):
            rows = hits = 0
            keys = (config.predicted_label_key, config.ground_truth_label_key)
            for label, wanted in pairs(context, predicted, truth, keys, "label_key"):
                rows += 1
                hits += str(label) == str(wanted)
            results.append({"pred_path": predicted, "gt_path": truth, "accuracy": hits / rows, "rows": rows})
        best, rows = max(each["accuracy"] for each in results), sum(each["rows"] for each in results)
        return HookResult(
            outputs=[best, results],
            metrics={"": best, "accuracy": best, "rows": rows},
            message=f"{counted(rows, 'row')} of {counted(len(results), 'data set')}, accuracy {best:.4f}",
        )


class MseEvaluator(BaseEvaluator):
    """type: mse. Value: the lowest mean squared error. Report: a list with `pred_path`, `gt_path`, `mse`,
    `format_error` (rows where one of the two is no finite number: they do not count) and `rows` (those that count) of
    each data set; a data set without any has no `mse` (null).

    Metrics: `mse` (the value), `format_error` and `rows` (of all data sets).
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: MseConfig = context.extra
        results = []
        for predicted, truth in data_sets(config):
            total, rows, wrong = 0.0, 0, 0
            keys = (config.predicted_value_key, config.ground_truth_value_key)
            for value, wanted in pairs(context, predicted, truth, keys, "value_key"):
                difference = number(value) - number(wanted)
                if math.isfinite(square := difference * difference):
                    total, rows = total + square, rows + 1
                else:
                    wrong += 1
            mean = total / rows if rows else None
            results.append({"pred_path": predicted, "gt_path": truth, "mse": mean, "format_error": wrong, "rows": rows})
        found = [each["mse"] for each in results if each["mse"] is not None]
        rows, wrong = sum(each["rows"] for each in results), sum(each["format_error"] for each in results)
        if not found:
            raise ConfigError(
                f"extraConfigs.predicted_value_key: none of {counted(wrong, 'row')} has a number under"
                f" {config.predicted_value_key!r} and one under {config.ground_truth_value_key!r}"
            )
        return HookResult(
            outputs=[min(found), results],
            metrics={"": min(found), "mse": min(found), "format_error": wrong, "rows": rows},
            message=(
                f"{counted(rows, 'row')} of {counted(len(results), 'data set')}, mean squared error {min(found):.6g}"
                + (f"; {counted(wrong, 'row')} without two numbers" if wrong else "")
            ),
        )


def number(value: Any) -> float:
    """A number, also one that stands in a text; NaN for all else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def data_sets(config: PairsConfig) -> Iterator[tuple[str, str]]:
    predicted = as_list(config.predicted_dataset_path)
    return zip(predicted, as_list(config.ground_truth_dataset_path) or predicted, strict=True)


def pairs(
    context: HookContext, predicted: str, truth: str, keys: tuple[str, str], kind: str
) -> Iterator[tuple[Any, Any]]:
    """What is predicted and what is true, for each row. Raises ConfigError where rows or keys are missing, or the rows
    of both are not the same."""
    ours, theirs = _rows(context, predicted, PREDICTED), _rows(context, truth, TRUE)
    both = ((row, row) for row in ours) if truth == predicted else zip_longest(ours, theirs)
    place = 0
    for place, (row, true) in enumerate(both, 1):
        if row is None or true is None:
            longer, shorter = (truth, predicted) if row is None else (predicted, truth)
            raise ConfigError(
                f"extraConfigs.{TRUE}_dataset_path: {shorter} ends after {counted(place - 1, 'row')}, {longer} goes on;"
                " both must have the same rows in the same order"
            )
        ids = (row.get(ROW_ID), true.get(ROW_ID))
        if None not in ids and ids[0] != ids[1]:
            raise ConfigError(
                f"extraConfigs.{TRUE}_dataset_path: row {place} of {truth} is another one than row {place} of"
                f" {predicted} (their {ROW_ID} differ); both must have the same rows in the same order"
            )
        yield (
            _value(row, keys[0], f"{PREDICTED}_{kind}", predicted, place),
            _value(true, keys[1], f"{TRUE}_{kind}", truth, place),
        )
    if not place:
        raise ConfigError(f"extraConfigs.{PREDICTED}_dataset_path: {predicted} holds no rows")


def _rows(context: HookContext, name: str, kind: str) -> Iterator[Row]:
    field = f"extraConfigs.{kind}_dataset_path"
    path: Path = context.workspace.inside(name, field)
    if not path.is_file():
        raise ConfigError(f"{field}: there is no file {name}")
    try:
        yield from read_rows(path, constant=float)  # Python writes what is not a number as NaN
    except DatasetError as error:
        raise ConfigError(f"{field}: {error.problem}") from error


def _value(row: Row, key: str, setting: str, name: str, place: int) -> Any:
    found = value_at(row, key, MISSING)
    if found is MISSING:
        raise ConfigError(
            f"extraConfigs.{setting}: row {place} of {name} has no {key!r}; its fields are {', '.join(map(str, row))}"
        )
    return found
