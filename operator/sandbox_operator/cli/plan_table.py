# SPDX-License-Identifier: Apache-2.0
"""How an experiment's plan looks in a terminal. Pure: a plan in, something rich can print out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..plan.drafts import ANONYMOUS
from ..plan.job import ANY_ITEM
from .preview import ExperimentPlan, InputPlan, JobPlan

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def plan_table(plan: ExperimentPlan) -> RenderableType:
    """The jobs in order with what each needs, and what all of them may take."""
    table = Table(title=f"{plan.name}: {_many(plan)}", title_justify="left")
    for column in ("step", "job", "hook, metaName", "inputs", "outputs", "pod"):
        table.add_column(column, overflow="fold", no_wrap=column in ("step", "job", "hook, metaName"))
    names = {job.id: _reference(job) for job in plan.jobs}
    last: int | None = None
    for job in sorted(plan.jobs, key=lambda job: job.step or 0):
        if last is not None and job.step != last:
            table.add_section()
        last = job.step
        inputs = [f"{entry.target} = {_source(entry, names)}" for entry in job.inputs]
        cells = (
            str(job.step or ""), job.id, f"{job.hook}\n{job.meta_name}", "\n".join(inputs), ", ".join(job.outputs),
            "\n".join(_pod(job)),
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    return Group(table, *(Text(line) for line in _totals(plan)))


def _many(plan: ExperimentPlan) -> str:
    count = "1 job" if len(plan.jobs) == 1 else f"{len(plan.jobs)} jobs"
    if len(plan.jobs) < 2 or not plan.steps:
        return count
    width = max(sum(job.step == step for job in plan.jobs) for step in range(1, plan.steps + 1))
    return f"{count}, one after another" if width < 2 else f"{count} in {plan.steps} steps, up to {width} side by side"


def _reference(job: JobPlan) -> str:
    """A job as references name it; the pipeline of the four lists need not be said."""
    pipeline = job.id.partition("/")[0]
    return job.meta_name if pipeline == ANONYMOUS else f"{pipeline}.{job.meta_name}"


def _source(entry: InputPlan, names: Mapping[str, str]) -> str:
    if entry.item is not None:
        return f"each {entry.item}"
    if not entry.sources:
        return json.dumps(entry.value, ensure_ascii=False)
    first = entry.sources[0]
    element = "" if first.element is None else f"[{first.element}]"
    one = f"{names.get(first.job, first.job)}.{first.output}{element}"
    return one if len(entry.sources) == 1 else f"{one} of {len(entry.sources)} items"


def _pod(job: JobPlan) -> Iterator[str]:
    """Its image, its resources (where there is a limit: the limit), and its time limit."""
    yield job.image_reference or job.image
    amounts = job.resources.requests | job.resources.limits
    if amounts:
        yield ", ".join(f"{name} {amount}" for name, amount in amounts.items())
    yield f"at most {duration(job.active_seconds)}"


def _totals(plan: ExperimentPlan) -> Iterator[str]:
    if plan.gpu_hours:
        yield (
            f"GPUs: {plan.gpus_at_once} at once, at most {plan.gpu_hours:g} GPU-hours (each job's GPUs for its"
            " timeouts.active, one attempt each)"
        )
    if any(ANY_ITEM in job.id for job in plan.jobs):
        yield f"Jobs with {ANY_ITEM} run once for each item of a list that an earlier job makes; here they count once."
    if plan.iterations != 1:
        count = f"at most {plan.iterations}" if plan.iterations else "until the targets are met"
        yield f"Iterations: {count}; this is one."


def duration(seconds: int) -> str:
    """As Kubernetes users write it: 5400 is `1h30m`."""
    parts = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
