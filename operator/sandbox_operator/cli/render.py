# SPDX-License-Identifier: Apache-2.0
"""How an experiment looks in a terminal. Pure: a status in, something rich can print out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sandbox_api.status import ComparisonRow, ExperimentStatus, JobStatus, RankRow, Reason

from ..plan.clock import moment
from ..plan.conditions import condition_in
from ..plan.drafts import ANONYMOUS

COLOURS = {
    "Succeeded": "green", "Cached": "green", "Running": "cyan", "Pending": "default", "Failed": "red",
    "Skipped": "dim", "Queued": "yellow", "Stopped": "yellow",
}  # fmt: skip
MARKS = {"Succeeded": "✔", "Cached": "✔", "Running": "▶", "Failed": "✘", "Skipped": "·"}
MOST_FIGURES = 4
"""Of a running hook: more make the line too long."""
MOST_LINES = 30
"""A terminal holds no more; the others are counted."""
_PLAIN = re.compile(r"anonymous/1/[^/]+/[0-9]+$")
"""Id of a job where the stage tells enough: one pipeline, one iteration, no forEach."""
NO_LIMIT = 2.0**63
"""Data-Juicer writes `sys.maxsize` where an argument sets no limit."""
_REFINED = re.compile(r"(?:refineRecipe\.)?refined\.(?P<bound>.+)\.(?P<side>before|after)")


def progress_view(name: str, status: ExperimentStatus, now: datetime) -> RenderableType:
    """The experiment while it runs: a headline, and a line for each job with why it waits."""
    outcome = status.outcome or "Pending"
    head = Text.assemble((name, "bold"), "  ", (outcome, COLOURS[outcome]), "  ", status.progress or "")
    jobs, left = _in_view(status.jobs)
    is_plain = all(_PLAIN.match(job.id) for job in status.jobs)
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for column in ("", "stage" if is_plain else "job", "hook", "time", ""):
        table.add_column(column, no_wrap=column != "", overflow="fold")
    for job in jobs:
        colour = COLOURS[job.state]
        table.add_row(
            Text(MARKS.get(job.state, " "), colour),
            # As text, not markup: an item has brackets.
            Text(f"{job.id.split('/')[2]}  {job.meta_name}" if is_plain else job.id),
            Text(job.hook, colour),
            _took(job, now),
            Text(_live(job, now) or _words(job)),  # words of others may look like markup
        )
    more = [Text(f"and {sum(left.values())} more: {', '.join(f'{n} {s}' for s, n in left.items())}")] if left else []
    return Group(head, table, *more, *(Text(words, "red") for words in trouble(status)))


def conclusion(status: ExperimentStatus) -> str:
    """How an experiment stands or ended, in its own words."""
    ready = condition_in(status.conditions, "Ready")
    return ready.message if ready else status.outcome or "nothing was started"


def trouble(status: ExperimentStatus) -> list[str]:
    """What keeps an experiment from going on, or from beginning again after its end, until a person does something."""
    is_over = status.completion_time is not None  # then what it is stalled by is how it ended, and said already
    return [
        f"{c.reason}: {c.message}"
        for c in status.conditions
        if c.type == "Stalled" and not (is_over and c.reason != Reason.INVALID_SPEC)
    ]


def _in_view(jobs: list[JobStatus]) -> tuple[list[JobStatus], Counter[str]]:
    """The jobs that fit, in order, those first that something happens with; and the states of the others."""
    if len(jobs) <= MOST_LINES:
        return jobs, Counter()
    rank = {"Running": 0, "Failed": 1, "Pending": 2}
    by_interest = sorted(range(len(jobs)), key=lambda number: (rank.get(jobs[number].state, 3), number))
    shown = set(by_interest[:MOST_LINES])
    return [jobs[n] for n in sorted(shown)], Counter(job.state for n, job in enumerate(jobs) if n not in shown)


def line_of(job: JobStatus) -> str:
    """One line about a job that has changed, for logs and pipes."""
    words = _words(job)
    return f"{job.id:<26} {job.hook:<26} {job.state:<10} {words}".rstrip()


def report(name: str, namespace: str, status: ExperimentStatus) -> RenderableType:
    """What an experiment in a cluster has left, and how to look further."""
    claim = status.workspace.claim_name if status.workspace else "?"
    hints = (
        f"All of it:      kubectl -n {namespace} describe sbx {name}",
        f"In one page:    sandboxctl -n {namespace} show {name}",
        f"Logs of a hook: kubectl -n {namespace} logs -l sandbox.datajuicer.io/experiment={name} --prefix --tail=-1",
        f"The files:      on the claim {claim}, at the paths above; mount it in a pod of yours",
    )
    return findings(status, f"on the claim {claim}", hints)


def findings(status: ExperimentStatus, where: str, hints: Iterable[str]) -> RenderableType:
    """Before and after, refined bounds, and the artifacts, which lie `where`; then the hints, a line each."""
    parts: list[RenderableType] = []
    if status.comparison or status.ranking:
        parts.append(compared(status.comparison, status.ranking or ()))
    if bounds := _bounds(status):
        parts += [Text("Refined bounds", "bold"), bounds, Text()]
    if any(job.outputs for job in status.jobs):
        parts += [_whole_line(f"Artifacts {where}", "bold"), _artifacts(status), Text()]
    return Group(*parts, *(_whole_line(hint, "dim") for hint in hints))


def compared(rows: Iterable[ComparisonRow], ranking: Sequence[RankRow]) -> RenderableType:
    """A table for each pair of jobs, and one of the ranking."""
    parts: list[RenderableType] = []
    for (before, after), found in groupby(rows, key=lambda row: (row.before_job, row.after_job)):
        title = f"Before ({before}) and after ({after})" if before != after else f"{before} in both"
        parts += [Text(title, "bold"), comparison_table(found), Text()]
    if ranking:
        parts += [Text("Ranking", "bold"), ranking_table(ranking), Text()]
    return Group(*parts)


def ranking_table(rows: Sequence[RankRow]) -> Table:
    """Items of a forEach, the best first."""
    table = Table()
    table.add_column("")
    table.add_column("item", overflow="fold")  # cut off, names of pools are all alike
    for column in ("figure", "repeats", "against the baseline"):
        table.add_column(column, justify="right")
    table.add_column("")
    for place, row in enumerate(rows, 1):
        spread = f" ± {_number(row.std)}" if row.std is not None else ""
        told = {True: "tied with the second" if place == 1 else "tied with the first"}.get(bool(row.tied), "")
        change = _change(row, row.mean)
        table.add_row(str(place), Text(row.item), f"{_number(row.mean)}{spread}", str(row.repeats), change, told)
    return table


def comparison_table(rows: Iterable[ComparisonRow]) -> Table:
    """Each figure before and after, of one pair of jobs."""
    table = Table()
    table.add_column("figure")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    statistic = None
    for row in rows:
        if statistic != (statistic := row.metric.rpartition(".")[0]):
            table.add_section()
        table.add_row(Text(row.metric), _number(row.before), _number(row.after), _change(row, row.after))
    return table


def _bounds(status: ExperimentStatus) -> Table | None:
    bounds: dict[str, dict[str, float]] = {}
    for job in status.jobs:
        for metric, value in (job.metrics or {}).items():
            if match := _REFINED.fullmatch(metric.removeprefix(f"{job.meta_name}.")):
                bounds.setdefault(match["bound"], {})[match["side"]] = value
    if not bounds:
        return None
    table = Table()
    table.add_column("operator and argument")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for bound, sides in bounds.items():
        table.add_row(Text(bound), _number(sides.get("before")), _number(sides.get("after")))
    return table


def _artifacts(status: ExperimentStatus) -> RenderableType:
    named = [
        (f"{_called(job)}.{output}", str(value)) for job in status.jobs for output, value in (job.outputs or {}).items()
    ]
    width = max((len(name) for name, _ in named), default=0)
    return Group(*(_whole_line(f"{name:<{width}}  {value}") for name, value in named))


def _called(job: JobStatus) -> str:
    """A job as references name it, with the numbers of its items and its repeat as in its id: `tries[2].judge~1`."""
    pipeline, _, _, place = job.id.split("/")
    mark = re.search(r"[\[~].*", place)
    name = f"{job.meta_name}{mark[0] if mark else ''}"
    return name if pipeline == ANONYMOUS else f"{pipeline}.{name}"


def _whole_line(text: str, style: str = "") -> Text:
    """A line that is never broken: paths and commands are there to be copied."""
    return Text(text, style, no_wrap=True, overflow="ignore")


def _words(job: JobStatus) -> str:
    if job.state in ("Pending", "Failed", "Skipped") and job.reason:
        return f"{job.reason}: {job.message}" if job.message else job.reason
    return job.message or ""


def _live(job: JobStatus, now: datetime) -> str:
    """How far a running hook is: steps, its newest figures, and when it should end."""
    progress = job.progress
    if progress is None or job.state != "Running":
        return ""
    figures = [f"{name} {_number(value)}" for name, value in (progress.metrics or {}).items()]
    steps = "" if progress.step is None else f"step {progress.step}"
    if steps and progress.total is not None:
        steps += f" of {progress.total}"
    left = int((moment(progress.eta) - now).total_seconds()) if progress.eta else 0
    end = [f"about {_duration(left)} left"] if left > 0 else []
    return ", ".join(filter(None, [steps, *figures[:MOST_FIGURES], *end, job.message]))


def _duration(seconds: int) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _took(job: JobStatus, now: datetime) -> str:
    if job.start_time is None or job.state == "Skipped":
        return ""
    end = moment(job.completion_time) if job.completion_time else now
    return f"{max(0, int((end - moment(job.start_time)).total_seconds()))} s"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= NO_LIMIT:
        return "no limit"
    return f"{value:,.0f}".replace(",", " ") if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"


def _change(row: ComparisonRow | RankRow, figure: float | None) -> str:
    """As a share of where it began, if that says something; with repeats how sure that is."""
    if row.change is None or figure is None:
        return ""
    base = 1.0 if row.relative is None else abs(figure - row.change)
    form = "+.4g" if row.relative is None else "+.1%"
    words = format(row.change / base, form)
    if row.interval is None:
        return words
    low, high = row.interval
    words += f" ± {format((high - low) / 2 / base, form[1:])}"
    return f"{words} (noise)" if low <= 0 <= high else words
