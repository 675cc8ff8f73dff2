# SPDX-License-Identifier: Apache-2.0
"""From what the models say of a spec that does not have its form to sentences that begin with the field's path.

The API server has refused most of this before anyone sees it; what it prunes or can't type is told here.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError

from sandbox_api.base import SpecModel

UNKNOWN_FIELD = "extra_forbidden"
"""What pydantic calls a key that no field has."""
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
    if entry["type"] == UNKNOWN_FIELD:
        meant = meant_field(str(entry["loc"][-1]))
        hint = f"did you mean {meant!r}?" if meant else "check the spelling with kubectl explain"
        return f"there is no such field; {hint}"
    if entry["loc"] and entry["loc"][-1] in _FORMS:
        return "write it like 500m, 2 or 4Gi"
    words = str(_SAID_PLAINLY.get(entry["type"], entry["msg"].removeprefix("Value error, ")))
    return words[0].lower() + words[1:]


def meant_field(name: str) -> str | None:
    """The field that a misspelt one was probably meant to be."""
    return next(iter(get_close_matches(name, sorted(_field_names()), 1)), None)


@cache
def _field_names() -> frozenset[str]:
    models: list[type[SpecModel]] = [SpecModel]
    for model in models:
        models += model.__subclasses__()
    return frozenset(field.alias or name for model in models for name, field in model.model_fields.items())
