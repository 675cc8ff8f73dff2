# SPDX-License-Identifier: Apache-2.0
"""EvaluateDataHook: the evaluator that `type` names says how good a data set is; what it says is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, UserError
from ..pieces import Piece
from .base import HookContext, HookResult
from .components import component_settings


class EvaluateDataHook:
    """Outputs: value (a number), report (what the evaluator has written, or the figures of each data set).

    Metrics: the value under the job's metaName, and the figures that the evaluator names.
    """

    def run(self, context: HookContext) -> HookResult:
        evaluator, config = self._evaluator(context)
        returned = evaluator.run("data", config.get("dataset_path"))
        return returned if isinstance(returned, HookResult) else result_of(returned, config["type"])

    def merge(self, context: HookContext, pieces: list[Piece]) -> HookResult:
        """One result of those of all pieces, as the evaluator makes it."""
        evaluator, config = self._evaluator(context)
        if not hasattr(evaluator, "merge"):
            raise ConfigError(f"shards: the evaluator {config['type']} can't be divided; leave shards at 1")
        merged: HookResult = evaluator.merge(pieces)
        return merged

    def _evaluator(self, context: HookContext) -> tuple[Any, dict[str, Any]]:
        """The evaluator that `type` names, for this job, and its settings."""
        from ..components import Watcher, factory

        config = component_settings(context, "data_evaluator")
        evaluator = factory("data_evaluator")(config)
        evaluator.watcher, evaluator.context = Watcher(context.metrics, context.watcher), context
        return evaluator, config


def result_of(returned: Any, kind: str) -> HookResult:
    """What evaluators of Data-Juicer's sandbox return, as a result. Raises UserError where there is no number in it."""
    report = None
    if isinstance(returned, tuple) and len(returned) == 2:
        report, returned = returned
    figures = returned if isinstance(returned, Mapping) else {kind: returned}
    numbers = {
        str(name): float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not numbers:
        raise UserError(f"type: the evaluator {kind} has returned no number but {type(returned).__name__}")
    value = next(iter(numbers.values()))
    return HookResult([value, report], {"": value, **numbers}, f"{kind}: {value:g}")
