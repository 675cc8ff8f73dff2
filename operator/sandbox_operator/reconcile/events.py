# SPDX-License-Identifier: Apache-2.0
"""Sends Events off the hot path: nothing waits for them, and one that is lost is only a sentence less.

An Event's name is a digest of what it says, so that a restarted operator says nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from sandbox_api.base import API_VERSION
from sandbox_api.digest import sha256_of

from ..kube.client import Client
from ..kube.errors import AlreadyExists, ApiError
from ..plan.actions import Event, Manifest
from ..plan.clock import stamp
from ..plan.facts import Snapshot
from ..plan.sweep_facts import SweepSnapshot
from .logs import about
from .resources import EVENTS

log = logging.getLogger(__name__)
BACKLOG = 1000
REMEMBERED = 10_000


class EventSender:
    """`count` is called with what became of each Event: sent, known, failed or dropped."""

    def __init__(self, client: Client, count: Callable[[str], None]) -> None:
        self._client = client
        self._count = count
        self._queue: asyncio.Queue[Manifest] = asyncio.Queue(BACKLOG)
        self._sent: dict[str, None] = {}
        """Names of Events sent lately, oldest first: what stays true is said once."""

    def send(self, snapshot: Snapshot | SweepSnapshot, events: tuple[Event, ...], now: datetime) -> None:
        """Say what is now true. Never blocks; a full backlog drops it with a log line."""
        for event in events:
            manifest = event_manifest(snapshot, event, now)
            name = f"{snapshot.namespace}/{manifest['metadata']['name']}"
            if name in self._sent:
                continue
            self._sent[name] = None
            if len(self._sent) > REMEMBERED:
                del self._sent[next(iter(self._sent))]
            try:
                self._queue.put_nowait(manifest)
            except asyncio.QueueFull:
                self._count("dropped")
                log.warning("too many events, dropped: %s", event.message)

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        while True:
            manifest = await self._queue.get()
            metadata, subject = manifest["metadata"], manifest["involvedObject"]
            kind = subject["kind"].removeprefix("Sandbox").lower()
            with about(namespace=subject["namespace"], **{kind: subject["name"]}):
                try:
                    await self._client.create(
                        EVENTS, manifest, metadata["namespace"], repeatable=True, metadata_only=True
                    )
                    self._count("sent")
                except AlreadyExists:
                    self._count("known")
                except ApiError as error:
                    self._count("failed")
                    log.warning("an event could not be sent: %s", error)
            self._queue.task_done()

    async def drained(self) -> None:
        """Return when all that was to be said has been said, or could not be."""
        await self._queue.join()


def event_manifest(snapshot: Snapshot | SweepSnapshot, event: Event, now: datetime) -> Manifest:
    """The Event about an experiment or a sweep, as `kubectl describe` shows it."""
    digest = sha256_of([snapshot.uid, event.type, event.reason, event.message])[:16]
    time = stamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{snapshot.name}.{digest}", "namespace": snapshot.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": snapshot.kind,
            "name": snapshot.name,
            "namespace": snapshot.namespace,
            "uid": snapshot.uid,
        },
        "type": event.type,
        "reason": str(event.reason),
        "message": event.message[:1024],
        "source": {"component": "sandbox-operator"},
        "reportingComponent": "sandbox-operator",
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
