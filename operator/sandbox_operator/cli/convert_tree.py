# SPDX-License-Identifier: Apache-2.0
"""YAML as a tree that keeps its comments, so that what users wrote beside their settings survives the conversion.

A text is read into it (`convert_read`), changed in place, and written (`convert_write`). A remark is a comment of the
converter's own about an entry; the writer marks it with "convert:" and finds room for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Scalar = str | int | float | bool | None
Value = "Map | Seq | Scalar"


@dataclass
class Entry:
    """A value at its place: under a key, or in a list."""

    value: Map | Seq | Scalar
    above: list[str] = field(default_factory=list)
    """Comment lines before it as they were written, `#` included; "" is a blank line."""
    beside: str = ""
    """The comment at the end of its line."""
    remarks: list[str] = field(default_factory=list)
    is_gone: bool = False
    """Only its comments are left."""

    def remark(self, words: str) -> None:
        if words not in self.remarks:
            self.remarks.append(words)


@dataclass
class Map:
    entries: dict[str, Entry] = field(default_factory=dict)
    is_flow: bool = False
    """Written in braces where that is short enough."""
    anchor: str | None = None
    """Written once under this name, and by the name where it stands again."""

    def get(self, key: str) -> Map | Seq | Scalar:
        """The value of a key; None where it is absent or gone."""
        entry = self.entries.get(key)
        return None if entry is None or entry.is_gone else entry.value

    def put(self, key: str, value: Any, remark: str = "") -> Entry:
        """Set a key to a value or to plain data; the entry, to say more about it."""
        entry = self.entries.setdefault(key, Entry(None))
        entry.value, entry.is_gone = tree(value), False
        if remark:
            entry.remark(remark)
        return entry

    def leave_out(self, keys: Iterable[str], why: str, called: str = "") -> None:
        """Take keys away; the comments of all of them stay where the first one was, and say why.

        `called` is what their author calls them, where that differs.
        """
        present = [key for key in keys if key in self.entries and not self.entries[key].is_gone]
        if not present:
            return
        first, *rest = (self.entries[key] for key in present)
        first.is_gone = True
        for entry in rest:
            first.above += [*entry.above, *([entry.beside] if entry.beside else [])]
        for key in present[1:]:
            del self.entries[key]
        verb = "is" if len(present) == 1 else "are"
        first.remark(f"{called or ', '.join(present)} {verb} left out: {why}")


@dataclass
class Seq:
    entries: list[Entry] = field(default_factory=list)
    is_flow: bool = False


def tree(value: Any, is_flow: bool = False) -> Map | Seq | Scalar:
    """Plain data as a tree; a tree stays what it is."""
    if isinstance(value, Map | Seq):
        return value
    if isinstance(value, Mapping):
        return Map({str(key): Entry(tree(item, is_flow)) for key, item in value.items()}, is_flow)
    if isinstance(value, list | tuple):
        return Seq([Entry(tree(item, is_flow)) for item in value], is_flow)
    assert value is None or isinstance(value, str | int | float)
    return value


def plain(value: Map | Seq | Scalar) -> Any:
    """A tree as plain data."""
    if isinstance(value, Map):
        return {key: plain(entry.value) for key, entry in value.entries.items() if not entry.is_gone}
    if isinstance(value, Seq):
        return [plain(entry.value) for entry in value.entries if not entry.is_gone]
    return value


def copied(value: Map | Seq | Scalar) -> Map | Seq | Scalar:
    """A deep copy, comments included."""
    if isinstance(value, Map):
        return replace(value, entries={key: copied_entry(entry) for key, entry in value.entries.items()})
    if isinstance(value, Seq):
        return replace(value, entries=[copied_entry(entry) for entry in value.entries])
    return value


def copied_entry(entry: Entry) -> Entry:
    return replace(entry, value=copied(entry.value), above=[*entry.above], remarks=[*entry.remarks])


def entry_at(value: Map | Seq | Scalar, target: str) -> Entry | None:
    """The entry at a dotted path (`train.model_path.lora_path`, `process.0`), if there is one."""
    key, _, rest = target.partition(".")
    entry: Entry | None = None
    if isinstance(value, Map):
        entry = value.entries.get(key)
    elif isinstance(value, Seq) and key.isdigit() and int(key) < len(value.entries):
        entry = value.entries[int(key)]
    if entry is None or entry.is_gone or not rest:
        return None if entry is None or entry.is_gone else entry
    return entry_at(entry.value, rest)


def texts(entry: Entry, target: str, key: str) -> Iterator[tuple[str, str, Entry]]:
    """(target, nearest key, entry) of each text in an entry that stands at `target`, with their dotted paths."""
    if entry.is_gone:
        return
    if isinstance(entry.value, Map):
        for name, below in entry.value.entries.items():
            yield from texts(below, f"{target}.{name}", name)
    elif isinstance(entry.value, Seq):
        for number, below in enumerate(entry.value.entries):
            yield from texts(below, f"{target}.{number}", key)
    elif isinstance(entry.value, str):
        yield target, key, entry
