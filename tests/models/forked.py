# SPDX-License-Identifier: Apache-2.0
"""Worker processes that are forked from the test's own: the imports, most of a short job's time, are done already.

The launcher's own way to start them, `python -m ...`, and torchrun are what `test_launch` is about.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

# In a forked process torch replaces its pool of threads at first use, and two threads that use it first at one time
# (transformers loads weights in several) meet "Invalid thread pool!": let it be done before there are any.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(torch.get_num_threads()))


class Forked:
    """As much of `subprocess.Popen` as the launcher asks for."""

    def __init__(self, module: str, scratch: Path, environment: dict[str, str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(environment)
            sys.argv = ["worker", str(scratch)]
            importlib.import_module(module).main()
            os._exit(0)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("forked", timeout or 0)
            time.sleep(0.01)
        return int(self.returncode or 0)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def start(module: str, scratch: Path, processes: int, together: bool, cpus: int | None) -> list[Forked]:
    """In the place of `launch._start`; several that compute together need torchrun."""
    assert not (together and processes > 1)
    del cpus
    return [
        Forked(module, scratch, {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)})
        for rank in range(processes)
    ]
