# SPDX-License-Identifier: Apache-2.0
"""A W&B sweep definition as a hook hands it over: read, and checked as far as a hook can be wrong about it.

What its distributions mean is the SandboxSweep's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .configs import read_config
from .errors import ConfigError

METHODS = ("bayes", "grid", "random")
GOALS = ("minimize", "maximize")
GIVEN = ("value", "values", "distribution", "min", "max", "mu", "sigma", "parameters")
"""What a parameter must have one of."""


def sweep_file(path: Path) -> dict[str, Any]:
    """The definition in a file. Raises ConfigError."""
    return read_config(path, "hpo_config")


def checked_sweep(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that JSON can hold. Raises ConfigError, a line for each field that is wrong."""
    if problems := list(_problems(definition)):
        raise ConfigError("\n".join(f"hpo_config.{problem}" for problem in problems))
    try:
        copied: dict[str, Any] = json.loads(json.dumps(definition, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"hpo_config: JSON can't hold it: {error}") from error
    return copied


def _problems(definition: Mapping[str, Any]) -> Iterator[str]:
    if definition.get("method") not in METHODS:
        yield f"method: must be one of {', '.join(METHODS)}, not {definition.get('method')!r}"
    metric = definition.get("metric")
    if not isinstance(metric, Mapping) or not isinstance(metric.get("name"), str) or not metric["name"]:
        yield "metric.name: is missing; name the figure that is searched for"
    elif metric.get("goal", "minimize") not in GOALS:
        yield f"metric.goal: must be minimize or maximize, not {metric['goal']!r}"
    parameters = definition.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        yield "parameters: must name at least one parameter"
        return
    for name, parameter in parameters.items():
        yield from _parameter_problems(f"parameters.{name}", parameter)


def _parameter_problems(field: str, parameter: Any) -> Iterator[str]:
    if not isinstance(parameter, Mapping) or not set(GIVEN) & set(parameter):
        yield f"{field}: must have value, values, or min and max"
    elif "parameters" in parameter:
        nested = parameter["parameters"]
        if not isinstance(nested, Mapping):
            yield f"{field}.parameters: must be a mapping"
            return
        for name, inner in nested.items():
            yield from _parameter_problems(f"{field}.parameters.{name}", inner)
    elif "values" in parameter and (not isinstance(parameter["values"], list) or not parameter["values"]):
        yield f"{field}.values: must be a list of at least one"
    elif ("min" in parameter) != ("max" in parameter):
        yield f"{field}: min and max go together"
    elif "min" in parameter and not _is_rising(parameter["min"], parameter["max"]):
        yield f"{field}: min must be a number below max"


def _is_rising(low: Any, high: Any) -> bool:
    return all(isinstance(bound, (int, float)) for bound in (low, high)) and low < high
