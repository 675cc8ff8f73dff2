# SPDX-License-Identifier: Apache-2.0
"""A user's JSON schema of `extraConfigs`: whether it can be checked here, and what it says of a value.

The schema comes from one namespace and is checked in a process that serves all of them, so nothing in it may take long
or reach out: patterns are of the kind that is matched in linear time, references are written out beforehand, sizes are
bounded. What is left is JSON Schema 2020-12 as the `jsonschema` library understands it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import chain, islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend
from pydantic_core import SchemaError, SchemaValidator, core_schema

Schema = Mapping[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_VALUES = 5000
MAX_DEPTH = 64
MAX_SUBSCHEMAS = 1000
"""Counted with every reference written out."""
MAX_VALUE_DEPTH = 100
MAX_WORK = 20_000
"""Visits of a subschema to a value: about a tenth of a second."""
MAX_TOLD = 16

ONE = ("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else")
LISTS = ("prefixItems", "allOf", "anyOf", "oneOf")
MAPS = ("properties", "dependentSchemas", "$defs", "definitions")
VALUES = (
    "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "maxContains", "minContains", "maxItems", "minItems", "uniqueItems", "required",
    "maxProperties", "minProperties", "dependentRequired", "$ref",
)  # fmt: skip
NOTES = (
    "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "format",
    "discriminator", "$schema", "$id", "$comment",
)  # fmt: skip
"""Words that say nothing of validity; `format` is one of them in JSON Schema 2020-12."""
KEYWORDS = frozenset((*ONE, *LISTS, *MAPS, *VALUES, *NOTES))
INSTEAD = {
    "nullable": 'write type: [..., "null"]',
    "patternProperties": "use additionalProperties, with a pattern in propertyNames",
    "$dynamicRef": "use $ref",
}
ABOUT_KEYS = (
    "required",
    "additionalProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "dependentRequired",
)
"""Keywords that look at the keys of an object and not at what stands under them."""
COMPLETE_ONLY = ("required", "minProperties", "dependentRequired", "dependentSchemas", "oneOf", "not", "if")
"""Keywords that say nothing of a part of the settings: a further key may change their verdict."""
KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "boolean": "true or false",
    "object": "keys and values",
    "array": "a list",
    "null": "null",
}


class Later:
    """Stands in the settings for what an input will bring: there, and of any kind."""

    def __repr__(self) -> str:
        return "(from an input)"


LATER = Later()


def schema_problems(schema: Schema) -> Iterator[str]:
    """A text `<.path>: <sentence>` for each thing because of which the schema can't be used."""
    count, depth = _measure(schema)
    if count > MAX_VALUES or depth > MAX_DEPTH:
        yield f": the schema is too large: more than {MAX_VALUES} values, or {MAX_DEPTH} levels"
        return
    metaschema = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    wrong = [f"{_path(error)}: {_sentence(error)}" for error in islice(metaschema.iter_errors(schema), MAX_TOLD)]
    yield from dict.fromkeys(wrong)
    if wrong:
        return
    found = list(_word_problems(schema, ""))
    if schema.get("type", "object") != "object":
        found.append('.type: settings are keys and values; write type: "object"')
    yield from found
    if not found:
        try:
            inlined(schema)
        except ValueError as error:
            yield str(error)


def inlined(schema: Schema) -> dict[str, Any]:
    """The schema with every `$ref` written out. Raises ValueError, `<.path>: <sentence>`, where that can't be done."""
    left = [MAX_SUBSCHEMAS]
    made = _inlined(schema, schema, "", (), left)
    return {key: value for key, value in made.items() if key not in ("$defs", "definitions", "$schema", "$id")}


def value_problems(schema: Schema, value: Any, owner: str, *, complete: bool = True) -> list[str]:
    """A text `<.path>: <sentence>` for each thing that an inlined schema finds wrong.

    `value` may hold `LATER`, of which nothing is said. Not `complete`: further keys may come, so none is missing.
    """
    if _measure(value)[1] > MAX_VALUE_DEPTH or _work(schema, value, MAX_WORK) > MAX_WORK:
        return [": too much to be checked against its schema; put the long part into a file and name its path"]
    validator = _validator(complete)(dict(schema))
    errors = (error for error in validator.iter_errors(value) if _counts(error))
    sentences = (sentence for error in errors for sentence in _told(error, owner))
    return list(dict.fromkeys(islice(sentences, MAX_TOLD)))


def properties_of(schema: Schema | None) -> tuple[str, ...]:
    """The settings that a schema names."""
    return tuple((schema or {}).get("properties") or ())


# What a schema may be ------------------------------------------------------------------------------------------------


def _word_problems(schema: Any, where: str) -> Iterator[str]:
    if not isinstance(schema, Mapping):  # true or false
        return
    for word in schema:
        if word not in KEYWORDS and not word.startswith("x-"):
            yield f"{where}.{word}: there is no such keyword here{_instead(word)}"
    if (dialect := schema.get("$schema", DIALECT).rstrip("#")) != DIALECT:
        yield f"{where}.$schema: {dialect!r} is not read here; write the schema for {DIALECT}"
    if (pattern := schema.get("pattern")) is not None:
        try:
            _matcher(pattern)
        except SchemaError as error:
            reason = str(error).strip().rpartition("error: ")[2].partition("\n")[0]
            yield f"{where}.pattern: {pattern!r} can't be used ({reason}); write it in the syntax of RE2, as in a CRD"
    for below, inner in _subschemas(schema):
        yield from _word_problems(inner, f"{where}{below}")


def _instead(word: str) -> str:
    if word in INSTEAD:
        return f"; {INSTEAD[word]}"
    close = get_close_matches(word, KEYWORDS, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else "; a note of your own begins with x-"


def _subschemas(schema: Schema) -> Iterator[tuple[str, Any]]:
    for word in ONE:
        if word in schema:
            yield f".{word}", schema[word]
    for word in LISTS:
        yield from ((f".{word}[{number}]", inner) for number, inner in enumerate(schema.get(word, ())))
    for word in MAPS:
        yield from ((f".{word}.{name}", inner) for name, inner in schema.get(word, {}).items())


def _inlined(schema: Any, root: Schema, where: str, open_: tuple[str, ...], left: list[int]) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f": the schema is too large: more than {MAX_SUBSCHEMAS} parts, references written out")
    made = dict(schema)
    reference = made.pop("$ref", None)
    for word in ("$defs", "definitions"):
        made.pop(word, None)
    for word in ONE:
        if word in made:
            made[word] = _inlined(made[word], root, f"{where}.{word}", open_, left)
    for word in LISTS:
        if word in made:
            parts = enumerate(made[word])
            made[word] = [_inlined(inner, root, f"{where}.{word}[{number}]", open_, left) for number, inner in parts]
    for word in ("properties", "dependentSchemas"):
        if word in made:
            entries = made[word].items()
            made[word] = {name: _inlined(inner, root, f"{where}.{word}.{name}", open_, left) for name, inner in entries}
    if reference is not None:
        if reference in open_:
            raise ValueError(f"{where}.$ref: {reference!r} leads back to itself; settings can't be of endless depth")
        target = _referred(reference, root, f"{where}.$ref")
        inner = _inlined(target, root, where, (*open_, reference), left)
        made = {**made, "allOf": [*made.get("allOf", ()), inner]} if made else inner
    return made


def _referred(reference: str, root: Schema, where: str) -> Any:
    parts = reference.removeprefix("#/").split("/")
    if not reference.startswith("#/"):
        raise ValueError(f"{where}: {reference!r} is not in this schema; write it as #/$defs/<name>")
    found: Any = root
    for part in parts:
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            raise ValueError(f"{where}: there is no {reference!r} in this schema")
        found = found[name]
    return found


# What a schema says --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _matcher(pattern: str) -> SchemaValidator:
    """Matches in time linear in the text. Raises SchemaError for a pattern that is wrong, or could not be."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Schema) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _matcher(pattern).isinstance_python(value):
        yield ValidationError(f"{_short(value)} does not match {pattern!r}")


def _nothing(_validator: Any, _wanted: Any, _value: Any, _schema: Schema) -> Iterator[ValidationError]:
    yield from ()


@cache
def _validator(complete: bool) -> Callable[[Schema], Any]:
    left_out = {} if complete else dict.fromkeys(COMPLETE_ONLY, _nothing)
    made: Callable[[Schema], Any] = extend(Draft202012Validator, {"pattern": _pattern, **left_out})
    return made


def _counts(error: ValidationError) -> bool:
    """Whether an error stays one whatever an input brings."""
    instance = error.instance
    if instance is LATER:
        return False
    about_keys = error.validator in ABOUT_KEYS or (error.validator == "type" and isinstance(instance, Mapping | list))
    return about_keys or not holds_later(instance)


def holds_later(value: Any) -> bool:
    """Whether an input will bring some of it."""
    if isinstance(value, Mapping):
        return any(map(holds_later, value.values()))
    return any(map(holds_later, value)) if isinstance(value, list) else value is LATER


def _told(error: ValidationError, owner: str) -> Iterator[str]:
    """The error's sentences, in the words that the planner has for hooks of its own."""
    path, wanted = _path(error), error.validator_value
    if error.validator == "required":
        yield from (f"{path}.{name}: is missing" for name in wanted if name not in error.instance)
    elif error.validator == "additionalProperties" and wanted is False:
        known = properties_of(error.schema)
        said = "there is no such key" if path else f"{owner} has no such setting"
        for name in (str(name) for name in error.instance if name not in known):
            close = get_close_matches(name, known, 1, 0.6)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there is: {', '.join(known)}" if known else ""
            yield f"{path}.{name}: {said}{hint}"
    else:
        yield f"{path}: {_sentence(error)}"


def _sentence(error: ValidationError) -> str:
    wanted, value = error.validator_value, _short(error.instance)
    match error.validator:
        case "type":
            return f"write {_kinds([wanted] if isinstance(wanted, str) else wanted)}, not {value}"
        case "enum":
            close = get_close_matches(
                str(error.instance), [option for option in wanted if isinstance(option, str)], 1, 0.6
            )
            options = ", ".join(map(_short, wanted[:8])) + (", ..." if len(wanted) > 8 else "")
            return f"{value} is none of {options}{f'; did you mean {close[0]!r}?' if close else ''}"
        case "maximum":
            return f"{value} is more than the maximum {wanted}"
        case "minimum":
            return f"{value} is less than the minimum {wanted}"
        case "exclusiveMaximum":
            return f"{value} is not less than {wanted}"
        case "exclusiveMinimum":
            return f"{value} is not more than {wanted}"
        case "anyOf" | "oneOf" if error.context:
            return _no_form(error)
    return error.message[0].lower() + error.message[1:] if len(error.message) <= 200 else f"{value} is not valid here"


def _no_form(error: ValidationError) -> str:
    """Why none of several forms fits: all of them when they are kinds of values, else the nearest one's reason."""
    causes = list(error.context or ())
    if all(cause.validator == "type" and not cause.relative_path for cause in causes):
        wanted = [cause.validator_value for cause in causes]
        kinds = [kind for kinds in wanted for kind in ([kinds] if isinstance(kinds, str) else kinds)]
        return f"write {_kinds(kinds)}, not {_short(error.instance)}"
    nearest = best_match([error])
    if nearest is None or nearest is error:
        nearest = causes[0]
    place = _path(nearest).removeprefix(_path(error))
    return f"fits none of its forms; the nearest says{f' of {place}' if place else ''}: {_sentence(nearest)}"


def _kinds(names: list[str]) -> str:
    *first, last = [KINDS.get(name, name) for name in dict.fromkeys(names)]
    return f"{', '.join(first)} or {last}" if first else last


def _path(error: ValidationError) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)


def _work(schema: Any, value: Any, limit: int) -> int:
    """How many visits checking takes, roughly; counting ends soon after the limit."""
    if not isinstance(schema, Mapping):
        return 1
    items = value if isinstance(value, list) else []
    entries = value if isinstance(value, Mapping) else {}
    done = 1 + len(schema.get("enum", ())) // 10 + (len(items) ** 2 // 10 if schema.get("uniqueItems") else 0)
    properties = schema.get("properties", {})
    visits: Iterator[tuple[Any, Any]] = chain(
        ((schema[word], item) for word in ("items", "contains") if word in schema for item in items),
        zip(schema.get("prefixItems", ()), items, strict=False),
        ((properties.get(key, schema.get("additionalProperties", True)), inner) for key, inner in entries.items()),
        ((schema["propertyNames"], key) for key in entries if "propertyNames" in schema),
        ((inner, value) for word in ("allOf", "anyOf", "oneOf") for inner in schema.get(word, ())),
        ((schema[word], value) for word in ("not", "if", "then", "else") if word in schema),
        ((inner, value) for inner in schema.get("dependentSchemas", {}).values()),
    )
    for inner, below in visits:
        if done > limit:
            break
        done += _work(inner, below, limit - done)
    return done


def _short(value: Any) -> str:
    words = {True: "true", False: "false", None: "null"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _measure(value: Any) -> tuple[int, int]:
    """How many values there are in a value, itself counted, and how many levels; without recursion, however deep."""
    count, depth, level = 0, 0, [value]
    while level:
        count, depth = count + len(level), depth + 1
        inner = [
            item.values() if isinstance(item, Mapping) else item for item in level if isinstance(item, Mapping | list)
        ]
        level = [below for items in inner for below in items]
    return count, depth
