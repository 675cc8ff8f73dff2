# SPDX-License-Identifier: Apache-2.0
"""A number of what a pipeline of ModelScope returns, row by row."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from modelscope.pipelines import pipeline

from sandbox_api.model_probe import PipelineProbeConfig

from ..errors import ConfigError
from .infer import Floats, Progress

TOLD_EVERY = 50
"""Rows."""


def values_of(
    model: str, config: PipelineProbeConfig, inputs: Sequence[Any], progress: Progress
) -> tuple[Floats, float]:
    """(rows,): the numbers; and the seconds that they took. Raises ConfigError where there is no number.

    progress: called with the number of rows that are done.
    """
    try:
        asked = pipeline(config.task, model=str(Path(model).absolute()) if Path(model).is_dir() else model)
    except Exception as error:
        known = "the folder" if Path(model).is_dir() else "the model"
        first = " ".join(str(error).split())[:300]
        raise ConfigError(f"extraConfigs.models: {known} {model} makes no {config.task} pipeline: {first}") from error
    values, began = np.zeros(len(inputs)), time.perf_counter()
    for place, row in enumerate(inputs):
        values[place] = number_at(asked(row), config.objective.field)
        if (place + 1) % TOLD_EVERY == 0 or place + 1 == len(inputs):
            progress(place + 1)
    return values, time.perf_counter() - began


def number_at(returned: Any, path: str) -> float:
    """The number at a path. Raises ConfigError, which says what there is."""
    found = returned
    for part in path.split("."):
        try:
            found = found[part] if isinstance(found, Mapping) else found[int(part)]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ConfigError(
                f"extraConfigs.objective.field: nothing at {part!r} of {path!r}; {_told(found)}"
            ) from error
    try:
        number = float(found)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"extraConfigs.objective.field: {path!r} is no number; {_told(found)}") from error
    if not math.isfinite(number):
        raise ConfigError(f"extraConfigs.objective.field: {path!r} is {number}")
    return number


def _told(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"the pipeline has there: {', '.join(map(str, found))}"
    if isinstance(found, (list, tuple)):
        return f"the pipeline has a list of {len(found)} there"
    return f"the pipeline has {type(found).__name__} there"
