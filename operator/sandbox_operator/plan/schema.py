# SPDX-License-Identifier: Apache-2.0
"""From what the models say of a spec that does not have its form to sentences that begin with the field's path.

The API server has refused most of this before anyone sees it; what it prunes or can't type is told here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import ValidationError

from sandbox_api.base import SpecModel

from .references import did_you_mean

_SAID_PLAINLY = {
    "missing": "is missing",
    "string_type": "write text",
    "bool_type": "write true or false",
    "int_type": "write a whole number",
    "list_type": "write a list",
    "dict_type": "write keys and values",
    "model_type": "write keys and values",
}
_FORMS = ("int", "str")
"""Ends of a path inside a quantity, the only field that may have either form."""


def schema_problems(error: ValidationError) -> Iterator[str]:
    """One sentence for each field that is wrong."""
    told: set[str] = set()
    for entry in error.errors():
        path = _path(entry["loc"])
        if path not in told:  # each form that a field may have complains of its own
            told.add(path)
            yield f"{path}: {_sentence(entry)}"


def _path(loc: tuple[int | str, ...]) -> str:
    path = "spec"
    for part in loc[:-1] if loc and loc[-1] in ("[key]", *_FORMS) else loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _sentence(entry: Any) -> str:
    if entry["type"] == "extra_forbidden":
        hint = did_you_mean(str(entry["loc"][-1]), _field_names())
        return f"there is no such field{hint or '; check the spelling with kubectl explain'}"
    if entry["loc"] and entry["loc"][-1] in _FORMS:
        return "write it like 500m, 2 or 4Gi"
    words = str(_SAID_PLAINLY.get(entry["type"], entry["msg"].removeprefix("Value error, ")))
    return words[0].lower() + words[1:]


@cache
def _field_names() -> frozenset[str]:
    models: list[type[SpecModel]] = [SpecModel]
    for model in models:
        models += model.__subclasses__()
    return frozenset(field.alias or name for model in models for name, field in model.model_fields.items())
