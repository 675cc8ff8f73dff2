# SPDX-License-Identifier: Apache-2.0
"""How an experiment's plan looks in a terminal. Pure: a plan in, something rich can print out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..plan.drafts import ANONYMOUS
from ..plan.job import ANY_ITEM
from .preview import ExperimentPlan, InputPlan, JobPlan

WIDE = 120
"""Columns that a row needs to be read."""
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def plan_table(plan: ExperimentPlan, width: int) -> RenderableType:
    """The jobs in order with what each needs, and what all of them may take, for a terminal of so many columns."""
    jobs = sorted(plan.jobs, key=lambda job: job.step or 0)
    names = {job.id: _reference(job) for job in jobs}
    title = f"{plan.name}: {_many(plan)}"
    shown = _wide(title, jobs, names) if width >= WIDE else _narrow(title, jobs, names)
    return Group(*shown, *(Text(line) for line in _totals(plan)))


def _wide(title: str, jobs: Sequence[JobPlan], names: Mapping[str, str]) -> Iterator[RenderableType]:
    """A row for each job."""
    table = Table(title=title, title_justify="left")
    for column in ("step", "job", "hook, metaName", "inputs", "outputs", "pod"):
        table.add_column(column, overflow="fold", no_wrap=column in ("step", "job", "hook, metaName"))
    last: int | None = None
    for job in jobs:
        if last is not None and job.step != last:
            table.add_section()
        last = job.step
        pod = [text if label == "image" else f"{label} {text}" for label, text in _pod(job)]
        cells = (
            str(job.step or ""), job.id, f"{job.hook}\n{job.meta_name}", "\n".join(_inputs(job, names)),
            ", ".join(job.outputs), "\n".join(pod),
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    yield table


def _narrow(title: str, jobs: Sequence[JobPlan], names: Mapping[str, str]) -> Iterator[RenderableType]:
    """A few lines for each job, which fit where a row does not."""
    yield Text(title)
    for job in jobs:
        step = f"{job.step}. " if job.step else ""
        yield Text(f"\n{step}{job.id}\n   {job.hook} as {job.meta_name}")
        lines = Table.grid(padding=(0, 2, 0, 0))
        lines.add_column(no_wrap=True)
        lines.add_column(overflow="fold")
        for number, entry in enumerate(_inputs(job, names)):
            lines.add_row("   " if number else "   inputs", Text(entry))
        lines.add_row("   outputs", Text(", ".join(job.outputs)))
        for label, text in _pod(job):
            lines.add_row(f"   {label}", Text(text))
        yield lines
    yield Text()


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


def _inputs(job: JobPlan, names: Mapping[str, str]) -> list[str]:
    """What fills its configuration from elsewhere, in the order in which it is applied."""
    inputs = [f"{entry.target} = {_source(entry, names)}" for entry in job.inputs]
    return [*inputs, *(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in job.parameters.items())]


def _pod(job: JobPlan) -> Iterator[tuple[str, str]]:
    """Its image, what it asks for, what it may have, how long it may run."""
    yield "image", job.image_reference or job.image
    for label, amounts in (("requests", job.resources.requests), ("limits", job.resources.limits)):
        if amounts:
            yield label, ", ".join(f"{name} {amount}" for name, amount in amounts.items())
    if job.nodes > 1:
        yield "pods", f"{job.nodes} that work as one"
    if job.shards > 1:
        yield "pods", f"{job.shards} pieces, then a merge"
    yield "runs", f"at most {duration(job.active_seconds)}"


def _totals(plan: ExperimentPlan) -> Iterator[str]:
    if plan.gpu_hours:
        hours = f"{plan.gpu_hours * (plan.iterations or 1):g} GPU-hours"
        in_all = {0: " an iteration", 1: ""}.get(plan.iterations, f" in {plan.iterations} iterations")
        yield (
            f"GPUs: {plan.gpus_at_once} at once, at most {hours}{in_all} (each job's GPUs for its timeouts.active, one"
            " attempt each)"
        )
    if any(ANY_ITEM in job.id for job in plan.jobs):
        yield f"Jobs with {ANY_ITEM} run once for each item of a list that an earlier job makes; here they count once."
    if plan.iterations != 1:
        count = f"at most {plan.iterations}" if plan.iterations else "until the targets are met"
        yield f"Iterations: {count}; this is one."
    if plan.exporter:
        yield plan.exporter[0].upper() + plan.exporter[1:]


def duration(seconds: int) -> str:
    """As Kubernetes users write it: 5400 is `1h30m`."""
    parts = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
