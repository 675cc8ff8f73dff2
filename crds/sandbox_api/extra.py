# SPDX-License-Identifier: Apache-2.0
"""What the models of `extraConfigs` are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ExtraConfig(BaseModel):
    """What stands in `extraConfigs`: Data-Juicer's spelling (snake_case), unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NoExtra(ExtraConfig):
    """A hook without settings of its own."""


class ComponentConfig(ExtraConfig):
    """Settings of a component."""

    type: str | None = None
    """The component, where the job does not name it beside its hook."""
