# SPDX-License-Identifier: Apache-2.0
"""The operator's real process, started in milliseconds: for tests that kill it a thousand times.

Starting `sandbox-operator` is 1.8 s of imports and a few milliseconds of work. Here one process (`python -m
tests.api.warm`) imports what `main` imports and does nothing else; each operator is forked from it and runs `main()`
with an environment, a log and a pid of its own, so that kill -9 means what it says.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from tests.api.lab import REPOSITORY, OperatorProcess

PR_SET_PDEATHSIG = 1


class Nursery:
    """`with Nursery() as nursery: WarmOperator(nursery, kubeconfig, log).start()`; all that live end with it."""

    def __init__(self) -> None:
        path = os.pathsep.join(str(REPOSITORY / part) for part in ("crds", "operator", "images/runtime", "."))
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.api.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.births = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()  # type: ignore[union-attr]  # a pipe
        self._server.wait(10)

    def ask(self, **question: Any) -> Any:
        """One question, one answer. It blocks for as long as a fork or the death of a killed process takes."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


class _Forked:
    """A child of the nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._nursery.ask(wait=self.pid)
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("sandbox-operator", timeout or 0)
            time.sleep(0.001)
        return code


class WarmOperator(OperatorProcess):
    """An `OperatorProcess` that is forked from a nursery."""

    def __init__(self, nursery: Nursery, kubeconfig: Path, log: Path, **settings: str) -> None:
        super().__init__(kubeconfig, log, **settings)
        self._nursery = nursery

    def _spawn(self, environment: dict[str, str]) -> _Forked:
        self._nursery.births += 1
        return _Forked(self._nursery, self._nursery.ask(environment=environment, log=str(self.log_path)))


def serve() -> None:
    """Answer questions until nobody asks any more; then all children are killed by the kernel."""
    import sandbox_operator.main
    import sandbox_operator.plan.sweep  # as the first sweep would have it done

    gc.freeze()  # what is shared with the children stays shared
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            pid, status = os.waitpid(question["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _be_born(question["environment"], question["log"])
                sandbox_operator.main.main()
                sys.exit(0)
        print(json.dumps(answer), flush=True)


def _be_born(environment: dict[str, str], log: str) -> None:
    """Become a process of one's own: nothing of the parent's but what it has imported."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["sandbox-operator", "run"]


if __name__ == "__main__":
    serve()
