# SPDX-License-Identifier: Apache-2.0
"""RefineRecipeViaModelFeedbackHook: a recipe whose bounds move to where scored rows are best. It reads no data set,
only what a probe measured of it and what something else, usually a model, made of its rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_api.recipe import FeedbackConfig

from ..configs import PROBE
from ..data_juicer.bounds import with_bounds
from ..data_juicer.config import preflight
from ..data_juicer.errors import DatasetError
from ..data_juicer.operators import keeps_within_bounds, op_statistics
from ..errors import ConfigError
from .base import Artifact, HookContext, HookResult
from .recipe import addressed_errors, bounds_before_and_after, bounds_set, counted, write_recipe

if TYPE_CHECKING:  # numpy and scipy come in when a job asks for this hook
    from numpy import float64
    from numpy.typing import NDArray

    from ..data_juicer.feedback import Decision, Finding
    from ..data_juicer.scored import Statistics

SCORES = "extraConfigs.path_scores"
COLUMNS = (
    "operator", "name", "argument", "statistic", "before", "after", "why", "direction", "support", "p", "p_corrected",
    "best_from", "best_to", "mean_score_inside", "mean_score_outside", "expected_kept",
)  # fmt: skip


class RefineRecipeViaModelFeedbackHook:
    """Outputs: recipe (the whole configuration, YAML or JSON), changes (CSV, a line a bound, with why it moved or
    stays), copies (list of lists: statistics that say the same of the rows), bounds (those that moved, by
    `<op>.<arg>`).

    Metrics: `expected_kept`, the share of the analysed rows within all bounds of the refined recipe; `kept_before`;
    `rows_scored`; `refined.<op>.<arg>.before` and `.after` of the bounds that moved. Needs the input `probe`, the
    `stats` of an analysis.
    """

    def run(self, context: HookContext) -> HookResult:
        from ..data_juicer.feedback import Rule, criteria_of, decide

        extra: FeedbackConfig = context.extra
        if PROBE not in context.inputs:
            raise ConfigError(
                "probe: there is no probe to refine from; give this job the metaName of a ProbeViaAnalyzerHook job"
                " before it, or name that in `probe`"
            )
        with addressed_errors(context):
            preflight(context.dj)
            process = context.dj.get("process") or []
            op_stats, op_args = op_statistics(process)
        op_args = {op: arguments for op, arguments in op_args.items() if keeps_within_bounds(op)}
        statistics = statistics_of(context, {stat for stats in op_stats.values() for stat in stats})
        scored = _scored(context, extra, statistics)
        decision = decide(
            criteria_of(process, statistics.values, statistics.unfit, op_stats, op_args),
            scored.scores,
            Rule(extra.bins, extra.min_support, extra.min_kept, extra.max_step, extra.alpha),
            maximize=extra.goal == "maximize",
            seed=context.seed,
        )
        published = context.user_path("extraConfigs.path_feedback_recipe")
        refined = {**context.dj, "process": with_bounds(process, decision.moved)}
        table = write_findings(decision.findings, context.out / "changes.csv")
        return HookResult(
            outputs=[
                Artifact(write_recipe(refined, context.out, published), publish=published),
                Artifact(table, rows=len(decision.findings)),
                decision.copies,
                bounds_set(decision.moved, process),
            ],
            metrics={
                "expected_kept": decision.expected_kept,
                "kept_before": decision.kept_before,
                "rows_scored": scored.rows,
                **bounds_before_and_after(decision.moved, process),
            },
            message=f"{message_of(decision)}; {scored.told}",
            tables=[table],
        )


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of the analysed rows, in the analysis's order; NaN for those without one. `told` says how many."""

    scores: NDArray[float64]
    rows: int
    told: str


def statistics_of(context: HookContext, wanted: Collection[str]) -> Statistics:
    from ..data_juicer.scored import read_statistics

    probe = context.inputs[PROBE]
    try:
        return read_statistics(probe.path, wanted)
    except DatasetError as error:  # it is what its job wrote: running that job again would make the same
        raise ConfigError(f"probe: {probe.told} is no analysis of rows: {error.problem}") from error


def _scored(context: HookContext, extra: FeedbackConfig, statistics: Statistics) -> Scored:
    """The scores joined to the statistics by row id; what could not be joined is said. Raises ConfigError."""
    import numpy as np

    from ..data_juicer.scored import read_scores

    source = context.inputs.get(SCORES)
    told = source.told if source else extra.path_scores
    path = context.workspace.inside(extra.path_scores, SCORES)
    if not path.is_file():
        raise ConfigError(f"{SCORES}: {told} is no file")
    try:
        found = read_scores(path, extra.score)
    except DatasetError as error:
        raise ConfigError(f"{SCORES}: {told}: {error.problem}") from error
    if not found.by_id:
        if found.rows and found.without_id == found.rows:
            raise ConfigError(
                f"{SCORES}: {told}: no row has a __sandbox_id__ to join it by; keep the one that the Analyzer's stats"
                f" and processed data sets have; its columns are {', '.join(found.columns)}"
            )
        has = f"; its columns are {', '.join(found.columns)}" if found.columns else ", and no rows at all"
        raise ConfigError(f"extraConfigs.score: {told} has no number in {extra.score!r}{has}")
    scores = np.array([found.by_id.get(row_id, np.nan) for row_id in statistics.ids])
    rows = int(np.count_nonzero(np.isfinite(scores)))
    if not rows:
        raise ConfigError(
            f"{SCORES}: {told}: none of its {counted(len(found.by_id), 'scored row')} is among the"
            f" {len(statistics.ids)} of the analysis, by __sandbox_id__ ({next(iter(found.by_id))} there,"
            f" {statistics.ids[0]} here); score rows of the data set that the probe has analysed"
        )
    unknown = len(found.by_id.keys() - set(statistics.ids))
    notes = {
        "of no analysed row": unknown,
        "without a number": found.without_number,
        "without an id": found.without_id,
    }
    also = "".join(f", {counted(number, 'score')} {what}" for what, number in notes.items() if number)
    return Scored(scores, rows, f"{counted(rows, 'score')} for {counted(len(scores), 'row')}{also}")


def message_of(decision: Decision) -> str:
    moved = decision.moved
    if not decision.findings:
        return "nothing refined: the probe has no statistic that a bound of this recipe is about"
    said = f"{counted(len(moved), 'bound')} of {counted(len({f.index for f in moved}), 'operator')} moved"
    said = f"{said}, expected to keep {decision.expected_kept:.1%} of the rows" if moved else "no bound moved"
    copies = "; ".join(" = ".join(group) for group in decision.copies)
    return f"{said}; copies of one another: {copies}" if copies else said


def write_findings(findings: Sequence[Finding], path: Path) -> Path:
    """One line a bound, moved or not."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for finding in findings:
            bound, why = finding.bound, finding.evidence
            said: list[Any] = [None] * 8
            if why is not None:
                said = [why.shape, why.rows, why.p, why.corrected, why.best_from, why.best_to, why.inside, why.outside]
            values = (json.dumps(finding.before), json.dumps(finding.after))
            place = (bound.index, bound.op, bound.arg, bound.stat)
            writer.writerow([*place, *values, finding.why, *said, finding.expected_kept])
    return path
