# SPDX-License-Identifier: Apache-2.0
"""Text by an OpenAI-style endpoint: vLLM's, a gateway's, a provider's."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp

from sandbox_api.text_infer import ApiInferConfig

from ..errors import ConfigError
from .text_infer import Answer, Question, TextInferExecutor

AGAIN = (408, 409, 425, 429)
"""With all of 500 and above: worth another try."""
LONGEST_WAIT = 60.0


class ApiInferExecutor(TextInferExecutor):
    """type: api."""

    settings = ApiInferConfig

    async def answers(  # type: ignore[override]  # an async generator is one once it is called
        self, config: ApiInferConfig, questions: Sequence[Question]
    ) -> AsyncIterator[tuple[Question, Answer]]:
        key = os.environ.get(config.api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(total=config.timeout_seconds)
        pace = _Pace(config.requests_per_minute)
        waiting = iter(questions)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            asked: dict[asyncio.Task[Answer], Question] = {}
            try:
                while True:
                    while len(asked) < config.concurrency and (question := next(waiting, None)) is not None:
                        asked[asyncio.create_task(_answer(session, config, question, pace))] = question
                    if not asked:
                        return
                    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield asked.pop(task), task.result()
            finally:
                for task in asked:
                    task.cancel()


async def _answer(session: aiohttp.ClientSession, config: ApiInferConfig, question: Question, pace: _Pace) -> Answer:
    """Raises ConfigError for what no further try can mend: a wrong address, key or request."""
    body = {"model": config.model, "messages": question.messages, **config.sampling_params}
    error = ""
    for number in range(config.max_retry_num + 1):
        await pace.turn()
        wait = min(LONGEST_WAIT, 2.0**number) * random.uniform(0.5, 1.0)
        try:
            async with session.post(config.api_endpoint, json=body) as response:
                text = await response.text()
                if response.status < 400:
                    return _read(text, config)
                error = f"{config.api_endpoint} answered {response.status}: {' '.join(text.split())[:300]}"
                if response.status not in AGAIN and response.status < 500:
                    field = {401: "api_key_env", 403: "api_key_env", 404: "api_endpoint"}.get(response.status)
                    if field:
                        raise ConfigError(f"extraConfigs.{field}: {error}")
                    return Answer(None, error)
                wait = _asked_to_wait(response.headers.get("Retry-After"), wait)
        except (aiohttp.ClientError, TimeoutError) as failure:
            error = f"{config.api_endpoint}: {type(failure).__name__} {failure}".rstrip()
        if number < config.max_retry_num:
            await asyncio.sleep(wait)
    return Answer(None, f"{error} ({config.max_retry_num + 1} tries)")


def _read(text: str, config: ApiInferConfig) -> Answer:
    try:
        value: Any = json.loads(text)
        for part in config.response_path.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (ValueError, KeyError, IndexError, TypeError):
        return Answer(None, f"the answer has nothing at {config.response_path} (response_path): {text[:200]}")
    return Answer(str(value)) if value is not None else Answer(None, f"the answer at {config.response_path} is empty")


def _asked_to_wait(told: str | None, otherwise: float) -> float:
    try:
        return min(LONGEST_WAIT, max(float(told or ""), 0.0))
    except ValueError:
        return otherwise


class _Pace:
    """At most so many requests a minute, evenly."""

    def __init__(self, a_minute: float | None) -> None:
        self._gap = 60.0 / a_minute if a_minute else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        if not self._gap:
            return
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._gap
        await asyncio.sleep(at - now)
