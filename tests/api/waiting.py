# SPDX-License-Identifier: Apache-2.0
"""Waiting in tests: for a condition and with a limit, never for a while and with hope."""

import asyncio
from collections.abc import Callable

LIMIT = 20.0


async def eventually(condition: Callable[[], object], *, limit: float = LIMIT) -> None:
    """Return as soon as `condition()` is true; fail, with its text, after `limit` seconds."""
    deadline = asyncio.get_running_loop().time() + limit
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            names = ", ".join(condition.__code__.co_names)
            raise AssertionError(f"not true within {limit} s: {condition.__qualname__} (about {names})")
        await asyncio.sleep(0.005)
