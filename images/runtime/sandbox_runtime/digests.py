# SPDX-License-Identifier: Apache-2.0
"""Digests of files and folders, in bounded memory, and remembered: what has not changed is not read twice.

A folder's digest is that of its sorted manifest: path, size and sha256 of every file under 1 GiB. What has been read
is remembered on the volume by what the file system says of a file; a file that was written a moment ago is not, since
it could change again without anyone seeing it. It is a memory only: whoever deletes it loses time, nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from sandbox_api.digest import canonical_json, sha256_of

from .files import sync_folder

DIGEST_LIMIT = 1 << 30
"""Files from this size on are told apart by their size, and by samples: reading them whole would cost minutes."""
SAMPLES, SAMPLE_BYTES = 64, 1 << 20
REMEMBER_BYTES, REMEMBER_FILES = 16 << 20, 1000
"""Less than either is read again sooner than it is looked up."""
SETTLED = 5.0
"""Seconds since a file's last change from which on its times tell of the next one."""


@dataclass(frozen=True)
class Digest:
    """Of a file or a folder."""

    sha256: str | None
    """None for a single file of 1 GiB or more."""
    bytes: int
    content: str
    """As `sha256`, but large files count with samples of what they hold: equal for two runs that gave the same."""


class Identity(NamedTuple):
    """What the file system says of a file; it changes with each change of its content."""

    filesystem: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class Look:
    """A question about a file's content that is answered once and remembered by its name."""

    name: str
    answer: Callable[[Path, int], bool]


@dataclass(frozen=True)
class File:
    """A file below a root. `sha256` is None where it is too large, `content` empty where it could not be read."""

    name: str
    """Relative to the root, with `/`; empty for a root that is a file itself."""
    path: Path
    identity: Identity | None
    sha256: str | None = None
    content: str = ""
    look: bool | None = None

    @property
    def size(self) -> int:
        return self.identity.size if self.identity else 0


class Manifest:
    """The digest of a list of entries that come one by one: `sha256_of` without the list."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"[")
        self._first = True

    def add(self, entry: Any) -> None:
        text = canonical_json(entry)
        self._hash.update(("" if self._first else ",").encode() + text.encode("utf-8", "surrogatepass"))
        self._first = False

    def digest(self) -> str:
        whole = self._hash.copy()
        whole.update(b"]")
        return whole.hexdigest()


def digest_of(path: Path, *, durable: bool = False, memory: Path | None = None) -> Digest:
    """Digest of a file, or of a folder's sorted manifest. Links to folders inside a folder are left out.

    `durable` fsyncs what is read; `memory` is the folder of what is remembered. Raises FileNotFoundError when there is
    nothing at `path`.
    """
    if not path.is_dir():
        (file,) = files_of(path, durable=durable, memory=memory)
        return Digest(file.sha256, file.size, file.content)
    manifest, content, size = Manifest(), Manifest(), 0
    for file in files_of(path, durable=durable, memory=memory):
        manifest.add([file.name, file.size, file.sha256])
        content.add([file.name, file.size, file.content])
        size += file.size
    if durable:
        for folder in [path, *(Path(parent) / name for parent, names, _ in os.walk(path) for name in names)]:
            if not folder.is_symlink():
                sync_folder(folder)
    return Digest(manifest.digest(), size, content.digest())


def files_of(
    root: Path,
    *,
    durable: bool = False,
    memory: Path | None = None,
    follow: bool = False,
    look: Look | None = None,
) -> Iterator[File]:
    """The root itself when it is a file, else every file below it in a fixed order, read or remembered.

    `follow` goes into folders that links name, each once. Raises OSError when a file can't be read, FileNotFoundError
    when there is no root; below it what vanishes or leads nowhere comes without a digest.
    """
    remembered = _Remembered(memory, root) if memory else None
    try:
        for name, path in walk(root, follow=follow):
            file = _read(name, path, durable, remembered, look)
            if remembered:
                remembered.keep(file, look)
            yield file
        if remembered:
            remembered.save()
    finally:
        if remembered:
            remembered.close()


def walk(root: Path, *, follow: bool = False) -> Iterator[tuple[str, Path]]:
    """Names below a root, sorted level by level, and where they are; for a file an empty name and itself."""
    found = root.stat()
    if not stat.S_ISDIR(found.st_mode):
        yield "", root
        return
    yield from _below(root, "", ((found.st_dev, found.st_ino),), follow)


def _below(folder: Path, prefix: str, above: tuple[tuple[int, int], ...], follow: bool) -> Iterator[tuple[str, Path]]:
    names: list[str] = []
    folders: dict[str, tuple[int, int] | None] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if entry.is_dir():
                found = entry.stat() if follow or not entry.is_symlink() else None
                folders[entry.name] = (found.st_dev, found.st_ino) if found else None
    for name in sorted(names):
        if name not in folders:
            yield f"{prefix}{name}", folder / name
        elif (found_at := folders[name]) and found_at not in above:
            yield from _below(folder / name, f"{prefix}{name}/", (*above, found_at), follow)


def identity_of(path: Path) -> Identity | None:
    """What the file system says of a file; None when there is none, or something that is no file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _identity(found, path) if stat.S_ISREG(found.st_mode) else None


def _read(name: str, path: Path, durable: bool, remembered: _Remembered | None, look: Look | None) -> File:
    if identity_of(path) is None:  # a pipe would never end
        if not name:
            path.stat()
        return File(name, path, None)
    with path.open("rb") as stream:  # on network volumes only opening a file asks the server how it stands
        if durable:
            os.fsync(stream.fileno())
        identity = _identity(os.fstat(stream.fileno()), path)
        known = remembered.find(name, identity) if remembered else None
        if known is None:
            large = identity.size >= DIGEST_LIMIT
            whole = None if large else hashlib.file_digest(stream, "sha256").hexdigest()
            known = _Known(whole, whole or _samples(stream, identity.size), {})
    answer = known.looks.get(look.name) if look else None
    if look and answer is None:
        answer = look.answer(path, identity.size)
    return File(name, path, identity, known.sha256, known.content, answer)


def _samples(stream: IO[bytes], size: int) -> str:
    """Pieces spread evenly over a large file: another training or another download changes them."""
    digest = hashlib.sha256(str(size).encode())
    for number in range(SAMPLES):
        stream.seek((size - SAMPLE_BYTES) * number // (SAMPLES - 1) if size > SAMPLE_BYTES else 0)
        digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()


_filesystems: dict[int, int] = {}


def _identity(found: os.stat_result, path: Path) -> Identity:
    """Numbers of devices differ from pod to pod; a file system's own id mostly does not."""
    if found.st_dev not in _filesystems:
        _filesystems[found.st_dev] = os.statvfs(path).f_fsid
    filesystem = _filesystems[found.st_dev]
    return Identity(filesystem, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class _Known(NamedTuple):
    sha256: str | None
    content: str
    looks: dict[str, bool]


class _Remembered:
    """What is remembered of the files below one root: a file of lines in the order of `walk`, read and written beside
    the walk, so that a folder of millions of files needs no more memory than one of few.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        found = root.stat()
        filesystem = _identity(found, root).filesystem
        self._path = folder / f"{sha256_of([filesystem, found.st_ino])[:32]}.jsonl"
        self._temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex[:8]}")
        self._old = self._lines()
        self._next: tuple[str, Identity, _Known] | None = next(self._old, None)
        self._file: IO[str] | None = None
        self._waiting: list[str] = []
        self._bytes = 0
        self._is_new = False
        self._now_ns = time.time_ns()

    def find(self, name: str, identity: Identity) -> _Known | None:
        """What was read of the file when it was just as it is. To be asked in the order of the walk."""
        while self._next is not None and self._next[0].split("/") < name.split("/"):
            self._next = next(self._old, None)
        if self._next is None or self._next[:2] != (name, identity):
            return None
        return self._next[2]

    def keep(self, file: File, look: Look | None) -> None:
        identity = file.identity
        if identity is None or self._now_ns - max(identity.mtime_ns, identity.ctime_ns) < SETTLED * 1e9:
            return
        known = self.find(file.name, identity)
        looks = dict(known.looks) if known else {}
        if look and file.look is not None:
            looks[look.name] = file.look
        self._is_new = self._is_new or known is None or looks != known.looks
        self._bytes += identity.size
        self._waiting.append(json.dumps([file.name, identity, file.sha256, file.content, looks]) + "\n")
        if len(self._waiting) > REMEMBER_FILES:
            self._write()

    def save(self) -> None:
        """Replace what was remembered, if there is anything new that is worth it."""
        if self._is_new and (self._bytes >= REMEMBER_BYTES or self._file):
            self._write()
            if self._file:
                with contextlib.suppress(OSError):
                    self._file.close()
                    self._temporary.replace(self._path)

    def close(self) -> None:
        self._old.close()
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
                self._temporary.unlink(missing_ok=True)

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a volume that is full or read-only: the next one reads again
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._temporary.open("w", encoding="utf-8")
            self._file.writelines(self._waiting)
        self._waiting.clear()

    def _lines(self) -> Generator[tuple[str, Identity, _Known]]:
        try:
            with self._path.open(encoding="utf-8") as file:
                for line in file:
                    name, identity, sha256, content, looks = json.loads(line)
                    yield name, Identity(*identity), _Known(sha256, content, looks)
        except (OSError, ValueError, TypeError):  # none, or torn: what follows is read again
            return
