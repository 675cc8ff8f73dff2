# SPDX-License-Identifier: Apache-2.0
"""The tree under `sandboxctl convert`: what is read is what Data-Juicer would read, and nothing is lost in writing it."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.progress import DEEP, long

from sandbox_operator.cli.convert_read import Unreadable, read_json, read_yaml
from sandbox_operator.cli.convert_tree import Entry, Map, Seq, plain, tree
from sandbox_operator.cli.convert_write import WIDTH, Document, write

WORDS = ["y", "no", "null", "1e3", "0x1F", "12:30", "2024-09-24", "a: b", "a #b", "", " ", "a\n", " a\nb", "a\nb", "a\nb \n", "好", "\x85", "\x07"]  # fmt: skip
texts = st.sampled_from(WORDS) | st.text(max_size=10)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=15
)
comments = st.lists(st.sampled_from(["", "# one", "#two: 'x'", "# - three"]), max_size=3)


@st.composite
def trees(draw: st.DrawFn) -> Map:
    """Any keys and values, with comments anywhere and some entries of which only these are left."""

    def dressed(value: Map | Seq | Any) -> None:
        entries = value.entries.values() if isinstance(value, Map) else value.entries if isinstance(value, Seq) else ()
        for entry in entries:
            entry.above, entry.beside = draw(comments), draw(st.sampled_from(["", "# beside", "# " + "long " * 30]))
            entry.remarks = draw(st.lists(st.sampled_from(["short", "a remark of many words " * 8]), max_size=2))
            entry.is_gone = draw(st.sampled_from([False, False, False, True]))
            dressed(entry.value)

    made = tree(draw(st.dictionaries(texts, values, min_size=1, max_size=4)), draw(st.booleans()))
    assert isinstance(made, Map)
    dressed(made)
    return made


EXAMPLES = settings(max_examples=5000 if DEEP else 60, deadline=None)


@long
@given(made=trees())
@EXAMPLES
def test_what_is_written_says_the_same_to_pyyaml_and_to_our_own_reader(made: Map) -> None:
    text = write([Document(made)])

    assert (yaml.safe_load(text) or {}) == plain(made)
    if plain(made):
        assert plain(read_yaml(text)[0]) == plain(made)


@long
@given(made=trees())
@EXAMPLES
def test_no_comment_and_no_remark_is_lost_in_writing(made: Map) -> None:
    def said(value: Any) -> list[str]:
        entries = value.entries.values() if isinstance(value, Map) else value.entries if isinstance(value, Seq) else ()
        return [
            words
            for entry in entries
            for words in (*entry.above, entry.beside, *entry.remarks, *(said(entry.value) if not entry.is_gone else ()))
        ]

    unwrapped = " ".join(write([Document(made)]).replace("\n", " ").replace("#", " ").split())
    for words in said(made):
        assert " ".join(words.replace("#", " ").split()) in unwrapped


@long
@given(made=trees())
@EXAMPLES
def test_what_was_written_is_written_the_same_once_it_has_been_read(made: Map) -> None:
    for entry in made.entries.values():
        entry.is_gone = False
    once = write([Document(made)])
    body, below = read_yaml(once)
    twice = write([Document(body, below=below)])

    assert plain(read_yaml(twice)[0]) == plain(body)
    assert twice == write([Document(*_read(twice))])


def _read(text: str) -> tuple[Map, tuple[()], list[str]]:
    body, below = read_yaml(text)
    return body, (), below


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 3e-4", {"a": 0.0003}),  # text to PyYAML alone, a number to everyone else
        ("a: 1E5", {"a": 100000.0}),
        ("a: 2024-09-24", {"a": "2024-09-24"}),
        ("a: 12:30", {"a": 750}),
        ("a: yes\nb: 'yes'", {"a": True, "b": "yes"}),
        ("on: 1\n2: two\nnull: x", {"on": 1, "2": "two", "null": "x"}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("a: 1\na: 2", {"a": 2}),
        ("\ufeffa: 1".removeprefix("\ufeff"), {"a": 1}),
        ("a: >\n  one\n  two\n\n  three\n", {"a": "one two\nthree\n"}),
    ],
)
def test_values_are_read_as_data_juicer_reads_them(text: str, value: dict[str, Any]) -> None:
    assert plain(read_yaml(text)[0]) == value


def test_json_is_read_as_json() -> None:
    assert plain(read_json('{"a": 3e-4, "b": [null, true, "yes"]}')[0]) == {"a": 0.0003, "b": [None, True, "yes"]}
    with pytest.raises(Unreadable, match="not JSON"):
        read_json("a: 1")


COMMENTED = """\
# of the first key

a: 1  # beside a
# above b
b:  # beside b
  # above the first job
  - hook: x  # beside hook
    # above text
    text: |
      # no comment
      text

    # above flow
    flow: [1, 2]  # beside flow

  # above the second job
  - hook: z
c: 'a # b'  # beside c
# the end
"""


def test_comments_stay_where_they_were() -> None:
    body, below = read_yaml(COMMENTED)

    assert write([Document(body, below=below)]) == COMMENTED.replace("text\n\n", "text\n")


def test_comments_inside_braces_and_after_aliases_stay_nearby() -> None:
    body, below = read_yaml("a: &x\n  b: 1  # one\nc: *x  # two\nd: [1,  # three\n  # four\n  2]\n# five\n")
    text = write([Document(body, below=below)])

    assert text == "a:\n  b: 1  # one\nc:  # two\n  b: 1\nd: [1, 2]  # three\n# four\n# five\n"


def test_a_line_is_no_longer_than_it_has_to_be() -> None:
    body = Map({"key": Entry("value", beside="# " + "x" * 110, remarks=["y " * 80])})
    text = write([Document(body)])

    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert text.splitlines()[-1] == "key: value"


def test_a_mapping_that_is_used_twice_is_written_once() -> None:
    shared = Map({"a": Entry(1)}, anchor="shared")
    text = write([Document(Map({"one": Entry(shared), "two": Entry(Seq([Entry(shared)]))}))])

    assert text == "one: &shared\n  a: 1\ntwo:\n  - *shared\n"


def test_what_is_left_out_leaves_its_comments_and_the_reason() -> None:
    body, _ = read_yaml("# above\na: 1  # one\nb: 2\n# before c\nc: 3  # three\n")
    body.leave_out(["a", "c", "z"], "nobody reads it")

    assert write([Document(body)]) == (
        "# above\n# before c\n# three\n# one\n# convert: a, c are left out: nobody reads it\nb: 2\n"
    )
