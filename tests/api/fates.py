# SPDX-License-Identifier: Apache-2.0
"""What can become of a call to the fake API server instead of its answer.

A fate that strikes "before" keeps the call from being carried out; one that strikes "after" only spoils the answer, so
that the caller can't know. Who decides is the test (`FakeAPI.on_call`).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Moment = Literal["before", "after"]

REASONS = {
    403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests",
    500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


class Refused(Exception):
    """An answer other than success, as a Status object."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        self.code, self.retry_after = code, retry_after
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
        }

    @property
    def answer(self) -> web.Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return web.json_response(self.status, status=self.code, headers=headers)


@dataclass(frozen=True)
class Call:
    """One request of somebody who is not spared. `number` counts from 1; `plural` has the subresource with it."""

    number: int
    verb: str
    plural: str
    namespace: str | None
    name: str | None
    body: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class Fault:
    """For the next `times` requests of a verb: `code` is answered; `cut` does the work and drops the line."""

    verb: str
    plural: str | None
    times: int
    code: int = 0
    retry_after: float | None = None
    cut: bool = False


@dataclass(frozen=True)
class Fate:
    """One of the ways below, made by the functions under it."""

    kind: Literal["refused", "reset", "cut", "page", "silence", "slow"]
    code: int = 0
    seconds: float | None = None
    reason: str = ""

    async def strike(self, request: web.Request, answer: Any = None) -> web.StreamResponse:
        """Answer, or not; `answer` is what the server would have said."""
        text = json.dumps(answer if answer is not None else {"kind": "Status", "status": "Success"}).encode()
        match self.kind:
            case "refused":
                return Refused(self.code, self.reason, "a fault of the test", self.seconds).answer
            case "page":
                page = "<html><body><h1>the proxy has other plans</h1></body></html>"
                return web.Response(text=page, content_type="text/html", status=self.code)
            case "slow":
                await asyncio.sleep(self.seconds or 0.0)
                return web.Response(body=text, content_type="application/json")
            case "silence":
                await asyncio.sleep(self.seconds or 3600)
            case "cut":
                stream = web.StreamResponse(headers={"Content-Type": "application/json"})
                stream.content_length = len(text)
                await stream.prepare(request)
                await stream.write(text[: len(text) // 2])
        return reset(request)


def reset(request: web.Request) -> web.Response:
    """Break the connection off without a word."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


RESET = Fate("reset")
"""The connection breaks off."""
CUT = Fate("cut")
"""Half of the answer comes."""
SILENCE = Fate("silence")
"""No answer comes, until the caller has had enough."""


def refused(code: int, *, reason: str = "", retry_after: float | None = None) -> Fate:
    """A Status object with this code; for a watch that has begun, inside its stream."""
    return Fate("refused", code, retry_after, reason or REASONS[code])


def page(code: int) -> Fate:
    """A page that some proxy made, with this code: 200 as well."""
    return Fate("page", code)


def slow(seconds: float) -> Fate:
    """The right answer, late. Only "after"."""
    return Fate("slow", seconds=seconds)
