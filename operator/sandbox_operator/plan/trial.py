# SPDX-License-Identifier: Apache-2.0
"""`spec.trial`: which jobs a sweep's parameters go to, and what is wrong with them.

A name without a job's before it is for the recipes of ProcessDataHook jobs: that of a probe, which only looks, stays as
it is in all trials, so that they share one probe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sandbox_api.data_juicer import catalogue
from sandbox_api.experiment import JobConfig, Trial
from sandbox_api.extra import NoExtra
from sandbox_api.parameters import in_order, is_key, operator_of, operators_in, place_of

from .configs import ROOTS, check_configs, effective, placed, with_parameters
from .iterations import Updates
from .job import PlannedJob, Source, references_in
from .references import did_you_mean

PROCESS_HOOK = "ProcessDataHook"
WHERE = "spec.trial.parameters"
_SIDES = ("min", "max")
_PROCESS = re.compile(r"djConfigs\.process(\.[0-9]+)?")


@dataclass
class Parameters:
    """The parameters of a trial, dealt out job by job in written order."""

    trial: Trial | None
    jobs: Sequence[PlannedJob]
    """All of the spec."""
    taken: dict[str, str] = field(default_factory=dict)
    """By parameter: the first job that it goes to."""
    known: dict[str, None] = field(default_factory=dict)
    """Names that would mean something here, for those that do not."""
    twice: list[str] = field(default_factory=list)
    """Sentences about two names for one place."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what may have been meant otherwise."""

    def given(self, job: PlannedJob, recipe: Any, inputs: Mapping[str, Source]) -> PlannedJob:
        """The job with those that concern it. `recipe` is what is known of the configuration that an input brings."""
        if self.trial is None:
            return job
        dj = self._with_keys(job, seen_recipe(job.config, recipe, inputs))
        self.known |= dict.fromkeys(self._names(job, dj))
        names: dict[str, str] = {}
        for name in self.trial.parameters:
            own = self._own_name(name, job, dj)
            if own is None:
                continue
            self.taken.setdefault(name, job.id)
            head, dot, rest = own.partition(".")
            other = names.setdefault(f"{operator_of(head)}{dot}{rest}", name)
            if other != name:
                self.twice.append(
                    f'{WHERE}["{name}"]: sets the same in {job.where} as {other!r}; leave one of them out'
                )
            self.notes += _repeated(name, own, job, dj)
        values = {own: self.trial.parameters[name] for own, name in names.items()}
        return replace(job, parameters=values, written_parameters=names)

    def _with_keys(self, job: PlannedJob, dj: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The recipe in which operators are looked for: a parameter may be the whole of it."""
        assert self.trial is not None
        owns = {self._own_name(name, job, dj): value for name, value in self.trial.parameters.items()}
        keys = {own: value for own, value in owns.items() if own is not None and is_key(own)}
        wholes = [value for own, value in keys.items() if own in ("process", "djConfigs.process")]
        configs: Mapping[str, Any] = {"djConfigs": dj if dj is not None or not wholes else {}, "extraConfigs": None}
        for own, value in in_order(keys) if configs["djConfigs"] is not None else ():
            with suppress(LookupError):  # it is told where the job is looked at
                configs = placed(configs, place_of(own, None), value)
        found: Mapping[str, Any] | None = configs["djConfigs"]
        return found

    def problems(self) -> Iterator[str]:
        """Parameters that go nowhere, and overrides of what is none."""
        if self.trial is None:
            return
        for name in self.trial.parameters:
            if name not in self.taken:
                hint = did_you_mean(name, self.known)
                yield f'{WHERE}["{name}"]: no operator of a ProcessDataHook job and no job here has this name{hint}'
        yield from dict.fromkeys(self.twice)
        for number, name in enumerate(self.trial.overrides):
            if name not in self.trial.parameters:
                hint = did_you_mean(name, self.trial.parameters)
                yield f"spec.trial.overrides[{number}]: there is no parameter {name!r}{hint}"

    def _own_name(self, name: str, job: PlannedJob, dj: Mapping[str, Any] | None) -> str | None:
        """A parameter as this job calls it; None when it is not for this job."""
        own = self._after_name(name, job)
        if own is not None and _fits(own, job, dj, is_only=self._is_only(job)):
            return own
        head = name.partition(".")[0]
        if job.hook.name != PROCESS_HOOK or head in ROOTS or self._of_jobs.get(name):
            return None
        if "." not in name:
            return name if name in catalogue()["keys"] else None
        if dj is None:  # the pod will see; but what begins as a job does is that job's
            return name if name not in self._of_jobs or head in catalogue()["operators"] else None
        return name if operator_of(head) in operators_in(dj) else None

    def _after_name(self, name: str, job: PlannedJob) -> str | None:
        """What follows the job's name, with or without its pipeline."""
        for prefix in (f"{job.pipeline}.{job.meta_name}.", f"{job.meta_name}."):
            if name.startswith(prefix):
                return name.removeprefix(prefix)
        return None

    @cached_property
    def _of_jobs(self) -> Mapping[str, bool]:
        """Names that begin with a job's, and whether a configuration's follows, which no operator's does."""
        assert self.trial is not None
        found: dict[str, bool] = {}
        for name in self.trial.parameters:
            rests = [rest for job in self.jobs if (rest := self._after_name(name, job)) is not None]
            if rests:
                found[name] = any(rest.partition(".")[0] in ROOTS for rest in rests)
        return found

    def _is_only(self, job: PlannedJob) -> bool:
        """Whether no other job shares its name, as a refine job does with its probe."""
        return sum((other.pipeline, other.meta_name) == (job.pipeline, job.meta_name) for other in self.jobs) == 1

    def _names(self, job: PlannedJob, dj: Mapping[str, Any] | None) -> Iterator[str]:
        """Parameters that this job would take."""
        is_process = job.hook.name == PROCESS_HOOK
        if is_process or job.hook.reads_dj:
            known = catalogue()["operators"]
            names = operators_in(dj)
            for op, entry in zip(names, dj["process"] if names and dj is not None else (), strict=True):
                given = next(iter(entry.values())) if isinstance(entry, Mapping) and entry else None
                own = known.get(op.partition("#")[0], {}).get("args", {})
                for arg in dict.fromkeys([*(given if isinstance(given, Mapping) else ()), *own]):
                    yield f"{op}.{arg}" if is_process else f"{job.meta_name}.{op}.{arg}"
        if is_process:
            yield from (key for key in dj or () if key != "process")
        extra = effective(job.config)["extraConfigs"]
        settings = [field.alias or key for key, field in job.hook.extra.model_fields.items()]
        for key in dict.fromkeys([*(extra if isinstance(extra, Mapping) else ()), *settings]):
            yield f"{job.meta_name}.extraConfigs.{key}"


def seen_recipe(config: JobConfig, recipe: Any, inputs: Mapping[str, Source]) -> Mapping[str, Any] | None:
    """The Data-Juicer configuration of a job as far as its operators are known before it runs, else None."""
    dj = recipe if "djConfigs" in inputs else effective(config)["djConfigs"]
    targets = {*inputs, *(config.input or {})}
    is_filled = any(_PROCESS.fullmatch(target) for target in targets)
    return dj if isinstance(dj, Mapping) and not is_filled else None


def checked(
    job: PlannedJob, inputs: Mapping[str, Source], recipe: Any, volumes: tuple[str, ...], gpus: int
) -> Iterator[str]:
    """A sentence for each mistake in a job's configurations as its parameters leave them."""

    def look(config: JobConfig, filled: Set[str]) -> Callable[[Mapping[str, Any]], list[str]]:
        return lambda some: [*check_configs(with_parameters(config, some), job.hook, job.where, filled, volumes, gpus)]

    yield from _told(job, look(job.config, set(inputs)))
    if job.parameters and "djConfigs" in inputs and isinstance(recipe, Mapping):
        local = {key: value for key, value in (job.config.local or {}).items() if key.split(".")[0] != "djConfigs"}
        given = {key: value for key, value in (job.config.input or {}).items() if key != "djConfigs"}
        config = job.config.model_copy(update={"dj_configs": recipe, "local": local, "input": given})
        yield from _told(job, look(config, set(inputs) - {"djConfigs"}), only_new=True)


def _told(
    job: PlannedJob, problems: Callable[[Mapping[str, Any]], list[str]], *, only_new: bool = False
) -> Iterator[str]:
    """What is wrong with a job; what is due to a parameter is told as the parameter's."""
    found = problems(job.parameters)
    before = set(problems({})) if job.parameters else set(found)
    alone = (
        {name: set(problems({name: value})) for name, value in job.parameters.items()} if set(found) - before else {}
    )
    for problem in found:
        if problem in before:
            if not only_new:
                yield problem
            continue
        whose = next((name for name, told in alone.items() if problem in told), None)
        place, colon, words = problem.partition('"]: ')
        sentence = words if colon and place.startswith(f"{job.where}.local[") else problem
        yield f"{_where(whose, job)}: {sentence}"


def _where(name: str | None, job: PlannedJob) -> str:
    """A parameter's place in the spec, by what its job calls it."""
    if name is None:
        return WHERE
    return f'{WHERE}["{job.written_parameters.get(name, name)}"]'


def refine_conflicts(trial: Trial | None, jobs: Sequence[PlannedJob], updates: Updates) -> Iterator[str]:
    """Parameters that would replace what a refine job has found, and are not meant to."""
    if trial is None:
        return
    refiners = {job.id: job for job in jobs if "recipe" in job.hook.outputs}
    recipes = {job.id: effective(with_parameters(job.config, job.parameters))["djConfigs"] for job in refiners.values()}
    told: set[str] = set()
    for job in jobs:
        sources = {**job.inputs, **updates.get(job.id, {})}
        for own in job.parameters:
            name = job.written_parameters[own]
            for target, source in sources.items():
                refiner = next((refiners[r.job_id] for r in references_in(source) if r.job_id in refiners), None)
                if refiner is None or name in trial.overrides or name in told:
                    continue
                if _sets(own, target, recipes[refiner.id]):
                    told.add(name)
                    yield (
                        f'{WHERE}["{name}"]: {refiner.hook.name} ({refiner.where}) sets this too, in what {job.where}'
                        " gets from it; name the parameter in spec.trial.overrides to replace what it finds, or leave"
                        " one of the two out"
                    )


def _sets(own: str, target: str, recipe: Any) -> bool:
    """Whether a refine job whose result goes to `target` sets what a parameter sets."""
    op, arg, given = _argument(own, recipe)
    if target == "djConfigs":
        if op is None:
            return own == "process" or own.startswith("djConfigs.process")
        return isinstance(arg, str) and may_be_refined(op, arg, given)
    try:
        place = place_of(own, recipe)
    except LookupError:
        return False
    return f"{place}.".startswith(f"{target}.") or f"{target}.".startswith(f"{place}.")


def _argument(own: str, recipe: Any) -> tuple[str | None, str | None, Mapping[str, Any]]:
    """The operator and the argument that a parameter sets, and what the recipe says of that operator."""
    parts = own.split(".")
    names = operators_in(recipe)
    if parts[:2] == ["djConfigs", "process"]:
        if len(parts) < 5 or not parts[2].isdigit():
            return None, None, {}
        op, arg, index = parts[3], parts[4], int(parts[2])
    elif parts[0] in ROOTS or len(parts) < 2:
        return None, None, {}
    else:
        op, arg = parts[0].partition("#")[0], parts[1]
        wanted = operator_of(parts[0])
        index = names.index(wanted) if wanted in names else len(names)
    entry = recipe["process"][index] if index < len(names) else None
    given = entry.get(op) if isinstance(entry, Mapping) else None
    return op, arg, given if isinstance(given, Mapping) else {}


def may_be_refined(op: str, arg: str, given: Mapping[str, Any]) -> bool:
    """Whether refine jobs may move an argument: a bound (`min_...`, `max_...`) of a filter that holds a number.

    Of an operator that Data-Juicer does not have itself only the names can tell.
    """
    if arg.partition("_")[0] not in _SIDES:
        return False
    operator = catalogue()["operators"].get(op)
    if operator is None:
        return True
    value = given.get(arg, operator["args"].get(arg))
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    return operator["type"] == "filter" and arg in operator["args"] and is_number


def _fits(own: str, job: PlannedJob, dj: Mapping[str, Any] | None, *, is_only: bool) -> bool:
    """Whether what follows a job's name means something in its configurations, as far as they are known."""
    head, _, rest = own.partition(".")
    if not rest:
        return False
    if head == "extraConfigs":
        return is_only or job.hook.extra is not NoExtra
    if not job.hook.reads_dj:
        return is_only and head == "djConfigs"
    return head == "djConfigs" or dj is None or operator_of(head) in operators_in(dj)


def _repeated(name: str, own: str, job: PlannedJob, dj: Mapping[str, Any] | None) -> Iterator[str]:
    """A note where a name without a number may have been meant for another operator of the name."""
    head = own.partition(".")[0]
    if head in ROOTS or "." not in own or "#" in head or dj is None:
        return
    count = sum(op.partition("#")[0] == head for op in operators_in(dj))
    if count > 1:
        yield f'{WHERE}["{name}"]: goes to the first of {count} {head} in {job.where}; the second is {head}#2'
