# SPDX-License-Identifier: Apache-2.0
"""The work queue behind the informers: which key is to be looked at next, and which not yet.

It knows no work: whoever takes a key does it, and says `done`.
"""

import asyncio
from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

from sandbox_operator.kube.backoff import exponential

K = TypeVar("K", bound=Hashable)


class QueueClosed(Exception):
    """The queue was shut down: there will be no more keys."""


class KeyedQueue(Generic[K]):
    """Keys in the order they were added; one key is never in two hands.

    A key added twice is handed out once. A key added while somebody has it is handed out again after `done`.
    Delayed entries of a key are one, the earliest; handing a key out drops it, since whoever looks at a key
    decides anew when to look again. All times are seconds of the loop's clock.
    """

    def __init__(self, *, first_retry: float = 0.2, longest_retry: float = 60.0) -> None:
        self._first_retry = first_retry
        self._longest_retry = longest_retry
        self._waiting: dict[K, float] = {}
        self._taken: dict[K, float] = {}
        self._again: dict[K, float] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._news = asyncio.Event()
        self._calm = asyncio.Event()
        self._moved_at = 0.0
        """When a key was taken or given back last."""
        self._closed = False

    def __len__(self) -> int:
        """Keys that could be handed out now or as soon as their present holder is done."""
        return len(self._waiting) + len(self._again)

    @property
    def is_idle(self) -> bool:
        """Whether no key waits to be handed out, and none is in anybody's hands."""
        return not self._waiting and not self._taken

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._timers)

    def add(self, key: K) -> None:
        """Hand this key out as soon as possible. Ignored after `shutdown`."""
        if self._closed:
            return
        now = asyncio.get_running_loop().time()
        if key in self._taken:
            self._again.setdefault(key, now)
        else:
            self._waiting.setdefault(key, now)
            self._news.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Hand this key out in `seconds` (0: as soon as possible), or when an earlier entry says so.

        Ignored after `shutdown`.
        """
        if seconds <= 0:
            self.add(key)
            return
        if self._closed or key in self._waiting:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is None or when < timer.when():
            if timer is not None:
                timer.cancel()
            self._timers[key] = loop.call_at(when, self._due, key)

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    async def get(self) -> K:
        """The next key; it is the caller's until `done(key)`. Raises QueueClosed after `shutdown`."""
        while not self._waiting:
            if self._closed:
                raise QueueClosed
            self._news.clear()
            await self._news.wait()
        if self._closed:
            raise QueueClosed
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._taken[key] = self._moved_at = asyncio.get_running_loop().time()
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        return key

    def try_take(self, key: K) -> bool:
        """Take this key, if nobody has it and it does not wait to be handed out; it is the caller's until `done(key)`.

        For who has something small to do with a key that must not meet the work on it. Delayed entries stay.
        """
        if self._closed or key in self._waiting or key in self._taken:
            return False
        self._taken[key] = self._moved_at = asyncio.get_running_loop().time()
        return True

    def done(self, key: K) -> None:
        """Give a key back, whatever came of it."""
        del self._taken[key]
        self._moved_at = asyncio.get_running_loop().time()
        added = self._again.pop(key, None)
        if added is not None and not self._closed:
            self._waiting[key] = added
            self._news.set()
        if self.is_idle:
            self._calm.set()

    async def idle(self) -> None:
        """Wait for a moment in which `is_idle` holds."""
        while not self.is_idle:
            self._calm.clear()
            await self._calm.wait()

    def retry(self, key: K) -> float:
        """Hand this key out after its back-off, doubled by each call until `forget`; gives the seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = exponential(failures, self._first_retry, self._longest_retry)
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key's work succeeded: its next failure starts from the shortest back-off."""
        self._failures.pop(key, None)

    def oldest_age(self) -> float:
        """Seconds since the longest waiting key was added; 0 when none waits."""
        return self._age(self._waiting.values())

    def longest_hold(self) -> float:
        """Seconds since the longest held key was taken; 0 when none is held. Grows when one is never given back."""
        return self._age(self._taken.values())

    def standstill(self) -> float:
        """Seconds in which keys waited and none was taken or given back; 0 when none waits.

        A liveness probe's question: the length of the queue, and how long a key waits in it, are not in it.
        """
        if not self._waiting:
            return 0.0
        return asyncio.get_running_loop().time() - max(self._moved_at, min(self._waiting.values()))

    @staticmethod
    def _age(times: Collection[float]) -> float:
        return asyncio.get_running_loop().time() - min(times) if times else 0.0

    def shutdown(self) -> None:
        """Hand out nothing more: waiting and later `get`s raise QueueClosed. `done` still works."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._again.clear()
        self._news.set()
