# SPDX-License-Identifier: Apache-2.0
"""Iterations of all pipelines: the targets that end them, and what one of them hands to the next.

A target is parsed, never evaluated as code: `<pipeline>.<metaName>.<figure> <op> <number>`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sandbox_api.contract import figure_names
from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import JobStatus

from .configs import ROOTS, check_configs, effective, placed
from .job import ANY_ITEM, Fan, Gathered, PlannedJob, Reference, Source
from .references import Producer, did_you_mean, kind_problem, number_problem, resolve_by_name

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_TARGET = re.compile(r"(?P<figure>\S+)\s*(?P<op>==|>=|<=|>|<)\s*(?P<number>\S+)")


@dataclass(frozen=True)
class Target:
    text: str
    references: tuple[Reference, ...]
    """The figure; of a job that is repeated one of each repeat, whose mean counts."""
    op: str
    number: float

    def is_met(self, jobs: Mapping[str, JobStatus], iteration: int) -> bool:
        """Whether the figure of this iteration meets it; one that is not there, or no number, does not."""
        value = self.value(jobs, iteration)
        return value is not None and COMPARISONS[self.op](value, self.number)

    def value(self, jobs: Mapping[str, JobStatus], iteration: int) -> float | None:
        entries = [(jobs.get(in_iteration(one.job_id, iteration)), one.output) for one in self.references]
        values = [figure_of(entry, output) if entry is not None else None for entry, output in entries]
        found = [value for value in values if value is not None]
        return sum(found) / len(found) if found and len(found) == len(values) else None


Targets = tuple[Target, ...]
Updates = Mapping[str, Mapping[str, Reference]]
"""By job (of the first iteration) and target: the result of the iteration before that goes there."""


def figure_of(entry: JobStatus, name: str) -> float | None:
    """The number that a committed job gave under this name: an output's value, else a metric."""
    metrics = entry.metrics or {}
    candidates = (entry.outputs or {}).get(name), *map(metrics.get, figure_names(entry.meta_name, name))
    return next((_float(v) for v in candidates if isinstance(v, int | float) and not isinstance(v, bool)), None)


def _float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer that no float holds
        return math.inf if number > 0 else -math.inf


def targets_of(spec: ExperimentSpec, producers: Sequence[Producer], problems: list[str]) -> Targets:
    """The targets of a spec; what can't be one goes to `problems`."""
    found: list[Target] = []
    for number, text in enumerate(spec.iter_targets or ()):
        where = f"spec.iterTargets[{number}]"
        match = _TARGET.fullmatch(text.strip())
        value = _number(match["number"]) if match else None
        if match is None or value is None:
            problems.append(
                f"{where}: {text!r} is not a target; write <pipeline>.<metaName>.<figure> <op> <number>, with one of"
                f" {', '.join(COMPARISONS)}"
            )
            continue
        reference = _one(resolve_by_name(match["figure"], where, producers, numbers=True), where, problems)
        if reference is not None:
            problem = number_problem(match["figure"], reference, where, producers)
            problems += [problem] if problem else []
            found.append(Target(text, (reference,), match["op"], value))
    return tuple(found)


def updates_of(
    spec: ExperimentSpec, jobs: Sequence[PlannedJob], producers: Sequence[Producer], problems: list[str]
) -> Updates:
    """What `iterUpdater` hands on; what can't be handed on goes to `problems`."""
    found: dict[str, dict[str, Reference]] = {}
    for source, text in (spec.iter_updater or {}).items():
        where = f'spec.iterUpdater["{source}"]'
        reference = _one(resolve_by_name(source, where, producers, numbers=False), where, problems)
        pipeline, _, rest = text.partition(".")
        meta_name, _, target = rest.partition(".")
        if target.split(".")[0] not in ROOTS:
            problems.append(
                f"{where}: {text!r} is no place; write <pipeline>.<metaName>.djConfigs or"
                " <pipeline>.<metaName>.extraConfigs.<key>"
            )
            continue
        job = next((j for j in jobs if (j.pipeline, j.meta_name) == (pipeline, meta_name) and _reads(j, target)), None)
        if job is None:
            known = [f"{j.pipeline}.{j.meta_name}" for j in jobs]
            problems.append(f"{where}: no job is named {pipeline}.{meta_name}{did_you_mean(text, known)}")
        elif ANY_ITEM in job.id:
            problems.append(f"{where}: {job.where} runs for each item of a list; only single jobs can be updated")
        elif target in job.inputs and target in (job.config.input or {}):
            problems.append(f'{where}: {job.where}.input["{target}"] fills the same place; leave one of them out')
        elif place_problems := [f"{where}: {words}" for words in _place_problems(spec, job, target)]:
            problems += place_problems
        elif reference is not None:
            problems += (f"{where}: {words}" for words in kind_problem(target, reference, producers))
            found.setdefault(job.id, {})[target] = reference
    return found


def _place_problems(spec: ExperimentSpec, job: PlannedJob, target: str) -> Iterator[str]:
    """Sentences about a place in a job's configurations, as an input that filled it would get them."""
    volumes = tuple(volume.name for volume in spec.inputs)
    if target not in ROOTS:
        try:
            placed(effective(job.config), target, None)
        except LookupError as error:
            yield f"{job.where}.{error}"
            return
    before = {*check_configs(job.config, job.hook, job.where, set(job.inputs), volumes)}
    after = check_configs(job.config, job.hook, job.where, {*job.inputs, target}, volumes)
    yield from (words for words in after if words not in before)


def iteration_problems(spec: ExperimentSpec) -> Iterator[str]:
    """Settings that would iterate for ever, or not as they say."""
    if spec.max_iter_num == 0 and not spec.iter_targets:
        yield "spec.maxIterNum: 0 is without limit and needs iterTargets; set targets, or a number of iterations"
    if spec.iter_updater and spec.max_iter_num == 1:
        yield "spec.iterUpdater: there is one iteration only; set maxIterNum to more, or leave iterUpdater out"


def wants_another(spec: ExperimentSpec, targets: Targets, jobs: Mapping[str, JobStatus], iteration: int) -> bool:
    """Whether an iteration follows this one, all of whose jobs are done. Without a limit none follows one whose targets
    can't be told: it would go on for ever."""
    if targets_met(spec, targets, jobs, iteration):
        return False
    if spec.max_iter_num == 0:
        return untold(spec, targets, jobs, iteration) is None
    return iteration < spec.max_iter_num


def untold(spec: ExperimentSpec, targets: Targets, jobs: Mapping[str, JobStatus], iteration: int) -> Target | None:
    """A target without which they can't be met, and whose job gave no number under its name."""
    without = [target for target in targets if target.value(jobs, iteration) is None]
    return without[0] if without and (spec.iter_targets_mode == "all" or len(without) == len(targets)) else None


def targets_met(spec: ExperimentSpec, targets: Targets, jobs: Mapping[str, JobStatus], iteration: int) -> bool:
    """Whether the iterations have reached what they are for; without targets they never have."""
    met = [target.is_met(jobs, iteration) for target in targets]
    return bool(met) and (all(met) if spec.iter_targets_mode == "all" else any(met))


def in_iteration(job_id: str, iteration: int) -> str:
    """The id of the same job in another iteration."""
    pipeline, _, rest = job_id.split("/", 2)
    return f"{pipeline}/{iteration}/{rest}"


def jobs_of_iteration(jobs: tuple[PlannedJob, ...], updates: Updates, iteration: int) -> tuple[PlannedJob, ...]:
    """The jobs of one iteration; from the second on with what the one before hands over."""
    if iteration == 1:
        return jobs
    return tuple(
        replace(
            job,
            id=in_iteration(job.id, iteration),
            iteration=iteration,
            after=tuple(in_iteration(other, iteration) for other in job.after),
            inputs={
                **{target: _moved(source, iteration) for target, source in job.inputs.items()},
                **{target: _moved(source, iteration - 1) for target, source in updates.get(job.id, {}).items()},
            },
            pipeline_fan=job.pipeline_fan and _moved_fan(job.pipeline_fan, iteration),
            fan=job.fan and _moved_fan(job.fan, iteration),
        )
        for job in jobs
    )


def _moved(source: Source, iteration: int) -> Source:
    if isinstance(source, Reference):
        return replace(source, job_id=in_iteration(source.job_id, iteration))
    if isinstance(source, Gathered):
        return Gathered(tuple(replace(r, job_id=in_iteration(r.job_id, iteration)) for r in source.references))
    return source


def _moved_fan(fan: Fan, iteration: int) -> Fan:
    if isinstance(fan.items, tuple):
        return fan
    moved = _moved(fan.items, iteration)
    return replace(fan, items=moved) if isinstance(moved, Reference | Gathered) else fan


def _reads(job: PlannedJob, target: str) -> bool:
    return job.hook.reads_dj or target.split(".")[0] != "djConfigs"


def _one(reference: Reference | str, where: str, problems: list[str]) -> Reference | None:
    """A single result, of a job that does not run for each item of a list."""
    if isinstance(reference, str):
        problems.append(reference)
        return None
    if ANY_ITEM in reference.job_id:
        problems.append(f"{where}: that job runs for each item of a list; only a single job's result can be named here")
        return None
    return reference


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number and abs(number) != float("inf") else None
