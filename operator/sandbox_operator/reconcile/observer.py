# SPDX-License-Identifier: Apache-2.0
"""What the workers' steps look like from outside: figures, and lines in the log. It decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sandbox_api.status import ExperimentStatus

from ..build.names import ANNOTATION_JOB_ID, LABEL_ATTEMPT, helper_name
from ..kube.errors import ApiError, Conflict, NotFound
from ..kube.lease import NotHeld
from ..plan.actions import Action, CreateJob, Plan
from ..plan.compile import Compiled
from ..plan.facts import PodFact, Snapshot
from .act import Refused
from .logs import about
from .metrics import Metrics
from .observations import AttemptEnded, step_between
from .projections import Owned

log = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Ended pods whose result no status has told yet."""


_OUTCOMES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((Conflict, NotFound), "conflict"),
    ((Refused,), "refused"),
    ((NotHeld,), "not_leader"),
    ((ApiError,), "api_error"),
    ((asyncio.CancelledError,), "cancelled"),
)


class Observer:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._ended: dict[str, float] = {}
        """Loop time at which a hook's container was first seen ended, by the name of its Job."""
        self._handing: dict[str, float] = {}
        """The same for the hook whose result is committed now, by the uid of its experiment."""

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """Times one look at an experiment and counts how it ended."""
        now = asyncio.get_running_loop().time
        begin, outcome = now(), "done"
        try:
            yield
        except BaseException as error:
            outcome = next((word for classes, word in _OUTCOMES if isinstance(error, classes)), "mistake")
            raise
        finally:
            self._metrics.reconcile_seconds.observe(now() - begin)
            self._metrics.reconciles.labels(outcome).inc()

    def pod_changed(self, old: Owned[PodFact] | None, new: Owned[PodFact] | None) -> None:
        """A watch told of a pod: from the moment its hook is seen to have ended, the next Job is awaited."""
        if new is None or new.fact.hook.exit_code is None or (old is not None and old.fact.hook.exit_code is not None):
            return
        now = asyncio.get_running_loop().time()
        if new.fact.numbers:  # of several pods the last one counts
            self._ended[new.fact.job_name] = now
        self._ended.setdefault(new.fact.job_name, now)
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def written(self, snapshot: Snapshot, plan: Plan, compiled: Compiled, now: datetime) -> None:
        """`plan.status` stands now: count and tell what it says."""
        self._metrics.status_writes.labels("decision" if plan.urgent else "progress").inc()
        resources = {job.id: job.resources for job in compiled.jobs}
        step = step_between(snapshot, plan.status, resources, now)
        self._handing.pop(snapshot.uid, None)
        for started in step.started:
            self._metrics.pending_seconds.labels(started.stage).observe(started.waited)
        for attempt in step.attempts:
            self._attempt_ended(snapshot.uid, attempt)
        for job in step.jobs:
            self._metrics.jobs.labels(job.stage, job.state).inc()
        if step.finished is not None:
            self._handing.pop(snapshot.uid, None)
            self._metrics.experiments_finished.labels(step.finished).inc()
        if plan.urgent:
            log.info("%s", headline(plan.status))

    def _attempt_ended(self, uid: str, attempt: AttemptEnded) -> None:
        self._metrics.attempts.labels(attempt.stage, attempt.outcome).inc()
        use = "used" if attempt.outcome == "succeeded" else "wasted"
        self._metrics.gpu_seconds.labels(attempt.stage, use).inc(attempt.gpu_seconds)
        hook, merge = (self._ended.pop(helper_name(attempt.job_name, task), None) for task in ("run", "merge"))
        seen = hook if merge is None else merge
        if seen is not None and attempt.outcome == "succeeded":
            self._handing[uid] = min(seen, self._handing.get(uid, seen))
        with about(job=attempt.job, attempt=attempt.attempt):
            log.info("%s: %s", attempt.outcome, attempt.said)

    @contextmanager
    def acting(self, snapshot: Snapshot, action: Action) -> Iterator[None]:
        """Around one action: what is logged meanwhile is about its job; the first Job made ends a hand-over."""
        if not isinstance(action, CreateJob):
            yield
            return
        metadata = action.manifest["metadata"]
        with about(job=metadata["annotations"][ANNOTATION_JOB_ID], attempt=int(metadata["labels"][LABEL_ATTEMPT])):
            yield
            log.debug("the Job %s is made", metadata["name"])
        if (seen := self._handing.pop(snapshot.uid, None)) is not None:
            self._metrics.hand_over_seconds.observe(asyncio.get_running_loop().time() - seen)


def headline(status: ExperimentStatus) -> str:
    """What was decided, in a line."""
    ready = next((c.message for c in status.conditions if c.type == "Ready"), "")
    return f"{status.outcome} {status.progress or ''} {ready}"
