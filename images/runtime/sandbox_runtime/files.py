# SPDX-License-Identifier: Apache-2.0
"""Files that survive a crash, and digests that tell whether they are what they were.

A file is either whole or not there: temporary name, fsync, rename, fsync of the folder. The layout is `workspace.py`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_api.digest import sha256_of

DIGEST_LIMIT = 1 << 30
"""Files from this size on are told apart by their size only: reading them would cost minutes."""


@dataclass(frozen=True)
class Digest:
    """Of a file or a folder. `sha256` is None for a single file of 1 GiB or more."""

    sha256: str | None
    bytes: int


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is whole, or not there at all, whenever the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically. NaN is refused."""
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def link_atomic(link: Path, target: Path, *, relative: bool = True) -> bool:
    """Point a link at `target`, replacing another link. False when something else stands there, which stays."""
    if link.exists() and not link.is_symlink():
        return False
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}")
    temporary.symlink_to(os.path.relpath(target, link.parent.resolve()) if relative else target)
    temporary.replace(link)
    sync_folder(link.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; some network file systems can't and say so."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def digest_of(path: Path, *, durable: bool = False) -> Digest:
    """Digest of a file, or of a folder's sorted manifest (path, size, sha256 of files under 1 GiB).

    `durable` fsyncs what is read. Raises FileNotFoundError when there is nothing at `path`.
    """
    if not path.is_dir():
        return _file_digest(path, durable)
    manifest: list[list[Any]] = []
    for file in sorted(p for p in path.rglob("*") if not p.is_dir()):
        digest = _file_digest(file, durable)
        manifest.append([file.relative_to(path).as_posix(), digest.bytes, digest.sha256])
    if durable:
        for folder in [path, *(p for p in path.rglob("*") if p.is_dir())]:
            sync_folder(folder)
    return Digest(sha256_of(manifest), sum(entry[1] for entry in manifest))


def _file_digest(path: Path, durable: bool) -> Digest:
    with path.open("rb") as file:
        if durable:
            os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
        whole = hashlib.file_digest(file, "sha256").hexdigest() if size < DIGEST_LIMIT else None
    return Digest(whole, size)
