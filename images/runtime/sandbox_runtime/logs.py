# SPDX-License-Identifier: Apache-2.0
"""What a hook prints, and what its children print, twice: to where it would go, and to a file that is kept.

It works on file descriptors, so that C libraries and worker processes are heard as well, and always in another process
than the hook's: a pipe that a thread of the hook drains is full for ever once native code prints into it while it holds
Python's lock. The file is bounded: when it is full it becomes `log.old.txt` and a new one begins, so that the last
lines are always there. This module imports nobody of ours, for it also is a program (`Tee`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

HALF = 32 * 1024 * 1024
"""Bytes of `log.txt` and of `log.old.txt`: together the last 64 MiB at most."""
CHUNK = 65536
EARLY = 1024 * 1024
"""Bytes that are kept for the file until somebody says where it lies."""
TAIL = 2048


class Log:
    """Copies to a descriptor and, from `open` on, to a file, which begins with what was copied before."""

    def __init__(self, to: int, *, half: int = HALF) -> None:
        self.copied = 0
        """Bytes so far."""
        self.tail = b""
        """The last of them."""
        self._to = to
        self._half = half
        self._early = b""
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def open(self, path: Path) -> None:
        """Keep it in a file from now on."""
        with self._lock, self._guarded():
            self._path = path
            self._file = path.open("ab", buffering=0)
            early, self._early = self._early, b""
            self._keep(early)

    def copy(self, source: int, stop: int | None = None) -> None:
        """Copy what comes from a pipe until its end, or until `stop` can be read and nothing is left in the pipe."""
        poll, is_stopping = select.poll(), False  # a hook may have more descriptors open than `select` knows
        for handle in (source, stop):
            if handle is not None:
                poll.register(handle, select.POLLIN)
        while True:
            ready = {handle for handle, _ in poll.poll(0 if is_stopping else None)}
            if source in ready:
                if not (chunk := os.read(source, min(CHUNK, self._half))):
                    return
                self.write(chunk)
            elif is_stopping:  # a child that lives on holds the pipe open: there may never be an end of it
                return
            is_stopping = is_stopping or stop in ready

    def write(self, chunk: bytes) -> None:
        with self._lock, self._guarded():  # first, so that it has what a slow reader has not
            self._keep(chunk)
        with contextlib.suppress(OSError):  # nobody reads any more
            _write_all(self._to, chunk)
        self.tail = (self.tail + chunk)[-TAIL:]
        self.copied += len(chunk)

    def _keep(self, chunk: bytes) -> None:
        if self._path is None:
            self._early = (self._early + chunk)[-EARLY:]
        elif self._file is not None:
            if self._file.tell() + len(chunk) > self._half:
                self._file.close()
                self._path.replace(self._path.with_name("log.old.txt"))
                self._file = self._path.open("ab", buffering=0)
            _write_all(self._file.fileno(), chunk)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """A full volume must not end the hook's output; the hook meets it itself."""
        try:
            yield
        except OSError as error:
            self._file = None
            with contextlib.suppress(OSError):
                _write_all(self._to, f"{self._path} ends here: {error}\n".encode())


class Tee:
    """Copies descriptors 1 and 2 of this process to a file as well, until `close`."""

    def __init__(self, path: Path, *, half: int = HALF) -> None:
        flush()
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a file would hide its progress
        path.touch()  # who follows it may begin at once
        self._stdout, self._stderr = os.dup(1), os.dup(2)
        source, write = os.pipe()
        stop, self._stop = os.pipe()
        # its own folder holds modules that are named like others' (-I), and it needs no packages (-S)
        command = [sys.executable, "-I", "-S", __file__, str(path), str(half), str(source), str(stop)]
        # it inherits that SIGTERM does not reach it: it ends with those who print, and has their last words
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(source, stop))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(source)
        os.close(stop)
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)

    def close(self) -> None:
        """Give the descriptors back; what was printed before is in both places."""
        flush()
        os.dup2(self._stdout, 1)
        os.dup2(self._stderr, 2)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._stop, b".")
        self._process.wait()
        for handle in (self._stdout, self._stderr, self._stop):
            os.close(handle)


class Events:
    """`events.jsonl`: what the wrapper did and when."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, event: str, **more: Any) -> None:
        line = json.dumps({"t": round(time.time(), 3), "event": event, **more}, ensure_ascii=False)
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def last_peak(path: Path) -> str | None:
    """The last sample of memory in an attempt's events, in words; None when there is none."""
    found = None
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, AttributeError):
                event = json.loads(line)
                found = str(event["words"]) if event.get("event") == "memory" else found
    except (OSError, ValueError):
        return None
    return found


def flush() -> None:
    """Hand on what Python still holds of this process's output."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _write_all(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        try:
            left = left[os.write(handle, left) :]
        except BlockingIOError:  # others may have made it so
            select.select([], [handle], [])


def main() -> None:
    """The program of `Tee`: FILE HALF, and the descriptors to copy from and to be stopped by."""
    log = Log(1, half=int(sys.argv[2]))
    log.open(Path(sys.argv[1]))
    log.copy(int(sys.argv[3]), int(sys.argv[4]))


if __name__ == "__main__":
    main()
