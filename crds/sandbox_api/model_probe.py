# SPDX-License-Identifier: Apache-2.0
"""Settings of ProbeViaModelInferHook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from .extra import ComponentConfig, ExtraConfig, Settings, without_surroundings

Share = Annotated[float, Field(gt=0, le=1)]


class Selection(ComponentConfig):
    """Which rows are asked about, and which count as high: what all kinds of probe have."""

    models: Annotated[list[str], Field(min_length=1, max_length=16)]
    """Models, each a pass: folders (checkpoints of a training), or ids of a hub that the pod can reach."""
    text_key: str = "text"
    """Where a row has its text."""
    top_share: Share = 0.05
    """Of the rows that count as high in loss: only they are hard or dirty."""
    spread_share: Share = 0.25
    """Of the rows that count as high in spread between passes; not with classification."""
    field_key: str = ""
    """With another djConfigs.data_probe_algo than uniform: the field to choose rows by."""
    top_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same: share of the values, or of the rows."""
    topk: Annotated[int, Field(ge=1)] | None = None
    """The same: number of them."""
    reverse: bool = True
    """The same: the most frequent, or largest, first."""


class ModelProbeConfig(Selection):
    """Losses of transformers models on the rows, and which rows are hard for them or look wrong."""

    objective: Literal["causal_lm", "classification"] = "causal_lm"
    """causal_lm: mean loss of a text's tokens; classification: cross-entropy of a row's label."""
    dropout_seeds: Annotated[list[int], Field(max_length=16)] = []
    """Passes with dropout instead, one for each seed and model."""
    label_key: str = "label"
    """Where a row has its label, a class's name or number; with classification."""
    labels: list[str] | None = None
    """Names of the classes in the model's order; default: the model's own."""
    max_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of a text that are read."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Rows at a time."""
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Mean probability from which another class contradicts a label; with classification."""


class FieldObjective(ExtraConfig):
    field: Annotated[str, Field(min_length=1)]
    """Path to a number in what the pipeline returns for a row, with dots; numbers are places in a list: scores.0."""


class PipelineProbeConfig(Selection):
    """Any pipeline of ModelScope, and a number of what it returns."""

    objective: FieldObjective
    """The number that says how a model does on a row."""
    task: Annotated[str, Field(min_length=1)]
    """ModelScope's name of the pipeline, e.g. text-classification."""
    higher_is_harder: bool = True
    """Whether a high number is a bad one (a loss), or a good one (a score)."""


def pipeline_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` as this version has them; upstream names the one `model` of its pipeline."""
    settings = without_surroundings(given)
    if "model" not in settings.values or "models" in settings.values:
        return settings
    values = {**settings.values, "models": [settings.values["model"]]}
    del values["model"]
    return Settings(values, (*settings.notes, "model: is read as models"))
