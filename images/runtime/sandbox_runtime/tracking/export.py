# SPDX-License-Identifier: Apache-2.0
"""The exporter's process: one session after another until all is told, whatever becomes of each.

It imports nothing of wandb, so that nothing of wandb's can hang or end it. What goes wrong is said, waited for and
tried again; only a key or an address that is refused ends it, since a pod learns of another key when it begins.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from sandbox_api.contract import experiment_folder
from sandbox_api.export import EXIT_REFUSED, EXPORT_ENV, ExportContract, decode_export

from ..settings import Settings
from .session import ALIVE, DONE, LEFT, PATIENCE, PATIENCE_ENV, TOLD_ENV

GRACE_SECONDS = 45.0
"""In which what is left is sent, once it is told to end; the pod has a little more."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds between two sessions, doubled after each that failed."""
EXIT_TOLD = 143


def export(environ: Mapping[str, str]) -> int:
    """Export the experiment of the contract in the environment; returns the exit code.

    0: the run is finished, and has all of it. 143: told to end before. 2: refused; the termination message says why.
    """
    try:
        contract = decode_export(environ.get(EXPORT_ENV, ""))
    except ValueError as error:
        print(f"{EXPORT_ENV}: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED
    return Exporter(contract, environ).run()


class Exporter:
    def __init__(self, contract: ExportContract, environ: Mapping[str, str]) -> None:
        settings = Settings.of(environ)
        self._contract = contract
        self._environ = {**environ, **_variables(contract, settings, environ)}
        self._termination = settings.termination
        self._patience = float(environ.get(PATIENCE_ENV, PATIENCE))
        self._told: float | None = None
        """When it was told to end."""
        self._words: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # may be filled by a signal's handler
        """What a session says, line by line; empty texts only wake."""
        self._child: subprocess.Popen[str] | None = None
        self._said = ""
        self.address = ""

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)
        wait, code = FIRST_WAIT, DONE
        while True:
            before, code = code, self._session()
            if code == DONE:
                return self._end(0, self.address)
            if code == EXIT_REFUSED:
                return self._end(EXIT_REFUSED, self._said)
            if self._is_late() or (self._told is not None and code == LEFT and self._contract.ending is None):
                return self._end(EXIT_TOLD, self.address)
            if code == LEFT and before != LEFT:  # it has sent something: the next one looks whether it has arrived
                wait = FIRST_WAIT
                continue
            print(f"the session ended with {code}; the next one in {wait:.0f} s", file=sys.stderr, flush=True)
            self._pause(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _session(self) -> int:
        """Run one, and end it when it gives no sign of life any more."""
        knows = self._told is not None
        environ = {**self._environ, **({TOLD_ENV: "1"} if knows else {})}
        command = [sys.executable, "-m", "sandbox_runtime.tracking.session"]
        child = self._child = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        )
        self._words = queue.SimpleQueue()  # of this one: what another still says is of no matter
        threading.Thread(target=_listen, args=(child, self._words), daemon=True).start()
        if self._told is not None and not knows:
            child.send_signal(signal.SIGTERM)
        last = time.monotonic()
        while True:
            try:
                word = self._words.get(timeout=min(1.0, self._patience / 4))
            except queue.Empty:
                if child.poll() is not None:  # something that it has started holds its output open
                    break
            else:
                if word is None:
                    break
                last = time.monotonic()
                self._hear(word)
            if self._is_late() or time.monotonic() - last > self._patience:
                print("the session gives no sign of life; it is ended", file=sys.stderr, flush=True)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                break
        code = child.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # wandb's helper goes with it
            os.killpg(child.pid, signal.SIGKILL)
        self._child = None
        return code

    def _hear(self, word: str) -> None:
        if word in ("", ALIVE):
            return
        print(word, flush=True)
        if word.startswith("run: "):
            self.address = word.removeprefix("run: ")
        if word.startswith("refused: "):
            self._said = word

    def _tell(self, *_: object) -> None:
        self._told = self._told or time.monotonic()
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        self._words.put("")

    def _is_late(self) -> bool:
        return self._told is not None and time.monotonic() - self._told > GRACE_SECONDS

    def _pause(self, seconds: float) -> None:
        """Until then, or until it is told to end."""
        end = time.monotonic() + seconds
        while self._told is None and (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._words.get(timeout=left)
        if self._told is not None:
            time.sleep(0.2)  # a server that is down is not asked as often as a processor can

    def _end(self, code: int, words: str) -> int:
        with contextlib.suppress(OSError):
            self._termination.write_text(words)
        return code


def _listen(child: subprocess.Popen[str], words: queue.SimpleQueue[str | None]) -> None:
    """Hand on what a session says, and at its end None."""
    assert child.stdout is not None, "it is a pipe"
    for line in child.stdout:
        words.put(line.rstrip("\n"))
    words.put(None)


def _variables(contract: ExportContract, settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Where wandb may write: the pod's own /tmp; what an offline run refers to lies beside it on the volume."""
    scratch = environ.get("TMPDIR", "/tmp")
    experiment = settings.workspace / experiment_folder(contract.experiment.name, contract.experiment.uid)
    data = str(experiment / "wandb" / "data") if contract.mode == "offline" else f"{scratch}/wandb-data"
    Path(scratch).mkdir(parents=True, exist_ok=True)
    return {
        "HOME": scratch,
        "WANDB_DIR": f"{scratch}/wandb",
        "WANDB_CACHE_DIR": f"{scratch}/wandb-cache",
        "WANDB_CONFIG_DIR": f"{scratch}/wandb-config",
        "WANDB_DATA_DIR": data,
        "WANDB_ARTIFACT_DIR": data,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_MODE": contract.mode,
        "PYTHONUNBUFFERED": "1",
    }
