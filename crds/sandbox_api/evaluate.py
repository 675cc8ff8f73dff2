# SPDX-License-Identifier: Apache-2.0
"""Settings of EvaluateDataHook's components: Data-Juicer's sandbox's keys, and what they lacked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .extra import SAID, ComponentConfig

Path = Annotated[str, Field(min_length=1)]
Key = Annotated[str, Field(min_length=1)]


class QualityConfig(ComponentConfig):
    """The probability of each text to be a good one, by Data-Juicer's quality classifiers."""

    dataset_path: Path
    """The data: a .jsonl, .json (also .gz, .zst) or .parquet file, or a folder of such files."""
    model: Path = "gpt3"
    """The folder of a classifier, as Spark writes it; or gpt3, chinese, code: Data-Juicer's own, which somebody has put
    among its models on the volume (cache/data_juicer/models/gpt3_quality_model)."""
    tokenizer: Path | None = None
    """A model of sentencepiece, for classifiers that do not cut words themselves; default: the one that belongs to
    chinese or code (zh.sp.model, code.sp.model, in the same place)."""
    keep_method: Literal["label", "pareto", "gpt3"] | None = None
    """When a text is kept. label: its score is over 0.5. pareto (upstream's name: gpt3): it is over 1 - X, X from a
    Pareto distribution with the shape 9, drawn by the seed and the row's id. Default: label for chinese and code, else
    pareto."""
    text_key: Key = "text"
    """Where a row has its text; dots lead into nested fields."""
    export_path: str | None = None
    """Where the scores of the rows are published."""


class PairsConfig(ComponentConfig):
    predicted_dataset_path: Path | Annotated[list[Path], Field(min_length=1, max_length=256)]
    """JSON lines, JSON or Parquet; one data set or several."""
    ground_truth_dataset_path: Path | Annotated[list[Path], Field(max_length=256)] = []
    """What each is compared with, row by row; default: the truth stands in the predictions' own rows."""

    @field_validator("ground_truth_dataset_path")
    @classmethod
    def _one_each(cls, value: str | list[str], info: ValidationInfo) -> str | list[str]:
        predicted = info.data.get("predicted_dataset_path")
        if predicted is not None and value and len(as_list(value)) != len(as_list(predicted)):
            words = (
                f"{len(as_list(value))} data sets can't be compared with the {len(as_list(predicted))} of"
                " predicted_dataset_path; name one for each"
            )
            raise PydanticCustomError(SAID, words)
        return value


class AccuracyConfig(PairsConfig):
    """The share of rows whose predicted label is the true one."""

    predicted_label_key: Key
    """Where a row has the predicted label; dots lead into nested fields. Labels are compared as text."""
    ground_truth_label_key: Key
    """Where a row has the true one."""


class MseConfig(PairsConfig):
    """The mean squared error of predicted numbers."""

    predicted_value_key: Key
    """Where a row has the predicted number; dots lead into nested fields."""
    ground_truth_value_key: Key
    """Where a row has the true one."""


def as_list(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else paths
