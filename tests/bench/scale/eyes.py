# SPDX-License-Identifier: Apache-2.0
"""Sees what happens on a plane, and when. All times are this process's clock, where its watches end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from sandbox_operator.kube.client import Client
from sandbox_operator.kube.resources import Resource

from .plane import NAMESPACE

Manifest = dict[str, Any]
LONGEST_SILENCE = 120.0
"""Seconds without anything done after which a load counts as stuck."""


class Stuck(Exception):
    """A load does not go on; the message says how far it came."""


@contextlib.asynccontextmanager
async def watching(
    client: Client, resource: Resource, seen: Callable[[str, Manifest], object], *, field_selector: str | None = None
) -> AsyncIterator[None]:
    """Call `seen(type, object)` for each event from now on. An error of the watch ends the block."""
    version = (await client.list(resource, NAMESPACE, field_selector="metadata.name=none")).resource_version

    async def watch(version: str) -> None:
        while True:  # the API server closes the stream of one who reads too slowly; nothing is lost by that
            async for event in client.watch(
                resource, NAMESPACE, resource_version=version, field_selector=field_selector, timeout_seconds=3600
            ):
                version = event.object["metadata"]["resourceVersion"]
                if event.type != "BOOKMARK":
                    seen(event.type, event.object)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch(version))
        await asyncio.sleep(0.2)  # the stream is open before anything is asked for
        yield
        task.cancel()


class Count:
    """Counts names up to `whole`; `times` says when each was told first."""

    def __init__(self, whole: int) -> None:
        self.whole = whole
        self.times: dict[str, float] = {}
        self._news = asyncio.Event()

    def tell(self, name: str) -> bool:
        """True the first time."""
        if name in self.times:
            return False
        self.times[name] = time.monotonic()
        self._news.set()
        return True

    async def full(self, what: str) -> float:
        """The time of the last one. Raises Stuck."""
        while len(self.times) < self.whole:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), LONGEST_SILENCE)
            except TimeoutError:
                raise Stuck(
                    f"{len(self.times)} of {self.whole} {what} after {LONGEST_SILENCE:.0f} s of silence"
                ) from None
        return max(self.times.values())


async def at_most(number: int, jobs: list[Callable[[], Any]]) -> None:
    """Run all, `number` at the same time."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(work())
