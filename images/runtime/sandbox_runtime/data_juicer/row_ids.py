# SPDX-License-Identifier: Apache-2.0
"""Ids of rows: the digest of a row and its ordinal among equal rows.

The same rows get the same ids in every job, in any order of files, so that later jobs can join by it.
"""

import hashlib
import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

from .rows import Row

ROW_ID = "__sandbox_id__"


def id_or_key(row: Row) -> str | bytes:
    """The id that a row brings, or the digest of its content, from which `RowIds` makes one."""
    given = row.get(ROW_ID)
    if isinstance(given, str) and given:
        return given
    content = {name: value for name, value in row.items() if name != ROW_ID}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=repr)
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


class RowIds:
    """Hands out row ids. Counts of equal rows are kept on disk: a data set may have more rows than memory has
    room for.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".row-ids.sqlite"
        self._path.unlink(missing_ok=True)
        # no journal and no locks: the file is this process's own and is thrown away, and locks hang on some
        # network volumes
        self._counts = sqlite3.connect(f"file:{quote(str(self._path))}?nolock=1", uri=True, isolation_level=None)
        self._counts.execute("PRAGMA journal_mode = OFF")
        self._counts.execute("PRAGMA synchronous = OFF")
        self._counts.execute("PRAGMA cache_size = -65536")
        self._counts.execute("CREATE TABLE seen (row BLOB PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID")
        self._counts.execute("BEGIN")
        self._digest = hashlib.sha256()
        self.rows = 0

    def of(self, row: Row) -> str:
        """Return the row's id: the one it brings, or a new one."""
        return self.next(id_or_key(row))

    def next(self, found: str | bytes) -> str:
        """Return the id of the next row, of which `id_or_key` has been told."""
        row_id = found if isinstance(found, str) else self._new(found)
        self._digest.update(row_id.encode() + b"\n")
        self.rows += 1
        return row_id

    def _new(self, key: bytes) -> str:
        upsert = "INSERT INTO seen VALUES (?, 1) ON CONFLICT (row) DO UPDATE SET count = count + 1 RETURNING count"
        ((count,),) = self._counts.execute(upsert, (key,))
        return f"{key.hex()}-{count - 1}"

    def close(self) -> str:
        """Drop the counts and return the digest of all ids."""
        self._counts.close()
        self._path.unlink(missing_ok=True)
        return self._digest.hexdigest()
