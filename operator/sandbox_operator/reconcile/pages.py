# SPDX-License-Identifier: Apache-2.0
"""The pages that a kubelet and Prometheus read: /healthz, /readyz and /metrics, served by the loop that does the work.

So a loop that hangs answers nobody, which is what a probe is to find out.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

log = logging.getLogger(__name__)

Verdict = Callable[[], str | None]
"""None when all is well, else a sentence."""
Pages = dict[str, Callable[[], web.Response]]
"""By path."""


def showing(pages: Pages) -> web.Application:
    """What shows pages by their path."""
    application = web.Application()
    for path, page in pages.items():
        application.router.add_get(path, partial(_answer, page))
    return application


async def serve(address: str, port: int, application: web.Application) -> Callable[[], Awaitable[None]]:
    """Serve it; gives what ends it. Raises OSError when the port can't be had."""
    runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0.5)
    async with AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, address, port).start()
        return stack.pop_all().aclose


async def _answer(page: Callable[[], web.Response], _: web.Request) -> web.Response:
    return page()


class VerdictPage:
    """200 and `ok`, or 503 and why not; a verdict that changes stands in the log as well."""

    def __init__(self, name: str, verdict: Verdict) -> None:
        self._name = name
        self._verdict = verdict
        self._said: str | None = None

    def __call__(self) -> web.Response:
        why = self._verdict()
        if why is not None and self._said is None:
            log.warning("%s: %s", self._name, why)
        self._said = why
        return web.Response(text=f"{why or 'ok'}\n", status=200 if why is None else 503)
