# SPDX-License-Identifier: Apache-2.0
"""ProbeViaModelInferHook: how models do on the rows of a data set, which rows are hard, and which look wrong."""

from __future__ import annotations

from .base import HookContext, HookResult


class ProbeViaModelInferHook:
    """Outputs: results (JSON lines: a row's id, its mean loss, spread, verdict, what each pass says), hard and dirty
    (data sets: the rows themselves, with their ids).

    Metrics: `rows`, `hard`, `dirty`, `loss.*` (mean, std, min, max, percentiles over the rows), `score.*` likewise (the
    margin of the row's own label; only with classes), `latency.mean` (seconds a row and pass).
    """

    def run(self, context: HookContext) -> HookResult:
        from ..model_probe.probe import probe  # numpy and torch, which other hooks need not pay

        return probe(context)
