# SPDX-License-Identifier: Apache-2.0
"""Writes trees as YAML that every reader takes for the same: kubectl's parser, PyYAML, and YAML 1.1 as well as 1.2.

Text stands without quotes only where no parser could see anything else in it: `y` is true to kubectl's, `1e3` a number.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import yaml

from .convert_tree import Entry, Map, Scalar, Seq

WIDTH = 120
MARK = "convert: "
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./ ()+=@-]*(?<! )|[1-9][0-9]*[G-Zg-z][A-Za-z]*")
_SEEN_AS_SOMETHING_ELSE = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|none|\.(nan|inf|[0-9].*)")
_WITHOUT_LIMIT = 2**31 - 1


@dataclass
class Document:
    body: Map
    above: Sequence[str] = ()
    """Comment lines at its beginning."""
    below: Sequence[str] = ()


@dataclass
class _Line:
    text: str
    is_comment: bool = False


def write(documents: Sequence[Document]) -> str:
    """The documents as one YAML text."""
    return "---\n".join("".join(f"{line}\n" for line in _document(document)) for document in documents)


def _document(document: Document) -> Iterator[str]:
    yield from document.above
    lines = _Writer().map(document.body, 0)
    blank = not document.above
    for line in lines:
        if line.text or not blank:
            yield line.text
        blank = not line.text
    yield from document.below


class _Writer:
    def __init__(self) -> None:
        self._anchored: set[int] = set()

    def map(self, value: Map, indent: int) -> list[_Line]:
        lines: list[_Line] = []
        for key, entry in value.entries.items():
            added = self._entry(f"{scalar(key)}:", entry, indent)
            lines += added if lines or not added or added[0].text else added[1:]
        return lines

    def seq(self, value: Seq, indent: int) -> list[_Line]:
        lines: list[_Line] = []
        for entry in value.entries:
            is_block = isinstance(entry.value, Map | Seq) and self._inline(entry.value, indent) is None
            if isinstance(entry.value, Map | Seq) and is_block and not entry.is_gone and _there(entry.value):
                lines += _comments(entry, indent) + _dashed(self._block(entry.value, indent + 2), indent)
            else:
                lines += self._entry("-", entry, indent)
        return lines

    def _entry(self, head: str, entry: Entry, indent: int) -> list[_Line]:
        """A line with its comments, and the lines below it."""
        pad = " " * indent
        if entry.is_gone:
            return _comments(entry, indent)
        if isinstance(entry.value, Map | Seq) and entry.value.entries and not _there(entry.value):
            inside = [line for gone in _entries(entry.value) for line in _comments(gone, indent)]
            return [*inside, *self._entry(head, replace(entry, value=type(entry.value)()), indent)]
        below: list[_Line] = []
        if isinstance(entry.value, str) and (literal := _literal(entry.value)):
            text, below = f"{pad}{head} {literal[0]}", [_Line(f"{pad}  {line}".rstrip(" ")) for line in literal[1:]]
        elif (inline := self._inline(entry.value, indent + len(head) + 1)) is not None:
            text = f"{pad}{head} {inline}"
        else:
            assert isinstance(entry.value, Map | Seq)
            anchor = getattr(entry.value, "anchor", None)
            text, below = f"{pad}{head} &{anchor}" if anchor else f"{pad}{head}", self._block(entry.value, indent + 2)
        above, beside = _placed(entry, text, indent, can_stand_beside=not text.endswith(("|", "|-")))
        return [*above, _Line(f"{text}  {beside}" if beside else text), *below]

    def _block(self, value: Map | Seq, indent: int) -> list[_Line]:
        if isinstance(value, Map) and value.anchor:
            self._anchored.add(id(value))
        return self.map(value, indent) if isinstance(value, Map) else self.seq(value, indent)

    def _inline(self, value: Map | Seq | Scalar, column: int) -> str | None:
        """A value that fits behind its key, or None when it needs lines of its own."""
        if isinstance(value, Map) and value.anchor:
            return f"*{value.anchor}" if id(value) in self._anchored else None
        if isinstance(value, Map | Seq):
            if not value.entries:
                return "{}" if isinstance(value, Map) else "[]"
            if not value.is_flow:
                return None
        text = _flow(value)
        return text if not isinstance(value, Map | Seq) or (text and column + len(text) <= WIDTH - 10) else None


def _flow(value: Map | Seq | Scalar) -> str:
    """A value in one line; "" when comments in it would be lost."""
    if isinstance(value, Map | Seq):
        entries = _entries(value)
        parts = [_flow(entry.value) for entry in entries]
        if not all(parts) or any(e.is_gone or e.above or e.beside or e.remarks for e in entries):
            return ""
        if isinstance(value, Seq):
            return f"[{', '.join(parts)}]"
        return "{" + ", ".join(f"{scalar(key)}: {part}" for key, part in zip(value.entries, parts, strict=True)) + "}"
    return scalar(value)


def scalar(value: Scalar) -> str:
    """One value in one line."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and not _SEEN_AS_SOMETHING_ELSE.fullmatch(value):
            return value
        if value.isprintable():
            return "'" + value.replace("'", "''") + "'"
        dumped = yaml.safe_dump(value, default_style='"', width=_WITHOUT_LIMIT, allow_unicode=True)
        return str(dumped).rstrip("\n")
    if isinstance(value, float):
        return str(yaml.safe_dump(value)).split("\n", 1)[0]
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _entries(value: Map | Seq) -> list[Entry]:
    return [*(value.entries.values() if isinstance(value, Map) else value.entries)]


def _there(value: Map | Seq) -> list[Entry]:
    return [entry for entry in _entries(value) if not entry.is_gone]


def _literal(text: str) -> list[str] | None:
    """A text of several lines as `|` and its lines, where it can be read back as it was."""
    if "\n" not in text.rstrip("\n") and not text.endswith("\n"):
        return None
    head = "|" if text.endswith("\n") else "|-"
    lines = text.removesuffix("\n").split("\n")
    if not lines[0].strip() or lines[0].startswith((" ", "\t")) or not lines[-1]:
        return None
    if any(line.endswith(" ") or not line.replace("\t", "").isprintable() for line in lines):
        return None
    return [head, *lines]


def _dashed(lines: list[_Line], indent: int) -> list[_Line]:
    """The block of a list's item, its first line behind the dash; comments before it move out."""
    pad = " " * indent
    first = next(number for number, line in enumerate(lines) if not line.is_comment)
    comments = [_Line(f"{pad}{line.text.strip()}".rstrip(), True) for line in lines[:first]]
    return [*comments, _Line(f"{pad}- {lines[first].text.lstrip()}"), *lines[first + 1 :]]


def _comments(entry: Entry, indent: int) -> list[_Line]:
    """All comments of an entry that has no line of its own."""
    lines = [*entry.above, *([entry.beside] if entry.beside else [])]
    for words in entry.remarks:
        lines += wrapped(words, indent)
    return _lines(lines, indent)


def _placed(entry: Entry, text: str, indent: int, can_stand_beside: bool) -> tuple[list[_Line], str]:
    """Comment lines above an entry's line, and the comment beside it."""
    above, beside, remarks = [*entry.above], entry.beside, [*entry.remarks]
    room = WIDTH - len(text) - 2 if can_stand_beside else 0
    if len(beside) > room:
        above.append(beside)
        beside = ""
    if len(remarks) == 1 and not beside and len(f"# {MARK}{remarks[0]}") <= room:
        beside, remarks = f"# {MARK}{remarks[0]}", []
    for words in remarks:
        above += wrapped(words, indent)
    return _lines(above, indent), beside


def wrapped(words: str, indent: int = 0) -> list[str]:
    """A remark as comment lines."""
    return textwrap.wrap(
        f"{MARK}{words}", max(60, WIDTH - 4 - indent), initial_indent="# ", subsequent_indent="#   ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _lines(texts: Sequence[str], indent: int) -> list[_Line]:
    return [_Line(f"{' ' * indent}{text}" if text else "", True) for text in texts]
