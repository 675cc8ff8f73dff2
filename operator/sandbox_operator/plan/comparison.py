# SPDX-License-Identifier: Apache-2.0
"""The table before and after: what the sandbox leaves to its user, made from the committed metrics."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import DONE_STATES, MAX_COMPARISON, ComparisonRow, JobStatus

from . import noise
from .job import PlannedJob

FIGURES = ("count", "mean", "std", "min", "25%", "50%", "75%", "max")
"""The order in which people read a statistic's figures."""


Side = tuple[PlannedJob, ...]
"""A job, in all of its repeats."""


def pairs(spec: ExperimentSpec, jobs: tuple[PlannedJob, ...]) -> list[tuple[Side, Side]]:
    """Jobs to compare: those the spec names, else of each hook and type the last probe with the last evaluation."""
    if spec.comparison is not None:
        by_name: dict[str, Side] = {}
        for job in jobs:  # the first of a shared name: the probe, not its refine job
            side = by_name.get(job.meta_name, ())
            if not side or (side[0].pipeline, side[0].stage, side[0].index) == (job.pipeline, job.stage, job.index):
                by_name[job.meta_name] = (*side, job)
        return [(by_name[pair.before], by_name[pair.after]) for pair in spec.comparison]
    before: dict[tuple[object, ...], Side] = {}
    after: dict[tuple[object, ...], Side] = {}
    for job in jobs:
        found = before if job.stage == "probe" else after if job.is_last_stage else None
        if found is not None:
            key = job.pipeline, job.pipeline_item, job.hook.name, job.config.type
            found[key] = (*found[key], job) if job.repeat else (job,)
    return [(side, after[key]) for key, side in before.items() if key in after]


def compare(
    spec: ExperimentSpec, jobs: tuple[PlannedJob, ...], committed: Mapping[str, JobStatus]
) -> list[ComparisonRow]:
    """Rows for each figure that both jobs of a pair have: totals first, then one statistic after another."""
    rows: list[ComparisonRow] = []
    for before, after in pairs(spec, jobs):
        first, second = (_of_repeats(side, committed) for side in (before, after))
        names = sorted((name for name in first if name in second), key=_reading_order)
        rows += [_row(name, first[name], second[name], before[0], after[0]) for name in names]
    return rows[:MAX_COMPARISON]


def _of_repeats(side: Side, committed: Mapping[str, JobStatus]) -> dict[str, list[float]]:
    """The figures that all repeats have."""
    found = [figures(committed[job.id]) for job in side]
    return {name: [one[name] for one in found] for name in found[0] if all(name in one for one in found)}


def _row(metric: str, first: list[float], second: list[float], before: PlannedJob, after: PlannedJob) -> ComparisonRow:
    change = noise.change(first, second)
    return ComparisonRow(
        metric=metric,
        before=fmean(first),
        after=fmean(second),
        change=change.difference,
        relative=change.relative,
        interval=list(change.interval) if change.interval else None,
        repeats=max(len(first), len(second)) if change.interval else None,
        before_job=before.meta_name,
        after_job=after.meta_name,
    )


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
