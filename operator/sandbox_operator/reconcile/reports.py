# SPDX-License-Identifier: Apache-2.0
"""What pods have told, in memory: the newest of each, and every rung of trials in the order in which they came.

Nothing of it is needed to go on: after a restart the pods tell again, and a rung is told until a decision about it
stands in its experiment's status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sandbox_api.progress import ProgressReport

from ..kube.informer import Key
from ..plan.progress import Live, together


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells, as the informers know it: a live pod of an attempt."""

    key: Key
    """Of the experiment."""
    experiment: str
    """Its uid."""
    job: str
    attempt: int
    pod: str
    """Uid of the pod."""
    rungs: frozenset[int] = frozenset()
    """Where its trial may be ended early by what the job logs; none for all other jobs and experiments."""


@dataclass(frozen=True, slots=True)
class RungReport:
    """A trial has come to a rung."""

    rung: int
    value: float | None
    """None: no finite number."""
    order: int
    """Rises with each one that is heard, over all experiments."""


@dataclass
class _Job:
    attempt: int
    heard: dict[str, tuple[ProgressReport, datetime]] = field(default_factory=dict)
    """By the pod's uid."""


@dataclass
class _Experiment:
    uid: str
    jobs: dict[str, _Job] = field(default_factory=dict)
    rungs: dict[int, RungReport] = field(default_factory=dict)


class Reports:
    """`on_news` is called with the key of an experiment that has progress to write, `on_rung` with that of a trial that
    has come to a rung; neither is waited for."""

    def __init__(self, on_news: Callable[[Key], None], on_rung: Callable[[Key], None]) -> None:
        self._on_news = on_news
        self._on_rung = on_rung
        self._of: dict[Key, _Experiment] = {}
        self._order = 0

    def take(self, teller: Teller, report: ProgressReport, now: datetime) -> None:
        """Remember a report. That of an attempt before the newest one only tells of rungs.

        Rungs that are none of the teller's are passed over without a word: an older contract may have had others.
        """
        known = self._of.get(teller.key)
        if known is None or known.uid != teller.experiment:
            known = self._of[teller.key] = _Experiment(teller.experiment)
        job = known.jobs.get(teller.job)
        if job is None or job.attempt < teller.attempt:
            job = known.jobs[teller.job] = _Job(teller.attempt)
        if job.attempt == teller.attempt:
            job.heard[teller.pod] = report, now
            self._on_news(teller.key)
        told_here = [told for told in report.rungs if told.rung in teller.rungs]
        new = [told for told in told_here if told.rung not in known.rungs]  # the first value counts, whoever told it
        for told in new:
            self._order += 1
            known.rungs[told.rung] = RungReport(told.rung, told.value, self._order)
        if new:
            self._on_rung(teller.key)

    def is_known(self, key: Key) -> bool:
        """Whether anything was told of the experiment's jobs."""
        return key in self._of

    def live(self, key: Key, uid: str) -> Mapping[str, Live]:
        """How far the newest attempt of each job is that has told anything."""
        known = self._of.get(key)
        if known is None or known.uid != uid:
            return {}
        return {id: Live(job.attempt, together(job.heard.values())) for id, job in known.jobs.items()}

    def rungs(self, key: Key) -> tuple[RungReport, ...]:
        """The rungs that a trial has come to, in the order in which they were heard."""
        known = self._of.get(key)
        return tuple(known.rungs.values()) if known is not None else ()

    def ended(self, key: Key) -> None:
        """The experiment is over: nobody asks how far it is. Its rungs stay, for others are compared with them."""
        if (known := self._of.get(key)) is not None:
            known.jobs.clear()
            if not known.rungs:
                del self._of[key]

    def forget(self, key: Key) -> None:
        """The experiment has gone."""
        self._of.pop(key, None)
