# SPDX-License-Identifier: Apache-2.0
"""How often statuses that decide nothing may be written, over all experiments together.

A thousand experiments that begin to wait at the same moment have a thousand reasons to tell, while the API server has
better things to do: what decides something never waits here, and counts. While more is decided than that, the rest
waits: its next decision tells it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..kube.informer import Key

WRITES_A_SECOND = 5.0
AT_ONCE = 10.0
"""So many may be written without a pause by an operator that has been quiet."""
LONGEST = 60.0
"""Seconds after which one is written, however much is decided."""


class Pace:
    """`wake` is called with a key when its turn has come."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._waiting: dict[Key, None] = {}
        """In the order in which they asked."""
        self._turns: set[Key] = set()
        """Who has been woken and has not written yet."""
        self._next = 0.0
        """Loop time from which on the next one may write."""
        self._told = 0.0
        """Loop time of the last one."""
        self._timer: asyncio.TimerHandle | None = None

    def decided(self) -> None:
        """A status was written that decides something."""
        now = asyncio.get_running_loop().time()
        if not self._waiting:
            self._told = now  # nobody has waited so far
        # A burst is forgotten soon after it is over.
        self._next = min(self._after(now), now + AT_ONCE / WRITES_A_SECOND, self._told + LONGEST)

    def may_write(self, key: Key) -> bool:
        """Whether it is this key's turn; if not, it is woken then."""
        if key in self._turns:
            self._turns.discard(key)
            return True
        now = asyncio.get_running_loop().time()
        if not self._waiting and now >= self._next:
            self._spend(now)
            return True
        self._waiting.setdefault(key, None)
        self._set_timer()
        return False

    def forget(self, key: Key) -> None:
        """It has nothing to tell any more."""
        self._waiting.pop(key, None)
        self._turns.discard(key)

    def _spend(self, now: float) -> None:
        self._told, self._next = now, self._after(now)

    def _after(self, now: float) -> float:
        return max(self._next, now - AT_ONCE / WRITES_A_SECOND) + 1 / WRITES_A_SECOND

    def _set_timer(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_at(self._next, self._hand_out)

    def _hand_out(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if self._waiting and now >= self._next:
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._turns.add(key)
            self._spend(now)
            self._wake(key)
        self._set_timer()
