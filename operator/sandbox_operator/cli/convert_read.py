# SPDX-License-Identifier: Apache-2.0
"""Reads YAML and JSON into trees that keep their comments.

YAML is read as Data-Juicer reads it (PyYAML), but for two things that Kubernetes could not carry: a date stays the
text it was, and `3e-4` is a number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .convert_tree import Entry, Map, Scalar, Seq, tree

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_NUMBER_WITHOUT_A_POINT = re.compile(r"^[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$")
SUFFIXES = (".yaml", ".yml", ".json")


class Unreadable(Exception):
    """A file is not what it should be; the message says why."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER_WITHOUT_A_POINT, [*"-+0123456789"])


def read_file(path: Path) -> tuple[Map, list[str]]:
    """The keys and values of a file, and the comments after the last of them. Raises Unreadable."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("it is not text (UTF-8)") from error
    except OSError as error:
        raise Unreadable(f"it can't be read: {error.strerror}") from error
    return read_json(text) if path.suffix == ".json" else read_yaml(text)


def read_json(text: str) -> tuple[Map, list[str]]:
    """Raises Unreadable."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise Unreadable(f"it is not JSON: {error}") from error
    return _mapping(tree(value)), []


def read_yaml(text: str) -> tuple[Map, list[str]]:
    """Raises Unreadable."""
    try:
        return _Builder(text).document()
    except yaml.YAMLError as error:
        raise Unreadable(f"it is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise Unreadable("an anchor in it holds itself") from error


def _mapping(value: Map | Seq | Scalar) -> Map:
    if isinstance(value, Map):
        return value
    kind = "nothing" if value is None else "a list" if isinstance(value, Seq) else f"the value {value!r}"
    raise Unreadable(f"it holds {kind}, where keys and values are needed")


def _no_constant(name: str) -> Any:
    raise Unreadable(f"it holds {name}, which Kubernetes can't store; leave the key out where it means no limit")


class _Builder:
    """Makes the tree of one YAML document and hangs each comment on an entry."""

    def __init__(self, text: str) -> None:
        self._loader = _Loader(text)
        self._text = text
        self._placed: list[tuple[int, int, Entry]] = []
        """(line, order, entry) of each entry that stands in a line of its own."""
        self._seen: set[int] = set()
        """Ids of the nodes that an entry began with: what stands under an anchor is met again at each alias."""

    def document(self) -> tuple[Map, list[str]]:
        node = self._loader.get_single_node()
        root = _mapping(self._value(node, False) if node is not None else None)
        return root, self._hang_comments()

    def _value(self, node: yaml.Node, in_flow: bool) -> Map | Seq | Scalar:
        if not isinstance(node, yaml.ScalarNode) and node.tag.removeprefix("tag:yaml.org,2002:") not in ("map", "seq"):
            raise Unreadable(f"the tag {node.tag} in line {node.start_mark.line + 1} means nothing to Kubernetes")
        if isinstance(node, yaml.MappingNode):
            return self._map(node, in_flow or bool(node.flow_style))
        if isinstance(node, yaml.SequenceNode):
            flow = in_flow or bool(node.flow_style)
            return Seq([self._entry(item, item, flow) for item in node.value], flow)
        value = self._loader.construct_object(node)
        if isinstance(value, float) and not math.isfinite(value):
            _no_constant(str(node.value))
        if value is not None and not isinstance(value, str | int | float):
            raise Unreadable(f"{node.value!r} is of the type {node.tag}, which Kubernetes can't store")
        return value

    def _map(self, node: yaml.MappingNode, flow: bool) -> Map:
        own = [key.value for key, _ in node.value]
        twice = {key for key in own if own.count(key) > 1}
        self._loader.flatten_mapping(node)  # `<<: *other`: what stands here wins
        entries: dict[str, Entry] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Unreadable(f"a key in line {key.start_mark.line + 1} is not a word")
            name = str(key.value)
            entries.pop(name, None)
            entries[name] = self._entry(key, item, flow)
            if name in twice:
                entries[name].remark(f"{name} stands here more than once; the last one counts")
        return Map(entries, flow)

    def _entry(self, start: yaml.Node, node: yaml.Node, in_flow: bool) -> Entry:
        entry = Entry(None)
        if not in_flow and id(start) not in self._seen:
            self._seen.add(id(start))
            self._placed.append((start.start_mark.line, len(self._placed), entry))
        entry.value = self._value(node, in_flow)
        return entry

    def _hang_comments(self) -> list[str]:
        """Comments in lines of their own belong to what follows, those after a value to it; the rest is returned."""
        self._placed.sort(key=lambda place: place[:2])
        left: list[str] = []
        for line, is_alone, comment in _comments(self._text):
            if is_alone:
                following = next((entry for start, _, entry in self._placed if start > line), None)
                (left if following is None else following.above).append(comment)
            else:
                before = [entry for start, _, entry in self._placed if start <= line]
                if before and not before[-1].beside:
                    before[-1].beside = comment
                elif before:
                    before[-1].above.append(comment)
        for _, _, entry in self._placed:
            entry.above = _single_blanks(entry.above)
        left = _single_blanks(left)
        return left[: len(left) - (left[-1:] == [""])]


def _comments(text: str) -> Iterator[tuple[int, bool, str]]:
    """(line, whether it stands alone, text) of each comment; a blank line is an empty one that stands alone."""
    inside: set[int] = set()
    ends: dict[int, int] = {}
    for token in yaml.scan(text, _Loader):
        start, end = token.start_mark, token.end_mark
        if start.index == end.index:
            continue
        is_block = isinstance(token, yaml.ScalarToken) and token.style in ("|", ">")
        inside.update(range(start.line, end.line))
        if not is_block or end.column:
            ends[end.line] = max(end.column, ends.get(end.line, 0))
    for number, line in enumerate(_LINE_END.split(text)):
        if number in inside:
            continue
        rest = line[ends.get(number, 0) :]
        found = re.match(r"\s+#.*" if number in ends else r"\s*(#.*)?$", rest)
        if found:
            yield number, number not in ends, rest.strip()


def _single_blanks(lines: list[str]) -> list[str]:
    return [line for number, line in enumerate(lines) if line or number == 0 or lines[number - 1]]
