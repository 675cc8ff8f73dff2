# SPDX-License-Identifier: Apache-2.0
"""Times as Kubernetes writes them (RFC 3339, UTC, whole seconds). The clock itself is elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def since(text: str | None, now: datetime) -> float:
    """Seconds from a written time to now; 0 when nothing is written."""
    return (now - moment(text)).total_seconds() if text else 0.0
