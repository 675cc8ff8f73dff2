# SPDX-License-Identifier: Apache-2.0
"""Why a job failed, in the classes of the result contract.

A hook raises the class that fits; everything it did not foresee is sorted here by what it says of the cause. Sentences
for users name what is wrong, where (the field), and what to do. The exit codes themselves belong to the contract.
"""

from __future__ import annotations

import errno
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

from sandbox_api.result import ERROR_BYTES, ErrorClass, ResultError, plain_text

from .cgroup import Memory
from .signals import Stopped

STORAGE_ERRNOS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EIO", "ESTALE", "EROFS", "ENODEV", "ENXIO", "ENOTCONN", "EREMOTEIO")
)
"""What the volume says when it is full, gone or broken: another attempt, perhaps on another node, may do better."""


class HookError(Exception):
    """What is wrong, in words for the user; the class decides what happens next."""

    class_: ErrorClass = "User"


class UserError(HookError):
    """The hook's own code or data failed; a plain retry would most likely fail again."""


class ConfigError(HookError):
    """The configuration is wrong; the message begins with the field. Never retried."""

    class_ = "Config"


class InputError(HookError):
    """A result of another job is missing or is not what it was; the message names the job and the output.

    `job` is the id of the job that must run again.
    """

    class_ = "Input"

    def __init__(self, message: str, job: str | None = None) -> None:
        super().__init__(message)
        self.job = job


class InfraError(HookError):
    """The volume, the network or the node failed, not the hook."""

    class_ = "Infra"


class PeerLost(InfraError):
    """Another pod of the job (`nodes`) has gone or was told to end: what ended that one decides what happens next."""


def error_of(error: BaseException, memory: Memory, *, killed_before: int) -> ResultError:
    """The error as the result tells it. `killed_before`: the cgroup's count of killed processes at the job's start."""
    killed = memory.killed() - killed_before
    if isinstance(error, Stopped):
        return ResultError(class_=error.class_, type=error.kind, message=plain_text(str(error), ERROR_BYTES))
    if killed > 0 or isinstance(error, MemoryError):
        said = f"; the hook said: {_first_line(error)}" if _words(error) else ""
        return ResultError(
            class_="OutOfMemory",
            type="OOMKilled" if killed > 0 else "MemoryError",
            message=plain_text(f"out of memory: {memory.describe()}{said}", ERROR_BYTES),
        )
    class_, cause = _class_of(error)
    said = plain_text(_sentence(error), ERROR_BYTES) or f"{type(error).__name__} without a readable message"
    job = cause.job if isinstance(cause, InputError) else None
    return ResultError(class_=class_, type=type(error).__name__, message=said, job=job)


def _class_of(error: BaseException) -> tuple[ErrorClass, BaseException]:
    """A library may wrap what the volume said, so the whole chain of causes counts; returns the one that decides."""
    for cause in _chain(error):
        if isinstance(cause, HookError):
            return cause.class_, cause
        if isinstance(cause, OSError) and cause.errno in STORAGE_ERRNOS:
            return "Infra", cause
    return "User", error


def _sentence(error: BaseException) -> str:
    """The error's own words, and for an unforeseen one where it was raised."""
    if isinstance(error, HookError):
        return str(error)
    if isinstance(error, SystemExit):
        return f"the hook ended the process itself (exit code {error.code!r}) instead of returning a result"
    said = _words(error) or f"{type(error).__name__} without a message"
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        tail = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else str(error.stderr)
        said = f"{said}\n{plain_text(tail, 500)}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{said} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else said


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(an error that can't be shown)"


def _first_line(error: BaseException) -> str:
    return plain_text(_words(error), 300).partition("\n")[0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
