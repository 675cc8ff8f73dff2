# SPDX-License-Identifier: Apache-2.0
"""The table before and after: what the sandbox leaves to its user, made from the committed metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from sandbox_api import noise
from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import DONE_STATES, MAX_COMPARISON, ComparisonRow, ExperimentStatus, JobStatus

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


def before_of(spec: ExperimentSpec, jobs: tuple[PlannedJob, ...]) -> dict[str, str]:
    """By the id of each later job of a pair: the earlier one, in the same repeat if that is repeated as well."""
    return {
        job.id: before[number if len(before) == len(after) else 0].id
        for before, after in pairs(spec, jobs)
        for number, job in enumerate(after)
    }


def compare(
    spec: ExperimentSpec, jobs: tuple[PlannedJob, ...], committed: Mapping[str, JobStatus]
) -> list[ComparisonRow]:
    """Rows for each figure that both jobs of a pair have: totals first, then one statistic after another."""
    rows: list[ComparisonRow] = []
    for before, after in pairs(spec, jobs):
        rows += _rows([committed[job.id] for job in before], [committed[job.id] for job in after])
    return rows[:MAX_COMPARISON]


def between(first: ExperimentStatus, second: ExperimentStatus) -> list[ComparisonRow]:
    """Rows for each figure that jobs of one name (and item) have in two experiments, in the order of the first one.

    Without an interval where one of them has run once: it may have drawn by a seed as well, and nobody knows how far.
    """
    others = _by_name(second)
    return [
        row if min(len(jobs), len(others[key])) > 1 else row.model_copy(update={"interval": None, "repeats": None})
        for key, jobs in _by_name(first).items()
        if key in others
        for row in _rows(jobs, others[key])
    ]


def _by_name(status: ExperimentStatus) -> dict[tuple[str, ...], list[JobStatus]]:
    """Jobs by what is the same for all repeats and in another experiment: pipeline, items and name."""
    found: dict[tuple[str, ...], list[JobStatus]] = {}
    for job in status.jobs:
        pipeline, _, rest = job.id.partition("~")[0].split("/", 2)
        found.setdefault((pipeline, rest.partition("[")[2], job.meta_name), []).append(job)
    return found


def _rows(first: Sequence[JobStatus], second: Sequence[JobStatus]) -> Iterator[ComparisonRow]:
    """Of one job against another, each in all its repeats."""
    before, after = _of_repeats(first), _of_repeats(second)
    for metric in sorted(before.keys() & after.keys(), key=_reading_order):
        change = noise.change(before[metric], after[metric])
        yield ComparisonRow(
            metric=metric,
            before=fmean(before[metric]),
            after=fmean(after[metric]),
            change=change.difference,
            relative=change.relative,
            interval=list(change.interval) if change.interval else None,
            repeats=max(len(first), len(second)) if change.interval else None,
            before_job=first[0].meta_name,
            after_job=second[0].meta_name,
        )


def _of_repeats(jobs: Sequence[JobStatus]) -> dict[str, list[float]]:
    """The figures that all repeats have."""
    found = [figures(job) for job in jobs]
    return (
        {name: [one[name] for one in found] for name in found[0] if all(name in one for one in found)} if found else {}
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
