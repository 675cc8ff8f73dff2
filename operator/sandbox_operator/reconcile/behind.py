# SPDX-License-Identifier: Apache-2.0
"""Puts the operator that works, and no other, behind the Service for progress: it writes that Service's one endpoint.

The Service has no selector. A label on the leader's pod would need the right to change pods; this needs the right to
change one EndpointSlice.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from dataclasses import dataclass
from typing import Any

from ..kube.client import Client
from ..kube.errors import ApiError
from .resources import ENDPOINT_SLICES, SERVICES

log = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0
"""Somebody may have taken it away. A write that changes nothing is none."""
AFTER_FAILURE = 5.0


@dataclass(frozen=True)
class Place:
    """Where the Service is, and where this operator listens."""

    namespace: str
    service: str
    address: str
    port: int


def endpoint_slice(place: Place, owner: str) -> dict[str, Any]:
    """The one endpoint; `owner` is the uid of the Service, with which it goes."""
    version = ipaddress.ip_address(place.address).version
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "name": place.service,
            "namespace": place.namespace,
            "labels": {
                "kubernetes.io/service-name": place.service,
                "endpointslice.kubernetes.io/managed-by": "sandbox-operator",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": place.service, "uid": owner}],
        },
        "addressType": f"IPv{version}",
        "endpoints": [{"addresses": [place.address], "conditions": {"ready": True}}],
        "ports": [{"name": "progress", "port": place.port, "protocol": "TCP"}],
    }


async def stay_behind(client: Client, place: Place) -> None:
    """Until cancelled. What goes wrong is told once and tried again: pods wait, and no hook does."""
    trouble = ""
    while True:
        pause = AGAIN_SECONDS
        try:
            service = await client.get(SERVICES, place.service, place.namespace)
            body = endpoint_slice(place, service["metadata"]["uid"])
            await client.patch(ENDPOINT_SLICES, place.service, body, place.namespace, kind="apply", force=True)
            trouble = ""
        except ApiError as error:
            if str(error) != trouble:
                log.warning("pods can't tell how far they are: %s", error)
            trouble, pause = str(error), AFTER_FAILURE
        await asyncio.sleep(pause)
