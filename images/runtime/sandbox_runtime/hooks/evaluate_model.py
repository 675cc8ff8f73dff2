# SPDX-License-Identifier: Apache-2.0
"""EvaluateModelHook: the evaluator that `type` names judges checkpoints; they are ranked by one of its figures."""

from __future__ import annotations

from .base import HookContext, HookResult
from .components import component_settings
from .evaluate import result_of


class EvaluateModelHook:
    """Outputs: best (a checkpoint), ranking (a list: rank, equal, figures; the best first), value (the best one's
    figure), results (the same rows in the order of the configuration).

    Metrics: the value under the job's metaName, the figures of the best one, and `<checkpoint>.<figure>` of each.
    """

    def run(self, context: HookContext) -> HookResult:
        from ..components import Watcher, factory

        config = component_settings(context, "model_evaluator")
        evaluator = factory("model_evaluator")(config)
        evaluator.watcher, evaluator.context = Watcher(context.metrics, context.watcher), context
        returned = evaluator.run("model", None)
        if isinstance(returned, HookResult):
            return returned
        if isinstance(returned, list):  # figures of each checkpoint, as the sandbox's own evaluator returns them
            returned = (returned, returned[0] if returned else {})
        return result_of(returned, config["type"])
