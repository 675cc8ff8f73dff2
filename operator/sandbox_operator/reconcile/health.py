# SPDX-License-Identifier: Apache-2.0
"""Whether this process should be restarted, or is fit to take over. It looks at progress, not at what is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..kube.informer import Informer
from ..kube.queue import KeyedQueue


@dataclass(frozen=True)
class Limits:
    silent_streams: float = 4.0
    """A watch that neither heard anything nor failed for so many times its own limit of silence is deaf: after that
    limit it should have begun anew."""
    standstill: float = 300.0
    """Seconds in which keys waited and no worker took one or gave one back. A request to an API server that never
    answers is given up after 153 s, repeats included."""
    hold: float = 1800.0
    """Seconds for which one worker had the same key: long enough for hundreds of Jobs on a very slow API server."""
    lease: float = 60.0
    """Seconds without a try to get or to renew the Lease."""


LIMITS = Limits()


def why_restart(
    informers: Iterable[Informer[Any]], queues: Iterable[KeyedQueue[Any]], lease_idle: float, limits: Limits
) -> str | None:
    """A sentence when something has come to a standstill that nothing in this process will ever end, else None.

    queues: those of the workers; none while this replica is not the one that works.
    lease_idle: seconds since the Lease was tried last; 0 without a Lease.
    An API server that can't be reached, or is slow, is no reason: a restart would not mend it.
    """
    now = asyncio.get_running_loop().time()
    for informer in informers:
        signs = [sign for sign in (informer.last_activity, informer.last_failure) if sign is not None]
        silent = now - max(signs, default=now)
        if silent > limits.silent_streams * informer.idle_seconds:
            return f"the watch of {informer.resource.plural} has been silent for {silent:.0f} s"
    for queue in queues:
        if (still := queue.standstill()) > limits.standstill:
            return f"no progress: {len(queue)} objects wait, and none was looked at for {still:.0f} s"
        if (held := queue.longest_hold()) > limits.hold:
            return f"no progress: a worker has been busy with one object for {held:.0f} s"
    if lease_idle > limits.lease:
        return f"no progress: the lease was not asked for for {lease_idle:.0f} s"
    return None


def why_not_ready(informers: Iterable[Informer[Any]]) -> str | None:
    """What has not been seen once yet, and why; None when this process could work at once."""
    missing = [informer for informer in informers if not informer.synced.is_set()]
    if not missing:
        return None
    trouble = next((f": {informer.last_error}" for informer in missing if informer.last_error), "")
    return f"not seen yet: {', '.join(sorted({informer.resource.plural for informer in missing}))}{trouble}"
