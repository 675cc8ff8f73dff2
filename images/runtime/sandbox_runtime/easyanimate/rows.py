# SPDX-License-Identifier: Apache-2.0
"""From rows as the sandbox has them to clips with captions: the data connector. No video is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = re.compile(r"<__dj__\w+>|<\|__dj__\w+\|>")
"""Data-Juicer's marks in a text: where a video stands, and where a chunk ends."""


@dataclass(frozen=True)
class Clip:
    """One row: a video and its caption."""

    row: int
    """Its position, from 0."""
    path: str | None
    """None when the row names no video."""
    text: str


def clips_of(rows: Iterable[Mapping[str, Any]], roots: Sequence[Path] = ()) -> list[Clip]:
    """Clips in the order of the rows.

    rows: `videos` (a list, of which the first counts, as in Data-Juicer's sandbox, or one name; `file_path`, as
    EasyAnimate has it, is understood too) and `text`.
    roots: where relative names may begin; the first one under which the file exists counts.
    """
    return [
        Clip(number, _found(_video(row), roots), caption(str(row.get("text") or ""))) for number, row in enumerate(rows)
    ]


def caption(text: str) -> str:
    """A text without Data-Juicer's marks, with single spaces."""
    return " ".join(SPECIAL_TOKENS.sub(" ", text).split())


def _video(row: Mapping[str, Any]) -> str | None:
    named = row.get("videos") or row.get("file_path")
    if isinstance(named, (list, tuple)):
        named = named[0]
    return named if isinstance(named, str) and named else None


def _found(name: str | None, roots: Sequence[Path]) -> str | None:
    if name is None:
        return None
    candidates = [root / name for root in roots] or [Path(name)]
    return str(next((path for path in candidates if path.is_file()), candidates[0]))
