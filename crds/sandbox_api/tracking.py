# SPDX-License-Identifier: Apache-2.0
"""`spec.tracking`: where an experiment's figures are exported to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import ObjectName, SpecModel
from .forms import DataKey


class SecretKey(SpecModel):
    name: ObjectName
    """Name of the Secret."""
    key: DataKey
    """Key in the Secret."""


class Wandb(SpecModel):
    mode: Literal["online", "offline", "disabled"] | None = None
    """Whether figures are exported to Weights & Biases; default: online where a key is given, else disabled."""
    api_key_secret_ref: SecretKey | None = None
    """Where the key lies."""
    entity: Annotated[str, Field(max_length=128)] | None = None
    """Team or user."""
    base_url: Annotated[str, Field(max_length=512)] | None = None
    """Address of a private server."""

    @property
    def meant(self) -> Literal["online", "offline", "disabled"]:
        """The mode, its default resolved."""
        return self.mode or ("online" if self.api_key_secret_ref is not None else "disabled")


class Tracking(SpecModel):
    wandb: Wandb | None = None
    """Weights & Biases."""
