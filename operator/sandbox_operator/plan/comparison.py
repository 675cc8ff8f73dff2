# SPDX-License-Identifier: Apache-2.0
"""The table before and after: what the sandbox leaves to its user, made from the committed metrics."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import DONE_STATES, MAX_COMPARISON, ComparisonRow, JobStatus

from .job import PlannedJob

FIGURES = ("count", "mean", "std", "min", "25%", "50%", "75%", "max")
"""The order in which people read a statistic's figures."""


def pairs(spec: ExperimentSpec, jobs: tuple[PlannedJob, ...]) -> list[tuple[PlannedJob, PlannedJob]]:
    """Jobs to compare: those the spec names, else of each hook and type the last probe with the last evaluation."""
    if spec.comparison is not None:
        by_name = {
            job.meta_name: job for job in reversed(jobs)
        }  # the first of a shared name: the probe, not its refine job
        return [(by_name[pair.before], by_name[pair.after]) for pair in spec.comparison]
    before: dict[tuple[object, ...], PlannedJob] = {}
    after: dict[tuple[object, ...], PlannedJob] = {}
    for job in jobs:
        side = before if job.stage == "probe" else after if job.is_last_stage else None
        if side is not None:
            side[job.pipeline, job.pipeline_item, job.hook.name, job.config.type] = job
    return [(job, after[key]) for key, job in before.items() if key in after]


def compare(
    spec: ExperimentSpec, jobs: tuple[PlannedJob, ...], committed: Mapping[str, JobStatus]
) -> list[ComparisonRow]:
    """Rows for each figure that both jobs of a pair have: totals first, then one statistic after another."""
    rows: list[ComparisonRow] = []
    for before, after in pairs(spec, jobs):
        first, second = (figures(committed[job.id]) for job in (before, after))
        names = sorted((name for name in first if name in second), key=_reading_order)
        rows += [
            ComparisonRow(
                metric=name,
                before=first[name],
                after=second[name],
                before_job=before.meta_name,
                after_job=after.meta_name,
            )
            for name in names
        ]
    return rows[:MAX_COMPARISON]


def _reading_order(name: str) -> tuple[bool, str, int, str]:
    # The API server keeps maps in no order, so theirs is made here.
    statistic, _, figure = name.rpartition(".")
    order = FIGURES.index(figure) if figure in FIGURES else len(FIGURES)
    return bool(statistic), statistic, order, figure


def figures(job: JobStatus) -> dict[str, float]:
    """A committed job's metrics by their names without the metaName."""
    if job.state not in DONE_STATES:
        return {}
    return {name.removeprefix(f"{job.meta_name}."): value for name, value in (job.metrics or {}).items()}
