# SPDX-License-Identifier: Apache-2.0
"""A data set whose rows can be taken in any order without being held in memory.

It is read once, checked row by row, and copied as one line a row into a file of our own, each row with its id. What
memory holds is where each line begins: a few dozen bytes a row, however long the rows are.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data_juicer.dataset import Media, json_value, plain_sources
from ..data_juicer.errors import DatasetError
from ..data_juicer.row_ids import ROW_ID, RowIds
from ..data_juicer.rows import JSON_SUFFIXES, Row, numbered_rows, open_bytes, read_rows, suffix_of

BLOCK = 32 * 2**20
"""Bytes of rows that are held at a time, to read them in the order in which they lie in the file."""

Look = Callable[[Row, str], None]
"""Is shown each row and where it stands (`a.jsonl, line 3`); raises DatasetError."""
Order = NDArray[np.int64]
"""Positions of rows, from 0."""


@dataclass(frozen=True, eq=False)
class Pool:
    """`path` has one line a row; line i begins at `places[i]` and ends where the next one begins."""

    told: str
    """As its user names it."""
    path: Path
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places) - 1

    def lines(self, order: Order | None = None) -> Iterator[bytes]:
        """The lines of these rows, in this order, each with its end; of all rows in their own order by default."""
        with self.path.open("rb") as file:
            if order is None:
                yield from file
                return
            for block in self._blocks(order):
                begins, ends = self.places[block].tolist(), self.places[block + 1].tolist()
                lines = [b""] * len(block)
                for slot in np.argsort(block, kind="stable").tolist():  # forward through the file, whatever is wanted
                    file.seek(begins[slot])
                    lines[slot] = file.read(ends[slot] - begins[slot])
                yield from lines

    def rows(self) -> Iterator[Row]:
        return map(json.loads, self.lines())

    def _blocks(self, order: Order) -> Iterator[Order]:
        """The order in parts whose rows fit in memory, at least one row each."""
        ends = np.cumsum(self.places[order + 1] - self.places[order])
        first = 0
        while first < len(order):
            before = ends[first - 1] if first else 0
            after = max(first + 1, int(np.searchsorted(ends, before + BLOCK, side="right")))
            yield order[first:after]
            first = after


def read_pool(named: str, folder: Path, key: str = "dataset_path", look: Look | None = None) -> Pool:
    """Copy a data set into `folder`, which is empty. `key`: of the setting that names it, for messages.

    Raises DatasetError as `checked_rows` does.
    """
    path, places = folder / "rows.jsonl", array("q", [0])
    with path.open("wb") as out:
        for row, where in checked_rows(named, folder, key, look):
            places.append(places[-1] + out.write(line_of(row, where, key)))
    return Pool(named, path, np.frombuffer(places, dtype=np.int64))


def checked_rows(
    named: str, folder: Path, key: str = "dataset_path", look: Look | None = None
) -> Iterator[tuple[Row, str]]:
    """Yield each row of a data set with its id, and where it stands. `folder` holds what is on the way.

    Relative names of media files become absolute: they are relative to the data set, which the rows leave. Raises
    DatasetError where a row can't be read, and where there are none.
    """
    media = Media({"dataset_path": named})
    with closing(RowIds(folder)) as ids:
        for row, where in read_placed(named, key):
            if look is not None:
                look(row, where)
            row_id = ids.of(row)
            yield {**media.absolute(row), ROW_ID: row_id}, where
        if not ids.rows:
            raise DatasetError(f"{named} holds no rows", key)


def read_placed(named: str, key: str) -> Iterator[tuple[Row, str]]:
    """Each row of a data set, and where it stands. Raises DatasetError, which names `key`."""
    try:
        files = plain_sources({"dataset_path": named})
        if not files or suffix_of(files[0]) not in (*JSON_SUFFIXES, ".parquet"):
            raise DatasetError(f"{named} holds neither JSON nor Parquet")
        for file in files:
            is_lines = suffix_of(file).startswith(".jsonl")
            for number, row in _lines(file) if is_lines else zip(count(1), read_rows(file), strict=False):
                yield row, f"{file}, {'line' if is_lines else 'row'} {number}"
    except DatasetError as error:
        raise DatasetError(error.problem, key) from error


def _lines(file: Path) -> Iterator[tuple[int, Row]]:
    with open_bytes(file) as stream:
        yield from numbered_rows(file, stream, 1)


def line_of(row: Row, where: str, key: str) -> bytes:
    """A row as a line. Raises DatasetError where JSON can't hold it."""
    try:
        return (text_of(row, where, key, ascii_only=False) + "\n").encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where}: holds half of a character pair (an unpaired surrogate)", key) from error


def text_of(row: Row, where: str, key: str, *, ascii_only: bool) -> str:
    """A row as JSON, as Python writes it. Raises DatasetError where JSON can't hold it."""
    try:
        return json.dumps(row, ensure_ascii=ascii_only, default=json_value, allow_nan=False)
    except ValueError as error:
        raise DatasetError(f"{where}: holds NaN or an infinite number, which JSON has not", key) from error


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write a new file; returns how many lines it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as out:
        for line in lines:
            out.write(line)
            written += 1
    return written


def drawn(rows: int, seed: int) -> Order:
    """All positions in an order that the seed decides: that of `datasets.Dataset.shuffle(seed)`, which Data-Juicer's
    sandbox takes."""
    return np.random.default_rng(seed).permutation(rows)


def stems(names: Sequence[str]) -> list[str]:
    """Names of data sets without folders and suffixes, each another one: the second `a` is `a_2`."""
    found: list[str] = []
    for name in names:
        path = Path(name)
        suffix = suffix_of(path)
        stem = candidate = path.name[: -len(suffix)] if suffix in (*JSON_SUFFIXES, ".parquet") else path.name
        number = 1
        while candidate in found:
            number += 1
            candidate = f"{stem}_{number}"
        found.append(candidate)
    return found
