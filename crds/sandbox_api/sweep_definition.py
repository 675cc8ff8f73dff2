# SPDX-License-Identifier: Apache-2.0
"""One reading of a sweep's definition, for the SandboxSweep and for a hook that records one: the same is wrong in both.

The experiment template, and what parameters and metric mean in it, is the planner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .rungs import stopping_problems
from .sentences import schema_problems
from .sweep import SPELLINGS, SweepSpec, not_both
from .sweep_parameters import DefinedSpace, grid_problems, read_space


@dataclass(frozen=True)
class SweepDefinition:
    spec: SweepSpec | None
    """None where its form is wrong."""
    space: DefinedSpace | None
    """None where `parameters` is no mapping, or something in it is wrong."""
    problems: tuple[str, ...] = ()
    """Sentences that begin with the field's path."""


def read_definition(raw: Mapping[str, Any], where: str = "spec") -> SweepDefinition:
    """What a definition that stands at `where` says, and all that is wrong with it."""
    problems: list[str] = []
    try:
        spec = SweepSpec.model_validate(raw)
    except ValidationError as error:
        spec = None
        problems += schema_problems(error, SweepSpec, where)
    problems += (
        f"{where}.{ours}: {not_both(ours, theirs)}"
        for ours, theirs in SPELLINGS
        if raw.get(ours) is not None and raw.get(theirs) is not None
    )
    space = None
    if isinstance(parameters := raw.get("parameters"), Mapping):  # else the schema has told
        space = read_space(parameters, f"{where}.parameters")
        problems += space.problems
        space = None if space.problems else space
    if spec is not None:
        if space is not None and spec.method == "grid":
            problems += grid_problems(space.parameters, f"{where}.parameters")
        for key, early in (("earlyTerminate", spec.early_terminate), ("early_terminate", spec.early_terminate_)):
            problems += stopping_problems(early, f"{where}.{key}") if early is not None else ()
    return SweepDefinition(spec, space, tuple(problems))
