# SPDX-License-Identifier: Apache-2.0
"""A user's JSON schema of settings: what is refused in it, what it says of settings, and that it can't hold up anybody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sandbox_api.extra_schema import LATER, MAX_VALUE_DEPTH, inlined, schema_problems, value_problems

Schema = dict[str, Any]
SETTINGS: Schema = {
    "type": "object",
    "required": ["k"],
    "additionalProperties": False,
    "properties": {
        "k": {"type": "number", "minimum": 1, "maximum": 5},
        "mode": {"enum": ["exact", "near"]},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "key": {"type": "string", "pattern": "^[a-z]+$"},
        "train": {"$ref": "#/$defs/train"},
        "steps": {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}},
        "source": {"oneOf": [{"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}}, {"type": "object", "required": ["url"]}]},
    },
    "$defs": {"train": {"type": "object", "required": ["lr", "data"], "properties": {"lr": {"type": "number"}, "data": {"type": "string"}}, "additionalProperties": False}},
}  # fmt: skip


def chain(length: int, width: int) -> Schema:
    """A schema whose references, written out, would be `width ** length` parts."""
    definitions: Schema = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * width} for n in range(length)}
    return {"$ref": "#/$defs/a0", "$defs": {**definitions, f"a{length}": {}}}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"items": value}
    return value


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"type": "array"}, '.type: settings are keys and values; write type: "object"'),
        ({"properties": {"k": {"type": "strin"}}}, ".properties.k.type: fits none of its forms; the nearest says: 'strin' is none of 'array', 'boolean', 'integer', 'null', 'number', 'object', 'string'; did you mean 'string'?"),
        ({"properties": {"k": {"minimum": "5"}}}, ".properties.k.minimum: write a number, not '5'"),
        ({"required": "k"}, ".required: write a list, not 'k'"),
        ({"properties": {"k": {"minumum": 5}}}, ".properties.k.minumum: there is no such keyword here; did you mean 'minimum'?"),
        ({"properties": {"k": {"nullable": True}}}, '.properties.k.nullable: there is no such keyword here; write type: [..., "null"]'),
        ({"patternProperties": {".*": {}}}, ".patternProperties: there is no such keyword here; use additionalProperties, with a pattern in propertyNames"),
        ({"properties": {"k": {"pattern": "(?=x)"}}}, ".properties.k.pattern: '(?=x)' can't be used (look-around, including look-ahead and look-behind, is not supported); write it in the syntax of RE2, as in a CRD"),
        ({"properties": {"k": {"pattern": "("}}}, ".properties.k.pattern: '(' can't be used (unclosed group); write it in the syntax of RE2, as in a CRD"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, ".$schema: 'http://json-schema.org/draft-07/schema' is not read here; write the schema for https://json-schema.org/draft/2020-12/schema"),
        ({"properties": {"k": {"$ref": "#/$defs/k"}}}, ".properties.k.$ref: there is no '#/$defs/k' in this schema"),
        ({"properties": {"k": {"$ref": "https://example.com/k.json"}}}, ".properties.k.$ref: 'https://example.com/k.json' is not in this schema; write it as #/$defs/<name>"),
        ({"properties": {"k": {"$ref": "#/$defs/k"}}, "$defs": {"k": {"properties": {"k": {"$ref": "#/$defs/k"}}}}}, ".properties.k.properties.k.$ref: '#/$defs/k' leads back to itself; settings can't be of endless depth"),
        (chain(30, 2), ": the schema is too large: more than 1000 parts, references written out"),
        (nested(100), ": the schema is too large: more than 5000 values, or 64 levels"),
        ({"enum": [*range(6000)]}, ": the schema is too large: more than 5000 values, or 64 levels"),
    ],
)  # fmt: skip
def test_a_schema_that_can_not_be_used_is_refused_with_its_place(schema: Schema, sentence: str) -> None:
    assert list(schema_problems(schema)) == [sentence]


def test_all_mistakes_of_a_schema_are_told_at_once() -> None:
    wrong = {"properties": {"a": {"minumum": 1}, "b": {"pattern": "("}, "c": {"nullable": True}}}

    assert [problem.split(": ")[0] for problem in schema_problems(wrong)] == [
        ".properties.a.minumum",
        ".properties.b.pattern",
        ".properties.c.nullable",
    ]


def test_what_pydantic_writes_of_a_model_is_a_schema_that_can_be_used() -> None:
    from enum import Enum
    from typing import Literal

    from pydantic import BaseModel, Field

    class Kind(Enum):
        one = "one"
        two = "two"

    class Inner(BaseModel):
        size: int = Field(gt=0)

    class Settings(BaseModel, extra="forbid"):
        kind: Kind = Kind.one
        inner: Inner | None = None
        names: list[str] = Field(default=[], max_length=3)
        mode: Literal["a", "b"] = "a"
        pair: tuple[int, str] = (1, "x")

    schema = Settings.model_json_schema()

    assert list(schema_problems(schema)) == []
    usable = inlined(schema)
    assert "$ref" not in str(usable)
    assert value_problems(usable, {"kind": "two", "inner": {"size": 2}, "pair": [1, "x"]}, "h") == []
    assert value_problems(usable, {"kind": "three", "inner": {"size": 0}}, "h") == [
        ".kind: 'three' is none of 'one', 'two'",
        ".inner: fits none of its forms; the nearest says of .size: 0 is not more than 0",
    ]


@pytest.mark.parametrize(
    ("value", "sentences"),
    [
        ({"k": 3}, []),
        ({}, [".k: is missing"]),
        ({"k": 7}, [".k: 7 is more than the maximum 5"]),
        ({"k": 0.5}, [".k: 0.5 is less than the minimum 1"]),
        ({"k": True}, [".k: write a number, not true"]),
        ({"k": None}, [".k: write a number, not null"]),
        ({"k": 1, "limit": "x"}, [".limit: write a whole number or null, not 'x'"]),
        ({"k": 1, "mode": "exat"}, [".mode: 'exat' is none of 'exact', 'near'; did you mean 'exact'?"]),
        ({"k": 1, "key": "A"}, [".key: 'A' does not match '^[a-z]+$'"]),
        ({"k": 1, "mood": "x"}, [".mood: my-hook has no such setting; did you mean 'mode'?"]),
        ({"k": 1, "zzz": "x"}, [".zzz: my-hook has no such setting; there is: k, mode, limit, key, train, steps, source"]),
        ({"k": 1, "train": {"lr": "x", "dta": 1}}, [".train.lr: write a number, not 'x'", ".train.data: is missing", ".train.dta: there is no such key; did you mean 'data'?"]),
        ({"k": 1, "steps": [1, 0]}, [".steps[1]: 0 is not more than 0"]),
        ({"k": 1, "source": {"path": 1}}, [".source: fits none of its forms; the nearest says of .path: write text, not 1"]),
        ({"k": "x" * 5000}, [".k: write a number, not '" + "x" * 75 + " ..."]),
    ],
)  # fmt: skip
def test_settings_are_judged_in_sentences(value: Any, sentences: list[str]) -> None:
    found = value_problems(inlined(SETTINGS), value, "my-hook")

    assert sorted(found) == sorted(sentences)


def test_a_part_of_the_settings_lacks_nothing() -> None:
    usable = inlined(SETTINGS)

    assert value_problems(usable, {"train": {"lr": 1}, "source": {}}, "h", complete=False) == []
    assert value_problems(usable, {"train": {"lr": "x"}}, "h", complete=False) == [".train.lr: write a number, not 'x'"]
    assert value_problems(usable, {"mood": 1}, "h", complete=False) == [
        ".mood: h has no such setting; did you mean 'mode'?"
    ]


@pytest.mark.parametrize(
    ("value", "sentences"),
    [
        ({"k": LATER}, []),
        ({"k": LATER, "train": LATER, "steps": [1, LATER], "mode": LATER, "limit": LATER}, []),
        ({"k": LATER, "train": {"lr": LATER, "data": LATER}}, []),
        ({"k": LATER, "train": {"lr": LATER}}, [".train.data: is missing"]),
        ({"k": LATER, "source": {"path": LATER}}, []),
        ({"mode": LATER}, [".k: is missing"]),
        ({"k": 1, "mood": LATER}, [".mood: h has no such setting; did you mean 'mode'?"]),
        ({"k": 9, "mode": LATER}, [".k: 9 is more than the maximum 5"]),
    ],
)
def test_nothing_is_said_of_what_an_input_will_bring(value: Any, sentences: list[str]) -> None:
    assert value_problems(inlined(SETTINGS), value, "h") == sentences


def test_a_pattern_that_backtracks_elsewhere_is_matched_in_linear_time() -> None:
    """With Python's own `re` this would take longer than the universe is old; the test would run into its time limit."""
    usable = inlined({"properties": {"k": {"pattern": "^(a+)+$"}}})

    assert len(value_problems(usable, {"k": "a" * 100_000 + "!"}, "h")) == 1


@pytest.mark.parametrize(
    "value",
    [{"k": nested(MAX_VALUE_DEPTH + 1)}, {"k": nested(5000)}, {"steps": [1] * 500_000}],
    ids=["deep", "deeper", "long"],
)
def test_settings_that_would_take_long_are_not_checked_but_refused(value: Any) -> None:
    (problem,) = value_problems(inlined(SETTINGS), value, "h")

    assert problem == ": too much to be checked against its schema; put the long part into a file and name its path"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "path"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["k", "a", "b"]), inner, max_size=3),
    max_leaves=6,
)
SCALARS: st.SearchStrategy[Schema] = st.sampled_from(
    [
        {"type": "integer"}, {"type": ["string", "null"]}, {"enum": ["a", 1]}, {"const": True}, {"minimum": 1},
        {"maxLength": 1}, {"pattern": "a"}, {"multipleOf": 2}, {"type": "object", "required": ["a"]}, {},
    ]
)  # fmt: skip
SCHEMAS = st.recursive(
    SCALARS | st.just({"$ref": "#/$defs/d"}),
    lambda inner: st.one_of(
        st.fixed_dictionaries({}, optional={"properties": st.dictionaries(st.sampled_from(["k", "a"]), inner, max_size=2), "additionalProperties": inner | st.booleans()}),
        st.fixed_dictionaries({"items": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"if": inner, "then": inner}),
    ),
    max_leaves=6,
)  # fmt: skip


@given(schema=SCHEMAS, definition=SCALARS, value=st.dictionaries(st.sampled_from(["k", "a", "b"]), JSON, max_size=3))
def test_it_finds_fault_exactly_where_the_json_schema_library_does(
    schema: Schema, definition: Schema, value: Any
) -> None:
    """With references written out and patterns of another engine, no verdict changes."""
    root = {"properties": {"k": schema, "a": {"allOf": [schema]}}, "$defs": {"d": definition}}

    assert list(schema_problems(root)) == []
    assert (not value_problems(inlined(root), value, "h")) == Draft202012Validator(root).is_valid(value)
