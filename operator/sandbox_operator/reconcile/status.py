# SPDX-License-Identifier: Apache-2.0
"""How a status is written: it replaces the one that was seen and no other, and what decides nothing can wait."""

from __future__ import annotations

import asyncio

from sandbox_api.status import ExperimentStatus
from sandbox_api.sweep import SweepStatus

from ..kube.client import Client, Manifest
from ..kube.informer import Key
from ..kube.queue import KeyedQueue
from ..kube.resources import Resource
from ..plan.facts import Snapshot
from ..plan.sweep_facts import SweepSnapshot
from .pace import Pace
from .projections import ExperimentFact

COALESCE_SECONDS = 1.0
"""Least time between two status writes of an object that decide nothing (Running, why it waits)."""


async def write_status(
    client: Client,
    resource: Resource,
    seen: Snapshot | ExperimentFact | SweepSnapshot,
    status: ExperimentStatus | SweepStatus,
) -> Manifest:
    """Replace the status by this one, with the next revision; gives the object as it stands then.

    Raises Conflict when somebody has changed the object since it was seen.
    """
    status = status.model_copy(update={"revision": (seen.status.revision or 0) + 1})
    body = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": seen.name, "namespace": seen.namespace, "resourceVersion": seen.resource_version},
        "status": status.model_dump(mode="json", exclude_none=True),
    }
    stored = await client.update_status(resource, body, seen.namespace)
    return {"metadata": stored["metadata"], "spec": seen.spec, "status": body["status"]}


class StatusWriter:
    """Writes what is planned for objects of one kind. `queue` hands a key out again when its status may be written."""

    def __init__(self, client: Client, resource: Resource, queue: KeyedQueue[Key], pace: Pace | None = None) -> None:
        self._client = client
        self._resource = resource
        self._queue = queue
        self._pace = pace
        self._written: dict[Key, float] = {}
        """Loop time of the last write, while an object is not finished."""

    async def write(
        self, key: Key, seen: Snapshot | SweepSnapshot, status: ExperimentStatus | SweepStatus, *, urgent: bool
    ) -> Manifest | None:
        """Write a status, unless it stands already or can wait; the object as it stands then, or None."""
        if status.model_copy(update={"revision": seen.status.revision}) == seen.status:
            return None
        now = asyncio.get_running_loop().time()
        left = self._written.get(key, 0.0) + COALESCE_SECONDS - now
        if not urgent and left > 0:
            self._queue.add_after(key, left)
            return None
        if self._pace is not None:
            if not urgent and not self._pace.may_write(key):
                return None
            self._pace.forget(key)
        written = await write_status(self._client, self._resource, seen, status)
        self._written[key] = now
        if self._pace is not None and urgent:
            self._pace.decided()
        return written

    def forget(self, key: Key) -> None:
        """It is finished, or has gone."""
        self._written.pop(key, None)
        if self._pace is not None:
            self._pace.forget(key)
