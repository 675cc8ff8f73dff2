# SPDX-License-Identifier: Apache-2.0
"""A data set in batches, scored by as many processes as the pod may use, in its own order.

However long the data is, memory holds a few batches: they are read here, parsed and scored by the others, and no more
of them are on the way than keep everybody busy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data_juicer.errors import DatasetError
from ..data_juicer.row_ids import ROW_ID, id_or_key
from ..data_juicer.rows import (
    BATCH_ROWS,
    Row,
    numbered_rows,
    open_bytes,
    open_parquet,
    parquet_batches,
    read_json,
    suffix_of,
    value_at,
)
from .score import Scorer

BYTES = 2**20
"""Of lines in a batch: enough that handing it on costs nothing, few enough for a processor's cache."""


@dataclass(frozen=True)
class Batch:
    path: Path
    first: int
    """Number of the first row or line, from 1."""
    content: Any
    """Lines as bytes, rows, or a record batch of Arrow."""


@dataclass(frozen=True, eq=False)
class Scored:
    ids: list[str | bytes]
    """Of each row what `id_or_key` says."""
    scores: NDArray[np.float64]
    words: int


@dataclass(frozen=True, eq=False)
class Work:
    """What is done with each batch."""

    scorer: Scorer
    text_key: str

    def __call__(self, batch: Batch) -> Scored:
        """Raises DatasetError for a row that can't be read or has no text."""
        ids, texts = [], []
        for number, row in _numbered(batch):
            text = value_at(row, self.text_key)
            if not isinstance(text, str):
                raise DatasetError(_no_text(batch, number, row, text, self.text_key), "text_key")
            ids.append(id_or_key(row))
            texts.append(text)
        return Scored(ids, *self.scorer.scores(texts))


def batches_of(paths: Sequence[Path], text_key: str) -> Iterator[Batch]:
    """Raises DatasetError where a file can't be read to its end."""
    for path in paths:
        first = 1
        for content in _contents(path, text_key):
            yield Batch(path, first, content)
            first += len(content)


def scored(batches: Iterator[Batch], work: Work, processes: int) -> Generator[Scored, None, None]:
    """The scores of each batch, in order. One batch alone is worth no process."""
    few = list(islice(batches, 2))
    every = chain(few, batches)
    if processes == 1 or len(few) < 2:
        yield from map(work, every)
        return
    # Not forked: this process has threads.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (work,))
    waiting: deque[Future[Scored]] = deque()
    try:
        for batch in every:
            waiting.append(pool.submit(_do, batch))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_work: Work | None = None


def _begin(work: Work) -> None:
    global _work
    _work = work


def _do(batch: Batch) -> Scored:
    assert _work is not None, "set when this process began"
    return _work(batch)


def _contents(path: Path, text_key: str) -> Iterator[Any]:
    suffix = suffix_of(path)
    if suffix == ".parquet":
        yield from parquet_batches(path, _columns(path, text_key))
    elif suffix.startswith(".jsonl"):
        with open_bytes(path) as stream:
            while lines := stream.readlines(BYTES):
                yield lines
    else:
        rows = read_json(path)
        while some := list(islice(rows, BATCH_ROWS)):
            yield some


def _columns(path: Path, text_key: str) -> list[str] | None:
    """The columns that are needed: all, where ids have to be made of the rows."""
    names = open_parquet(path).schema_arrow.names
    text = text_key if text_key in names else text_key.partition(".")[0]
    if text not in names:
        raise DatasetError(f"{path} has no column {text!r}; it has {', '.join(names)}", "text_key")
    return [text, ROW_ID] if ROW_ID in names else None


def _numbered(batch: Batch) -> Iterator[tuple[int, Row]]:
    if not isinstance(batch.content, list):
        return enumerate(batch.content.to_pylist(), batch.first)
    if isinstance(batch.content[0], bytes):
        return numbered_rows(batch.path, batch.content, batch.first)
    return enumerate(batch.content, batch.first)


def _no_text(batch: Batch, number: int, row: Row, found: object, text_key: str) -> str:
    kind = "line" if suffix_of(batch.path).startswith(".jsonl") else "row"
    what = f"holds {type(found).__name__}, no text," if found is not None else "has no text"
    return (
        f"{batch.path}, {kind} {number} {what} under {text_key!r}; its fields are {', '.join(map(str, row)) or 'none'}"
    )
