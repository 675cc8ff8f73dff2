# SPDX-License-Identifier: Apache-2.0
"""A hook's pod as a process of this machine: the runtime, with the environment that the Job's manifest gives it.

What a kubelet does for a container is done here and no more: start it once, tell it to end and kill it when it does
not, end what it leaves behind, keep what it printed and what it said at its end. Limits are not enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sandbox_api.contract import (
    CONTRACT_FILE_ENV,
    INDEX_ENV,
    INPUTS,
    POD_UID_ENV,
    RENDEZVOUS_ENV,
    RUN_COMMAND,
    WORKSPACE,
)

from ..build.job import CONTRACT_KEY
from ..build.parts import GRACE_SECONDS
from ..plan.clock import stamp
from ..plan.facts import ContainerFact, PodFact
from .local_folder import write_json, write_text

Manifest = dict[str, Any]
IMAGE_PREFIX = "local:"
"""Before the name of an image: a reference for what this machine has in its place."""
ENDED_FROM_OUTSIDE = 143
NOT_STARTED = 128
_TAIL_BYTES = 2048
"""What a kubelet takes of the log where a failed container left no message (FallbackToLogsOnError)."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before any fork: a forked child may not load
_PLACE = re.compile(rf"(?<![^:=,; ])({WORKSPACE}|{INPUTS})(?=[/:,; ]|$)")
"""Where volumes are mounted in a pod, at the beginning of a path in a variable."""
_VARIABLE = re.compile(r"\$\$|\$\(([^)]*)\)")


@dataclass(frozen=True)
class Machine:
    """What a pod finds on this machine instead of volumes and Secrets."""

    workspace: Path
    inputs: Path
    environ: Mapping[str, str]
    secrets: Mapping[str, str]
    """Values of `secrets` by the name of the environment variable."""
    programs: Programs


@dataclass(frozen=True)
class Programs:
    """What runs here in place of an image."""

    python: str
    """The interpreter with the runtime, for every image that `named` does not name."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Interpreters by the image's name."""
    raw: Mapping[str, str] = field(default_factory=dict)
    """Programs of hooks with `contract: raw`, by the hook's name."""

    def python_for(self, image: str) -> str:
        """The interpreter for an image's name, or its reference here."""
        return self.named.get(image.removeprefix(IMAGE_PREFIX), self.python)

    def command(self, image: str, command: Sequence[str]) -> list[str]:
        """What is started: the runtime by its interpreter, a program of the hook's own from where it is here."""
        if tuple(command) == RUN_COMMAND:
            return [self.python_for(image), "-m", "sandbox_runtime.main", *command[1:]]
        return [self.raw.get(image.removeprefix(IMAGE_PREFIX), command[0]), *command[1:]]


@dataclass
class LocalPod:
    """A pod of a Job, in a folder of its own."""

    folder: Path
    job_name: str
    contract: str
    index: int | None = None
    """Which one of an indexed Job's."""
    numbers: str = ""
    """What the pods of its Job are, where a hook has several."""
    uid: str = field(default_factory=lambda: str(uuid4()))
    started_at: str | None = None
    ended_at: str | None = None
    code: int | None = None
    reason: str = ""
    disruption: str | None = None
    """Why it was ended from outside, if it was."""
    process: asyncio.subprocess.Process | None = None

    @classmethod
    def read(cls, folder: Path, job_name: str, contract: str, index: int | None, numbers: str) -> LocalPod | None:
        """The pod that an earlier run of sandboxctl started, if it had come that far."""
        file = folder / "pod.json"
        known = json.loads(file.read_text()) if file.exists() else None
        return cls(folder, job_name, contract, index, numbers, **known) if known is not None else None

    def write(self) -> None:
        said = {name: getattr(self, name) for name in ("uid", "started_at", "ended_at", "code", "reason", "disruption")}
        write_json(self.folder / "pod.json", said)

    @property
    def name(self) -> str:
        return f"{self.job_name}-local" if self.index is None else f"{self.job_name}-{self.index}-local"

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    async def start(
        self, container: Manifest, config_map: Manifest | None, machine: Machine, rendezvous: str | None = None
    ) -> None:
        """Begin to run. The uid is written down first: whatever dies now, its processes can be found by it.

        `rendezvous`: where the pods of its Job meet on this machine.
        """
        self.started_at = stamp(datetime.now(UTC))
        self.folder.mkdir(exist_ok=True)
        self.write()
        environ = environment(container, machine, self.uid, self.name)
        if self.index is not None:
            environ[INDEX_ENV] = str(self.index)
        if RENDEZVOUS_ENV in environ and rendezvous is not None:
            environ[RENDEZVOUS_ENV] = rendezvous
        environ["SANDBOX_TERMINATION_MESSAGE"] = str(self.folder / "termination-log")
        if config_map is not None:
            write_text(self.folder / "contract", config_map["data"][CONTRACT_KEY])
            environ[CONTRACT_FILE_ENV] = str(self.folder / "contract")
        command = [_expanded(word, environ) for word in container["command"]]
        with self.log.open("ab") as log:
            try:
                self.process = await asyncio.create_subprocess_exec(
                    *machine.programs.command(container["image"], command),
                    env=environ,
                    cwd=machine.workspace,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C in the terminal is for us; we tell the hooks
                    preexec_fn=_die_with_parent,
                )
            except OSError as error:
                log.write(f"the hook can't be started: {error}\n".encode())
                self._ended(NOT_STARTED, "StartError")

    async def wait(self) -> None:
        """Until it has ended, and all that it started."""
        if self.process is None:
            return
        code = await self.process.wait()
        await _end_all(self.uid, grace=0)  # a container's end is the end of all in it
        self._ended(code if code >= 0 else 128 - code, "Completed" if code == 0 else "Error")

    async def end(self, grace: float = GRACE_SECONDS) -> None:
        """Tell it to end, and kill it after the grace period. Returns when `wait` will."""
        if self.is_over or self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), grace)
            return
        self.kill()

    def kill(self, words: str | None = None) -> None:
        """End it at once, no last words; `words` say who wanted it."""
        self.disruption = self.disruption or words
        _send(_processes(self.uid), signal.SIGKILL)

    async def lost(self, words: str) -> None:
        """Nobody waited for it: an earlier sandboxctl was killed. What still runs of it is ended; its exit code is
        unknown, so it counts as ended from outside."""
        await _end_all(self.uid, grace=GRACE_SECONDS)
        self.disruption = words
        self._ended(ENDED_FROM_OUTSIDE, "Error")

    def _ended(self, code: int, reason: str) -> None:
        self.code, self.reason, self.ended_at = code, reason, stamp(datetime.now(UTC))
        self.write()

    def fact(self) -> PodFact:
        """As the planner sees a pod."""
        hook = ContainerFact(running_since=self.started_at)
        if self.is_over:
            hook = ContainerFact(
                running_since=self.started_at,
                exit_code=self.code,
                exit_reason=self.reason,
                termination_message=self._last_words(),
                finished_at=self.ended_at,
            )
        phase = "Running" if not self.is_over else "Succeeded" if self.code == 0 else "Failed"
        return PodFact(
            name=self.name,
            uid=self.uid,
            job_name=self.job_name,
            contract=self.contract,
            phase=phase,
            hook=hook,
            node=socket.gethostname(),
            disruption=self.disruption,
            index=self.index or 0,
            numbers=self.numbers,
        )

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            if told := (self.folder / "termination-log").read_text(errors="replace"):
                return told
        if self.code == 0 or not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")


def environment(container: Manifest, machine: Machine, pod_uid: str, pod_name: str) -> dict[str, str]:
    """The variables of a container as a kubelet sets them, on top of this machine's own."""
    fields = {"metadata.uid": pod_uid, "metadata.name": pod_name}
    given: dict[str, str] = {}
    for entry in container["env"]:
        source = entry.get("valueFrom") or {}
        if "fieldRef" in source:
            given[entry["name"]] = fields[source["fieldRef"]["fieldPath"]]
        elif "secretKeyRef" in source:
            given[entry["name"]] = machine.secrets[entry["name"]]
        else:
            given[entry["name"]] = _expanded(entry.get("value", ""), given)
    places = {WORKSPACE: str(machine.workspace), INPUTS: str(machine.inputs)}
    given = {name: _PLACE.sub(lambda found: places[found[1]], value) for name, value in given.items()}
    own = {
        name: value
        for name, value in machine.environ.items()
        if not name.startswith("SANDBOX_") and name not in machine.secrets
    }
    if "PYTHONPATH" in given and "PYTHONPATH" in own:  # the runtime may be found by ours
        given["PYTHONPATH"] += os.pathsep + own["PYTHONPATH"]
    said = {"SANDBOX_WORKSPACE": places[WORKSPACE], "SANDBOX_INPUTS": places[INPUTS]}
    return {**own, **given, **said}


def _expanded(value: str, known: Mapping[str, str]) -> str:
    """`$$` is a dollar, `$(NAME)` a variable that stands before this one."""
    return _VARIABLE.sub(lambda found: "$" if found[1] is None else known.get(found[1], found[0]), value)


def _die_with_parent() -> None:
    """A hook does not outlive the sandboxctl that started it: it is told to end, as by a drained node."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _end_all(uid: str, *, grace: float) -> None:
    """End every process of a pod, and return when there is none."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    if grace and (left := set(_processes(uid))):
        _send(iter(left), signal.SIGTERM)
    while any(True for _ in _processes(uid)):
        if loop.time() >= deadline:
            _send(_processes(uid), signal.SIGKILL)
        await asyncio.sleep(0.02)


def _processes(uid: str) -> Iterator[int]:
    """Living processes that carry the pod's uid in their environment, as all that a pod starts do."""
    mark = f"{POD_UID_ENV}={uid}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def _send(pids: Iterator[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
