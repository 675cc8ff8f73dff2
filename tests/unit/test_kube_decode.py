# SPDX-License-Identifier: Apache-2.0
"""One object that is nested too deep for the parser does not hide the others."""

from typing import Any

import orjson
import pytest
from tests.unit.builders import a_spec, probe

from sandbox_operator.kube.decode import DEEPEST, loads
from sandbox_operator.plan.compile import MAX_DEPTH, compile_spec


def depth(value: Any) -> int:
    found = 0
    while value:
        value, found = value[0], found + 1
    return found


def test_what_is_too_deep_is_cut_and_its_neighbours_are_whole() -> None:
    text = b'{"items":[{"x":"a\\"[{"},' + b"[" * 3000 + b"]" * 3000 + b',{"y":1}]}'
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(text)
    first, deep, last = loads(text)["items"]
    assert (first, last) == ({"x": 'a"[{'}, {"y": 1})
    assert depth(deep) == DEEPEST - 2, "the page's two levels count"


def test_what_is_deep_and_can_be_read_is_left_as_it_is() -> None:
    assert depth(loads(b"[" * 900 + b"]" * 900)) == 899


@pytest.mark.parametrize("text", [b"", b"[1", b'{"a": }', b"[" * 3000])
def test_what_is_no_json_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="line 1"):
        loads(text)


@pytest.mark.parametrize("levels", [MAX_DEPTH, 300, 3000, 100_000])
def test_a_spec_that_is_nested_too_deep_is_refused_with_its_field(levels: int) -> None:
    deep: Any = 1
    for _ in range(levels):
        deep = {"a": deep}
    found = compile_spec(a_spec(probes=[probe(extraConfigs={"b": deep})]))
    (problem,) = found.problems
    assert problem == (
        "spec.probeJobConfigs[0].extraConfigs.b: is nested more than 64 levels deep; put it into a file, and name its path"
    )
