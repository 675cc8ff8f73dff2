# SPDX-License-Identifier: Apache-2.0
"""When the operator looks at everything it holds: in an idle moment, and on Python's own account hardly ever."""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.unit.instant import now, on_clock

from sandbox_operator.reconcile.garbage import EVERY_SECONDS, FALLBACK, collect_when


@contextmanager
def looks_at_everything() -> Iterator[list[float]]:
    """Loop times at which it was begun."""
    times: list[float] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start" and info["generation"] == 2:
            times.append(now())

    gc.callbacks.append(note)
    try:
        yield times
    finally:
        gc.callbacks.remove(note)


@on_clock
async def test_it_waits_until_nothing_is_to_be_done() -> None:
    before, free = gc.get_threshold(), asyncio.Event()
    with looks_at_everything() as times:
        task = asyncio.create_task(collect_when(free.wait))
        await asyncio.sleep(EVERY_SECONDS + 100)
        assert times == []
        assert gc.get_threshold() == (*before[:2], FALLBACK)
        free.set()
        await asyncio.sleep(1)
        assert len(times) == 1
        await asyncio.sleep(2 * EVERY_SECONDS)
        assert len(times) == 3
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert gc.get_threshold() == before
