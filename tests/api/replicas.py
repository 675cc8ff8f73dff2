# SPDX-License-Identifier: Apache-2.0
"""A fake API server that knows which operator process speaks: each has a port of its own, which no program can mistake.

It notes every write together with what the Lease said when the write arrived.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.api.conftest import Operators, kubeconfig
from tests.api.fakeapi import FakeAPI
from tests.api.fates import reset
from tests.api.lab import OperatorProcess
from tests.api.waiting import eventually
from tests.ports import free_ports

LEASES = ("coordination.k8s.io", "leases")
LEASE = ("tools", "operator")


_door: ContextVar[str | None] = ContextVar("door", default=None)
"""Through which door the request came that is being answered."""


@dataclass(frozen=True)
class Write:
    writer: str
    holder: str
    """Whom the Lease named when it arrived."""
    method: str
    path: str


class SharedAPI(FakeAPI):
    """Faults by door: `shut` (a Lease can't be written), `behind` (watches tell nothing), `hanging` (a write is carried out
    when its event is set, whether or not its sender still waits)."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[Write] = []
        """All but those of Leases."""
        self.shut = set[str]()
        self.behind = set[str]()
        self.hanging: dict[str, asyncio.Event] = {}
        self._names: dict[int, str] = {}
        self.stalled = lambda _: _door.get() in self.behind

    async def door(self, name: str) -> str:
        """A further address of this server, for one process."""
        site = web.TCPSite(self._runner, "127.0.0.1", port := free_ports())
        await site.start()
        self._names[port] = name
        return f"http://127.0.0.1:{port}"

    @property
    def holder(self) -> str:
        lease = self.kind_of(*LEASES).get(LEASE)
        return str(lease["spec"].get("holderIdentity") or "") if lease else ""

    @property
    def holders(self) -> list[str]:
        """All who held the Lease, in order; empty for nobody."""
        found: list[str] = []
        for change in self.history:
            if change.kind == LEASES and (now := change.object["spec"].get("holderIdentity") or "") not in found[-1:]:
                found.append(now)
        return found

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        who = self._names.get(request.transport.get_extra_info("sockname")[1])
        _door.set(who)
        if who is not None and request.method not in ("GET", "HEAD"):
            if LEASES[1] in request.path.split("/"):
                if who in self.shut:
                    return reset(request)
            else:
                self.writes.append(Write(who, self.holder, request.method, request.path))
                if who in self.hanging:
                    await self.hanging[who].wait()
        return await super()._handle(request)

    # what must always hold

    def assert_only_the_holder_wrote(self) -> None:
        wrong = [write for write in self.writes if write.writer != write.holder]
        assert not wrong, f"{len(wrong)} of {len(self.writes)} writes came from who did not hold the lease: {wrong[:5]}"

    def assert_one_after_another(self, *reigns: str) -> None:
        """The processes wrote in this order, and nobody again after another one had begun."""
        order: list[str] = []
        for write in self.writes:
            if not order or order[-1] != write.writer:
                order.append(write.writer)
        assert order == list(reigns), order


class Replicas:
    """Operator processes on one server, by name."""

    def __init__(self, api: SharedAPI, operators: Operators, folder: Path) -> None:
        self.api = api
        self._operators = operators
        self._folder = folder
        self.processes: dict[str, OperatorProcess] = {}

    async def start(self, name: str, **settings: str) -> OperatorProcess:
        door = await self.api.door(name)
        folder = self._folder / name
        folder.mkdir()
        server = FakeAPI()
        server.url = door
        given = {"SANDBOX_LEASE": "/".join(LEASE), "SANDBOX_IDENTITY": name, **settings}
        self.processes[name] = self._operators(kubeconfig(server, folder), **given)
        return self.processes[name]

    async def leader(self, *among: str, limit: float = 60) -> str:
        """The name of the one that holds the Lease, as soon as one of these does."""
        await eventually(lambda: self.api.holder in (among or self.processes), limit=limit)
        return self.api.holder

    async def standing_by(self, name: str) -> None:
        await eventually(lambda: "experiments are there" in self.processes[name].log, limit=60)

    def signal(self, name: str, what: signal.Signals) -> None:
        pid: Any = self.processes[name]._process
        os.kill(pid.pid, what)
