# SPDX-License-Identifier: Apache-2.0
"""What the models of `extraConfigs` are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


class ExtraConfig(BaseModel):
    """What stands in `extraConfigs`: Data-Juicer's spelling (snake_case), unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Settings:
    """Keys in this version's layout, and what to tell the user about how they came to be."""

    values: dict[str, Any]
    notes: tuple[str, ...] = ()


class NoExtra(ExtraConfig):
    """A hook without settings of its own."""


class ComponentConfig(ExtraConfig):
    """Settings of a component."""

    type: str | None = None
    """The component, where the job does not name it beside its hook."""
