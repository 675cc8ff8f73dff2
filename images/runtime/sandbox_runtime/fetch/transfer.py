# SPDX-License-Identifier: Apache-2.0
"""Moves files onto the volume: several at a time, each going on where it was, its digest taken on the way."""

from __future__ import annotations

import contextlib
import errno
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, InfraError
from .partial import Partial, record_name
from .remote import Body, Changed, Halted, Interrupted, RemoteFile, patiently

WORKERS = 4
SAVE_BYTES, SAVE_SECONDS = 64 << 20, 5.0
"""How much of a file, whichever comes first, a pod that is killed may lose."""
TELL_SECONDS = 10.0
LAST_SECONDS = 3.0
"""How long workers have to end by themselves; one that waits for bytes that don't come can't."""


@dataclass(frozen=True)
class Fetched:
    """A file that is there, whole."""

    remote: RemoteFile
    path: Path
    size: int
    sha256: str
    transferred: int
    """How much of it this attempt moved."""


class Transfer:
    """Files of one job. `folder` is what its attempts share, `unique` this pod's own; `tell` is given the bytes that
    are there, now and then.
    """

    def __init__(
        self,
        folder: Path,
        attempt: int,
        unique: str,
        max_bytes: int | None = None,
        tell: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.halt = threading.Event()
        self._folder = folder
        self._attempt = attempt
        self._unique = unique
        self._max_bytes = max_bytes
        self._tell = tell
        self._telling = threading.Lock()
        self._told_at = time.monotonic()
        self._partials: list[Partial] = []

    def fetch(self, remotes: Sequence[RemoteFile]) -> list[Fetched]:
        """Fetch them all. Raises ConfigError, InfraError, and whatever ends the caller's thread."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._partials = [Partial(self._folder, remote.name, self._attempt, self._unique) for remote in remotes]
        kept = {path.name for path in self._folder.iterdir()}
        for remote, partial in zip(remotes, self._partials, strict=True):
            if record_name(remote.name) in kept:
                partial.load()
        self._refuse_too_much(sum(remote.size or 0 for remote in remotes), f"{len(remotes)} files")
        missing = [(r.size or 0) - p.length for r, p in zip(remotes, self._partials, strict=True)]
        require_room(self._folder, sum(size for size in missing if size > 0), "what is still to be fetched")
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="fetch")
        futures = [pool.submit(self._one, *pair) for pair in zip(remotes, self._partials, strict=True)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            raise_first(futures)
            return [future.result() for future in futures]
        finally:
            self.halt.set()
            pool.shutdown(wait=False, cancel_futures=True)
            if wait(futures, timeout=LAST_SECONDS).not_done:
                for partial in self._partials:
                    with contextlib.suppress(OSError, ValueError):  # its worker has ended and closed it after all
                        partial.save()

    def _one(self, remote: RemoteFile, partial: Partial) -> Fetched:
        try:
            sha256 = patiently(remote.told, lambda: self._try(remote, partial), self.halt, lambda: partial.moved)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InfraError(f"{remote.told}: the volume is full; make it larger, or free some of it") from error
            raise
        finally:
            partial.close()
        return Fetched(remote, partial.path, partial.length, sha256, partial.moved)

    def _try(self, remote: RemoteFile, partial: Partial) -> str:
        """Get what is missing of a file; returns its digest. Raises Interrupted when another try may help."""
        if self.halt.is_set():
            raise Halted
        if remote.version is not None and partial.version not in (None, remote.version):
            partial.drop()
        if partial.sha256 and partial.sha256 == remote.sha256:
            return partial.sha256
        if partial.sha256 and remote.version is not None and remote.sha256 is None:
            return partial.sha256
        try:
            # a server that names no version can't say whether the bytes that are there still belong to the rest
            body = remote.open(partial.length if partial.version else 0, partial.version)
        except Changed:
            partial.drop()
            raise
        try:
            self._receive(body, remote, partial)
            size = body.size if body.size is not None else remote.size
            if size is not None and partial.length != size:
                raise Interrupted("the connection was cut")
        except BaseException:
            partial.save()
            raise
        finally:
            body.close()
        return _verified(remote, partial, is_sure=size is not None and partial.pieces == 1)

    def _receive(self, body: Body, remote: RemoteFile, partial: Partial) -> None:
        if body.start == 0:
            partial.begin(remote.version or body.version)
        if body.size is not None:
            self._refuse_too_much(body.size, remote.told)
            require_room(self._folder, body.size - partial.length, remote.told)
        partial.open()
        saved, saved_at = partial.length, time.monotonic()
        for chunk in body.chunks:
            if self.halt.is_set():
                raise Halted
            partial.write(chunk)
            self._refuse_too_much(partial.length, remote.told)
            if partial.length - saved >= SAVE_BYTES or time.monotonic() - saved_at >= SAVE_SECONDS:
                partial.save()
                saved, saved_at = partial.length, time.monotonic()
            self._say()

    def _say(self) -> None:
        if time.monotonic() - self._told_at < TELL_SECONDS or not self._telling.acquire(blocking=False):
            return
        try:
            self._told_at = time.monotonic()
            self._tell(sum(partial.length for partial in self._partials))
        finally:
            self._telling.release()

    def _refuse_too_much(self, size: int, told: str) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            raise ConfigError(
                f"extraConfigs.max_bytes: {told}: {size} bytes or more, where {self._max_bytes} are allowed"
            )


def _verified(remote: RemoteFile, partial: Partial, *, is_sure: bool) -> str:
    """The digest of a file that is there. `is_sure`: it came in one piece and of the size that was told."""
    found = partial.finish()
    if remote.sha256 in (None, found):
        return found
    partial.drop()
    is_first, partial.was_wrong = not partial.was_wrong, True
    if is_first and not is_sure:
        raise Interrupted(f"it came in pieces, or nobody told its size, and has a wrong digest ({found})")
    if remote.is_pinned:
        raise ConfigError(
            f"extraConfigs.sha256: {remote.told} has the digest {found}; write that if this is the file that is meant,"
            " else it is not the one it was"
        )
    raise InfraError(f"{remote.told}: what came has the digest {found}, the hub lists {remote.sha256}")


def raise_first(futures: Sequence[Future[Fetched]]) -> None:
    """Raise what made the first one fail; those that were only told to stop say nothing."""
    errors = [error for future in futures if future.done() and (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Halted)):
        raise error


def require_room(folder: Path, size: int, what: str) -> None:
    """Raise InfraError when the file system of a folder has not that many bytes left."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InfraError(
            f"{what}: needs {told_bytes(size)}, and the volume has {told_bytes(free)} left; make it larger, or free"
            " some of it"
        )


def told_bytes(size: float) -> str:
    """`3.4 GB`: for people, in powers of a thousand."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
