# SPDX-License-Identifier: Apache-2.0
"""RefineRecipeViaKSigmaHook: a recipe whose bounds are set from what a probe measured. It reads no data."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..configs import PROBE
from ..data_juicer.config import preflight
from ..data_juicer.k_sigma import Change, refine
from ..data_juicer.operators import op_statistics
from ..errors import ConfigError
from ..files import write_atomic, write_json
from ..inputs import ResolvedInput
from .base import Artifact, HookContext, HookResult
from .recipe import addressed_errors, counted


class RefineRecipeViaKSigmaHook:
    """Outputs: recipe (the whole configuration, YAML or JSON), changes (CSV).

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
            outputs=[Artifact(recipe, publish=published), Artifact(table)],
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


def write_recipe(recipe: Mapping[str, Any], out: Path, published: Path | None) -> Path:
    """Write the refined configuration in the format that the user's path asks for, YAML without one."""
    if published and published.suffix == ".json":
        path = out / "recipe.json"
        write_json(path, recipe)
        return path
    import yaml

    path = out / f"recipe{published.suffix if published else '.yaml'}"
    write_atomic(path, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True).encode())
    return path


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


def bounds_before_and_after(changes: Sequence[Change], process: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of the changed bounds; a bound that is a text (a size, an aspect ratio) stands in the table only."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for entry in process:
        op = next(iter(entry))
        seen[op] += 1
        names.append(op if seen[op] == 1 else f"{op}_{seen[op]}")
    return {
        f"refined.{names[change.index]}.{change.arg}.{when}": float(value)
        for change in changes
        for when, value in (("before", change.before), ("after", change.after))
        if isinstance(value, int | float)
    }
