# SPDX-License-Identifier: Apache-2.0
"""From what the models say of a spec that does not have its form to sentences that begin with the field's path.

The API server has refused most of this before anyone sees it; what it prunes or can't type is told here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from .base import DURATION, NAME, OBJECT_NAME
from .experiment import ENV_NAME, HOOK, ExperimentSpec
from .extra import NEEDED, said_by
from .words import shown, written_as_text

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
_FORM_OF = {
    DURATION: "write a time like 90s, 10m, 1h30m or 2d",
    NAME: "write letters, digits, - and _, a letter or digit first and last",
    OBJECT_NAME: "write a name as Kubernetes has them: small letters, digits, - and ., no - or . first or last",
    ENV_NAME: "write letters, digits and _, no digit first",
    HOOK: "write letters, digits, - and _, a letter first",
}
"""What a text must look like, by the pattern that says so to the API server."""
_LIMITS = {
    "greater_than_equal": "of at least", "greater_than": "above",
    "less_than_equal": "of at most", "less_than": "below",
}  # fmt: skip
"""How a number is bounded, by what pydantic calls it when it is not."""
_NUMBERS = {
    "int_parsing": "write a whole number", "int_from_float": "write a whole number",
    "float_parsing": "write a number", "float_type": "write a number", "finite_number": "write a finite number",
}  # fmt: skip
"""What else is wrong with a number."""
_KINDS = {"SweepSpec": "sandboxsweep", "ExperimentSpec": "sandboxexperiment"}
FEW = 8
"""So many fields are named when one is unknown; of more it is told where they are."""
_FORMS = ("int", "str")
"""Ends of a path inside a quantity, the only field that may have either form."""


def schema_problems(
    error: ValidationError, root: type[BaseModel] = ExperimentSpec, where: str = "spec"
) -> Iterator[str]:
    """One sentence for each field that is wrong; `root` stands at `where`."""
    told: set[str] = set()
    for entry in mistakes(error, root):
        path = _path(entry["loc"], where)
        if path not in told:  # each form that a field may have complains of its own
            told.add(path)
            yield f"{path}: {_sentence(entry, root)}"


def mistakes(error: ValidationError, root: type[BaseModel] = ExperimentSpec) -> list[Any]:
    """Pydantic's entries, without the fields that are only missing because they are misspelt."""
    entries = error.errors()
    meant = {(*loc[:-1], meant_field(loc, root)) for loc in (e["loc"] for e in entries if e["type"] == UNKNOWN_FIELD)}
    return [entry for entry in entries if entry["type"] not in ("missing", NEEDED) or entry["loc"] not in meant]


def meant_field(loc: tuple[int | str, ...], root: type[BaseModel] = ExperimentSpec) -> str | None:
    """The field of the same object that a misspelt one was probably meant to be."""
    return next(iter(get_close_matches(str(loc[-1]), fields_beside(loc, root), 1)), None)


def _path(loc: tuple[int | str, ...], path: str) -> str:
    for part in loc[:-1] if loc and loc[-1] in ("[key]", *_FORMS) else loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if part else '.""'
    return path


def _sentence(entry: Any, root: type[BaseModel]) -> str:
    if entry["type"] == UNKNOWN_FIELD:
        meant = meant_field(entry["loc"], root)
        return f"there is no such field; {f'did you mean {meant!r}?' if meant else _fields_there(entry['loc'], root)}"
    if entry["loc"] and entry["loc"][-1] in _FORMS:
        return "write it like 500m, 2 or 4Gi"
    if entry["type"] == "string_pattern_mismatch" and (form := _FORM_OF.get(entry["ctx"]["pattern"])):
        return f"{entry['input']!r} won't do: {form}"
    if entry["type"] == "literal_error":
        return _no_such_word(entry["input"], re.findall(r"'([^']*)'", entry["ctx"]["expected"]))
    if (limit := _LIMITS.get(entry["type"])) is not None:
        bound = next(iter(entry["ctx"].values()))
        return f"write a number {limit} {bound:g}, not {shown(entry['input'])}"
    if entry["type"] in _NUMBERS:
        return f"{_NUMBERS[entry['type']]}, not {shown(entry['input'])}{written_as_text(entry['input'])}"
    words = _SAID_PLAINLY.get(entry["type"]) or said_by(entry)
    return words[0].lower() + words[1:]


def _no_such_word(given: Any, known: Sequence[str]) -> str:
    """A sentence about a word that is none of a closed list."""
    begun = [word for word in known if isinstance(given, str) and len(given) > 2 and word.startswith(given.lower())]
    close = begun or (get_close_matches(given.lower(), known, 1) if isinstance(given, str) else [])
    *others, last = known
    meant = f"did you mean {close[0]!r}?" if close else f"write {', '.join(others)}{' or ' if others else ''}{last}"
    return f"there is no {shown(given)}; {meant}"


def _fields_there(loc: tuple[int | str, ...], root: type[BaseModel]) -> str:
    """Which fields the object has, or where to look for them."""
    fields = fields_beside(loc, root)
    if len(fields) <= FEW:
        return f"those there are: {', '.join(fields)}"
    kind = _KINDS.get(root.__name__)
    path = ".".join(["spec", *(str(part) for part in loc[:-1] if isinstance(part, str))])
    return f"see kubectl explain {kind}.{path}" if kind else "check the spelling"


def fields_beside(loc: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Names of the fields that the object has in which a mistake lies."""
    for part in loc[:-1]:
        field = next((f for name, f in model.model_fields.items() if part == (f.alias or name)), None)
        model = next(_models_in(field.annotation), model) if field is not None else model  # else an index, or a key
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
