# SPDX-License-Identifier: Apache-2.0
"""RefineRecipeViaKSigmaHook: a recipe whose bounds are set from what a probe measured. It reads no data."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..configs import PROBE
from ..data_juicer.config import preflight
from ..data_juicer.k_sigma import Change, refine
from ..data_juicer.operators import op_statistics
from ..errors import ConfigError
from ..inputs import ResolvedInput
from .base import Artifact, HookContext, HookResult
from .recipe import addressed_errors, bounds_before_and_after, bounds_set, counted, write_recipe


class RefineRecipeViaKSigmaHook:
    """Outputs: recipe (the whole configuration, YAML or JSON), changes (CSV), bounds (those that changed, by
    `<op>.<arg>`).

    Metrics: `refined.<op>.<arg>.before` and `.after`; the second operator of a name is `<op>_2`. Needs the input
    `probe`, the `overall` table of an analysis.
    """

    def run(self, context: HookContext) -> HookResult:
        if PROBE not in context.inputs:
            raise ConfigError(
                "probe: there is no probe to refine from; give this job the metaName of a ProbeViaAnalyzerHook job"
                " before it, or name that in `probe`"
            )
        overall = read_overall(context.inputs[PROBE])
        with addressed_errors(context):
            preflight(context.dj)
            process = context.dj.get("process") or []
            op_stats, op_args = op_statistics(process)
        refined, changes = refine(process, overall, op_stats, op_args, k=context.extra.k)
        published = context.user_path("extraConfigs.path_k_sigma_recipe")
        recipe = write_recipe({**context.dj, "process": refined}, context.out, published)
        table = write_changes(changes, overall, context.out / "changes.csv")
        operators = len({change.index for change in changes})
        message = (
            f"{counted(len(changes), 'bound')} of {counted(operators, 'operator')} refined, k = {context.extra.k:g}"
        )
        if not changes:
            message = "nothing refined: the probe has no statistic that a bound of this recipe is about"
        return HookResult(
            outputs=[Artifact(recipe, publish=published), Artifact(table), bounds_set(changes, process)],
            metrics=bounds_before_and_after(changes, process),
            message=message,
            tables=[table],
        )


def read_overall(probe: ResolvedInput) -> dict[str, dict[str, float]]:
    """Figures by statistic from the probe's table: a row a figure, a column a statistic. Raises ConfigError."""
    overall: dict[str, dict[str, float]] = {}
    with probe.path.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if not overall:
                names = row[1:]
                overall = {name: {} for name in names}
                continue
            for name, text in zip(names, row[1:], strict=False):
                try:
                    overall[name][row[0]] = float(text)
                except ValueError:
                    continue  # statistics that are texts have no mean
    if not any("mean" in figures for figures in overall.values()):
        # it is what its job wrote: running that job again would make the same
        raise ConfigError(f"probe: {probe.told} is no table of statistics")
    return overall


def write_changes(changes: Sequence[Change], overall: Mapping[str, Mapping[str, float]], path: Path) -> Path:
    """One line a changed bound, with what it was computed from."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["operator", "name", "argument", "statistic", "mean", "std", "before", "bound", "after"])
        for change in changes:
            mean, std = (overall[change.stat][figure] for figure in ("mean", "std"))
            before = json.dumps(change.before)
            writer.writerow(
                [
                    change.index,
                    change.op,
                    change.arg,
                    change.stat,
                    mean,
                    std,
                    before,
                    change.bound,
                    json.dumps(change.after),
                ]
            )
    return path
