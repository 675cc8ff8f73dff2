# SPDX-License-Identifier: Apache-2.0
"""When progress is written while workers are at work, on a clock that the test turns. Nothing is written here: the
experiment has gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

from tests.unit.instant import now, on_clock

from sandbox_api.progress import ProgressReport
from sandbox_operator.kube.informer import Key
from sandbox_operator.kube.queue import KeyedQueue
from sandbox_operator.reconcile.budget import Budget
from sandbox_operator.reconcile.progress import PATIENCE_SECONDS, ProgressWriter
from sandbox_operator.reconcile.reports import Teller

OTHER, TELLER = ("lab", "other"), ("lab", "teller")


class Empty:
    """A cache without experiments; it knows when it was asked for one, which is the turn of that one's progress."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def experiment(self, key: Key) -> None:
        assert key == TELLER
        self.asked.append(now())


@asynccontextmanager
async def kept_back() -> AsyncIterator[tuple[KeyedQueue[Key], Empty]]:
    """A worker is at work, and there is progress to write."""
    queue, cache, nobody = KeyedQueue[Key](), Empty(), None
    assert queue.try_take(OTHER)
    made = ProgressWriter(cast(Any, nobody), cast(Any, cache), queue, lambda: None, Budget(), lambda _: None)
    teller, report = Teller(TELLER, "e", "train", 1, "p"), ProgressReport(pod="p", job="train", attempt=1, step=1)
    made.reports.take(teller, report, datetime.now(UTC))
    running = asyncio.create_task(made.run())
    yield queue, cache
    running.cancel()


@on_clock
async def test_a_worker_that_is_at_work_goes_first() -> None:
    async with kept_back() as (queue, cache):
        await asyncio.sleep(PATIENCE_SECONDS / 2)
        assert cache.asked == []
        queue.done(OTHER)
        await asyncio.sleep(PATIENCE_SECONDS / 10)
        assert len(cache.asked) == 1


@on_clock
async def test_workers_that_are_always_at_work_do_not_keep_it_back_for_ever() -> None:
    async with kept_back() as (_, cache):
        await asyncio.sleep(PATIENCE_SECONDS * 1.1)
        assert len(cache.asked) == 1
