# SPDX-License-Identifier: Apache-2.0
"""What keeps a pod that a command has started from its work, in the pod's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kube.resources import Resource

PODS = Resource("", "v1", "pods", "Pod")


def words_of(pod: Mapping[str, Any]) -> str:
    """What a pod says of itself, the nearest to the cause first."""
    status = pod.get("status") or {}
    states = [state for c in status.get("containerStatuses") or () for state in (c.get("state") or {}).values()]
    said = [state.get("message") or state.get("reason") for state in states]
    said += [c.get("message") for c in status.get("conditions") or () if c.get("status") == "False"]
    said += [status.get("message"), status.get("reason"), status.get("phase")]
    return str(next((words for words in said if words), "it says nothing")).strip()
