# SPDX-License-Identifier: Apache-2.0
"""Figures about the operator itself, for Prometheus. Labels are bounded: no name of a user's making is one.

`describe()` is what docs/reference/metrics.md is generated from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeVar, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client import generate_latest as exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sandbox_api.hook import STAGES
from sandbox_api.status import FINISHED_STATES, Outcome
from sandbox_api.sweep import SweepStatus

from .observations import OTHER_STAGE, AttemptOutcome

disable_created_metrics()  # a second series for each, which nobody asks for

PREFIX = "sandbox_operator_"
CONTENT_TYPE = CONTENT_TYPE_LATEST
STAGE = (*STAGES, OTHER_STAGE)
RECONCILED = ("done", "conflict", "refused", "api_error", "not_leader", "cancelled", "mistake")
EVENTS_SENT = ("sent", "known", "failed", "dropped")

REPORTED = ("200", "400", "401", "403", "408", "413", "429", "503")

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SLOW = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)

Labels = Mapping[str, tuple[str, ...] | str]
"""By label: all its values, or, where they stand outside this program, words that say what they are."""
Samples = Iterable[tuple[tuple[str, ...], float]]
"""Values of the labels, and the figure."""


@dataclass(frozen=True)
class Described:
    name: str
    """As Prometheus shows it, a counter's `_total` included."""
    kind: Literal["counter", "gauge", "histogram"]
    words: str
    labels: Labels


class _Asked(Collector):
    """A figure that somebody keeps anyway, asked for when it is shown."""

    def __init__(self, described: Described, samples: Callable[[], Samples]) -> None:
        self._described = described
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        this = self._described
        kind = CounterMetricFamily if this.kind == "counter" else GaugeMetricFamily
        family = kind(this.name.removesuffix("_total"), this.words, labels=tuple(this.labels))
        for labels, value in self._samples():
            family.add_metric(labels, value)
        yield family


class Metrics:
    """Everything that is counted. What others keep (queue, client, watches) is added by `ask`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._described: list[Described] = []
        ProcessCollector(registry=self._registry)
        self.reconciles = self._counter(
            "reconciles", "Looks at an experiment, by how they ended; `mistake` is a bug of this operator.",
            outcome=RECONCILED,
        )  # fmt: skip
        self.reconcile_seconds = self._histogram(
            "reconcile_seconds", "Time of one look at an experiment, its API calls included.", FAST
        )
        self.status_writes = self._counter(
            "status_writes",
            "Statuses written: decisions at once, progress (Running, why it waits) coalesced, live (pods') paced.",
            kind=("decision", "progress", "live"),
        )  # fmt: skip
        self.events = self._counter(
            "events", "Events about experiments, by what became of them; `known`: the API server had it already.",
            outcome=EVENTS_SENT,
        )  # fmt: skip
        self.progress_reports = self._counter(
            "progress_reports", "Reports of pods about their progress, by the HTTP status of the answer.", code=REPORTED
        )
        self.experiments_finished = self._counter(
            "experiments_finished", "Experiments that ended, by their outcome.", outcome=get_args(Outcome)[2:]
        )
        self.jobs = self._counter("jobs", "Jobs that ended, by their state.", stage=STAGE, outcome=FINISHED_STATES)
        self.attempts = self._counter(
            "attempts",
            "Attempts that ended: with a result, with a failure by its budget (`final`: it has none, as a wrong"
            " configuration), or else (waited too long, suspended).",
            stage=STAGE, outcome=get_args(AttemptOutcome),
        )  # fmt: skip
        self.pending_seconds = self._histogram(
            "pending_seconds", "Time from the decision to start an attempt to the start of its container.", SLOW,
            stage=STAGE,
        )  # fmt: skip
        self.hand_over_seconds = self._histogram(
            "hand_over_seconds", "Time from seeing that a hook's container ended to having created the next Job.", FAST
        )
        self.gpu_seconds = self._counter(
            "gpu_seconds",
            "GPUs of hooks' limits times the seconds they ran: `used` where a result came of it, else `wasted`.",
            stage=STAGE, outcome=("used", "wasted"),
        )  # fmt: skip

        self.trials = self._counter(
            "trials", "Trials of sweeps that ended, by their state.", outcome=("Succeeded", "Failed", "Pruned")
        )
        self.sweeps_finished = self._counter(
            "sweeps_finished", "Sweeps that ended, by their outcome.", outcome=("Succeeded", "Failed")
        )

    def sweep_written(self, old: SweepStatus, new: SweepStatus) -> None:
        """A sweep's status was written: count what it tells beyond the one before."""
        before, after = old.counts, new.counts
        self.trials.labels("Succeeded").inc(max(0, after.succeeded - before.succeeded))
        self.trials.labels("Failed").inc(max(0, after.failed - before.failed))
        self.trials.labels("Pruned").inc(max(0, after.pruned - before.pruned))
        if new.completion_time is not None and old.completion_time is None and new.outcome in ("Succeeded", "Failed"):
            self.sweeps_finished.labels(new.outcome).inc()

    def ask(
        self, name: str, kind: Literal["counter", "gauge"], words: str, samples: Callable[[], Samples], **labels: str
    ) -> None:
        """Show a figure that is kept elsewhere; `labels` says what their values are."""
        described = Described(PREFIX + name + ("_total" if kind == "counter" else ""), kind, words, labels)
        self._described.append(described)
        self._registry.register(_Asked(described, samples))

    def describe(self) -> tuple[Described, ...]:
        """Every figure, in the order in which it is shown; without those of the process itself."""
        return tuple(self._described)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return exposition(self._registry)

    def _counter(self, name: str, words: str, **labels: tuple[str, ...]) -> Counter:
        self._described.append(Described(f"{PREFIX}{name}_total", "counter", words, labels))
        counter = Counter(PREFIX + name, words, tuple(labels), registry=self._registry)
        return _shown_from_the_start(counter, labels)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...], **labels: tuple[str, ...]) -> Histogram:
        self._described.append(Described(PREFIX + name, "histogram", words, labels))
        histogram = Histogram(PREFIX + name, words, tuple(labels), registry=self._registry, buckets=buckets)
        return _shown_from_the_start(histogram, labels)


Kept = TypeVar("Kept", Counter, Histogram)


def _shown_from_the_start(figure: Kept, labels: Mapping[str, tuple[str, ...]]) -> Kept:
    """Every value of its labels as 0, so that `rate` sees the first one too."""
    for values in product(*labels.values()) if labels else ():
        figure.labels(*values)
    return figure
