# SPDX-License-Identifier: Apache-2.0
"""A file of which a part may be there: what the job's `state/` keeps of it, for later attempts to go on from.

The bytes lie in a file of their own for each version of the content, written where they belong, never behind what
happens to be there: a late pod of an earlier attempt can only write the same bytes again. The record beside it says how
many of them are durable, and is replaced by rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from sandbox_api.digest import sha256_of

from ..files import write_json

READ = 1 << 20


@dataclass(frozen=True)
class Record:
    """What is kept of a file."""

    name: str
    version: str
    attempt: int
    length: int
    """Bytes that are durable."""
    sha256: str | None = None
    """Of the whole file, once it is there."""


class Partial:
    """One file on its way. `unique` is this pod's own; not for several threads."""

    def __init__(self, folder: Path, name: str, attempt: int, unique: str) -> None:
        self.length = 0
        self.version: str | None = None
        self.sha256: str | None = None
        """Of the whole file, once it is there."""
        self.moved = 0
        """Bytes written here, in all tries together."""
        self.pieces = 0
        """Answers that the bytes come from."""
        self.was_wrong = False
        """Whether the file was whole once, with another digest than it must have."""
        self._folder = folder
        self._name = name
        self._attempt = attempt
        self._unique = unique
        self._record = folder / record_name(name)
        self._stream: IO[bytes] | None = None
        self._hash = hashlib.sha256()

    def load(self) -> None:
        """Take over what an earlier attempt left."""
        if found := self._read():
            self.version, self.length, self.sha256 = found.version, found.length, found.sha256
            self.pieces = 1

    @property
    def path(self) -> Path:
        # without a version nobody can go on with it, so it is this pod's alone
        return self._folder / f"{sha256_of([self._name, self.version or self._unique])[:32]}.part"

    def begin(self, version: str | None) -> None:
        """Start anew, with a content of this version."""
        self.drop()
        self.version = version

    def open(self) -> None:
        """Make ready to write after the first `length` bytes, which are read once for the digest."""
        self.pieces += 1
        if self._stream is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # not for appending: what was written behind the durable bytes is written again, in its place
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        self._stream = os.fdopen(handle, "r+b", buffering=0)
        left = self.length
        while left and (data := self._stream.read(min(READ, left))):
            self._hash.update(data)
            left -= len(data)
        self.length -= left
        self._stream.seek(self.length)

    def write(self, data: bytes) -> None:
        assert self._stream is not None
        rest = memoryview(data)
        while rest:
            written = self._stream.write(rest)
            self._hash.update(rest[:written])
            self.length += written
            self.moved += written
            rest = rest[written:]

    def save(self) -> None:
        """Make durable what was written, so that a later attempt goes on from here."""
        stream, length = self._stream, self.length
        if stream is not None:
            os.fsync(stream.fileno())
            self._write(length)

    def finish(self) -> str:
        """The file is whole; returns its digest."""
        assert self._stream is not None
        self._stream.truncate(self.length)
        os.fsync(self._stream.fileno())
        self.sha256 = self._hash.hexdigest()
        self._write(self.length)
        self.close()
        return self.sha256

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream, self._hash = None, hashlib.sha256()

    def drop(self) -> None:
        """Forget what is there."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.version, self.length, self.sha256, self.pieces = None, 0, None, 0

    def _write(self, length: int) -> None:
        if self.version is None:
            return
        found = self._read()
        if found is None or found.attempt <= self._attempt:
            record = Record(self._name, self.version, self._attempt, length, self.sha256)
            write_json(self._record, asdict(record))

    def _read(self) -> Record | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            record = Record(**json.loads(self._record.read_text(encoding="utf-8")))
            part = self._folder / f"{sha256_of([self._name, record.version])[:32]}.part"
            if record.name == self._name and part.stat().st_size >= record.length:
                return record
        return None


def record_name(name: str) -> str:
    """Name of the record of a file."""
    return f"{sha256_of(name)[:32]}.json"
