# SPDX-License-Identifier: Apache-2.0
"""Who may write, and until when: by hand, and in thousands of simulated seconds with skewed clocks and a bad network.

The API server here is a dict with resourceVersions. The real processes meet in tests/api/test_operator_lease.py.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.progress import DEEP
from tests.unit.instant import now, on_clock

from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import Connection
from sandbox_operator.kube.errors import Unreachable, error_from
from sandbox_operator.kube.lease import DEFAULT, FencedClient, Lease, NotHeld
from sandbox_operator.kube.resources import Resource

JOBS = Resource("batch", "v1", "jobs", "Job")
WORST = DEFAULT.duration + DEFAULT.poll


class Server:
    """Keeps one Lease as the API server would: a patch from an old version is a conflict."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.writes: list[tuple[float, str]] = []
        """When who became or stayed the holder."""

    def carry_out(self, method: str, body: dict[str, Any] | None) -> bytes:
        if method == "GET":
            if self.lease is None:
                raise error_from(404, {"reason": "NotFound", "message": "no lease"})
        elif method == "POST" and self.lease is not None:
            raise error_from(409, {"reason": "AlreadyExists", "message": "it is there"})
        else:
            assert body is not None
            if method == "PATCH":
                if self.lease is None or body["metadata"]["resourceVersion"] != str(self.version):
                    raise error_from(409, {"reason": "Conflict", "message": "it has changed"})
                body = {**self.lease, "spec": {**self.lease["spec"], **body["spec"]}}
            self.version += 1
            self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
            self.writes.append((now(), self.lease["spec"]["holderIdentity"]))
        return json.dumps(self.lease).encode()

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""


class Line(Client):
    """A client whose requests go to the Server above, over a line with a fate for each request.

    A fate gives seconds on the way there and back, and whether the request or its answer is lost. As on a real line a
    request that was sent is carried out even when its sender has given up meanwhile.
    """

    def __init__(self, server: Server, fate: Callable[[], tuple[float, float, str]]) -> None:
        super().__init__(Connection("http://nowhere"), field_manager="test")
        self._server = server
        self._fate = fate
        self._on_the_way = set[asyncio.Task[bytes]]()

    async def request(self, _: tuple[str, str], method: str, __: str, **options: Any) -> bytes:  # type: ignore[override]
        task = asyncio.create_task(self._travel(method, options.get("body")))
        self._on_the_way.add(task)
        task.add_done_callback(self._on_the_way.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _travel(self, method: str, body: dict[str, Any] | None) -> bytes:
        there, back, lost = self._fate()
        await asyncio.sleep(there)
        if lost == "request":
            raise Unreachable("lost on the way", request=method)
        answer = self._server.carry_out(method, body)
        await asyncio.sleep(back)
        if lost == "answer":
            raise Unreachable("no answer", request=method)
        return answer


def at_once() -> tuple[float, float, str]:
    return 0.001, 0.001, ""


def candidate(
    server: Server,
    name: str,
    fate: Callable[[], tuple[float, float, str]] = at_once,
    clock: Callable[[], float] | None = None,
) -> Lease:
    clock = clock or asyncio.get_running_loop().time
    return Lease(Line(server, fate), "tools", "operator", name, clock=clock)


async def within(seconds: float, coming: Awaitable[Any]) -> None:
    async with asyncio.timeout(seconds):
        await coming


@on_clock
async def test_the_first_one_makes_it_and_keeps_it() -> None:
    server = Server()
    one, two = candidate(server, "one"), candidate(server, "two")
    await within(0.1, one.acquired())
    keeping = asyncio.create_task(one.lost())
    with pytest.raises(TimeoutError):
        await within(600, two.acquired())
    assert one.seconds_left() > DEFAULT.deadline - DEFAULT.renew - 0.1
    assert two.seconds_left() == 0
    assert two.holder == server.holder == "one"
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 0
    keeping.cancel()


@on_clock
async def test_after_a_death_the_other_one_has_it_within_duration_and_a_look() -> None:
    server = Server()
    one, two = candidate(server, "one"), candidate(server, "two")
    await one.acquired()
    keeping, waiting = asyncio.create_task(one.lost()), asyncio.create_task(two.acquired())
    await asyncio.sleep(31.7)
    keeping.cancel()
    died = now()
    await within(60, waiting)
    assert DEFAULT.duration - DEFAULT.renew < now() - died <= WORST + 0.1 < 15
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1


@on_clock
async def test_what_is_given_back_is_taken_at_once() -> None:
    server = Server()
    one, two = candidate(server, "one"), candidate(server, "two")
    await one.acquired()
    keeping, waiting = asyncio.create_task(one.lost()), asyncio.create_task(two.acquired())
    await asyncio.sleep(5)
    keeping.cancel()
    await one.release()
    assert one.seconds_left() == 0
    await within(DEFAULT.poll + 0.1, waiting)


@on_clock
async def test_who_comes_back_under_the_same_name_need_not_wait() -> None:
    """The container of a pod was restarted: the one before it is certainly dead."""
    server = Server()
    await candidate(server, "pod-1").acquired()
    await within(0.1, candidate(server, "pod-1").acquired())


@on_clock
async def test_a_lease_that_ran_out_long_ago_by_its_own_dates_is_not_taken_before_it_was_watched() -> None:
    """Dates are another clock's. Only what was seen to stand still for its duration has run out."""
    server = Server()
    await candidate(server, "one").acquired()
    await asyncio.sleep(1000)
    began = now()
    await candidate(server, "two").acquired()
    assert now() - began >= DEFAULT.duration


@on_clock
async def test_a_holder_that_can_not_renew_stops_before_anybody_else_begins() -> None:
    server = Server()
    cut = asyncio.Event()
    one = candidate(server, "one", lambda: (0.1, 0.1, "request" if cut.is_set() else ""))
    two = candidate(server, "two")
    await one.acquired()
    losing, waiting = asyncio.create_task(one.lost()), asyncio.create_task(two.acquired())
    await asyncio.sleep(20)
    cut.set()
    last = server.writes[-1][0]
    await within(60, losing)
    stopped = now()
    assert stopped - last <= DEFAULT.deadline
    await within(60, waiting)
    assert now() - stopped > 2


@on_clock
async def test_the_time_runs_from_when_a_renewal_was_sent_not_from_its_answer() -> None:
    server = Server()
    fates = iter([(0.0, 0.0, ""), (0.0, 0.0, ""), (0.1, 3.5, "")])
    one = candidate(server, "one", lambda: next(fates, (0.0, 0.0, "request")))
    await one.acquired()
    await within(60, one.lost())
    assert now() - server.writes[-1][0] <= DEFAULT.deadline


@on_clock
async def test_a_renewal_whose_answer_is_lost_is_noticed_and_made_again() -> None:
    server = Server()
    fates = iter([(0.1, 0.1, ""), (0.1, 0.1, ""), (0.1, 0.1, "answer")])
    one = candidate(server, "one", lambda: next(fates, (0.1, 0.1, "")))
    await one.acquired()
    losing = asyncio.create_task(one.lost())
    await asyncio.sleep(60)
    assert not losing.done()
    assert {holder for _, holder in server.writes} == {"one"}
    losing.cancel()


@on_clock
async def test_a_server_that_hangs_makes_nobody_hang() -> None:
    """A request without an answer is given up in time to know that the Lease is lost."""
    server = Server()
    hangs = asyncio.Event()
    one = candidate(server, "one", lambda: (3600.0, 0.0, "") if hangs.is_set() else at_once())
    await one.acquired()
    losing = asyncio.create_task(one.lost())
    await asyncio.sleep(3)
    hangs.set()
    await within(DEFAULT.deadline + 0.1, losing)
    coming = asyncio.create_task(one.acquired())
    await asyncio.sleep(20)
    hangs.clear()
    await within(DEFAULT.deadline + DEFAULT.poll + 0.5, coming)
    assert one.tried_at is not None


@on_clock
async def test_a_write_out_of_time_is_not_sent() -> None:
    server = Server()
    lease = candidate(server, "one")
    client = FencedClient(lease, Connection("http://127.0.0.1:9"), field_manager="test")
    async with client:
        with pytest.raises(NotHeld, match=r"POST .*jobs was not sent: the lease is not ours"):
            await client.create(JOBS, {"metadata": {"name": "x"}}, "lab", repeatable=True)
        await lease.acquired()
        await asyncio.sleep(DEFAULT.deadline + 0.01)
        for write in (
            client.create(JOBS, {"metadata": {"name": "x"}}, "lab"),
            client.patch(JOBS, "x", {}, "lab"),
            client.delete(JOBS, "x", "lab"),
            client.delete_collection(JOBS, "lab", label_selector="a=b"),
        ):
            with pytest.raises(NotHeld):
                await write
        assert not client.counts, "nothing went out"


def simulate(seed: int) -> None:
    """Four candidates for ten minutes: clocks that differ and run up to 10 % wrong, deaths, a line that loses and delays."""
    chance = random.Random(seed)
    server = Server()
    bad = chance.choice([0.0, 0.02, 0.2, 0.5])
    reigns: list[str] = []

    def fate() -> tuple[float, float, str]:
        slow = chance.random() < bad
        delay = chance.uniform(0, 20) if slow else 0.01
        lost = chance.choice(["request", "answer"]) if chance.random() < bad else ""
        return chance.uniform(0, delay), chance.uniform(0, delay), lost

    def clock() -> Callable[[], float]:
        offset, rate, loop = chance.uniform(-1e6, 1e6), chance.uniform(0.9, 1.1), asyncio.get_running_loop()
        return lambda: offset + rate * loop.time()

    async def life(lease: Lease) -> None:
        while True:
            await lease.acquired()
            reigns.append(lease.identity)
            try:
                async with asyncio.timeout(chance.uniform(0, 120)):
                    await lease.lost()
            except TimeoutError:  # an upgrade, or a death
                if chance.random() < 0.5:
                    await lease.release()
                return

    async def lives(number: int, leases: list[Lease]) -> None:
        for again in range(1000):
            lease = candidate(server, f"{number}-{again}", fate, clock())
            leases.append(lease)  # for good: what seems dead may be frozen, and wake up
            await life(lease)
            await asyncio.sleep(chance.uniform(0, 30))

    @on_clock
    async def story() -> None:
        leases: list[Lease] = []
        running = [asyncio.create_task(lives(number, leases)) for number in range(4)]
        for _ in range(12_000):
            await asyncio.sleep(0.05)
            writing = [lease.identity for lease in leases if lease.seconds_left() > 0]
            assert len(writing) <= 1, f"seed {seed}: {writing} may write at once"
            assert not any(task.done() for task in running)
        for task in running:
            task.cancel()

    story()
    assert reigns, f"seed {seed}: nobody ever held it"
    if not bad:
        assert len(set(reigns)) > 3, f"seed {seed}: {reigns}"


@pytest.mark.parametrize("block", range(8))
@pytest.mark.timeout(3600 if DEEP else 300)
def test_no_two_may_ever_write_at_once(block: int) -> None:
    rounds = 250 if DEEP else 3
    for seed in range(block * rounds, (block + 1) * rounds):
        simulate(seed)
