# SPDX-License-Identifier: Apache-2.0
"""The operator in the test's process, on a fake API server of its own: started, killed and started again in milliseconds.

What is killed is its tasks and its connection, with all that it knew: for the API server as dead as after kill -9.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.api.fakeapi import FakeAPI
from tests.api.lab import Lab, outcome_of, road
from tests.api.played import PLAYER, Table

from sandbox_operator.build.defaults import Defaults
from sandbox_operator.kube.config import Connection
from sandbox_operator.reconcile.process import Operator
from sandbox_operator.reconcile.settings import Settings

SETTINGS = Settings(metrics_port=0, liveness_port=0, defaults=Defaults(images={"data": "registry.example/data:1"}))


@contextlib.asynccontextmanager
async def running(api: FakeAPI) -> AsyncIterator[asyncio.Task[None]]:
    """An operator, killed at the end of the block."""
    async with Operator(Connection(api.url), SETTINGS) as operator:
        task = asyncio.create_task(operator.run())
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def fresh(table: Table | None = None) -> AsyncIterator[tuple[FakeAPI, Lab]]:
    """An API server and a namespace of their own, for tests that need many."""
    async with FakeAPI() as api:
        api.spared.add(PLAYER)
        async with Lab(Connection(api.url), "lab", table, fake=True) as lab:
            yield api, lab


def check(lab: Lab, expected: object, *names: str) -> None:
    for name in names or ("demo",):
        assert outcome_of(lab.status(name)) == expected, lab.told()
        lab.assert_status_only_went_forward(name)
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()
    beyond = {identity for identity in lab.made if identity[2] > 1}
    assert not beyond, f"attempts beyond the first: {beyond}\n{lab.told()}\n{lab.steps(*names or ('demo',))}"


async def undisturbed() -> tuple[object, list[tuple[str, str]]]:
    """The end of the road without faults, and the writes on it, in order."""
    writes: list[tuple[str, str]] = []

    async def note(verb: str, plural: str, moment: str) -> bool:
        if moment == "before":
            writes.append((verb, plural))
        return False

    async with fresh() as (api, lab):
        api.on_write = note
        async with running(api):
            await lab.apply("demo", road())
            await lab.finished("demo")
            await lab.until(lambda: ("create", "events") in writes, "the closing Event")
        return outcome_of(lab.status("demo")), writes


class Death:
    """Kills whoever makes the n-th write, before or after it is carried out; nobody hears an answer."""

    def __init__(self, number: int, moment: str) -> None:
        self.dying = asyncio.Event()
        self.dead = asyncio.Event()
        self._left, self._moment = number, moment

    async def __call__(self, _: str, __: str, moment: str) -> bool:
        if moment == "before":
            self._left -= 1
        if self._left == 0 and moment == self._moment and not self.dying.is_set():
            self.dying.set()
        if self.dying.is_set():
            await self.dead.wait()
            return True
        return False


async def several(jobs: list[Callable[[], Awaitable[tuple[str, object]]]], at_once: int = 4) -> dict[str, object]:
    """The results of many runs, a few of them beside each other."""
    turn = asyncio.Semaphore(at_once)

    async def one(job: Callable[[], Awaitable[tuple[str, object]]]) -> tuple[str, object]:
        async with turn:
            return await job()

    return dict(await asyncio.gather(*(one(job) for job in jobs)))
