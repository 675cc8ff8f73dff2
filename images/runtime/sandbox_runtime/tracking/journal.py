# SPDX-License-Identifier: Apache-2.0
"""Which row of the run is which line on the volume, decided once and kept: row n is row n for every exporter.

A run tells how many rows it has; with this it is known what it lacks, whoever was killed and whenever. An entry is
durable before its rows are sent. Files of a row count as sent when a session that sent them has ended well: until then
they are sent again, in a further row.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from .sources import Entry

NAME = "rows.jsonl"
LOCK = "lock"


class Busy(Exception):
    """Another exporter of this experiment is at work."""


class Journal:
    """Of one experiment, in its folder `wandb`; locked for as long as it is open."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] = (folder / LOCK).open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Busy(f"another exporter is at work in {folder}") from None
        path = folder / NAME
        self.entries: list[Entry] = []
        self.sent: set[tuple[str, str]] = set()
        """Kind and source of files that have arrived."""
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # a last line that was cut off was never acted on
        for line in whole.splitlines():
            self._take(json.loads(line))
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        if not self.entries:
            self.append([Entry("start")])

    @property
    def rows(self) -> int:
        return sum(entry.count for entry in self.entries)

    @property
    def lines(self) -> dict[str, int]:
        """How many lines of each metrics file have their rows, by source."""
        found: dict[str, int] = {}
        for entry in self.entries:
            if entry.kind == "lines":
                found[entry.source] = max(found.get(entry.source, 0), entry.begin + entry.count)
        return found

    @property
    def results(self) -> set[str]:
        """Sources of results that have their row."""
        return {entry.source for entry in self.entries if entry.kind == "result"}

    def append(self, entries: Iterable[Entry]) -> None:
        self._write([entry.as_json() for entry in entries])

    def files_sent(self, entries: Iterable[Entry]) -> None:
        """A session that sent these has ended well."""
        self._write([{"sent": entry.kind, "source": entry.source} for entry in entries])

    def unsent(self, rows: int) -> list[Entry]:
        """Of the first so many rows: those whose files may not have arrived."""
        found = {}
        for _, entry in self.after(0, rows):
            if entry.is_media and (entry.kind, entry.source) not in self.sent:
                found[entry.kind, entry.source] = entry
        return list(found.values())

    def after(self, row: int, end: int | None = None) -> Iterator[tuple[int, Entry]]:
        """Entries that have rows from `row` on (before `end`), cut to them, each with its first row."""
        at = 0
        for entry in self.entries:
            first, at = at, at + entry.count
            begin, stop = max(first, row), at if end is None else min(at, end)
            if begin < stop:
                yield begin, Entry(entry.kind, entry.source, entry.begin + begin - first, stop - begin)

    def close(self) -> None:
        self._file.close()
        self._lock.close()

    def _take(self, item: dict[str, str]) -> None:
        if "sent" in item:
            self.sent.add((item["sent"], item["source"]))
        else:
            self.entries.append(Entry.of(item))

    def _write(self, items: list[dict[str, str]]) -> None:
        if not items:
            return
        self._file.write(b"".join(json.dumps(item).encode() + b"\n" for item in items))
        self._file.flush()
        os.fsync(self._file.fileno())
        for item in items:
            self._take(item)
