# SPDX-License-Identifier: Apache-2.0
"""Sends Events off the hot path: nothing waits for them, and one that is lost is only a sentence less.

An Event's name is a digest of what it says, so that a restarted operator says nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from sandbox_api.base import API_VERSION
from sandbox_api.digest import sha256_of

from ..kube.client import Client
from ..kube.errors import AlreadyExists, ApiError
from ..plan.actions import Event, Manifest
from ..plan.clock import stamp
from ..plan.facts import Snapshot
from .resources import EVENTS

log = logging.getLogger(__name__)
BACKLOG = 1000
REMEMBERED = 10_000


class EventSender:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: asyncio.Queue[Manifest] = asyncio.Queue(BACKLOG)
        self._sent: dict[str, None] = {}
        """Names of Events sent lately, oldest first: what stays true is said once."""

    def send(self, snapshot: Snapshot, events: tuple[Event, ...], now: datetime) -> None:
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
                log.warning("%s/%s: too many events, dropped: %s", snapshot.namespace, snapshot.name, event.message)

    async def run(self) -> None:
        while True:
            manifest = await self._queue.get()
            metadata = manifest["metadata"]
            try:
                await self._client.create(EVENTS, manifest, metadata["namespace"], repeatable=True)
            except AlreadyExists:
                log.debug("the event %s has been sent before", metadata["name"])
            except ApiError as error:
                log.warning("an event could not be sent: %s", error)


def event_manifest(snapshot: Snapshot, event: Event, now: datetime) -> Manifest:
    """The Event about an experiment, as `kubectl describe` shows it."""
    digest = sha256_of([snapshot.uid, event.type, event.reason, event.message])[:16]
    time = stamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{snapshot.name}.{digest}", "namespace": snapshot.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "SandboxExperiment",
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
