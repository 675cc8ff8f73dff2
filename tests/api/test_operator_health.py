# SPDX-License-Identifier: Apache-2.0
"""The liveness of a whole operator: what is slow, long or away is healthy, what stands still is not.

In the test's process, on a loop whose clock can be put forward: timers that are due then fire, as they would have.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

from tests.api.fakeapi import FakeAPI
from tests.api.inprocess import SETTINGS
from tests.api.lab import Lab, probes
from tests.api.played import PLAYER
from tests.api.waiting import eventually

from sandbox_operator.kube.config import Connection
from sandbox_operator.reconcile.health import LIMITS, Limits
from sandbox_operator.reconcile.process import Operator
from sandbox_operator.reconcile.settings import Settings


class ShiftedLoop(asyncio.SelectorEventLoop):
    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def put_forward(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ShiftedLoop)
    loop.ahead += seconds


def on_shifted_clock(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(story)
    def test() -> None:
        with asyncio.Runner(loop_factory=ShiftedLoop) as runner:
            runner.run(story())

    return test


@contextlib.asynccontextmanager
async def lab_with_operator(
    settings: Settings = SETTINGS, limits: Limits = LIMITS
) -> AsyncIterator[tuple[FakeAPI, Lab, Operator]]:
    async with FakeAPI() as api:
        api.spared.add(PLAYER)
        async with Lab(Connection(api.url), "lab", fake=True) as lab, Operator(Connection(api.url), settings, limits) as operator:  # fmt: skip
            task = asyncio.create_task(operator.run())
            try:
                await eventually(lambda: operator.unready() is None)
                yield api, lab, operator
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


@on_shifted_clock
async def test_a_worker_that_never_comes_back_fails_the_probe_while_all_others_go_on() -> None:
    async with lab_with_operator() as (_, lab, operator):
        await eventually(lambda: operator._queue is not None)
        assert operator._queue is not None
        operator._queue._waiting[("lab", "stuck")] = asyncio.get_running_loop().time()
        assert await operator._queue.get() == ("lab", "stuck")  # as a worker does that then hangs for ever
        for number in range(5):
            put_forward(350)
            await lab.apply(f"demo-{number}", probes("a"))
            await lab.finished(f"demo-{number}")
            assert operator.unhealthy() is None
        put_forward(350)
        assert "a worker has been busy with one object for" in str(operator.unhealthy())


@on_shifted_clock
async def test_a_watch_whose_task_has_ended_silently_fails_the_probe() -> None:
    """Nothing would ever tell of it otherwise: no error, no news."""
    async with lab_with_operator() as (_, lab, operator):
        await lab.apply("demo", probes("a"))
        await lab.finished("demo")
        (watch,) = [task for task in asyncio.all_tasks() if task.get_name() == "informer-pods"]
        watch.cancel()
        put_forward(399)
        await asyncio.sleep(0.5)  # the others hear a bookmark
        assert operator.unhealthy() is None
        put_forward(10)
        assert "the watch of pods has been silent for" in str(operator.unhealthy())


@on_shifted_clock
async def test_streams_that_fall_silent_are_begun_anew_and_need_no_restart() -> None:
    async with lab_with_operator() as (api, lab, operator):
        watched = len(list(operator._cache.informers))
        await eventually(lambda: api.watchers == watched)
        streams = set(api.streams)
        api.deafen()
        await asyncio.sleep(0.5)  # what was on the way has arrived, else it would count as heard after the jump
        put_forward(120)  # each stream's own limit of silence is over; that of Events, which have no bookmarks, is not
        await eventually(lambda: len(api.streams - streams) == watched - 1)
        put_forward(300)
        await eventually(lambda: len(api.streams - streams) == watched)
        assert operator.unhealthy() is None
        await lab.apply("demo", probes("a"))
        await lab.finished("demo")
        assert operator.unhealthy() is None


@on_shifted_clock
async def test_an_api_server_that_is_away_for_hours_is_waited_for() -> None:
    async with lab_with_operator() as (api, lab, operator):
        port = int(api.url.rpartition(":")[2])
        await api._runner.cleanup()
        for _ in range(6):
            put_forward(3600)
            await eventually(lambda: operator.unhealthy() is None)  # as soon as the tries that are due have failed
        await api.start(port)
        put_forward(60)
        await lab.apply("demo", probes("a"))
        await lab.finished("demo")


@on_shifted_clock
async def test_a_long_queue_before_a_slow_api_server_is_healthy_as_long_as_it_moves() -> None:
    """Forty experiments wait for one worker, whose every write takes a while; the last waits far beyond the limit."""
    limits = replace(LIMITS, standstill=4.0)
    oldest = 0.0

    async def slowly(*_: str) -> bool:
        await asyncio.sleep(0.1)
        return False

    async with lab_with_operator(replace(SETTINGS, workers=1), limits) as (api, lab, operator):
        api.on_write = slowly
        names = [f"demo-{number}" for number in range(40)]
        for name in names:
            await lab.apply(name, probes("a"))
        ended = asyncio.create_task(lab.finished(*names, limit=120))
        while not ended.done():
            assert operator.unhealthy() is None
            if operator._queue is not None:
                oldest = max(oldest, operator._queue.oldest_age())
            await asyncio.sleep(0.01)
        ended.result()
        assert oldest > limits.standstill, "the queue was long enough to tell the two apart"
