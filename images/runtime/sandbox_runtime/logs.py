# SPDX-License-Identifier: Apache-2.0
"""What the hook prints, and what its children print, twice: to the container's log and to `log.txt` on the volume.

It works on file descriptors, so that C libraries and worker processes are heard as well. The file is bounded: when
it is full it becomes `log.old.txt` and a new one begins, so that the last lines are always there.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

HALF = 32 * 1024 * 1024
"""Bytes of `log.txt` and of `log.old.txt`: together the last 64 MiB at most."""


class Tee:
    """Copies descriptors 1 and 2 until `close`."""

    def __init__(self, path: Path, *, half: int = HALF) -> None:
        self._path = path
        self._half = half
        self._flush()
        self._stdout = os.dup(1)
        self._stderr = os.dup(2)
        self._container = os.fdopen(os.dup(1), "wb")
        self._read, write = os.pipe()
        self._wake_read, self._wake_write = os.pipe()
        self._file: BinaryIO | None = path.open("ab")
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a pipe would hide a hook's progress
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        self._thread = threading.Thread(target=self._copy, name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the descriptors back; what was printed before is in both places."""
        self._flush()
        os.dup2(self._stdout, 1)
        os.dup2(self._stderr, 2)
        os.write(self._wake_write, b".")  # a child that lives on holds the pipe open: there may never be an end of file
        self._thread.join()
        for file in (self._file, self._container):
            with contextlib.suppress(OSError):
                if file:
                    file.close()
        for handle in (self._stdout, self._stderr, self._read, self._wake_read, self._wake_write):
            os.close(handle)

    def _copy(self) -> None:
        closing = False
        while True:
            ready, _, _ = select.select([self._read, self._wake_read], [], [], 0 if closing else None)
            if self._read in ready:
                chunk = os.read(self._read, min(65536, self._half))
                if chunk:
                    self._write(chunk)
                    continue
                closing = True
            if closing:
                return
            closing = self._wake_read in ready

    def _write(self, chunk: bytes) -> None:
        with contextlib.suppress(OSError):
            self._container.write(chunk)
            self._container.flush()
        if self._file is None:
            return
        try:
            if self._file.tell() + len(chunk) > self._half:
                self._file.close()
                self._path.replace(self._path.with_name("log.old.txt"))
                self._file = self._path.open("ab")
            self._file.write(chunk)
            self._file.flush()
        except OSError as error:  # a full volume must not end the hook's output; the hook meets it itself
            self._file = None
            self._write(f"log.txt on the volume ends here: {error}\n".encode())

    @staticmethod
    def _flush() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


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
