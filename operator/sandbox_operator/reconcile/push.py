# SPDX-License-Identifier: Apache-2.0
"""The endpoint at which pods tell how far they are: `POST /v1/progress`, with the token of their own.

A pod has no rights in the API server. What it may do here is to tell of itself: the token says which pod it is, the
informers say what that pod works at, and a report about anything else is refused.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web
from pydantic import ValidationError

from sandbox_api.progress import MAX_REPORT, PROGRESS_PATH, ProgressAnswer, ProgressReport

from .budget import PAUSE, WRITES_A_SECOND
from .reports import Reports, Teller
from .tokens import KeysUnavailable, PodIdentity, TokenRefused, TokenVerifier

REPORT_SECONDS = 5.0
"""In which a report must have come, whole."""
LEAST_SECONDS = 0.5
"""Between two reports of one pod."""
AT_ONCE = 200
"""Reports that are looked at at the same time; it takes a millisecond."""
REMEMBERED = 20_000
"""Pods of which is known when they told last."""
COUNTED_SECONDS = 10.0
"""For so long the number of pods that run is taken as it was."""
COME_AGAIN = 5
"""Seconds after which a pod may find the operator that works."""


class Refused(Exception):
    """A report that is not taken: the HTTP status, and a sentence for who sent it."""

    def __init__(self, status: int, words: str, retry_after: int | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.retry_after = retry_after


def interval_for(pods: int) -> float:
    """Seconds between two reports of each of so many pods: together they fill the budget of writes and no more."""
    return max(PAUSE, math.ceil(pods / WRITES_A_SECOND))


def report_in(body: bytes) -> ProgressReport:
    """Raises Refused with the field and what is wrong with it."""
    try:
        return ProgressReport.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the body"
        raise Refused(400, f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:]}") from error


def check_claims(report: ProgressReport, teller: Teller) -> None:
    """A pod tells of itself, and of what it was made for. Raises Refused."""
    said, known = (report.pod, report.job, report.attempt), (teller.pod, teller.job, teller.attempt)
    for field, told, true in zip(("pod", "job", "attempt"), said, known, strict=True):
        if told != true:
            raise Refused(403, f"{field}: the report says {told!r}, but its token is that of {true!r}")


class Push:
    """The endpoint. `reports` gives None while this replica stands by; `teller` who a pod is, as the informers know it;
    `acknowledged` the rungs of an experiment that were decided about; `pods` how many run."""

    def __init__(
        self,
        verifier: TokenVerifier,
        reports: Callable[[], Reports | None],
        teller: Callable[[PodIdentity], Teller | None],
        acknowledged: Callable[[Teller], list[int]],
        pods: Callable[[], int],
        count: Callable[[str], None],
    ) -> None:
        self._verifier = verifier
        self._reports = reports
        self._teller = teller
        self._acknowledged = acknowledged
        self._pods = pods
        self._count = count
        self._told: OrderedDict[str, float] = OrderedDict()
        """Loop time at which each pod told last."""
        self._at_once = 0
        self._interval = PAUSE
        self._counted_at = -math.inf

    def application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_REPORT)
        application.router.add_post(PROGRESS_PATH, self.handle)
        return application

    async def handle(self, request: web.Request) -> web.Response:
        """Take one report. It answers with a sentence whatever was wrong."""
        self._at_once += 1
        try:
            answer = await self._take(request)
        except Refused as error:
            self._count(str(error.status))
            headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            if error.status == 401:
                headers["WWW-Authenticate"] = "Bearer"
            return web.Response(status=error.status, text=f"{error}\n", headers=headers)
        finally:
            self._at_once -= 1
        self._count("200")
        return web.Response(body=answer.model_dump_json().encode(), content_type="application/json")

    async def _take(self, request: web.Request) -> ProgressAnswer:
        reports = self._reports()
        if reports is None:
            raise Refused(503, "this operator stands by; another one works", COME_AGAIN)
        if self._at_once > AT_ONCE:
            raise Refused(503, f"more than {AT_ONCE} reports are looked at already", COME_AGAIN)
        teller = await self._who(request.headers.get("Authorization", ""))
        report = report_in(await _body(request))
        check_claims(report, teller)
        self._check_pace(teller.pod)
        reports.take(teller, report, datetime.now(UTC))
        acknowledged = self._acknowledged(teller) if report.rungs else []
        return ProgressAnswer(interval=self._interval_now(), acknowledged=acknowledged)

    async def _who(self, authorization: str) -> Teller:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(401, "there is no token; send the projected one as `Authorization: Bearer ...`")
        try:
            identity = await self._verifier.verify(token.strip())
        except TokenRefused as error:
            raise Refused(401, str(error)) from error
        except KeysUnavailable as error:
            raise Refused(503, str(error), COME_AGAIN) from error
        teller = self._teller(identity)
        if teller is None:
            where = f"{identity.namespace}/{identity.name}"
            raise Refused(403, f"the pod {where} is none that works for an experiment here, or is not known yet")
        return teller

    def _interval_now(self) -> float:
        now = asyncio.get_running_loop().time()
        if now - self._counted_at > COUNTED_SECONDS:
            self._interval, self._counted_at = interval_for(self._pods()), now
        return self._interval

    def _check_pace(self, pod: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told.get(pod, -math.inf) < LEAST_SECONDS:
            raise Refused(429, f"this pod has told less than {LEAST_SECONDS} s ago", 1)
        self._told[pod] = now
        self._told.move_to_end(pod)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)


async def _body(request: web.Request) -> bytes:
    too_long = Refused(413, f"the report is longer than {MAX_REPORT} bytes")
    if (request.content_length or 0) > MAX_REPORT:
        raise too_long
    try:
        async with asyncio.timeout(REPORT_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise too_long from error
    except TimeoutError as error:
        raise Refused(408, f"the report did not come within {REPORT_SECONDS:.0f} s") from error
