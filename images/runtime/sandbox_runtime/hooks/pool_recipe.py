# SPDX-License-Identifier: Apache-2.0
"""RefineRecipeViaPoolHook: the recipe that selects a pool of rows which has proved itself, for data of any size."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox_api.recipe import PoolRecipeConfig

from ..configs import PROBE
from ..data_juicer.bounds import with_bounds
from ..data_juicer.config import preflight
from ..data_juicer.errors import DatasetError
from ..data_juicer.operators import keeps_within_bounds, op_statistics
from ..errors import ConfigError
from .base import Artifact, HookContext, HookResult
from .feedback import statistics_of
from .recipe import addressed_errors, bounds_before_and_after, bounds_set, counted, write_recipe

if TYPE_CHECKING:
    from ..data_juicer.pool_recipe import Selection

POOL = "extraConfigs.pool_path"


class RefineRecipeViaPoolHook:
    """Outputs: recipe (the whole configuration, YAML or JSON), changes (CSV, a line a bound that was set), bounds
    (those by `<op>.<arg>`).

    Metrics: `rows_pool`, the pool's rows; `rows_kept`, the analysed rows within the bounds: as many if the statistics
    tell the pool from all others; `refined.<op>.<arg>.before` and `.after`. Needs the input `probe`, the `stats` of an
    analysis of the data that the pool was taken from.
    """

    def run(self, context: HookContext) -> HookResult:
        import numpy as np

        from ..data_juicer.pool_recipe import selection_of

        extra: PoolRecipeConfig = context.extra
        if PROBE not in context.inputs:
            raise ConfigError(
                "probe: there is no probe of the data that the pool was taken from; give this job the metaName of a"
                " ProbeViaAnalyzerHook job before it, or name that in `probe`"
            )
        with addressed_errors(context):
            preflight(context.dj)
            process = context.dj.get("process") or []
            op_stats, op_args = op_statistics(process)
        op_args = {op: arguments for op, arguments in op_args.items() if keeps_within_bounds(op)}
        statistics = statistics_of(context, {stat for stats in op_stats.values() for stat in stats})
        named = [extra.pool_path] if isinstance(extra.pool_path, str) else extra.pool_path
        pool = set.intersection(*(_ids(context, path) for path in named))
        if not pool:
            raise ConfigError(f"{POOL}: the {len(named)} pools have no row in common; take fewer of them")
        inside = np.array([row_id in pool for row_id in statistics.ids])
        if missing := len(pool) - int(inside.sum()):
            raise ConfigError(
                f"{POOL}: {counted(missing, 'row')} of the {len(pool)} in the pool are not among the"
                f" {len(statistics.ids)} that the probe has analysed; name the probe of the data it was taken from"
            )
        found = selection_of(process, statistics.values, inside, op_stats, op_args)
        published = context.user_path("extraConfigs.path_pool_recipe")
        refined = {**context.dj, "process": with_bounds(process, found.moved)}
        table = write_bounds(found, context.out / "changes.csv")
        return HookResult(
            outputs=[
                Artifact(write_recipe(refined, context.out, published), publish=published),
                Artifact(table, rows=len(found.moved)),
                bounds_set(found.moved, process),
            ],
            metrics={
                "rows_pool": len(pool),
                "rows_kept": found.kept,
                **bounds_before_and_after(found.moved, process),
            },
            message=message_of(found, len(pool)),
            tables=[table],
        )


def message_of(found: Selection, rows: int) -> str:
    if not found.stats:
        return "nothing refined: no statistic that a bound of this recipe is about tells the pool from the other rows"
    also = f" and {counted(found.kept - rows, 'other row')}" if found.kept > rows else ""
    return f"{', '.join(found.stats)} bounded: {counted(rows, 'row')} of the pool{also} are kept"


def write_bounds(found: Selection, path: Path) -> Path:
    """One line a bound that was set."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["operator", "name", "argument", "statistic", "before", "after"])
        for one in found.moved:
            values = (json.dumps(one.before), json.dumps(one.after))
            writer.writerow([one.index, one.op, one.arg, one.bound.stat, *values])
    return path


def _ids(context: HookContext, named: str) -> set[str]:
    from ..data_juicer.dataset import ROW_ID
    from ..data_juicer.rows import read_rows

    source = context.inputs.get(POOL)
    told = source.told if source else named
    path = context.workspace.inside(named, POOL)
    if not path.is_file():
        raise ConfigError(f"{POOL}: {told} is no file")
    try:
        ids = [row.get(ROW_ID) for row in read_rows(path, constant=float)]
    except DatasetError as error:
        raise ConfigError(f"{POOL}: {told}: {error.problem}") from error
    found = {row_id for row_id in ids if isinstance(row_id, str)}
    if not ids or len(found) < len(ids):
        words = "holds no rows" if not ids else f"has rows without a {ROW_ID}, or two of one"
        raise ConfigError(f"{POOL}: {told} {words}; take a pool of what the probe has analysed")
    return found
