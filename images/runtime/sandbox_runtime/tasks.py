# SPDX-License-Identifier: Apache-2.0
"""What a pod does that runs no hook: read a result whose message was lost or was too short, or check whether a
committed result may be used again. It leaves no result on the volume, and imports nothing heavy.
"""

from __future__ import annotations

import sys

from sandbox_api.contract import JobContract, contract_digest
from sandbox_api.result import (
    EXIT_CODES,
    EXIT_SUCCESS,
    Message,
    ResultError,
    encode_message,
    encode_piece,
    message_of,
)

from .cgroup import Memory
from .errors import ConfigError, HookError, InfraError, InputError, error_of
from .logs import last_peak
from .measures import now
from .recovery import changed_output, left_by_attempt, why_unusable
from .settings import Settings
from .workspace import NotStored, Stored, Workspace


class ResultsLost(InfraError):
    """An attempt left no result that could be read."""


class NoHit(InputError):
    """A committed result may not stand for a run of this job."""


def run_task(contract: JobContract, settings: Settings) -> int:
    """Do what the contract's `task` says, tell it by the termination message alone; returns the exit code."""
    workspace = Workspace(settings.workspace, settings.inputs, contract, settings.pod_uid)
    memory = Memory(limit=contract.limits.memory_bytes)
    killed = memory.killed()
    began = now()
    try:
        if contract.task == "check":
            message = _message(usable_candidate(contract, workspace), contract, workspace, settings)
            message = message.model_copy(update={"started_at": began, "finished_at": now()})
        else:
            message = _message(result_to_read(contract, workspace), contract, workspace, settings)
        if contract.task == "read" and settings.index is not None:
            text = encode_piece(message, settings.index + 1, needs=contract.needed)
        else:
            text = encode_message(message, needs=contract.needed)
    except Exception as error:
        told = error_of(error, memory, killed_before=killed)
        print(f"{told.class_}: {told.message}", file=sys.stderr, flush=True)
        message = _failure(told, contract, settings, began)
        text = encode_message(message)
    settings.termination.write_text(text)
    return EXIT_CODES[message.error.class_] if message.error else EXIT_SUCCESS


def result_to_read(contract: JobContract, workspace: Workspace) -> Stored:
    """The result of the contract's attempt, or the one that its candidate names. Raises ResultsLost."""
    if contract.candidate is not None:
        stored = _candidate(contract, workspace, ResultsLost)
        if (changed := changed_output(stored.result, workspace)) is not None:
            raise ResultsLost(changed)
        return stored
    left, problems = left_by_attempt(contract, workspace)
    if left is not None:
        return left
    folders = workspace.unfinished(contract.attempt)
    peaks = [peak for folder in folders if (peak := last_peak(folder / "events.jsonl"))]
    said = [f"attempt {contract.attempt} left no result on the volume", *problems, *peaks[-1:]]
    raise ResultsLost("; ".join(said))


def usable_candidate(contract: JobContract, workspace: Workspace) -> Stored:
    """The candidate, verified in all that it depends on. Raises NoHit, which says what is no longer as it was."""
    workspace.prepare()
    stored = _candidate(contract, workspace, NoHit)
    why = why_unusable(stored.result, contract, workspace)
    if why is not None:
        raise NoHit(why)
    return stored


def _candidate(contract: JobContract, workspace: Workspace, error: type[HookError]) -> Stored:
    candidate = contract.candidate
    if candidate is None:
        raise ConfigError(f"candidate: is missing; a {contract.task} pod needs the result to look at")
    try:
        return workspace.committed(candidate.result_path, candidate.sha256)
    except NotStored as problem:
        raise error(f"the result {candidate.result_path} {problem}") from problem


def _message(stored: Stored, contract: JobContract, workspace: Workspace, settings: Settings) -> Message:
    """The message of a result that lies where it lies, in the name of this pod."""
    where = workspace.relative(stored.path)
    message = message_of(stored.result, path=where, sha256=stored.sha256, size=stored.bytes)
    mine = {
        "job": contract.job.id,
        "attempt": contract.attempt,
        "pod_uid": settings.pod_uid,
        "contract": contract_digest(contract),
        "recovered": True,
    }
    return message.model_copy(update=mine)


def _failure(told: ResultError, contract: JobContract, settings: Settings, began: str) -> Message:
    return Message(
        job=contract.job.id,
        attempt=contract.attempt,
        pod_uid=settings.pod_uid,
        contract=contract_digest(contract),
        path="",
        sha256="",
        bytes=0,
        outcome="Failed",
        started_at=began,
        finished_at=now(),
        cache_key=contract.cache_key,
        error=told,
    )
