# SPDX-License-Identifier: Apache-2.0
"""Files and links that survive a crash.

A file is either whole or not there: temporary name, fsync, rename, fsync of the folder. The layout is `workspace.py`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path
from typing import Any


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


def sync_tree(folder: Path) -> None:
    """Make everything below a folder durable, the folder itself included. Links are left alone."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if not (path := Path(parent, name)).is_symlink():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(Path(parent))
