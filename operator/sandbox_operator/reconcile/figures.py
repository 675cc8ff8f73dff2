# SPDX-License-Identifier: Apache-2.0
"""Figures that somebody keeps anyway, and that are asked for when Prometheus does: queue, requests, watches, lease."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..kube.client import Client
from ..kube.config import Connection
from ..kube.informer import Informer
from ..kube.queue import KeyedQueue
from .cache import Cache
from .metrics import Metrics, Samples
from .projections import ExperimentFact
from .resources import EXPERIMENTS

PLURAL = "plural as in the API, with `/status` for a status"


def ask_for_figures(
    metrics: Metrics,
    clients: Sequence[Client],
    cache: Cache,
    queue: Callable[[], KeyedQueue[Any] | None],
    version: str,
) -> None:
    """Add them to `metrics`. `queue()` is that of the workers, or None while this replica does not work."""

    def of_queue(figure: Callable[[KeyedQueue[Any]], float]) -> Callable[[], Samples]:
        def samples() -> Samples:
            now = queue()
            yield (), figure(now) if now is not None else 0.0

        return samples

    def silences() -> Samples:
        now = asyncio.get_running_loop().time()
        heard: dict[str, float] = {}
        for informer in cache.informers:
            if informer.last_activity is not None:
                name = informer.resource.plural
                heard[name] = max(heard.get(name, 0.0), now - informer.last_activity)
        return (((name,), silence) for name, silence in heard.items())

    def experiments() -> Samples:
        stored: Iterator[ExperimentFact] = (
            fact for informer in _of_experiments(cache) for fact in informer.store.values()
        )
        counts = Counter(fact.outcome or "New" for fact in stored) if queue() is not None else Counter()
        return (((outcome,), count) for outcome, count in counts.items())

    metrics.ask("info", "gauge", "Always 1; which version runs.", lambda: [((version,), 1)], version="this program's")
    metrics.ask(
        "leader", "gauge", "1 for the replica that works, 0 for those that stand by.",
        lambda: [((), float(queue() is not None))],
    )  # fmt: skip
    metrics.ask(
        "experiments", "gauge", "Experiments that are there, by outcome; told by the replica that works.", experiments,
        outcome="`.status.outcome`, or `New` before there is one",
    )  # fmt: skip
    metrics.ask("queue_depth", "gauge", "Experiments that wait to be looked at.", of_queue(len))
    metrics.ask("queue_delayed", "gauge", "Experiments that are looked at again later.", of_queue(lambda q: q.delayed))
    metrics.ask(
        "queue_oldest_seconds", "gauge", "For how long the first in the queue has waited.",
        of_queue(lambda q: q.oldest_age()),
    )  # fmt: skip
    metrics.ask(
        "queue_standstill_seconds", "gauge",
        "For how long experiments waited and none was looked at; the liveness probe fails at 300.",
        of_queue(lambda q: q.standstill()),
    )  # fmt: skip
    metrics.ask(
        "api_requests", "counter", "Requests to the API server that were answered, or never were (`none`).",
        lambda: list(sum((client.answers for client in clients), Counter[tuple[str, str, str]]()).items()),
        verb="get, list, watch, create, update, patch, delete, deletecollection", resource=PLURAL,
        code="HTTP status, or none",
    )  # fmt: skip
    metrics.ask(
        "watch_restarts", "counter", "Failures after which a watch began anew; a stream's ordinary end is none.",
        lambda: list(_restarts(cache).items()), resource=PLURAL,
    )  # fmt: skip
    metrics.ask(
        "watch_silence_seconds", "gauge", "Time since a watch heard something, a bookmark included.", silences,
        resource=PLURAL,
    )  # fmt: skip


def all_metrics() -> Metrics:
    """Every figure there is, of an operator that is connected to nothing: the reference page is made from it."""
    client = Client(Connection("http://nowhere"), field_manager="nobody")
    metrics = Metrics()

    def ignore(*_: object) -> None:
        return None

    ask_for_figures(metrics, [client], Cache(client, (), ignore, ignore, ignore, ignore), lambda: None, "")
    return metrics


def _restarts(cache: Cache) -> dict[tuple[str, ...], float]:
    counts: Counter[tuple[str, ...]] = Counter()
    for informer in cache.informers:
        counts[(informer.resource.plural,)] += informer.restarts
    return dict(counts)


def _of_experiments(cache: Cache) -> Iterator[Informer[ExperimentFact]]:
    return (informer for informer in cache.informers if informer.resource == EXPERIMENTS)
