# SPDX-License-Identifier: Apache-2.0
"""A hook's pod that is forked from the test's own process, and its worker from that: the imports of a large library,
most of a short job's time, are done already. One test of each image starts the real processes instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from tests.hook_pod import HookPod
from tests.models import forked

from sandbox_runtime.run import run
from sandbox_runtime.supervisor import supervise
from sandbox_runtime.workers import launch


class Process:
    """As much of `subprocess.Popen` as a `HookPod` asks for."""

    def __init__(self, environ: dict[str, str], cwd: str) -> None:
        self.returncode: int | None = None
        self._output, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            for descriptor in (1, 2):
                os.dup2(write, descriptor)
            os.close(self._output)
            sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
            sys.stderr = sys.__stderr__ = os.fdopen(2, "w", closefd=False)
            os.environ.clear()
            os.environ.update(environ)
            os.chdir(cwd)
            launch._start = forked.start  # type: ignore[assignment]
            supervise(lambda link: run(os.environ, link))
        os.close(write)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """All that it has printed, when it has ended."""
        os.set_blocking(self._output, False)
        deadline = None if timeout is None else time.monotonic() + timeout
        content = b""
        while True:
            ended = self.poll() is not None
            try:
                while chunk := os.read(self._output, 65536):
                    content += chunk
            except BlockingIOError:
                pass
            if ended:
                return content.decode(errors="replace"), None
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("warm pod", timeout or 0)
            time.sleep(0.01)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)


class WarmPod(HookPod):
    def process(self, environ: dict[str, str], program: str | None = None) -> Process:  # type: ignore[override]
        assert program is None, "only the runtime itself is forked"
        return Process(environ, str(self.base))
