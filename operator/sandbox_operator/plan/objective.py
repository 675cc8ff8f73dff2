# SPDX-License-Identifier: Apache-2.0
"""`spec.trial.metric`: the figure that a sweep searches by, found before anything starts, and its value at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from sandbox_api.contract import REFINED, figure_names
from sandbox_api.experiment import Trial
from sandbox_api.hook import Hook
from sandbox_api.hooks import HOOKS
from sandbox_api.status import ExperimentStatus, JobStatus, Reason

from .conditions import condition_in
from .iterations import figure_of, in_iteration
from .job import ANY_ITEM, PlannedJob, Reference, planned_id
from .references import Producer, did_you_mean

if TYPE_CHECKING:
    from .compile import Compiled

WHERE = "spec.trial.metric"
QUALITY_SCORE = "quality_score"
"""What Data-Juicer's own search calls the mean score of its quality classifier."""
QUALITY_HOOK, QUALITY_FIGURE = "EvaluateDataHook", "mean"
_QUALITY = HOOKS[QUALITY_HOOK].components["dj_text_quality_classifier"]
MANY = 8
_ENDED = {"Succeeded": "has succeeded", "Cached": "was cached", "Failed": "has failed", "Skipped": "was skipped"}


@dataclass(frozen=True)
class Missing:
    """Why a trial has no value."""

    reason: str
    message: str


@dataclass(frozen=True)
class _Figure:
    producer: Producer
    name: str
    """Without the metaName."""

    @property
    def told(self) -> str:
        return f"{self.producer.pipeline}.{self.producer.meta_name}.{self.name}"


def objective_of(trial: Trial | None, producers: Sequence[Producer], problems: list[str]) -> Reference | None:
    """The figure that a trial's metric names, of the job before it is repeated; else a sentence goes to `problems`.

    A whole key, with its pipeline or without, comes before the end of one.
    """
    if trial is None:
        return None
    text = trial.metric
    for candidates in (_whole, _quality, _ends, _patterns, _unknown):
        found = [*{figure.told: figure for figure in candidates(text, producers)}.values()]
        if len(found) > 1:
            names = ", ".join(figure.told for figure in found[:MANY]) + (", ..." if len(found) > MANY else "")
            problems.append(f"{WHERE}: {text!r} may be several figures: {names}; write the whole of one")
            return None
        if found and ANY_ITEM in found[0].producer.job_id:
            problems.append(
                f"{WHERE}: {found[0].told} is made for each item of a list ({found[0].producer.where}); name a figure"
                " of a single job"
            )
            return None
        if found:
            return Reference(found[0].producer.job_id, found[0].name)
    if all(producer.hook.known for producer in producers):  # else a misspelt hook may be the one: that is told
        problems.append(f"{WHERE}: no job here has the figure {text!r}{_hint(text, producers)}")
    return None


def in_all_repeats(objective: Reference | None, jobs: Sequence[PlannedJob]) -> tuple[Reference, ...]:
    """The figure of each repeat of its job."""
    if objective is None:
        return ()
    wanted = planned_id(objective.job_id)
    return tuple(Reference(job.id, objective.output) for job in jobs if planned_id(job.id) == wanted)


def objective_value(compiled: Compiled, status: ExperimentStatus) -> float | Missing:
    """What a trial has come to: the figure of its last iteration, of repeats their mean; or why there is none."""
    ended = condition_in(status.conditions, "Succeeded")
    if status.outcome != "Succeeded":
        reason = ended.reason if ended is not None else status.outcome or Reason.PENDING
        return Missing(reason, ended.message if ended is not None else "it has not begun")
    entries = {entry.id: entry for entry in status.jobs}
    values: list[float] = []
    for reference in compiled.objective:
        job_id = in_iteration(reference.job_id, status.iteration or 1)
        entry = entries.get(job_id)
        value = figure_of(entry, reference.output) if entry is not None else None
        if entry is not None and value is None and _is_not_finite(entry, reference.output):
            return Missing(Reason.METRIC_NOT_FINITE, f"{reference.output!r} of {job_id} is no finite number")
        if entry is None or value is None:
            return Missing(
                Reason.METRIC_MISSING, f"{job_id} gave no number {reference.output!r}; it {_how_it_ended(entry)}"
            )
        values.append(value)
    if not values:
        return Missing(Reason.METRIC_MISSING, "no job of the experiment has the figure that the sweep searches by")
    try:
        mean = fmean(values)
    except (OverflowError, ValueError):  # numbers that a float holds, and their sum that none does
        mean = math.inf
    if not math.isfinite(mean):
        figure = compiled.objective[0]
        return Missing(Reason.METRIC_NOT_FINITE, f"{figure.output!r} of {figure.job_id} is no finite number: {mean}")
    return mean


def _is_not_finite(entry: JobStatus, name: str) -> bool:
    return any(known in figure_names(entry.meta_name, name) for known in entry.not_finite or ())


def _how_it_ended(entry: JobStatus | None) -> str:
    if entry is None:
        return "is not among the jobs"
    words = f": {entry.message}" if entry.message else ""
    return f"{_ENDED.get(entry.state, f'is {entry.state.lower()}')}{words}"


def _whole(text: str, producers: Sequence[Producer]) -> Iterator[_Figure]:
    """`<pipeline>.<metaName>.<figure>`, else `<metaName>.<figure>`."""
    for prefix in (_with_pipeline, _without_pipeline):
        found = [
            _Figure(producer, rest)
            for producer in producers
            if (rest := _after(text, prefix(producer))) and (_literal(producer, rest) or producer.hook.has_figure(rest))
        ]
        if found:
            yield from _of_one_job(found)
            return


def _quality(text: str, producers: Sequence[Producer]) -> Iterator[_Figure]:
    if text == QUALITY_SCORE:
        yield from (_Figure(p, QUALITY_FIGURE) for p in producers if _is_classifier(p.hook))


def _is_classifier(hook: Hook) -> bool:
    return hook.name == QUALITY_HOOK and hook.extra is _QUALITY.extra


def _ends(text: str, producers: Sequence[Producer]) -> Iterator[_Figure]:
    """Figures that are known by name and end with it."""
    for producer in producers:
        for name in _literals(producer):
            if name == text or name.endswith(f".{text}"):
                yield _Figure(producer, name)


def _patterns(text: str, producers: Sequence[Producer]) -> Iterator[_Figure]:
    """Jobs that may have a figure of that name, and whose others are not known by name before they run."""
    return (_Figure(producer, text) for producer in producers if producer.hook.has_figure(text))


def _unknown(text: str, producers: Sequence[Producer]) -> Iterator[_Figure]:
    """Jobs of the namespace's own hooks: what they measure nobody knows before."""
    for producer in producers:
        rests = (_after(text, _with_pipeline(producer)), _after(text, _without_pipeline(producer)))
        rest = next(filter(None, rests), None)
        if rest and producer.hook.name not in HOOKS:
            yield _Figure(producer, rest)


def _of_one_job(found: list[_Figure]) -> list[_Figure]:
    """What a refine job and the probe of its name both may have is the one's that knows it by name."""
    known = [figure for figure in found if _literal(figure.producer, figure.name)]
    return known or found


def _with_pipeline(producer: Producer) -> str:
    return f"{producer.pipeline}.{producer.meta_name}."


def _without_pipeline(producer: Producer) -> str:
    return f"{producer.meta_name}."


def _after(text: str, prefix: str) -> str | None:
    return text.removeprefix(prefix) if text.startswith(prefix) else None


def _literal(producer: Producer, name: str) -> bool:
    return name in _literals(producer)


def _literals(producer: Producer) -> list[str]:
    """Names of the job's numbers, as far as they are known before it runs."""
    numbers = [name for name in producer.outputs if producer.kinds.get(name) == "number"]
    return [*numbers, *(name for name in producer.hook.figures if "*" not in name)]


def _hint(text: str, producers: Sequence[Producer]) -> str:
    if text == QUALITY_SCORE:
        return "; it is that of an EvaluateDataHook job of the type dj_text_quality_classifier, and there is none"
    known = [f"{p.meta_name}.{name}" for p in producers for name in (*_literals(p), *p.hook.figures)]
    known += [QUALITY_SCORE] if any(_is_classifier(p.hook) for p in producers) else []
    return did_you_mean(text, (name for name in known if f".{REFINED}." not in name))
