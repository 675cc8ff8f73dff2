# SPDX-License-Identifier: Apache-2.0
"""Whether the values that later trials may get are right, looked at one by one before the first trial begins.

A whole trial for each would take too long. So the configuration of the jobs that a parameter goes to is checked, as it
is of any experiment, with each choice and with both ends of each range in the place of the first trial's value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sandbox_api.distributions import shape_of
from sandbox_api.parameters import ROOTS
from sandbox_api.words import shown

from ..search.distributions import Parameter
from ..search.space import Space
from .compile import Compiled
from .configs import check_configs, effective, with_parameters
from .job import PlannedJob, planned_id
from .limits import gpus_of

MAX_CHOICES = 64
"""Of a parameter; what stands behind them in a list is checked when a trial has it."""
MAX_CHECKS = 256
"""Of a sweep."""
TOLD = 3
"""Wrong values of a parameter that are named, the rest counted."""
OPEN, RARE = 1e-6, 0.01
"""Coordinates for the lower end of a range that has no value of its own there, and where there is no end at all."""

Judge = Callable[[Mapping[str, Any]], list[str]]


@dataclass(frozen=True)
class WrongValue:
    name: str
    """Of the parameter."""
    place: str
    """What to read before the rest: where in the definition the value stands, or that a trial may get it."""
    words: str
    """What any experiment's plan says of it, with the place in the first trial's spec."""


@dataclass(frozen=True)
class _Value:
    value: Any
    place: str


def value_problems(space: Space, values: Mapping[str, Any], first: Compiled) -> tuple[WrongValue, ...]:
    """What is wrong with values that are in the space, as far as they are looked at; `values` are the first trial's."""
    volumes = tuple(volume.name for volume in first.spec.inputs) if first.spec is not None else ()
    jobs = [*{planned_id(job.id): job for job in first.jobs if job.hook.known and job.parameters}.values()]
    ends = tuple({each.name: each.value(x) for each in space.parameters} for x in (0.5, OPEN, 1 - OPEN))
    budget = iter(range(MAX_CHECKS))
    found: list[WrongValue] = []
    for parameter in space.searched:
        wrong: list[WrongValue] = []
        for job in jobs:
            own = next((own for own, name in job.written_parameters.items() if name == parameter.name), None)
            if own is None:
                continue
            judge = _judge(job, volumes)
            without = {own: values[name] for own, name in job.written_parameters.items() if name in values}
            without.pop(own, None)
            before = set(judge(without))
            for each in islice(_values_of(parameter), MAX_CHOICES):
                if next(budget, None) is None:
                    return (*found, *wrong)
                told = [words for words in judge({**without, own: each.value}) if words not in before]
                for words in told:
                    if all(_says(job, judge, own, each.value, other, words) for other in ends):
                        wrong.append(WrongValue(parameter.name, each.place, _plain(words, job)))
                        break
                if wrong and not parameter.choices:
                    break  # of a range one end tells it
        found += wrong
    return tuple(found)


def is_told(problem: str, where: str, found: tuple[WrongValue, ...]) -> bool:
    """Whether what is wrong with the first trial's own value is told with that value or another of the parameter."""
    return any(
        problem.startswith(head := f'{where}["{each.name}"]: ')
        and (problem == head + each.words or _place(problem.removeprefix(head)) == _place(each.words))
        for each in found
    )


def sentences(found: tuple[WrongValue, ...]) -> Iterator[str]:
    """A sentence for each of the first wrong values of a parameter, and one for the rest of them."""
    by_name: dict[str, list[WrongValue]] = {}
    for each in found:
        by_name.setdefault(each.name, []).append(each)
    for name, wrong in by_name.items():
        yield from (f"{each.place}: {each.words}" for each in wrong[:TOLD])
        if len(wrong) > TOLD:
            yield f'spec.parameters["{name}"]: {len(wrong) - TOLD} more of its values are wrong in the same way'


def _values_of(parameter: Parameter) -> Iterator[_Value]:
    """The choices of a categorical parameter, both ends of any other, as a trial would get them."""
    where = f'spec.parameters["{parameter.name}"]'
    if parameter.choices:
        for index, choice in enumerate(parameter.choices):
            if not parameter.probabilities or parameter.probabilities[index] > 0:
                yield _Value(choice, f"{where}.values[{index}]: a trial may get {shown(choice)}")
        return
    shape = shape_of(parameter.distribution)
    if shape is not None and shape.clipped:
        edge = RARE
    else:
        edge = OPEN if shape is not None and parameter.quantum is None else 0.0
    for x in (edge, 1 - edge):
        value = parameter.value(x)
        if isinstance(value, float) and parameter.quantum is None:
            value = float(f"{value:.9g}")  # for people: it stands for others near it anyway
        yield _Value(value, f"{where}: a trial may get {value!r} ({parameter.distribution})")


def _judge(job: PlannedJob, volumes: tuple[str, ...]) -> Judge:
    """What is wrong with a job's configurations as some parameters leave them."""
    filled = set(job.inputs)
    config = job.config
    if effective(config)["djConfigs"] is None and job.hook.reads_dj:  # a refine job writes it: its operators are known
        heads = dict.fromkeys(own.partition(".")[0] for own in job.parameters if "." in own)
        process: list[dict[str, Any]] = [{head: {}} for head in heads if head not in ROOTS and "#" not in head]
        given = {target: source for target, source in (config.input or {}).items() if target != "djConfigs"}
        update = {"dj_configs": {"dataset_path": "any", "process": process}, "input": given, "local": None}
        config, filled = config.model_copy(update=update), filled - {"djConfigs"}
    gpus = gpus_of(job.resources)
    return lambda some: [*check_configs(with_parameters(config, some), job.hook, job.where, filled, volumes, gpus)]


def _says(job: PlannedJob, judge: Judge, own: str, value: Any, other: Mapping[str, Any], words: str) -> bool:
    """Whether the same place is wrong beside other values of the other parameters: some go together with some only."""
    beside = {name: other[written] for name, written in job.written_parameters.items() if written in other}
    return _place(words) in map(_place, judge({**beside, own: value}))


def _place(words: str) -> str:
    return words.partition(": ")[0]


def _plain(words: str, job: PlannedJob) -> str:
    """Without the key of `local` that a parameter is looked at as."""
    place, colon, rest = words.partition('"]: ')
    return rest if colon and place.startswith(f"{job.where}.local[") else words
