# SPDX-License-Identifier: Apache-2.0
"""Settings of ProbeViaModelInferHook."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .extra import ComponentConfig

Share = Annotated[float, Field(gt=0, le=1)]


class ModelProbeConfig(ComponentConfig):
    """Losses of transformers models on the rows, and which rows are hard for them or look wrong."""

    objective: Literal["causal_lm", "classification"] = "causal_lm"
    """causal_lm: mean loss of a text's tokens; classification: cross-entropy of a row's label."""
    models: Annotated[list[str], Field(min_length=1, max_length=16)]
    """Models, each a pass: folders (checkpoints of a training), or ids of a hub that the pod can reach."""
    dropout_seeds: Annotated[list[int], Field(max_length=16)] = []
    """Passes with dropout instead, one for each seed and model."""
    text_key: str = "text"
    """Where a row has its text."""
    label_key: str = "label"
    """Where a row has its label, a class's name or number; with classification."""
    labels: list[str] | None = None
    """Names of the classes in the model's order; default: the model's own."""
    max_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of a text that are read."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Rows at a time."""
    top_share: Share = 0.05
    """Of the rows that count as high in loss: only they are hard or dirty."""
    spread_share: Share = 0.25
    """Of the rows that count as high in spread between passes; with causal_lm."""
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Mean probability from which another class contradicts a label; with classification."""
    field_key: str = ""
    """With another djConfigs.data_probe_algo than uniform: the field to choose rows by."""
    top_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same: share of the values, or of the rows."""
    topk: Annotated[int, Field(ge=1)] | None = None
    """The same: number of them."""
    reverse: bool = True
    """The same: the most frequent, or largest, first."""
