# SPDX-License-Identifier: Apache-2.0
"""The work queue, on a clock that only moves when nobody has anything to do. No server here."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sandbox_operator.kube.backoff import exponential
from sandbox_operator.kube.queue import KeyedQueue, QueueClosed


class InstantLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        loop = self

        class Jump(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                if timeout is not None:
                    loop.now += timeout
                return super().select(0)

        super().__init__(Jump())

    def time(self) -> float:
        return self.now


def on_clock(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Makes a test of a coroutine that runs on an InstantLoop."""

    @functools.wraps(story)
    def test() -> None:
        with asyncio.Runner(loop_factory=InstantLoop) as runner:
            runner.run(asyncio.wait_for(story(), 3600))

    return test


def now() -> float:
    return asyncio.get_running_loop().time()


@on_clock
async def test_keys_come_in_the_order_they_were_added_and_each_once() -> None:
    queue = KeyedQueue[str]()
    for key in ["b", "a", "b", "c", "a"]:
        queue.add(key)
    assert len(queue) == 3
    assert [await queue.get(), await queue.get(), await queue.get()] == ["b", "a", "c"]
    assert len(queue) == 0


@on_clock
async def test_a_key_in_hand_is_given_to_nobody_else_and_comes_again_when_it_was_added_meanwhile() -> None:
    queue = KeyedQueue[str]()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(100)
    assert not second.done()
    queue.done("a")
    assert await second == "a"
    queue.done("a")
    assert len(queue) == 0


@on_clock
async def test_the_earliest_of_several_delays_wins() -> None:
    queue, started = KeyedQueue[str](), now()
    queue.add_after("a", 30)
    queue.add_after("a", 5)
    queue.add_after("a", 60)
    assert queue.delayed == 1
    assert await queue.get() == "a"
    assert now() - started == pytest.approx(5)
    queue.done("a")
    assert queue.delayed == 0


@on_clock
async def test_handing_a_key_out_drops_its_older_delay_but_not_one_set_while_it_is_in_hand() -> None:
    queue, started = KeyedQueue[str](), now()
    queue.add_after("a", 10)
    queue.add("a")
    assert await queue.get() == "a"
    assert now() == started
    assert queue.delayed == 0
    queue.add_after("a", 20)
    queue.done("a")
    assert await queue.get() == "a"
    assert now() - started == pytest.approx(20)


@on_clock
async def test_a_delay_that_ends_while_the_key_is_in_hand_is_not_lost() -> None:
    queue = KeyedQueue[str]()
    queue.add("a")
    await queue.get()
    queue.add_after("a", 1)
    await asyncio.sleep(2)
    assert len(queue) == 1
    queue.done("a")
    assert await queue.get() == "a"


@on_clock
async def test_retries_of_a_key_double_up_to_a_minute_and_start_anew_after_forget() -> None:
    queue = KeyedQueue[str]()
    delays = []
    for _ in range(12):
        delays.append(queue.retry("a"))
        before = now()
        assert await queue.get() == "a"
        assert now() - before == pytest.approx(delays[-1])
        queue.done("a")
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == 60
    assert queue.retry("b") == 0.2
    queue.forget("a")
    assert queue.retry("a") == 0.2


@on_clock
async def test_an_event_does_not_wait_for_a_retry() -> None:
    queue = KeyedQueue[str]()
    for _ in range(8):
        queue.retry("a")
    started = now()
    queue.add("a")
    assert await queue.get() == "a"
    assert now() == started


@on_clock
async def test_the_oldest_age_tells_of_a_key_nobody_takes_and_of_one_nobody_gives_back() -> None:
    queue = KeyedQueue[str]()
    assert queue.oldest_age() == 0
    queue.add("a")
    await asyncio.sleep(7)
    queue.add("b")
    assert queue.oldest_age() == pytest.approx(7)
    assert await queue.get() == "a"
    assert queue.oldest_age() == pytest.approx(0)
    await asyncio.sleep(9)
    assert await queue.get() == "b"
    assert queue.oldest_age() == pytest.approx(9)
    queue.done("a")
    queue.done("b")
    queue.add_after("c", 60)
    await asyncio.sleep(30)
    assert queue.oldest_age() == 0


@on_clock
async def test_shutdown_wakes_every_waiting_worker_and_hands_out_nothing_more() -> None:
    queue = KeyedQueue[str]()
    queue.add("held")
    await queue.get()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    queue.add_after("late", 5)
    await asyncio.sleep(1)
    queue.shutdown()
    assert [type(result) for result in await asyncio.gather(*workers, return_exceptions=True)] == [QueueClosed] * 3
    queue.add("more")
    queue.add_after("more", 1)
    queue.done("held")
    assert (len(queue), queue.delayed) == (0, 0)
    with pytest.raises(QueueClosed):
        await queue.get()


@on_clock
async def test_many_workers_never_hold_the_same_key_and_lose_none() -> None:
    queue = KeyedQueue[int]()
    held: set[int] = set()
    seen: dict[int, int] = {}

    async def worker() -> None:
        while True:
            key = await queue.get()
            assert key not in held
            held.add(key)
            wanted = adds[key]
            await asyncio.sleep(0.01 * (key % 3))
            seen[key] = wanted
            held.remove(key)
            queue.done(key)

    adds = dict.fromkeys(range(20), 0)
    workers = [asyncio.create_task(worker()) for _ in range(4)]
    for turn in range(200):
        adds[turn * 7 % 20] += 1
        queue.add(turn * 7 % 20)
        await asyncio.sleep(0.003)
    await asyncio.sleep(60)
    queue.shutdown()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert [type(result) for result in results] == [QueueClosed] * 4
    assert seen == adds, "each key was looked at after its last add"


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.1), (2, 0.2), (5, 1.6), (50, 10.0), (5000, 10.0)])
def test_back_off_doubles_and_is_bounded(failures: int, seconds: float) -> None:
    assert exponential(failures, 0.1, 10.0) == pytest.approx(seconds)
