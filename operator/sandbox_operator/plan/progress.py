# SPDX-License-Identifier: Apache-2.0
"""How far running hooks are, as the status says it. It decides nothing and no decision looks at it.

What a pod tells reaches the status outside the planner (docs/decisions/0150-progress-is-pushed.md); the planner only
takes away what no longer is so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sandbox_api.progress import ProgressReport
from sandbox_api.status import ExperimentStatus, JobStatus, StepProgress

from .clock import stamp


@dataclass(frozen=True)
class Live:
    """How far an attempt is."""

    attempt: int
    progress: StepProgress


def told(status: ExperimentStatus, live: Mapping[str, Live]) -> ExperimentStatus:
    """The same status with what is told of its jobs, by id; only of attempts that run."""
    jobs = [_told(entry, live.get(entry.id)) for entry in status.jobs]
    return status.model_copy(update={"jobs": jobs, "live": line_of(jobs)})


def _told(entry: JobStatus, live: Live | None) -> JobStatus:
    if live is None or entry.state != "Running" or entry.attempts != live.attempt:
        return entry
    return entry.model_copy(update={"progress": live.progress})


def only_running(entry: JobStatus) -> JobStatus:
    """A job's status without the progress of a hook that runs no more."""
    if entry.progress is None or entry.state == "Running":
        return entry
    return entry.model_copy(update={"progress": None})


def line_of(jobs: Iterable[JobStatus]) -> str | None:
    """One short line about what runs, for a column: `train 120/500 loss 0.31`, of several jobs the first."""
    running = [job for job in jobs if job.progress is not None and job.state == "Running"]
    if not running:
        return None
    words = [running[0].meta_name, words_of(running[0].progress)]
    words += [f"(+{len(running) - 1})"] if len(running) > 1 else []
    return " ".join(filter(None, words))


def words_of(progress: StepProgress | None) -> str:
    """`120/500 loss 0.31`: the step, and the one figure that people ask for."""
    if progress is None:
        return ""
    figures = progress.metrics or {}
    parts = [] if progress.step is None else [f"{progress.step}{_of(progress.total)}"]
    # The API server keeps no order of keys, so which one it is hangs on its name alone.
    first = min(figures, key=lambda name: (name != "loss", not name.endswith("loss"), name), default=None)
    parts += [] if first is None else [f"{first} {figures[first]:.4g}"]
    return " ".join(parts)


def _of(total: int | None) -> str:
    return "" if total is None else f"/{total}"


def together(reports: Iterable[tuple[ProgressReport, datetime]]) -> StepProgress:
    """What the pods of one attempt tell, each with when it was heard, as one: steps added up, figures as their means.

    While some have told nothing, nobody knows the steps in all, nor the end. A mean that no float holds is left out.
    """
    heard = list(reports)
    steps = [report.step for report, _ in heard if report.step is not None]
    totals = [report.total for report, _ in heard if report.total is not None]
    ends = [at + timedelta(seconds=r.seconds_left) for r, at in heard if r.seconds_left is not None]
    are_all = len(heard) >= max(report.tellers for report, _ in heard)
    names = dict.fromkeys(name for report, _ in heard for name in report.metrics)
    figures = {name: [report.metrics[name] for report, _ in heard if name in report.metrics] for name in names}
    means = {name: sum(found) / len(found) for name, found in figures.items()}
    return StepProgress(
        step=sum(steps) if steps else None,
        total=sum(totals) if are_all and len(totals) == len(heard) else None,
        metrics={name: mean for name, mean in means.items() if math.isfinite(mean)} or None,
        eta=stamp(max(ends)) if are_all and len(ends) == len(heard) else None,
    )
