# SPDX-License-Identifier: Apache-2.0
"""What an operator's installation decides for all experiments, as far as manifests show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Defaults:
    images: Mapping[str, str] = field(default_factory=dict)
    """Image reference by name (`data`, `easyanimate`, ...)."""
    image_pull_policy: str = "IfNotPresent"
    priority_class: str | None = None
    storage_class: str | None = None
    progress_url: str | None = None
    """Where pods tell how far they are; None: nowhere."""
