# SPDX-License-Identifier: Apache-2.0
"""Worker processes, one a GPU: started, followed, told to stop, their errors brought home. The parent has no torch.

A pod's SIGTERM reaches the parent alone, as an exception where it waits. It tells the workers by a file, for which they
look between two steps, and waits for them to save. So no optimizer step is ever cut in half.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import errors
from ..place import ALONE, Place
from ..signals import Stopped

POLL_SECONDS = 0.1
NAME_SECONDS = 0.5
RENDEZVOUS_SECONDS = 86400
"""Pods wait for each other's places; how long is the operator's to decide, which ends them."""
END_SECONDS = 20.0
"""Workers that are of no use any more have so long to save before they are killed."""

Figures = Callable[[Mapping[str, float], int], None]
ShouldStop = Callable[[], bool]
Total = Callable[[int], None]
"""Hears how many steps there are in all."""


def run_workers(
    module: str,
    task: str,
    job: Mapping[str, Any],
    *,
    processes: int,
    together: bool,
    cpus: int | None,
    scratch: Path,
    on_figures: Figures,
    should_stop: ShouldStop,
    on_total: Total = lambda _: None,
    place: Place = ALONE,
    meeting: int = 0,
) -> list[Any]:
    """Run a task of a module (see `desk.work`) in so many processes; what each of them returned, by rank.

    together: they compute one thing, under torchrun; else each works for itself. cpus: that all of them may use.
    on_figures: takes what the first one measures, while it goes on; on_total: where it knows, how many steps there are,
    before the first of these. place: of this pod among those whose processes
    compute together; meeting: which of their meetings this is. Raises what a worker raised, as an error of
    `sandbox_runtime.errors`; PeerLost where it is another pod that has failed.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "job.json").write_text(json.dumps({"task": task, **job}))
    if together and place.nodes > 1:
        started = _start_among(module, scratch, processes, cpus, place, meeting)
    else:
        started = _start(module, scratch, processes, together, cpus)
    workers = _Workers(scratch, started, on_figures, on_total, is_among_others=together and place.nodes > 1)
    try:
        while workers.are_running():
            if should_stop():
                workers.tell()
            time.sleep(POLL_SECONDS)
    except Stopped:
        workers.tell()
        workers.end(None)  # the job's grace period is the limit
        raise
    finally:
        workers.tell()
        workers.end(END_SECONDS)
    workers.check()
    first = place.rank * processes if together else 0
    return [json.loads((scratch / f"result-{rank}.json").read_text()) for rank in range(first, first + processes)]


class _Workers:
    def __init__(
        self,
        scratch: Path,
        processes: list[subprocess.Popen[bytes]],
        on_figures: Figures,
        on_total: Total,
        *,
        is_among_others: bool,
    ) -> None:
        self._is_among_others = is_among_others
        self._scratch = scratch
        self._processes = processes
        self._on_figures = on_figures
        self._on_total = on_total
        self._read = 0

    def are_running(self) -> bool:
        """Whether there is still something to wait for: one that fails ends the waiting. Passes figures on."""
        codes = [process.poll() for process in self._processes]
        self._pass_on()
        return any(code is None for code in codes) and not any(codes)

    def tell(self) -> None:
        (self._scratch / "stop").touch()

    def end(self, seconds: float | None) -> None:
        """Wait for them; those that take longer are killed."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for process in self._processes:
            try:
                process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.terminate()  # torchrun ends its own
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_SECONDS)
                process.kill()
                process.wait()
        self._pass_on()

    def check(self) -> None:
        """Raise what went wrong; the first error that was written is the cause of the others."""
        if not any(process.returncode for process in self._processes):
            return
        told = sorted(self._scratch.glob("error-*.json"), key=lambda path: path.stat().st_mtime_ns)
        if not told and self._is_among_others:
            self._blame_others()
        if not told:
            codes = ", ".join(str(process.returncode) for process in self._processes)
            raise errors.UserError(f"a worker process ended without a word (exit codes {codes}); see the job's log")
        error = json.loads(told[0].read_text())
        raise getattr(errors, error["class"])(error["message"])

    def _blame_others(self) -> None:
        """torchrun has failed, and no process here says why: they had not begun, or have ended well."""
        if not list(self._scratch.glob("began-*")):
            raise errors.PeerLost("the pods of the job could not meet; see the job's log")
        if list(self._scratch.glob("result-*.json")):
            raise errors.PeerLost("the processes of this pod have ended well, those of another one have not")

    def _pass_on(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            with (self._scratch / "figures.jsonl").open("rb") as file:
                file.seek(self._read)
                lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                told = json.loads(line)
                if told["total"] is not None:
                    self._on_total(told["total"])
                self._on_figures(told["figures"], told["step"])


def _start(
    module: str, scratch: Path, processes: int, together: bool, cpus: int | None
) -> list[subprocess.Popen[bytes]]:
    worker, environment = ["-m", module, str(scratch)], _environment(processes, cpus)
    if together and processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--max-restarts=0", f"--nproc-per-node={processes}"]
        return [_process([*launcher, *worker], environment)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)} for rank in range(processes)]
    return [_process(worker, environment | rank) for rank in ranks]


def _start_among(
    module: str, scratch: Path, processes: int, cpus: int | None, place: Place, meeting: int
) -> list[subprocess.Popen[bytes]]:
    """Under a torchrun that meets those of the other pods at rank 0. None is started a second time: a training goes on
    from its state when all are there again."""
    host, port = place.address(meeting)
    if place.rank > 0:
        _wait_for_name(host)
    launcher = [
        "-m", "torch.distributed.run", "--max-restarts=0", f"--nnodes={place.nodes}", f"--node-rank={place.rank}",
        f"--nproc-per-node={processes}", f"--master-addr={host}", f"--master-port={port}", "--rdzv-backend=static",
        f"--rdzv-conf=timeout={RENDEZVOUS_SECONDS}",
    ]  # fmt: skip
    return [_process([*launcher, "-m", module, str(scratch)], _environment(processes, cpus))]


def _wait_for_name(host: str) -> None:
    """The name is known from when the pod of rank 0 has an address, which may take as long as its place does."""
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except socket.gaierror:
            time.sleep(NAME_SECONDS)


def _environment(processes: int, cpus: int | None) -> dict[str, str]:
    threads = max(1, (cpus or len(os.sched_getaffinity(0))) // processes)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    return environment | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def _process(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C at a terminal is for the parent, which passes it on."""
    return subprocess.Popen([sys.executable, *arguments], env=environment, start_new_session=True)
