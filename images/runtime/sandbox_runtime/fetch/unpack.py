# SPDX-License-Identifier: Apache-2.0
"""Archives unpacked so that nothing in them reaches out of the folder, fills the volume or is left out unnoticed.

Files are written before any link is made, so no file can be written through one.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from ..errors import ConfigError
from .transfer import require_room, told_bytes

TARS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".tar": lambda file: file,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
    ".tar.zst": lambda file: _Zstandard(file),
}
LEAST_LIMIT, EXPANSION = 1 << 30, 100
"""An archive may unpack to the larger of 1 GiB and a hundred times its size, unless the user knows better."""
ENTRY_BYTES = 512
"""What each entry counts at least: empty files fill a volume too."""
LONGEST_READ = 64 << 20
"""A header that wants more is an attack on the memory."""
LONGEST_TARGET = 4096
CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One entry of an archive."""

    name: str
    kind: Literal["file", "folder", "link", "same", "other"]
    size: int = 0
    target: str = ""
    """Of a link: where it leads. Of `same` (a hard link): the entry that it is the same file as."""
    open: Callable[[], IO[bytes]] | None = None


class BadArchive(Exception):
    """An archive that is refused, in words that follow its name."""


def stem_of(name: str) -> str | None:
    """The name of an archive without what says that it is one; None for other files."""
    for suffix in (".zip", *TARS):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def unpack(archive: Path, name: str, target: Path, told: str, max_bytes: int | None = None) -> int:
    """Unpack an archive into a new folder; returns how many files it held.

    Raises ConfigError when it is broken, leads out of the folder or is larger than allowed (bytes), InfraError when the
    volume has no room for it.
    """
    limit = max_bytes or max(LEAST_LIMIT, EXPANSION * archive.stat().st_size)
    target.mkdir(parents=True)
    writer = _Writer(target.resolve(), told, limit)
    try:
        with ExitStack() as stack:
            if name.lower().endswith(".zip"):
                whole = stack.enter_context(zipfile.ZipFile(archive))
                writer.expect(sum(info.file_size for info in whole.infolist()))
                entries = _zip_entries(whole)
            else:
                entries = _tar_entries(archive, name, stack)
            return writer.write_all(entries)
    except Exception as error:
        shutil.rmtree(target, ignore_errors=True)
        said = _told(error, told, limit)
        if said is None:
            raise
        raise ConfigError(said) from error


class _TooLarge(Exception):
    """The archive unpacks to more than is allowed."""


def _told(error: Exception, told: str, limit: int) -> str | None:
    """What is wrong with the archive, in a sentence; None when it is not the archive's fault."""
    if isinstance(error, BadArchive):
        return f"extraConfigs.source: {told} is not unpacked: {error}"
    if isinstance(error, _TooLarge):
        most = told_bytes(limit)
        return f"extraConfigs.max_unpacked_bytes: {told} unpacks to more than {most}; raise it if that is meant"
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return f"extraConfigs.source: {told} is not unpacked: two of its entries want the same place"
    broken = (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        ValueError,
    )
    if isinstance(error, broken) or (isinstance(error, OSError) and error.errno is None):  # gzip's and bz2's own
        return f"extraConfigs.source: {told} is no whole archive: {error}"
    return None


class _Writer:
    """Writes entries below a folder, and counts what they fill."""

    def __init__(self, root: Path, told: str, limit: int) -> None:
        self._root = root
        self._told = told
        self._limit = limit
        self._total = 0

    def expect(self, size: int) -> None:
        """Refuse at once what can't fit."""
        if size > self._limit:
            raise _TooLarge
        require_room(self._root, size, f"{self._told}, to be unpacked,")

    def write_all(self, entries: Iterator[Entry]) -> int:
        files = 0
        links: list[tuple[Entry, Path]] = []
        for entry in entries:
            path = self._root.joinpath(*safe_parts(entry.name))
            self._count(max(entry.size, ENTRY_BYTES))
            if entry.kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
                continue
            if path == self._root:
                raise BadArchive(f"its entry {_short(entry.name)} has no name")
            if entry.kind == "other":
                raise BadArchive(f"its entry {_short(entry.name)} is neither a file, a folder nor a link")
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind == "link":
                links.append((entry, path))
                continue
            path.unlink(missing_ok=True)  # the last entry of a name counts, as tar has it
            if entry.kind == "same":
                self._copy(entry, path)
            else:
                _write(entry, path)
            files += 1
        for entry, path in links:
            _make_link(entry, path, self._root)
        for entry, path in links:
            if not _leads_inside(path, self._root):
                raise BadArchive(f"its link {_short(entry.name)} leads out of the folder")
        return files

    def _count(self, size: int) -> None:
        self._total += size
        self.expect(self._total if self._total > self._limit else size)

    def _copy(self, entry: Entry, path: Path) -> None:
        first = self._root.joinpath(*safe_parts(entry.target))
        if not first.is_file():
            raise BadArchive(
                f"its entry {_short(entry.name)} is the same as {_short(entry.target)}, which is not there"
            )
        self._count(first.stat().st_size)
        shutil.copyfile(first, path)


def _write(entry: Entry, path: Path) -> None:
    assert entry.open is not None
    written = 0
    with entry.open() as source, path.open("xb") as file:
        while data := source.read(CHUNK):
            written += len(data)
            if written > entry.size:
                break
            file.write(data)
    if written != entry.size:
        raise BadArchive(f"its entry {_short(entry.name)} has not the {entry.size} bytes that it says")


def _make_link(entry: Entry, path: Path, root: Path) -> None:
    """Make a link whose target, read as text, stays inside; what other links make of it is looked at afterwards."""
    where = path.relative_to(root).parent
    target = posixpath.normpath(posixpath.join(where.as_posix(), entry.target))
    if entry.target.startswith("/") or target == ".." or target.startswith("../"):
        raise BadArchive(f"its link {_short(entry.name)} leads out of the folder")
    if path.parent.resolve() != path.parent:
        raise BadArchive(f"its entry {_short(entry.name)} lies behind another link")
    if not path.is_symlink() and path.exists():
        raise BadArchive(f"two of its entries are named {_short(entry.name)}")
    path.unlink(missing_ok=True)
    path.symlink_to(entry.target)


def _leads_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # links in a circle
        return False


def safe_parts(name: str) -> list[str]:
    """The parts of a name below a folder. Raises BadArchive when it leads out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise BadArchive(f"its entry {_short(name)} leads out of the folder")
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise BadArchive(f"the name of its entry {_short(name)} is too long")
    return parts


def _zip_entries(whole: zipfile.ZipFile) -> Iterator[Entry]:
    for info in whole.infolist():
        mode = info.external_attr >> 16
        if info.flag_bits & 1:
            raise BadArchive("it is encrypted; unpack it yourself, or fetch it with `unpack: never`")
        if info.is_dir():
            yield Entry(info.filename, "folder")
        elif stat.S_ISLNK(mode):
            if info.file_size > LONGEST_TARGET:
                raise BadArchive(f"its link {_short(info.filename)} is too long")
            yield Entry(info.filename, "link", target=whole.read(info).decode("utf-8", "surrogateescape"))
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            yield Entry(info.filename, "other")
        else:
            yield Entry(info.filename, "file", info.file_size, open=partial(whole.open, info))


def _tar_entries(archive: Path, name: str, stack: ExitStack) -> Iterator[Entry]:
    suffix = next(suffix for suffix in TARS if name.lower().endswith(suffix))
    blocks = _Blocks(stack.enter_context(TARS[suffix](stack.enter_context(archive.open("rb")))))
    whole = stack.enter_context(tarfile.TarFile(fileobj=blocks))
    while (member := whole.next()) is not None:
        whole.members = []  # else it keeps all of them, and archives hold millions
        if member.isreg():
            yield Entry(member.name, "file", member.size, open=partial(whole.extractfile, member))
        elif member.isdir():
            yield Entry(member.name, "folder")
        elif member.issym():
            yield Entry(member.name, "link", target=member.linkname)
        elif member.islnk():
            yield Entry(member.name, "same", target=member.linkname)
        else:
            yield Entry(member.name, "other")
    blocks.end()


class _Blocks:
    """A tar's bytes from beginning to end, as tarfile reads them: forward, and back by a byte now and then."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._at = 0
        self._last = b""
        self._again = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > LONGEST_READ:
            raise BadArchive("one of its headers is too long")
        data, self._again = self._again[:size], self._again[size:]
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        self._at += len(data)
        self._last = data
        return data

    def seek(self, offset: int) -> int:
        back = self._at - offset
        if back > len(self._last):
            raise ValueError("it is not read from beginning to end")
        if back > 0:
            self._again = self._last[-back:] + self._again
            self._at = offset
        while self._at < offset and self.read(min(CHUNK, offset - self._at)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def end(self) -> None:
        """Refuse a tar whose last header was no end mark, which tarfile takes for one; have its checksum looked at."""
        if self._last.strip(b"\0") or len(self._last) % ENTRY_BYTES:
            raise BadArchive("it breaks off in the middle")
        until = self._at + LONGEST_READ
        while self.read(CHUNK):
            if self._at > until:
                raise BadArchive("too much comes after its end")


class _Zstandard:
    """A .zst as a stream whose errors are those of the standard library."""

    def __init__(self, file: IO[bytes]) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise BadArchive("this image can't read .zst") from error
        self._error = zstandard.ZstdError
        self._reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)

    def read(self, size: int) -> bytes:
        try:
            return self._reader.read(size)
        except self._error as error:
            raise EOFError(str(error)) from error

    def __enter__(self) -> _Zstandard:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()


def _short(name: str) -> str:
    return ascii(name[:120])
