# SPDX-License-Identifier: Apache-2.0
"""The memory that a hook uses, sampled, so that an out-of-memory kill can be named with a figure.

The kernel may kill the supervisor with its hook (cgroup version 2 does where the kubelet asks for it); what is left
then is what was written before. The sample stands in the attempt's events, and, once a hook uses half of its limit, in
the termination message, which the kubelet reports whatever happened. The real message replaces it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from sandbox_api.peak import peak_text

from .cgroup import Memory
from .logs import Events

INTERVAL = 0.2
"""Seconds between two samples."""
STEPS = 16
"""The limit in parts: a peak that has not grown by one is not told again."""


class PeakSampler:
    """Samples where the container has a limit of its own; elsewhere the figures would be others' too."""

    def __init__(self, memory: Memory, events: Events, termination: Path) -> None:
        self.peak: int | None = None
        self._memory = memory
        self._events = events
        self._termination = termination
        self._limit = memory.own_limit()
        self._told = 0

    def sample(self) -> None:
        """Look once, and tell what is new."""
        if self._limit is None or (used := self._memory.working_set()) is None:
            return
        self.peak = max(used, self.peak or 0)
        if self.peak < self._told + self._limit / STEPS:
            return
        self._told = self.peak
        words = peak_text(self.peak, self._limit)
        self._events.add("memory", peak=self.peak, limit=self._limit, words=words)
        if self.peak >= self._limit / 2:
            with contextlib.suppress(OSError):
                self._termination.write_text(words)
