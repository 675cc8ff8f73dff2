# SPDX-License-Identifier: Apache-2.0
"""The operator's process without its shell: start everything in order, and stop it in reverse."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from ..kube.client import Client
from ..kube.config import Connection
from ..kube.informer import Key
from ..kube.queue import KeyedQueue
from .cache import Cache
from .events import EventSender
from .metrics import Metrics
from .reconciler import Reconciler
from .settings import Settings, SettingsError

log = logging.getLogger(__name__)

SILENT_STREAMS = 4
"""A watch that has heard nothing for so many times its limit of silence is deaf."""
STUCK_SECONDS = 300.0
"""A key waits or is worked at for at most that long; a longer queue is no reason to restart."""


class Operator:
    """`async with Operator(connection, settings) as operator: await operator.run()`."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._settings = settings
        self._queue: KeyedQueue[Key] = KeyedQueue()
        self.client = Client(connection, field_manager="sandbox-operator")
        self._cache = Cache(self.client, settings.namespaces, self._queue.add)
        self._ready = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Operator:
        await self._stack.enter_async_context(self.client)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Work until cancelled. Raises when a part of the operator ends by itself, which none ever should."""
        metrics = Metrics(self.client.counts, lambda: len(self._queue))
        if self._settings.metrics_port:
            try:
                self._stack.callback(metrics.serve(self._settings.listen, self._settings.metrics_port))
            except OSError as error:
                raise SettingsError(f"SANDBOX_METRICS_PORT: {self._settings.metrics_port}: {error}") from error
        events = EventSender(self.client)
        reconciler = Reconciler(
            self.client, self._cache, self._queue, events, metrics, self._settings.defaults, lambda: datetime.now(UTC)
        )
        async with asyncio.TaskGroup() as group:
            for informer in self._cache.informers:
                group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
            await self._cache.synced()
            self._ready = True
            where = ", ".join(self._settings.namespaces) or "all namespaces"
            log.info("watching %s; %d experiments to look at", where, len(self._queue))
            group.create_task(events.run(), name="events")
            for number in range(self._settings.workers):
                group.create_task(reconciler.work(), name=f"worker-{number}")

    @property
    def is_ready(self) -> bool:
        """Whether everything has been seen once."""
        return self._ready

    def unhealthy(self) -> str | None:
        """Why this process should be restarted, or None. It looks at progress, not at the length of a queue."""
        now = asyncio.get_running_loop().time()
        for informer in self._cache.informers:
            silent = now - informer.last_activity if informer.last_activity is not None else 0.0
            if silent > SILENT_STREAMS * informer.idle_seconds:
                return f"the watch of {informer.resource.plural} has been silent for {silent:.0f} s"
        if self._ready and self._queue.oldest_age() > STUCK_SECONDS:
            return f"no progress for {self._queue.oldest_age():.0f} s"
        return None
