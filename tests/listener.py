# SPDX-License-Identifier: Apache-2.0
"""A server in the operator's place, for what a pod tells of its progress: it notes reports and answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Report = dict[str, Any]


@dataclass
class Listener:
    """`answer` is called with each report and gives a status and a body, or one of `hang` and `hang up`."""

    url: str = ""
    answer: Callable[[Report], tuple[int, Any] | str] = lambda _: (200, {"interval": 0, "acknowledged": []})
    reports: list[Report] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def heard(self, is_it: Callable[[Report], object], seconds: float = 60) -> Report:
        """The first report of which this is true, when it has come."""
        async with asyncio.timeout(seconds):
            while not (found := [report for report in self.reports if is_it(report)]):
                self._news.clear()
                await self._news.wait()
        return found[0]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        report = json.loads(await request.read())
        self.reports.append(report)
        self.tokens.append(request.headers["Authorization"])
        self._news.set()
        answer = self.answer(report)
        if answer == "hang":
            await self.over.wait()
        if isinstance(answer, str):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, body = answer
        return (
            web.json_response(body, status=status) if isinstance(body, dict) else web.Response(status=status, text=body)
        )


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    application = web.Application()
    application.router.add_post("/v1/progress", listener.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        listener.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/progress"
        yield listener
    finally:
        listener.over.set()
        await runner.cleanup()
