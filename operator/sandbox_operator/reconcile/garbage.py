# SPDX-License-Identifier: Apache-2.0
"""Looks for garbage when there is nothing else to do.

What the operator holds lives long and is seldom garbage: facts about objects, specs that were compiled. Python looks at
all of it whenever a quarter more has come: with 2 000 pods for a quarter of a second, in which nothing else goes on. So
by itself it looks at what is young alone, and at everything in a moment in which no key waits.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

EVERY_SECONDS = 600.0
FALLBACK = 1000
"""Looks at what is no longer young after which it looks at everything, busy or not; Python's own is 10."""


async def collect_when(idle: Callable[[], Awaitable[object]]) -> None:
    """Until cancelled. `idle` waits for a moment in which there is nothing to do."""
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, FALLBACK)
    try:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await idle()
            gc.collect()
    finally:
        gc.set_threshold(young, middle, old)
