# SPDX-License-Identifier: Apache-2.0
"""HTTP to one API server: sends a request, turns a refusal into an error, and holds the one rule of what is
sent again.

It knows no verbs and no resources: those are `client.py`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from sandbox_operator.kube.backoff import exponential
from sandbox_operator.kube.config import Connection
from sandbox_operator.kube.errors import ApiError, ServerError, TooManyRequests, Unreachable, error_from

TRIES = 5
LONGEST_REQUESTED_PAUSE = 30.0
REQUEST_LIMITS = aiohttp.ClientTimeout(total=30, sock_connect=10)

Query = Mapping[str, str | None]
"""Query parameters; None leaves one out."""


def pause_before_retry(error: ApiError, failures: int, *, repeatable: bool) -> float | None:
    """Seconds to wait before a request that has failed `failures` times is sent again, or None: give up.

    A refused request (429) was not processed and may always be repeated; one that broke (no answer, 500, 502,
    503, 504) may have been carried out, so only a repeatable one is. `Retry-After` is obeyed up to
    `LONGEST_REQUESTED_PAUSE`.
    """
    broken = isinstance(error, Unreachable) or (isinstance(error, ServerError) and error.status in {500, 502, 503, 504})
    if failures >= TRIES or not (isinstance(error, TooManyRequests) or (broken and repeatable)):
        return None
    return max(exponential(failures, 0.1, 5.0), min(error.retry_after or 0.0, LONGEST_REQUESTED_PAUSE))


class Transport:
    """One HTTP session to one server, opened by `async with`.

    `counts` holds the requests sent, repeats included, by what the caller says each one is: (verb, resource);
    `answers` the answers to them, with the HTTP status as third part, or `none` where nobody answered.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        user_agent: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.connection = connection
        self.counts: Counter[tuple[str, str]] = Counter()
        self.answers: Counter[tuple[str, str, str]] = Counter()
        self._user_agent = user_agent
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # The server would compress every page of a list, for a network that is rarely the limit.
        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity"}
        self._session = self.connection.session(headers=headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        what: tuple[str, str],
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: dict[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        repeatable: bool = True,
    ) -> bytes:
        """The body of the answer, sent for again where `pause_before_retry` allows it. Raises ApiError."""
        data = None if body is None else orjson.dumps(body)
        failures = 0
        while True:
            try:
                async with self.answer(
                    method, path, what=what, query=query, data=data, content_type=content_type, accept=accept
                ) as response:
                    return await response.read()
            except ApiError as error:
                failures += 1
                pause = pause_before_retry(error, failures, repeatable=repeatable)
                if pause is None:
                    raise
            await self._sleep(pause)

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
        """One request, sent once, as an open response of a status under 400.

        Raises ApiError, for what happens while the body is read too.
        """
        if self._session is None:
            raise RuntimeError("the client is not open; use it in `async with`")
        url = URL(self.connection.server + path, encoded=True).update_query(
            {name: value for name, value in (query or {}).items() if value is not None}
        )
        headers = {"Accept": accept} if data is None else {"Accept": accept, "Content-Type": content_type}
        self.counts[what] += 1
        code: str | None = None
        try:
            async with self._session.request(method, url, data=data, headers=headers, timeout=limits) as response:
                code = str(response.status)
                self.answers[(*what, code)] += 1
                if response.status >= 400:
                    after = response.headers.get("Retry-After")
                    text = await response.read()
                    raise error_from(response.status, text, request=f"{method} {path}", retry_after=after)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if code is None:
                self.answers[(*what, "none")] += 1
            request = f"{method} {self.connection.server}{path}"
            raise Unreachable(str(error) or type(error).__name__, request=request) from error


async def lines_of(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """The lines of a body as they come, without their ends."""
    # Not readline(): it refuses lines longer than its buffer, and an object may have 1.5 MB.
    pending: list[bytes] = []
    async for chunk in content.iter_any():
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            pending.append(line)
            yield b"".join(pending)
            pending.clear()
        if rest:
            pending.append(rest)
    if pending:
        yield b"".join(pending)
