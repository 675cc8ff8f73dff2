# SPDX-License-Identifier: Apache-2.0
"""Which images, videos and audios the rows of a data set name, and a digest of them by size and time of change.

A data set's own digest does not change when a video that it names is replaced. JSON and Parquet are looked at, JSON as
a stream without parsing rows. Contents are not read: a data set may name terabytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from .data_juicer.rows import JSON_SUFFIXES, open_bytes, open_parquet, suffix_of
from .digests import DIGEST_LIMIT, Look

KEYS = ("videos", "images", "audios")
CHUNK = 1 << 20
LONGEST = 4 << 20
"""Bytes of one row's list of files that are looked at together."""

TEXT = rb'"(?:[^"\\]|\\.)*+"'
LIST = rb"\[(?:[^\[\]\"]|" + TEXT + rb"|\[(?:[^\[\]\"]|" + TEXT + rb")*+\])*+\]"


def media_look(keys: Sequence[str]) -> Look:
    """Whether a file may have rows that name media files under one of the keys."""
    words = [json.dumps(key).encode() for key in keys]
    longest = max(map(len, words))

    def answer(path: Path, size: int) -> bool:
        suffix = suffix_of(path)
        if suffix == ".parquet":
            return any(word.strip(b'"') in _parquet_footer(path, size) for word in words)
        if suffix not in JSON_SUFFIXES:
            return False
        with open_bytes(path) as stream:
            tail = b""
            while chunk := stream.read(CHUNK):
                window = tail + chunk
                if any(word in window for word in words):
                    return True
                if size >= DIGEST_LIMIT:  # rows of so large a file are taken to be alike
                    return False
                tail = window[-longest:]
        return False

    return Look("media:" + ",".join(keys), answer)


class MediaDigest:
    """Digest of all that the rows of one or more files name, in their order."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._hash = hashlib.sha256()
        self.count = 0
        self.newest_ns = 0
        """When the youngest of them was changed."""

    def add(self, path: Path, bases: Sequence[Path]) -> None:
        """Add what the rows of a file name. A relative name is looked for in each of the bases in turn."""
        for name in _names_in(path, self._keys):
            found = next((stat for base in bases if (stat := _stat(base, name))), None)
            state = f"{found.st_size}@{found.st_mtime_ns}" if found else "-"
            self._hash.update(f"{name}\t{state}\n".encode("utf-8", "surrogatepass"))
            self.count += 1
            self.newest_ns = max(self.newest_ns, found.st_mtime_ns if found else 0)

    def text(self) -> str:
        """The digest with the keys it is about; empty when no file is named."""
        return f"media:{','.join(self._keys)}:{self._hash.hexdigest()}" if self.count else ""


def keys_in(text: str) -> tuple[str, ...]:
    """The keys that a digest's text is about, the usual ones where it says none."""
    return tuple(text.split(":")[1].split(",")) if text.startswith("media:") else KEYS


def is_data(path: Path) -> bool:
    """Whether a file may hold rows."""
    return suffix_of(path) in (*JSON_SUFFIXES, ".parquet")


def _stat(base: Path, name: str) -> os.stat_result | None:
    try:
        return (base / name).stat()
    except (OSError, ValueError):
        return None


def _names_in(path: Path, keys: Sequence[str]) -> Iterator[str]:
    if suffix_of(path) == ".parquet":
        yield from _names_in_parquet(path, keys)
        return
    with open_bytes(path) as stream:
        for value in _values_in(stream, keys):
            for text in re.finditer(TEXT, value, re.DOTALL):
                name = json.loads(text.group().decode("utf-8", "surrogateescape"), strict=False)
                if name and "://" not in name:
                    yield name


def _values_in(stream: IO[bytes], keys: Sequence[str]) -> Iterator[bytes]:
    """The texts and lists of texts under the keys, as they stand there."""
    words = b"|".join(re.escape(json.dumps(key).encode()) for key in keys)
    field = re.compile(rb"(?:" + words + rb")\s*+:\s*+(" + TEXT + rb"|" + LIST + rb")", re.DOTALL)
    held = b""
    while chunk := stream.read(CHUNK):
        held += chunk
        end = 0
        for found in field.finditer(held):
            yield found.group(1)
            end = found.end()
        held = held[max(end, len(held) - LONGEST) :]


def _names_in_parquet(path: Path, keys: Sequence[str]) -> Iterator[str]:
    file = open_parquet(path)
    for key in keys:
        if key in file.schema_arrow.names:
            for batch in file.iter_batches(columns=[key], use_threads=False):
                for value in batch.column(0).to_pylist():
                    for name in value if isinstance(value, list) else [value]:
                        if isinstance(name, str) and name and "://" not in name:
                            yield name


def _parquet_footer(path: Path, size: int) -> bytes:
    """The names of the columns stand at the end of the file, before its length and four letters."""
    with path.open("rb") as stream:
        stream.seek(max(0, size - 8))
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(max(0, size - 8 - length))
        return stream.read(min(length, LONGEST * 16))
