# SPDX-License-Identifier: Apache-2.0
"""Figures about the operator itself, for Prometheus. Labels are bounded: no names of experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class _ApiCalls(Collector):
    """The client counts its requests itself; this shows them when asked."""

    def __init__(self, counts: Mapping[tuple[str, str], int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "sandbox_operator_api_requests",
            "Requests to the API server, repeats included.",
            labels=("verb", "resource"),
        )
        for (verb, resource), count in dict(self._counts).items():
            family.add_metric((verb, resource), count)
        yield family


class Metrics:
    def __init__(self, counts: Mapping[tuple[str, str], int], queue_length: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ApiCalls(counts))
        ProcessCollector(registry=self._registry)
        self._seconds = Histogram(
            "sandbox_operator_reconcile_seconds",
            "Time of one reconcile, its API calls included.",
            registry=self._registry,
        )
        self.errors = Counter(
            "sandbox_operator_internal_errors",
            "Reconciles that ended in a mistake of this operator.",
            registry=self._registry,
        )
        self.status_writes = Counter(
            "sandbox_operator_status_writes",
            "Statuses written: decisions at once, progress (Running, why it waits) coalesced.",
            ("kind",),
            registry=self._registry,
        )
        depth = Gauge("sandbox_operator_queue_depth", "Experiments that wait to be looked at.", registry=self._registry)
        depth.set_function(queue_length)

    @contextmanager
    def reconcile(self) -> Iterator[None]:
        """Times one reconcile, whatever comes of it."""
        begin = perf_counter()
        try:
            yield
        finally:
            self._seconds.observe(perf_counter() - begin)

    def serve(self, address: str, port: int) -> Callable[[], None]:
        """Answer Prometheus on a port, from a thread; gives what stops it."""
        server, thread = start_http_server(port, address, registry=self._registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop
