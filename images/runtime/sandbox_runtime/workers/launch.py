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
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import errors
from ..signals import Stopped

POLL_SECONDS = 0.1
END_SECONDS = 20.0
"""Workers that are of no use any more have so long to save before they are killed."""

Figures = Callable[[Mapping[str, float], int], None]
ShouldStop = Callable[[], bool]


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
) -> list[Any]:
    """Run a task of a module (see `desk.work`) in so many processes; what each of them returned, by rank.

    together: they compute one thing, under torchrun; else each works for itself. cpus: that all of them may use.
    on_figures: takes what the first one measures, while it goes on. Raises what a worker raised, as an error of
    `sandbox_runtime.errors`.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "job.json").write_text(json.dumps({"task": task, **job}))
    workers = _Workers(scratch, _start(module, scratch, processes, together, cpus), on_figures)
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
    return [json.loads((scratch / f"result-{rank}.json").read_text()) for rank in range(processes)]


class _Workers:
    def __init__(self, scratch: Path, processes: list[subprocess.Popen[bytes]], on_figures: Figures) -> None:
        self._scratch = scratch
        self._processes = processes
        self._on_figures = on_figures
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
        if not told:
            codes = ", ".join(str(process.returncode) for process in self._processes)
            raise errors.UserError(f"a worker process ended without a word (exit codes {codes}); see the job's log")
        error = json.loads(told[0].read_text())
        raise getattr(errors, error["class"])(error["message"])

    def _pass_on(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            with (self._scratch / "figures.jsonl").open("rb") as file:
                file.seek(self._read)
                lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                told = json.loads(line)
                self._on_figures(told["figures"], told["step"])


def _start(
    module: str, scratch: Path, processes: int, together: bool, cpus: int | None
) -> list[subprocess.Popen[bytes]]:
    worker = ["-m", module, str(scratch)]
    threads = max(1, (cpus or len(os.sched_getaffinity(0))) // processes)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if together and processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--max-restarts=0", f"--nproc-per-node={processes}"]
        return [_process([*launcher, *worker], environment)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)} for rank in range(processes)]
    return [_process(worker, environment | rank) for rank in ranks]


def _process(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C at a terminal is for the parent, which passes it on."""
    return subprocess.Popen([sys.executable, *arguments], env=environment, start_new_session=True)
