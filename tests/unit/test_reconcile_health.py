# SPDX-License-Identifier: Apache-2.0
"""When a restart would help, and when it would not: the verdicts, on a clock that jumps. The process: tests/api."""

import asyncio
from typing import Any

import pytest
from tests.unit.instant import now, on_clock

from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import Connection
from sandbox_operator.kube.informer import Informer
from sandbox_operator.kube.queue import KeyedQueue
from sandbox_operator.reconcile.health import LIMITS, why_not_ready, why_restart
from sandbox_operator.reconcile.pages import VerdictPage
from sandbox_operator.reconcile.resources import JOBS, PODS


def informer(resource: Any = PODS) -> Informer[Any]:
    client = Client(Connection("http://nowhere"), field_manager="test")
    return Informer(client, resource, project=lambda item: item, on_change=lambda *_: None)


def verdict(*informers: Informer[Any], queue: KeyedQueue[int] | None = None, lease_idle: float = 0.0) -> str | None:
    return why_restart(informers, [queue] if queue is not None else [], lease_idle, LIMITS)


@on_clock
async def test_a_watch_that_neither_hears_nor_fails_is_deaf() -> None:
    deaf, well = informer(), informer(JOBS)
    deaf.last_activity = well.last_activity = now()
    await asyncio.sleep(399)
    assert verdict(deaf, well) is None
    well.last_activity = now()
    await asyncio.sleep(2)
    assert verdict(deaf, well) == "the watch of pods has been silent for 401 s"


@on_clock
async def test_an_api_server_that_is_away_is_no_reason_for_a_restart() -> None:
    never, later = informer(), informer()
    later.last_activity = now()
    for _ in range(300):
        await asyncio.sleep(10)
        later.last_failure = now()
        assert verdict(never, later) is None


@on_clock
async def test_a_queue_of_thousands_that_moves_is_healthy_however_old_its_keys_are() -> None:
    queue = KeyedQueue[int]()
    for number in range(10_000):
        queue.add(number)
    for number in range(12):
        assert await queue.get() == number
        await asyncio.sleep(250)
        assert verdict(queue=queue) is None
        queue.done(number)
    assert queue.oldest_age() == pytest.approx(3000)


@on_clock
async def test_a_queue_that_nobody_takes_from_is_not() -> None:
    queue = KeyedQueue[int]()
    for number in range(3):
        queue.add(number)
    await asyncio.sleep(299)
    assert verdict(queue=queue) is None
    await asyncio.sleep(2)
    assert verdict(queue=queue) == "no progress: 3 objects wait, and none was looked at for 301 s"
    await queue.get()
    assert verdict(queue=queue) is None


@on_clock
async def test_one_worker_that_never_comes_back_is_found_among_others_that_do() -> None:
    queue = KeyedQueue[int]()
    queue.add(0)
    assert await queue.get() == 0
    for number in range(1, 200):
        queue.add(number)
        assert await queue.get() == number
        await asyncio.sleep(10)
        queue.done(number)
    assert verdict(queue=queue) == "no progress: a worker has been busy with one object for 1990 s"


@on_clock
async def test_an_idle_operator_is_healthy_for_ever() -> None:
    queue = KeyedQueue[int]()
    queue.add_after(1, 1e6)
    await asyncio.sleep(1e5 / 30)
    assert verdict(queue=queue) is None


@on_clock
async def test_an_election_that_stands_still_is_told() -> None:
    assert verdict(lease_idle=59) is None
    assert verdict(lease_idle=61) == "no progress: the lease was not asked for for 61 s"


def test_what_has_not_been_seen_yet_is_named_with_the_reason() -> None:
    pods, jobs = informer(), informer(JOBS)
    jobs.last_error = "jobs is forbidden"
    assert why_not_ready([pods, jobs]) == "not seen yet: jobs, pods: jobs is forbidden"
    pods.synced.set()
    jobs.synced.set()
    assert why_not_ready([pods, jobs]) is None


def test_a_page_says_why_and_the_log_says_it_once(caplog: pytest.LogCaptureFixture) -> None:
    verdicts: list[str | None] = [None, "deaf", "deaf", None, "deaf"]
    page = VerdictPage("not healthy", lambda: verdicts.pop(0))
    answers = [page() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 503, 503, 200, 503]
    assert [answer.text for answer in answers] == ["ok\n", "deaf\n", "deaf\n", "ok\n", "deaf\n"]
    assert [record.getMessage() for record in caplog.records] == ["not healthy: deaf"] * 2
