# SPDX-License-Identifier: Apache-2.0
"""Which item of a forEach is the best: by a figure, against a baseline, as far as repeats can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from sandbox_api import noise
from sandbox_api.experiment import ExperimentSpec, Rank
from sandbox_api.status import MAX_RANKING, JobStatus, RankRow

from .iterations import figure_of
from .job import ANY_ITEM, PlannedJob, Reference, planned_id
from .references import Producer, did_you_mean, number_problem, resolve_by_name


def rank_of(spec: ExperimentSpec, producers: Sequence[Producer], problems: list[str]) -> tuple[Reference, ...]:
    """The figure that items are ranked by, of the job for all of them; what is wrong goes to `problems`.

    Without a pipeline before it that of each pipeline which has such a job: several rounds are ranked together.
    """
    if spec.rank is None:
        return ()
    text = spec.rank.metric
    first, _, rest = text.partition(".")
    pipelines = dict.fromkeys(p.pipeline for p in producers if p.meta_name == first and rest)
    names = [f"{pipeline}.{text}" for pipeline in pipelines]
    if not names or first in {p.pipeline for p in producers}:
        names = [text]
    found = (_figure(name, producers, problems) for name in names)
    return tuple(reference for reference in found if reference is not None)


def _figure(text: str, producers: Sequence[Producer], problems: list[str]) -> Reference | None:
    where = "spec.rank.metric"
    found = resolve_by_name(text, where, producers, numbers=True)
    if isinstance(found, str):
        problems.append(found)
        return None
    if ANY_ITEM not in found.job_id:
        problems.append(f"{where}: {text!r} is the figure of a single job; name one of a job inside a forEach")
        return None
    problem = number_problem(text, found, where, producers)
    problems += [problem] if problem else []
    return found


def ranked_jobs(ranked: Sequence[Reference], jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
    """The jobs whose figures are ranked, in their order."""
    ids = {planned_id(reference.job_id) for reference in ranked}
    return [job for job in jobs if planned_id(job.id) in ids]


def baseline_problems(spec: ExperimentSpec, ranked: Sequence[Reference], jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """A baseline that is none of the items; `jobs` with every list that is known spread out."""
    baseline = spec.rank.baseline if spec.rank is not None else None
    if baseline is None:
        return
    copies = ranked_jobs(ranked, jobs)
    names = dict.fromkeys(job.label for job in copies if job.is_spread)
    if copies and all(job.is_spread for job in copies) and baseline not in names:
        yield f"spec.rank.baseline: no item is named {baseline!r}{did_you_mean(baseline, names)}"


def ranking(
    rank: Rank | None, ranked: Sequence[Reference], jobs: Sequence[PlannedJob], committed: Mapping[str, JobStatus]
) -> list[RankRow]:
    """Items whose repeats have all given a figure, the best first. Repeats of equal number share their seeds.

    An item that is called as one of an earlier pipeline has its own pipeline before its name.
    """
    if rank is None or not ranked:
        return []
    first: dict[str, str] = {}
    of_items: dict[str, list[float | None]] = {}
    for job in ranked_jobs(ranked, jobs):
        if job.is_spread:
            entry = committed.get(job.id)
            is_first = first.setdefault(job.label, job.pipeline) == job.pipeline
            name = job.label if is_first else f"{job.pipeline}.{job.label}"
            of_items.setdefault(name, []).append(figure_of(entry, ranked[0].output) if entry else None)
    figures = {label: [v for v in values if v is not None] for label, values in of_items.items() if None not in values}
    order = sorted(figures, key=lambda label: fmean(figures[label]), reverse=rank.goal == "maximize")
    baseline = figures.get(rank.baseline or "")
    return [_row(label, figures, order, baseline if label != rank.baseline else None) for label in order[:MAX_RANKING]]


def _row(label: str, figures: Mapping[str, list[float]], order: list[str], baseline: list[float] | None) -> RankRow:
    values = figures[label]
    change = noise.change(baseline, values) if baseline is not None else None
    other = order[0] if label != order[0] else order[1] if len(order) > 1 else None
    return RankRow(
        item=label,
        mean=fmean(values),
        std=noise.spread(values),
        repeats=len(values),
        change=change.difference if change else None,
        relative=change.relative if change else None,
        interval=list(change.interval) if change and change.interval else None,
        tied=noise.change(figures[other], values).is_noise if other is not None else None,
    )
