# SPDX-License-Identifier: Apache-2.0
"""Which rows are in which of several pools. Their ids are kept on disk; memory holds 2 bytes a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ..data_juicer.row_ids import ROW_ID
from .pool import Pool

Masks = NDArray[np.uint16]
"""Of each row of a pool: bit i is set where pool i has it too; 0 for a row that stood there before."""


def memberships(pools: Sequence[Pool], folder: Path) -> list[Masks]:
    """Of each pool, where else each of its rows is."""
    path = folder / "members.sqlite"
    # no journal and no locks, as for row ids: it is thrown away, and locks hang on some network volumes
    with closing(sqlite3.connect(f"file:{quote(str(path))}?nolock=1", uri=True, isolation_level=None)) as known:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -65536"):
            known.execute(f"PRAGMA {pragma}")
        known.execute("CREATE TABLE row (id TEXT PRIMARY KEY, mask INTEGER, seen INTEGER DEFAULT -1) WITHOUT ROWID")
        known.execute("BEGIN")
        add = "INSERT INTO row (id, mask) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET mask = mask | excluded.mask"
        for place, pool in enumerate(pools):
            known.executemany(add, ((row[ROW_ID], 1 << place) for row in pool.rows()))
        found = [_masks(pool, place, known) for place, pool in enumerate(pools)]
    path.unlink()
    return found


def _masks(pool: Pool, place: int, known: sqlite3.Connection) -> Masks:
    masks = np.zeros(len(pool), dtype=np.uint16)
    take = "UPDATE row SET seen = ?1 WHERE id = ?2 AND seen != ?1 RETURNING mask"
    for number, row in enumerate(pool.rows()):
        for (mask,) in known.execute(take, (place, row[ROW_ID])).fetchall():
            masks[number] = mask
    return masks


def combined(count: int) -> list[tuple[int, ...]]:
    """All sets of pools as Data-Juicer's sandbox orders them: by size, then by the last pool, the one before, ..."""
    sets = [places for size in range(1, count + 1) for places in combinations(range(count), size)]
    return sorted(sets, key=lambda places: (len(places), places[::-1]))
