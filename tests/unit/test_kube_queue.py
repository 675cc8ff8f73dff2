# SPDX-License-Identifier: Apache-2.0
"""The work queue, on a clock that only moves when nobody has anything to do. No server here."""

import asyncio

import pytest
from tests.unit.instant import now, on_clock

from sandbox_operator.kube.backoff import exponential
from sandbox_operator.kube.queue import KeyedQueue, QueueClosed


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
async def test_ages_of_the_longest_waiting_and_the_longest_held_key() -> None:
    queue = KeyedQueue[str]()
    assert (queue.oldest_age(), queue.longest_hold()) == (0, 0)
    queue.add("a")
    await asyncio.sleep(7)
    queue.add("b")
    assert (queue.oldest_age(), queue.longest_hold()) == (pytest.approx(7), 0)
    assert await queue.get() == "a"
    await asyncio.sleep(9)
    assert (queue.oldest_age(), queue.longest_hold()) == (pytest.approx(9), pytest.approx(9))
    assert await queue.get() == "b"
    queue.done("a")
    queue.done("b")
    queue.add_after("c", 60)
    await asyncio.sleep(30)
    assert (queue.oldest_age(), queue.longest_hold()) == (0, 0)


@on_clock
async def test_a_long_queue_that_moves_is_no_standstill_however_long_its_keys_wait() -> None:
    queue = KeyedQueue[int]()
    for number in range(1000):
        queue.add(number)
    for number in range(500):
        assert await queue.get() == number
        await asyncio.sleep(2)
        queue.done(number)
    assert queue.oldest_age() == pytest.approx(1000)
    assert queue.standstill() == pytest.approx(0)


@on_clock
async def test_a_standstill_begins_when_a_key_waits_and_nobody_moves_one() -> None:
    queue = KeyedQueue[str]()
    await asyncio.sleep(1000)
    assert queue.standstill() == 0, "there is nothing to do"
    queue.add("a")
    assert await queue.get() == "a"
    await asyncio.sleep(1000)
    assert queue.standstill() == 0, "one is busy, and none waits"
    queue.add("b")
    await asyncio.sleep(5)
    assert queue.standstill() == pytest.approx(5)
    queue.done("a")
    assert queue.standstill() == pytest.approx(0)
    await asyncio.sleep(3)
    assert queue.standstill() == pytest.approx(3)


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


@on_clock
async def test_a_delay_of_nothing_is_no_delay() -> None:
    queue = KeyedQueue[str]()
    queue.add_after("a", 0)
    assert (len(queue), queue.delayed) == (1, 0)


@on_clock
async def test_what_waits_already_is_not_looked_at_again_later_for_the_same_reason() -> None:
    queue = KeyedQueue[str]()
    queue.add("a")
    queue.add_after("a", 5)
    assert await queue.get() == "a"
    queue.done("a")
    await asyncio.sleep(60)
    assert len(queue) == 0


@on_clock
async def test_it_is_idle_when_no_key_waits_and_none_is_in_hand() -> None:
    queue = KeyedQueue[str]()
    assert queue.is_idle
    queue.add("a")
    assert not queue.is_idle
    waits = asyncio.create_task(queue.idle())
    assert await queue.get() == "a"
    queue.add("a")
    queue.done("a")
    await asyncio.sleep(1)
    assert not waits.done(), "it was added again"
    assert await queue.get() == "a"
    queue.add_after("b", 10)
    queue.done("a")
    await waits
    assert queue.is_idle, "the other one's time has not come"
    await asyncio.sleep(10)
    assert not queue.is_idle
