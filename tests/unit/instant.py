# SPDX-License-Identifier: Apache-2.0
"""A clock for tests that only moves when nobody has anything to do: hours pass in milliseconds."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class InstantLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        loop = self

        class Jump(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                if timeout is not None:
                    loop.now += timeout
                return super().select(0)

        super().__init__(Jump())

    def time(self) -> float:
        return self.now


def on_clock(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Makes a test of a coroutine that runs on an InstantLoop."""

    @functools.wraps(story)
    def test() -> None:
        with asyncio.Runner(loop_factory=InstantLoop) as runner:
            runner.run(asyncio.wait_for(story(), 3600))

    return test


def now() -> float:
    return asyncio.get_running_loop().time()
