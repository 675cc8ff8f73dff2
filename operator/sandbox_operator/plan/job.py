# SPDX-License-Identifier: Apache-2.0
"""One job as the spec means it: everything that is decided about it before anything runs.

The same type serves before and after a `forEach` is spread out: an id with `[*]` in it stands for items that are not
known yet, and such a job never runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox_api.base import seconds
from sandbox_api.experiment import JobConfig, PodProfile, Policy, Resources, Timeouts
from sandbox_api.hook import Hook

from .retry import Budgets

ANY_ITEM = "[*]"
MAX_ITEMS = 256
"""Of a forEach."""
MAX_JOBS = 256
"""Of one iteration, each item of a forEach counted."""


@dataclass(frozen=True)
class Reference:
    """An output (or a figure) of an earlier job."""

    job_id: str
    output: str
    element: int | None = None
    """One element of an output that is a list."""


@dataclass(frozen=True)
class Gathered:
    """The same output of all items of a forEach or of all repeats, in their order."""

    references: tuple[Reference, ...]


@dataclass(frozen=True)
class Given:
    """A value that stands in the spec: an item of a literal list."""

    value: Any


@dataclass(frozen=True)
class Item:
    """The element of a forEach around the job, before it is known which. `keys` lead into it."""

    name: str
    keys: tuple[str, ...] = ()


Source = Reference | Gathered | Given | Item
"""Where an input comes from; in a job that runs never an `Item`."""


@dataclass(frozen=True)
class Fan:
    """A `forEach`: one copy of a pipeline or a job for each item."""

    name: str
    """What the item is called in the configurations."""
    where: str
    items: Reference | Gathered | tuple[Any, ...]
    """The output that is the list, what makes one in all repeats, or the list itself."""
    max_parallel: int | None = None

    @property
    def references(self) -> tuple[Reference, ...]:
        """The results that the list is made of."""
        return () if isinstance(self.items, tuple) else references_in(self.items)


@dataclass(frozen=True)
class Share:
    """One of the items that may be at work at a time, as `maxParallel` limits them."""

    group: str
    member: int
    limit: int


@dataclass(frozen=True)
class TimeLimits:
    """Seconds."""

    pending: int = 3600
    active: int = 86400
    result: int = 120
    node_lost: int = 600


@dataclass(frozen=True)
class PlannedJob:
    """One job of an experiment, with everything about it that the spec decides."""

    id: str
    where: str
    """Its place in the spec, for messages."""
    pipeline: str
    iteration: int
    stage: str
    index: int
    hook: Hook
    config: JobConfig
    meta_name: str
    outputs: tuple[str, ...]
    inputs: Mapping[str, Source] = field(default_factory=dict)
    """By target: a configuration key, or `probe`."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of a trial, as far as they concern this job, with no job's name before them (`sandbox_api.parameters`)."""
    written_parameters: Mapping[str, str] = field(default_factory=dict)
    """The same names as they stand in the spec, for messages."""
    after: tuple[str, ...] = ()
    """Ids of the jobs that must have ended before it starts; those before them are not named again."""
    needs: tuple[str, ...] = ()
    """Its figures and outputs that the controller itself must know."""
    on_failure: Policy = "Fail"
    is_last_stage: bool = False
    """Whether it belongs to the evaluation, which `stop: AfterEvaluation` still runs."""
    pipeline_fan: Fan | None = None
    fan: Fan | None = None
    pipeline_item: int | None = None
    item: int | None = None
    repeat: int | None = None
    shares: tuple[Share, ...] = ()
    label: str = ""
    """The item's name, of pipeline and job, for people."""
    publish_under: str = ""
    problem: str | None = None
    """Why a forEach can't be spread out, known only while it runs."""
    digest: str = ""
    """Of what the spec asks: two jobs of one id and digest have the same result."""
    budgets: Budgets = field(default_factory=Budgets)
    limits: TimeLimits = field(default_factory=TimeLimits)
    profile: PodProfile = field(default_factory=lambda: PodProfile())
    resources: Resources | None = None

    @property
    def is_divided(self) -> bool:
        """Whether it is done in independent pieces."""
        return self.config.shards > 1

    @property
    def has_several_pods(self) -> bool:
        """Whether an attempt of it has pods that are numbered."""
        return self.is_divided or self.config.nodes > 1

    @property
    def is_spread(self) -> bool:
        """Whether it is known which item it is for, and so it may run."""
        return ANY_ITEM not in self.id

    @property
    def producers(self) -> frozenset[str]:
        """Ids of the jobs whose results it reads."""
        return frozenset(reference.job_id for source in self.inputs.values() for reference in references_in(source))

    @property
    def list_makers(self) -> frozenset[str]:
        """Ids of the jobs that make the lists it waits for to be spread out."""
        fans = (fan for fan in (self.pipeline_fan, self.fan) if fan is not None)
        return frozenset(found.job_id for fan in fans for found in fan.references)


_ITEM = re.compile(r"\[\d+\]")


def planned_id(job_id: str) -> str:
    """The id under which a job was planned: of the first iteration, for any item and repeat."""
    pipeline, _, *rest = _ITEM.sub(ANY_ITEM, job_id.partition("~")[0]).split("/")
    return "/".join([pipeline, "1", *rest])


def of_item(job_id: str, number: int) -> str:
    """The id of a job for one item of its own forEach."""
    whole, mark, repeat = job_id.partition("~")
    return f"{whole.removesuffix(ANY_ITEM)}[{number}]{mark}{repeat}"


def is_of_each_item(job_id: str) -> bool:
    """Whether the id stands for all items of the job's own forEach."""
    return job_id.partition("~")[0].endswith(ANY_ITEM)


def references_in(source: Source) -> tuple[Reference, ...]:
    """The results that a source takes from."""
    if isinstance(source, Gathered):
        return source.references
    return (source,) if isinstance(source, Reference) else ()


def time_limits(*layers: Timeouts | None) -> TimeLimits:
    """Limits from the defaults, overridden by each layer in turn (experiment, then job)."""
    given: dict[str, int] = {}
    for layer in layers:
        if layer is not None:
            given |= {name: seconds(value) for name, value in layer.model_dump(exclude_none=True).items()}
    return TimeLimits(**given)


def told(source: Source) -> str:
    """Where an input comes from, for people."""
    if isinstance(source, Gathered):
        return f"[{', '.join(told(reference) for reference in source.references)}]"
    if isinstance(source, Given):
        return repr(source.value)
    if isinstance(source, Item):
        return ".".join(("item", source.name, *source.keys))
    element = "" if source.element is None else f"[{source.element}]"
    return f"{source.job_id} {source.output}{element}"
