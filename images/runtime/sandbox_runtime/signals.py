# SPDX-License-Identifier: Apache-2.0
"""How a job is ended from outside: by SIGTERM (drain, deletion) or by its own time running out.

Both reach the hook the same way, as an exception in the main thread, so that the hook's own `finally` saves what a
later attempt resumes from. Not a supervisor: a hook that ignores the exception is cut off after the grace period.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from sandbox_api.result import ErrorClass

PR_SET_CHILD_SUBREAPER = 36
CHILD_GRACE = 3.0
"""Seconds a left-over child has between SIGTERM and SIGKILL, and again until we stop waiting for it."""


class Stopped(BaseException):
    """The job was told to end. Not an Exception, so that a hook's `except Exception` doesn't swallow it."""

    def __init__(self, class_: ErrorClass, kind: str, message: str) -> None:
        super().__init__(message)
        self.class_ = class_
        self.kind = kind


class Stop:
    """Turns SIGTERM, SIGINT and the end of the job's time into `Stopped`, once.

    `on_overrun(stopped)` is called from another thread when the job has not ended `grace` seconds later; it must end
    the process.
    """

    def __init__(self, *, grace: float, on_overrun: Callable[[Stopped], None]) -> None:
        self.reason: Stopped | None = None
        self._grace = grace
        self._on_overrun = on_overrun
        self._armed = False
        self._told = False
        self._out_of_time: int | None = None
        self._timers: list[threading.Timer] = []

    def install(self) -> None:
        """Listen from now on. In a forked child the signals mean what they always mean."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)
        os.register_at_fork(after_in_child=_default_signals)
        with contextlib.suppress(OSError, AttributeError):  # orphans of the hook come to us, so that we can end them
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

    def limit(self, seconds: int | None) -> None:
        """End the job that many seconds from now."""
        if seconds is not None:
            self._out_of_time = seconds
            self._start(max(seconds, 0), self._expire)

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Where an exception may land. Outside of it a signal is only remembered."""
        self._armed = True
        try:
            if self.reason:
                raise self.reason
            yield
        finally:
            self._armed = False

    def end(self) -> None:
        """The job has ended; nobody is cut off any more."""
        for timer in self._timers:
            timer.cancel()

    def _expire(self) -> None:
        if self.reason is None:
            message = f"the job's time of {self._out_of_time} s (timeouts.active) ran out"
            self.reason = Stopped("Timeout", "Timeout", message)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # wakes it where it waits

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._told:
            return
        self._told = True
        if self.reason is None:
            name = signal.Signals(number).name
            self.reason = Stopped("Preempted", name, f"the pod was told to end ({name})")
        self._start(self._grace, self._overrun)
        if self._armed:
            raise self.reason

    def _overrun(self) -> None:
        if self.reason is not None:
            self._on_overrun(self.reason)

    def _start(self, seconds: float, function: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, function)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)


def end_children() -> int:
    """End every process that the hook left behind, politely first. Returns how many there were."""
    left = _descendants()
    _send(left, signal.SIGTERM)
    deadline = time.monotonic() + CHILD_GRACE
    while _reap() and time.monotonic() < deadline:
        time.sleep(0.02)
    deadline = time.monotonic() + CHILD_GRACE
    while (alive := _reap()) and time.monotonic() < deadline:  # killing a parent may bring its orphans to us
        _send(alive, signal.SIGKILL)
        time.sleep(0.01)
    return len(left)


def _reap() -> set[int]:
    """Collect the dead among our children; returns the processes below us that still live."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return _descendants()


def _descendants() -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.name)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
