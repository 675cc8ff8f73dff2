# SPDX-License-Identifier: Apache-2.0
"""Leadership among replicas: a Lease object says who may write, and a client that writes only while it says so.

The rules are client-go's (tools/leaderelection). Clocks of two machines are never compared: everyone measures with its
own how long the Lease has not changed, and the holder stops before anyone else may begin. What is done while the Lease
is held, and what happens to it when the Lease is lost, stands where it is called.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from sandbox_operator.kube.client import Client, Manifest
from sandbox_operator.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from sandbox_operator.kube.resources import Resource
from sandbox_operator.kube.transport import REQUEST_LIMITS, Query

log = logging.getLogger(__name__)

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")


@dataclass(frozen=True)
class Timing:
    """Seconds. After a sudden death another one holds the Lease within `duration` + `poll`, and a request more.

    Between `deadline` and `duration` lies all that may still be under way: clocks that run at different speed, and a
    request that was sent in the last moment.
    """

    duration: float = 10.0
    """For so long the Lease must stay as it is before somebody else takes it."""
    deadline: float = 6.0
    """For so long after its last renewal was sent its holder may write."""
    renew: float = 2.0
    """The holder renews this often."""
    poll: float = 1.0
    """The others look this often."""


DEFAULT = Timing()


def boot_time() -> float:
    """Seconds that no correction of the wall clock changes, and that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class NotHeld(ApiError):
    """A write was not sent, because the Lease is not ours."""

    def _sentence(self) -> str:
        return f"{self.request} was not sent: {self.message}"


class Lease:
    """One candidate for one Lease object; `identity` is unique among all that ever ran at the same time.

    client: a connection of the Lease's own, so that nothing else makes a renewal wait. It needs get, create and patch.
    clock: seconds, of this process alone.

    `holder` is who held it when it was last seen; `tried_at` the clock's time of the last try, whatever came of it.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        timing: Timing = DEFAULT,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self.identity = identity
        self.holder = ""
        self.tried_at: float | None = None
        self._client = client
        self._namespace = namespace
        self._name = name
        self._timing = timing
        self._clock = clock
        self._spec: Manifest = {}
        self._version: str | None = None
        """Of the Lease as it stands, as far as we know; None: look first."""
        self._seen_at = 0.0
        """When `_spec` was seen first, by our clock."""
        self._claimed_at: float | None = None
        """When the newest claim that the server took was sent, by our clock."""
        self._trouble = ""

    def __str__(self) -> str:
        return f"{self._namespace}/{self._name}"

    def seconds_left(self) -> float:
        """For how long we may write; 0 when we may not."""
        if self._claimed_at is None:
            return 0.0
        return max(0.0, self._claimed_at + self._timing.deadline - self._clock())

    async def acquired(self) -> None:
        """Return as soon as the Lease is ours."""
        while not await self._claim():  # noqa: ASYNC110  # the claim itself asks the API server
            await asyncio.sleep(self._pause())
        log.info("the lease %s is ours (%s)", self, self.identity)

    async def lost(self) -> None:
        """Renew it; return when it is ours no more. A last renewal may be under way when `seconds_left` is 0 already:
        nothing is written then (`FencedClient`), and if it comes it counts."""
        renewed = True
        while (left := self.seconds_left()) > 0 and self.holder == self.identity:
            await asyncio.sleep(min(self._timing.renew if renewed else self._timing.poll, left))
            renewed = await self._claim()
        self._claimed_at = None
        log.warning("the lease %s is ours no more; it is held by %s", self, self.holder or "nobody")

    async def release(self) -> None:
        """Give it back, so that another one need not wait. Only when no write of ours is under way."""
        if self.seconds_left() <= 0:
            return
        self._claimed_at = None
        try:
            async with asyncio.timeout(self._timing.poll):
                given = await self._give_back() or await self._give_back()
        except (ApiError, TimeoutError) as error:
            log.warning("the lease %s is not given back, and runs out: %s", self, str(error) or "no answer in time")
            return
        if given:
            log.info("the lease %s is given back", self)

    async def _give_back(self) -> bool:
        """Whether it now is not ours; False when it changed meanwhile, by a last renewal of ours."""
        found = await self._client.get(LEASES, self._name, self._namespace)
        if found["spec"].get("holderIdentity") != self.identity:
            return True
        try:
            await self._write(found["metadata"]["resourceVersion"], {"holderIdentity": "", "renewTime": _now()})
        except Conflict:
            return False
        return True

    def _pause(self) -> float:
        """Seconds until the next look: when it may run out, or to see whether it was given back."""
        left = self._seen_at + _duration(self._spec) - self._clock() if self._spec else self._timing.poll
        return min(self._timing.poll, max(left, 0.05))

    async def _claim(self) -> bool:
        """Take or renew the Lease if it may be ours; whether it now is."""
        self.tried_at = self._clock()
        try:
            async with asyncio.timeout(self.seconds_left() or self._timing.deadline):
                mine = await self._try()
            self._trouble = ""
        except (ApiError, TimeoutError) as error:
            self._version, mine = None, False
            words = str(error) or "no answer in time"
            if words != self._trouble:
                log.warning("the lease %s: %s", self, words)
            self._trouble = words
        return mine

    async def _try(self) -> bool:
        if self._version is None or self.holder != self.identity:
            try:
                self._saw(await self._client.get(LEASES, self._name, self._namespace))
            except NotFound:
                return await self._make()
        if self.holder not in ("", self.identity) and self._seen_at + _duration(self._spec) > self._clock():
            return False
        sent = self._clock()
        try:
            stored = await self._write(str(self._version), self._claimed_spec())
        except Conflict:  # somebody was faster, or our own answer was lost: the next look tells
            self._version = None
            return False
        self._saw(stored)
        self._claimed_at = sent
        return True

    async def _make(self) -> bool:
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._claimed_spec(),
        }
        sent = self._clock()
        try:
            stored = await self._client.create(LEASES, body, self._namespace)
        except AlreadyExists:
            return False
        self._saw(stored)
        self._claimed_at = sent
        return True

    async def _write(self, version: str, spec: Manifest) -> Manifest:
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        return await self._client.patch(LEASES, self._name, body, self._namespace)

    def _claimed_spec(self) -> Manifest:
        now = _now()
        spec: Manifest = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._timing.duration),
            "renewTime": now,
        }
        if self.holder != self.identity:
            transitions = int(self._spec.get("leaseTransitions") or 0) + 1 if self._spec else 0
            spec |= {"acquireTime": now, "leaseTransitions": transitions}
        return spec

    def _saw(self, stored: Manifest) -> None:
        # After the answer, never before the request: others' time runs from when they wrote it, ours from later.
        spec: Manifest = stored.get("spec") or {}
        if spec != self._spec:
            self._spec, self._seen_at = spec, self._clock()
        self._version = stored["metadata"]["resourceVersion"]
        self.holder = spec.get("holderIdentity") or ""


class FencedClient(Client):
    """A client that sends a write only while the Lease is held, and gives it no longer than that to be answered.

    So a process that was frozen and wakes up after its time writes nothing, wherever it was in its work.
    """

    def __init__(self, lease: Lease, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lease = lease

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        path: str,
        *,
        what: tuple[str, str],
        query: Query | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        limits: aiohttp.ClientTimeout = REQUEST_LIMITS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """As its base; raises NotHeld for a write out of time."""
        if method != "GET":
            left = self._lease.seconds_left()
            if left <= 0:
                raise NotHeld("the lease is not ours", reason="NotHeld", request=f"{method} {path}")
            limits = aiohttp.ClientTimeout(total=min(limits.total or left, left), sock_connect=limits.sock_connect)
        async with super().answer(
            method, path, what=what, query=query, data=data, content_type=content_type, accept=accept, limits=limits
        ) as response:
            yield response


def _duration(spec: Manifest) -> float:
    return float(spec.get("leaseDurationSeconds") or 0)


def _now() -> str:
    """For people; nobody decides by it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
