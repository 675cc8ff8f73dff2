# SPDX-License-Identifier: Apache-2.0
"""Writes what pods tell of their way into the status of their experiment, when there is room for it.

Beside the workers, and without a plan: the status that stands, with nothing but `progress` and `live` renewed. It has
the experiment's key in the queue for as long as the write takes, so that it never meets a worker at the same one, and
carries the resourceVersion like every other status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from ..kube.client import Client
from ..kube.errors import ApiError, Conflict, NotFound
from ..kube.informer import Key
from ..kube.lease import NotHeld
from ..kube.queue import KeyedQueue
from ..plan.progress import told
from . import projections as project
from .budget import Budget
from .cache import Cache
from .logs import about
from .reports import Reports
from .resources import EXPERIMENTS
from .status import write_status

log = logging.getLogger(__name__)

TAKEN_SECONDS = 0.05
"""Until it looks again after it wanted an experiment that a worker has."""
PATIENCE_SECONDS = 0.5
"""For so long a write lets workers go first, if there always is one at work."""
WRITE_SECONDS = 2.0
"""A write that takes longer is given up: a worker may want the experiment."""


class ProgressWriter:
    """`reports` calls it with news; `decided` is to be called with each status that was written."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        queue: KeyedQueue[Key],
        wrote: Callable[[], None],
        budget: Budget,
        on_rung: Callable[[Key], None],
    ) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._wrote = wrote
        self._budget = budget
        self._news = asyncio.Event()
        self.reports = Reports(self._told, on_rung)

    def decided(self, key: Key) -> None:
        """A worker has written a status; perhaps that a hook runs which has told already how far it is."""
        self._budget.decided(_now())
        if self.reports.is_known(key):
            self._told(key)

    def ended(self, key: Key, *, gone: bool) -> None:
        """An experiment has ended, or has gone."""
        self._budget.forget(key)
        if gone:
            self.reports.forget(key)
        else:
            self.reports.ended(key)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait(self._budget.seconds_to_next(_now()))
            await self._let_go_first()
            key = self._budget.turn(_now())
            if key is None:
                continue
            if not self._queue.try_take(key):
                self._budget.ask(key, _now())
                await asyncio.sleep(TAKEN_SECONDS)
                continue
            with about(namespace=key[0], experiment=key[1]):
                try:
                    await self._look_at(key)
                finally:
                    self._queue.done(key)

    async def _let_go_first(self) -> None:
        """What decides something shares the API server with nothing that could wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._queue.idle()

    async def _wait(self, seconds: float | None) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def _told(self, key: Key) -> None:
        self._budget.ask(key, _now())
        self._news.set()

    async def _look_at(self, key: Key) -> None:
        """Write it, unless it is of no use any more; an error makes it wait for its next turn."""
        begin = _now()
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._write(key)
        except NotHeld:
            return
        except Exception as error:  # an outermost loop: progress that can't be written must not stop the operator
            if not isinstance(error, (ApiError, TimeoutError)):
                log.exception("this operator made a mistake with progress; going on")
            elif not isinstance(error, (Conflict, NotFound)):
                log.warning("progress is not written: %s", str(error) or "no answer in time")
            self._budget.written(key, _now())
            self._budget.ask(key, _now())
        finally:
            self._budget.took(_now() - begin, _now())

    async def _write(self, key: Key) -> None:
        fact = self._cache.experiment(key)
        if fact is None or fact.deleting or fact.is_settled:
            self.ended(key, gone=fact is None)
            return
        old = fact.status
        new = told(old, self.reports.live(key, fact.uid))
        if new == old or old.completion_time is not None:
            return
        self._budget.written(key, _now())  # before it, for what is told meanwhile has to wait as well
        written = await write_status(self._client, EXPERIMENTS, fact, new)
        self._wrote()
        after = project.experiment_fact(written)
        self._cache.scope(key).experiments.expect(key, after, after.resource_version)


def _now() -> float:
    return asyncio.get_running_loop().time()
