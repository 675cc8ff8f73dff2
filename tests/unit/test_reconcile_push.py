# SPDX-License-Identifier: Apache-2.0
"""The endpoint for progress over real HTTP: who is heard, and in which words all others are sent away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.unit.tokens import PublishedKeys, Signer

from sandbox_api.progress import MAX_REPORT
from sandbox_operator.kube.errors import Forbidden
from sandbox_operator.kube.informer import Key
from sandbox_operator.plan.progress import Live
from sandbox_operator.reconcile.push import LEAST_SECONDS, Push
from sandbox_operator.reconcile.reports import Reports, Teller
from sandbox_operator.reconcile.settings import SettingsError, settings_from
from sandbox_operator.reconcile.tokens import PodIdentity, TokenVerifier

SIGNER = Signer("one")
JOB = "anonymous/1/execution/0"
ME = Teller(("lab", "demo"), "u1", JOB, 1, "pod-uid")
REPORT = {"pod": "pod-uid", "job": JOB, "attempt": 1, "step": 5}


class Operator:
    """The endpoint, and what its surroundings know."""

    def __init__(self) -> None:
        self.keys = PublishedKeys(SIGNER)
        self.news: list[Key] = []
        self.reports: Reports | None = Reports(self.news.append, lambda _: None)
        self.known = {PodIdentity("lab", "a-pod", "pod-uid"): ME}
        self.decided: list[int] = []
        self.pods = 1
        self.counted: list[str] = []
        self.url = ""

    def endpoint(self) -> Push:
        return Push(
            TokenVerifier(self.keys.get),
            lambda: self.reports,
            self.known.get,
            lambda _: self.decided,
            lambda: self.pods,
            self.counted.append,
        )

    async def post(self, body: Any = REPORT, token: str | None = "", **headers: str) -> tuple[int, str, Any]:
        """Status, text and headers. `token`: by default a right one; None: none."""
        token = SIGNER.token() if token == "" else token
        headers |= {} if token is None else {"Authorization": f"Bearer {token}"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/v1/progress", data=data, headers=headers) as answer,
        ):
            return answer.status, await answer.text(), answer.headers


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    made = Operator()
    runner = web.AppRunner(made.endpoint().application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()


async def test_a_report_is_taken_and_answered_with_when_to_come_again(operator: Operator) -> None:
    operator.pods, operator.decided = 2000, [3]
    status, text, headers = await operator.post({**REPORT, "rungs": [{"rung": 3, "value": 1.5}]})
    assert (status, json.loads(text)) == (200, {"interval": 100.0, "acknowledged": [3]})
    assert headers["Content-Type"].startswith("application/json")
    assert operator.reports is not None
    assert set(operator.reports.live(("lab", "demo"), "u1")) == {JOB}
    assert (operator.news, operator.counted) == ([("lab", "demo")], ["200"])


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ({"token": None}, 401, "there is no token"),
        ({"token": "x.y.z"}, 401, "the token can't be read"),
        ({"token": SIGNER.token(aud=["api"])}, 401, "audience"),
        ({"token": SIGNER.token(pod={"name": "a-pod", "uid": "earlier"})}, 403, "the pod lab/a-pod is none that works"),
        ({"token": SIGNER.token(pod={"name": "other", "uid": "pod-uid"})}, 403, "the pod lab/other is none that works"),
        ({"body": {**REPORT, "attempt": 2}}, 403, "attempt: the report says 2, but its token is that of 1"),
        ({"body": {**REPORT, "pod": "other"}}, 403, "pod: the report says 'other'"),
        ({"body": b"{"}, 400, "the body: invalid JSON"),
        ({"body": {**REPORT, "step": "x"}}, 400, "step: input should be a valid integer"),
        ({"body": b" " * (MAX_REPORT + 1)}, 413, "longer than"),
        ({"body": b"", "token": None}, 401, "there is no token"),
    ],
)
async def test_all_others_are_sent_away_with_a_sentence(
    operator: Operator, what: dict[str, Any], status: int, words: str
) -> None:
    found, text, headers = await operator.post(**what)
    assert found == status, text
    assert words in text
    assert ("WWW-Authenticate" in headers) is (status == 401)
    assert operator.news == []
    assert operator.counted == [str(status)]


async def test_a_body_whose_length_is_not_told_is_bounded_too(operator: Operator) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    headers = {"Authorization": f"Bearer {SIGNER.token()}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{operator.url}/v1/progress", data=endless(), headers=headers) as answer,
    ):
        assert answer.status == 413


async def test_who_stands_by_sends_all_away_and_asks_for_no_key(operator: Operator) -> None:
    operator.reports = None
    status, text, headers = await operator.post()
    assert (status, text, headers["Retry-After"]) == (503, "this operator stands by; another one works\n", "5")
    assert operator.keys.asked == 0


async def test_without_the_clusters_keys_pods_are_asked_to_come_again(operator: Operator) -> None:
    operator.keys.error = Forbidden("no right to read them", status=403, reason="Forbidden")
    status, text, headers = await operator.post()
    assert (status, headers["Retry-After"]) == (503, "5")
    assert "the cluster's keys can't be read" in text


async def test_a_pod_that_tells_without_pause_is_slowed_down(operator: Operator) -> None:
    assert (await operator.post())[0] == 200
    status, text, _ = await operator.post({**REPORT, "step": 6})
    assert (status, f"less than {LEAST_SECONDS} s ago" in text) == (429, True)
    await asyncio.sleep(LEAST_SECONDS)
    assert (await operator.post({**REPORT, "step": 7}))[0] == 200
    assert operator.reports is not None
    live = operator.reports.live(("lab", "demo"), "u1")[JOB]
    assert isinstance(live, Live)
    assert live.progress.step == 7


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"PROGRESS_PORT": "8081"}, "SANDBOX_PROGRESS_URL must be the URL under which pods reach port 8081"),
        ({"PROGRESS_PORT": "8081", "PROGRESS_URL": "operator:8081"}, "SANDBOX_PROGRESS_URL must be the URL"),
        ({"PROGRESS_PORT": "8081", "PROGRESS_URL": "http://o:1", "PROGRESS_SERVICE": "x"}, "PROGRESS_SERVICE must be"),
        ({"PROGRESS_PORT": "8081", "PROGRESS_URL": "http://o:1", "PROGRESS_SERVICE": "a/x"}, "SANDBOX_POD_IP must be"),
    ],
)
def test_a_setting_that_pods_could_not_use_is_refused_by_name(given: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings_from({f"SANDBOX_{name}": value for name, value in given.items()})


def test_beside_a_cluster_nobody_is_told_anything_unless_a_port_is_set() -> None:
    found = settings_from({"SANDBOX_PROGRESS_URL": "http://o:1", "SANDBOX_PROGRESS_SERVICE": "a/x"})
    assert (found.progress_port, found.progress_service, found.defaults.progress_url) == (0, None, None)
