# SPDX-License-Identifier: Apache-2.0
"""What is told of a hook's process that ended without a result: how it ended, in words, as result and message.

It is used by the supervisor alone, once the process has gone.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox_api.contract import JobContract, contract_digest
from sandbox_api.result import (
    ERROR_BYTES,
    EXIT_CODES,
    EXIT_SUCCESS,
    ErrorClass,
    Result,
    ResultError,
    RuntimeInfo,
    encode_message,
    message_of,
    plain_text,
)

from .cgroup import Memory
from .measures import at, now, peak_memory, versions
from .place import place_of
from .report import write_report
from .settings import Settings, read_contract
from .signals import Stopped
from .workspace import Workspace

LAST_WORDS = 500
"""Characters of what the hook printed last that stand in the error."""
CLASS_OF_CODE: dict[int, ErrorClass] = {2: "Config", 3: "Input", 4: "Infra", 143: "Preempted"}
"""Exit codes of the result contract that a program may end with by itself; every other one is the user's."""


@dataclass(frozen=True)
class Death:
    """How the process ended, and what the supervisor had seen of it."""

    code: int
    """Exit code; of a signal, its number below zero."""
    stopped: Stopped | None
    """Why it was told to end before, if it was."""
    killed_for_memory: int
    """Processes of the container that the kernel killed for memory meanwhile."""
    sampled_peak: int | None
    last_words: str
    started_at: float
    """Seconds since 1970."""
    hook_seconds: float | None
    """None: the hook had not begun."""


@dataclass(frozen=True)
class Told:
    """Its end in words, and the exit code for it."""

    words: str
    code: int


def report_death(death: Death, environ: Mapping[str, str]) -> Told:
    """Write result and termination message as the process itself would have done.

    A result that it had written before stands. Raises ConfigError when the environment holds no contract; of pods that
    run no hook nothing is written.
    """
    settings, contract = Settings.of(environ), read_contract(environ)
    error, code = error_of_death(death, Memory(limit=contract.limits.memory_bytes))
    told = Told(f"{error.class_}: {error.message}", code)
    workspace = Workspace(settings.workspace, settings.inputs, contract, settings.pod_uid)
    mine = (stored for stored in workspace.results(contract.attempt) if stored.path == workspace.result)
    if (stored := next(mine, None)) is not None:
        where = workspace.relative(stored.path)
        message = message_of(stored.result, path=where, sha256=stored.sha256, size=stored.bytes)
        settings.termination.write_text(encode_message(message, needs=contract.needed))
        known = stored.result.error
        code = EXIT_CODES[known.class_] if known else EXIT_SUCCESS
        return Told("the hook's process was ended when its result was written already; that stands", code)
    if contract.task not in ("read", "check"):
        write_report(_result(death, error, contract, settings), contract, workspace, settings.termination)
    return told


def error_of_death(death: Death, memory: Memory) -> tuple[ResultError, int]:
    """The error as the result tells it, and the container's exit code: the process's own where that says more.

    An order to end explains whatever came after it; a process that was killed for memory explains the end of others.
    """
    if death.stopped is not None:
        return _error(death.stopped.class_, death.stopped.kind, str(death.stopped))
    if death.killed_for_memory > 0:
        words = f"out of memory: {memory.describe(death.sampled_peak)}"
        return _error("OutOfMemory", "OOMKilled", f"{words}; {_end(death.code)}{_printed(death.last_words)}")
    code = death.code if death.code >= 0 else 128 - death.code
    class_ = CLASS_OF_CODE.get(code, "User")
    kind = f"exit code {death.code}" if death.code >= 0 else signal.Signals(-death.code).name
    words = f"{_end(death.code)}, without a result{_printed(death.last_words)}"
    return _error(class_, kind, words, code or EXIT_CODES[class_])


def _end(code: int) -> str:
    if code >= 0:
        return f"the hook's process ended with exit code {code}"
    name, means = signal.Signals(-code).name, signal.strsignal(-code) or ""
    return f"the hook's process was killed by {name} ({means.lower()})"


def _printed(last_words: str) -> str:
    lines = plain_text(last_words, LAST_WORDS)
    return f"; it printed last:\n{lines}" if lines else ""


def _error(class_: ErrorClass, kind: str, message: str, code: int | None = None) -> tuple[ResultError, int]:
    error = ResultError(class_=class_, type=kind, message=plain_text(message, ERROR_BYTES))
    return error, EXIT_CODES[class_] if code is None else code


def _result(death: Death, error: ResultError, contract: JobContract, settings: Settings) -> Result:
    place = place_of(contract, settings)
    return Result(
        job=contract.job.id,
        attempt=contract.attempt,
        pod_uid=settings.pod_uid,
        contract=contract_digest(contract),
        rank=place.rank,
        shard=place.shard,
        outcome="Failed",
        error=error,
        meta_name=contract.job.meta_name,
        cache_key=contract.cache_key,
        started_at=at(death.started_at),
        finished_at=now(),
        runtime=RuntimeInfo(
            image=settings.image,
            versions=versions(),
            gpu_seconds=round(contract.limits.gpus * (death.hook_seconds or 0.0), 3),
            peak_memory_bytes=death.sampled_peak or peak_memory(),
            hook_seconds=death.hook_seconds,
        ),
    )
