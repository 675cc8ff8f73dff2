# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is to have its progress written: so many statuses a second over all, for a small share of the time, and
a pause for each experiment.

It knows no clock: times are seconds of its caller's. What decides something never asks here; it counts, though, so that
progress only takes what decisions leave.
"""

from __future__ import annotations

import heapq

from ..kube.informer import Key

WRITES_A_SECOND = 20.0
PAUSE = 10.0
"""Least seconds between two writes of one experiment's progress."""
SHARE = 0.1
"""Of the time, that in which a write of progress may be under way: what decides something seldom meets one, and an API
server that is slow gets fewer."""
LONGEST_DEBT = 1.0
"""Seconds after a burst of decisions in which its end is noticed."""


class Budget:
    def __init__(self, rate: float = WRITES_A_SECOND, pause: float = PAUSE) -> None:
        self._each, self._pause = 1 / rate, pause
        self._ready: dict[Key, None] = {}
        """Who may write as soon as anybody may, in the order in which they came here."""
        self._resting: list[tuple[float, Key]] = []
        """Heap of those that have something to tell and were written a moment ago, with when they may again."""
        self._asked: set[Key] = set()
        self._written: dict[Key, float] = {}
        """When each was written last, the longest ago first; forgotten after the pause."""
        self._next = 0.0
        """From when on the next one may write."""

    def __len__(self) -> int:
        """Experiments with something to tell."""
        return len(self._asked)

    def ask(self, key: Key, now: float) -> None:
        """This experiment has something to tell. Asking twice is asking once."""
        if key in self._asked:
            return
        self._asked.add(key)
        may_at = self._written.get(key, now - self._pause) + self._pause
        if may_at <= now:
            self._ready[key] = None
        else:
            heapq.heappush(self._resting, (may_at, key))

    def turn(self, now: float) -> Key | None:
        """The experiment whose turn it is now, which is then taken out; None when nobody may write yet."""
        self._wake(now)
        if not self._ready or now < self._next:
            return None
        key = next(iter(self._ready))
        del self._ready[key]
        self._asked.discard(key)
        self._next = now + self._each
        return key

    def seconds_to_next(self, now: float) -> float | None:
        """Until somebody's turn may come; None when nobody has anything to tell."""
        self._wake(now)
        if self._ready:
            return max(0.0, self._next - now)
        return max(self._resting[0][0], self._next) - now if self._resting else None

    def written(self, key: Key, now: float) -> None:
        """The experiment's progress stands in its status now."""
        self._written.pop(key, None)
        self._written[key] = now

    def took(self, seconds: float, now: float) -> None:
        """A write was under way for so long, and is over."""
        self._next = max(self._next, now + min(seconds * (1 / SHARE - 1), self._pause))

    def decided(self, now: float) -> None:
        """A status was written that decides something: it has taken a turn."""
        self._next = max(self._next, min(max(self._next, now) + self._each, now + LONGEST_DEBT))

    def forget(self, key: Key) -> None:
        """It has nothing to tell any more."""
        self._ready.pop(key, None)
        if key in self._asked:
            self._asked.discard(key)
            self._resting = [entry for entry in self._resting if entry[1] != key]
            heapq.heapify(self._resting)

    def _wake(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            self._ready[heapq.heappop(self._resting)[1]] = None
        while self._written and (first := next(iter(self._written.items())))[1] + self._pause <= now:
            del self._written[first[0]]
