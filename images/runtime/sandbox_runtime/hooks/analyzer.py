# SPDX-License-Identifier: Apache-2.0
"""ProbeViaAnalyzerHook: what Data-Juicer's Analyzer sees in a data set, as figures, a table and pictures.

It removes no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..data_juicer.analyze import analyze
from ..data_juicer.dataset import prepare
from .base import Artifact, HookContext, HookResult
from .components import run_on_data
from .recipe import addressed_errors, counted, data_juicer_job_id

FIGURES = ("mean", "std", "min", "max", "50%")
"""Most telling first, for all statistics, before the others: where a message is cut the comparison stays whole."""


class ProbeViaAnalyzerHook:
    """Outputs: stats (JSON lines, row-aligned), overall (CSV), histograms (folder), dataset (when it is asked for).

    Metrics: `rows`, and `<stat>.<figure>` for count, mean, std, min, percentiles and max.
    Under another name (an entry point) it runs the third party's data analyzer that `type` names instead.
    """

    def run(self, context: HookContext) -> HookResult:
        if (done := run_on_data(context, "data_analyzer", outputs=4)) is not None:
            return done
        export = context.user_path("djConfigs.export_path")
        with addressed_errors(context):
            prepared = prepare(context.dj, context.scratch / "input", np=context.cpus)
            analysis = analyze(
                context.dj,
                prepared,
                work_dir=context.scratch,
                out_dir=context.out,
                job_id=data_juicer_job_id(context),
                np=context.cpus,
            )
        return HookResult(
            outputs=[
                Artifact(analysis.stats, rows=analysis.rows, publish=export and stats_beside(export)),
                Artifact(analysis.table),
                Artifact(analysis.histograms),
                analysis.dataset and Artifact(analysis.dataset, rows=analysis.rows, publish=export),
            ],
            metrics={"rows": analysis.rows, **figures_by_importance(analysis.overall)},
            message=f"{counted(analysis.rows, 'row')} analysed, {counted(len(analysis.overall), 'statistic')}",
            tables=[analysis.table],
        )


def stats_beside(export: Path) -> Path:
    """Where Data-Juicer's users look for the statistics of an analysis."""
    return export.with_name(f"{export.stem}_stats.jsonl")


def figures_by_importance(overall: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """`<stat>.<figure>` of every statistic: all means first, then all standard deviations, and so on."""
    others = {figure: None for figures in overall.values() for figure in figures if figure not in FIGURES}
    return {
        f"{stat}.{figure}": figures[figure]
        for figure in (*FIGURES, *others)
        for stat, figures in overall.items()
        if figure in figures
    }
