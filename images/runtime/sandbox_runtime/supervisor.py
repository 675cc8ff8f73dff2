# SPDX-License-Identifier: Apache-2.0
"""The container's first process. The hook runs in its child, so that whatever becomes of the child is told.

A hook may hold Python's lock for minutes, crash, or leave by `_exit`: nothing in its own process can then keep the
time, drain a pipe or write a result. This process can, for it runs no code of others. It copies what the child prints
to the container's log and to `log.txt`, hands SIGTERM on, keeps the job's time, ends what the hook leaves behind and,
where the child died without a result, writes one. It is forked before anything large is imported and imports only
what it needs itself; what it takes to write a result is imported when the child has ended.

Everything else is the child's work: artifacts, publishing, `result.json`, the termination message.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .cgroup import Memory
from .logs import Events, Log, flush
from .processes import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, descendants, prctl, send
from .sampling import INTERVAL, PeakSampler
from .signals import Stopped, told_to_end

if TYPE_CHECKING:
    from .progress import Reporter

GRACE = 50.0
"""Seconds between the order to end and the moment the hook is cut off: less than the 60 that its pod is given."""
LEFT_OVER_GRACE = 3.0
"""Seconds that who the hook left behind has between SIGTERM and SIGKILL, and again until we stop waiting for it."""
STUCK = 10.0
"""Seconds after which a reader that reads nothing, or a process that can't be killed, is waited for no more."""
PATIENCE = 1.0
"""The same before a result is written: the pod's own grace period may be about to end."""
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Link:
    """The child's end: what it tells its supervisor, a line of JSON each, and the one answer that it gets."""

    def __init__(self, said: int, answer: int) -> None:
        self._said = said
        self._answer = os.fdopen(answer, "rb")

    def contract_read(self, active_seconds_left: int | None) -> None:
        """From its own start on the supervisor counts this time."""
        self._tell(seconds=active_seconds_left)

    def entered(self, log: Path, events: Path) -> None:
        """What is printed goes to `log` as well."""
        self._tell(log=str(log), events=str(events))

    def hook_started(self, termination: Path, progress: Mapping[str, Any] | None = None) -> None:
        """Sample memory from now on; what is worth it stands in the termination message until `hook_ended`.

        `progress`: what `Reporter` is told, where somebody wants to know how far the hook is.
        """
        self._tell(termination=str(termination), progress=progress)

    def hook_ended(self) -> tuple[int | None, Stopped | None]:
        """Have all processes ended that the hook left behind, so that nobody writes any more.

        Returns the peak of its memory in bytes where it was sampled, and why it was told to end, if it was.
        """
        self._tell(ended=True)
        answer = json.loads(self._answer.readline())
        return answer["peak"], Stopped(*answer["stopped"]) if answer["stopped"] else None

    def done(self, code: int) -> None:
        """Everything is told; the process ends with this exit code. Without this word its end is a death."""
        self._tell(code=code)

    def _tell(self, **said: Any) -> None:
        os.write(self._said, json.dumps(said).encode() + b"\n")


def supervise(work: Callable[[Link], int]) -> NoReturn:
    """Do `work` in a child and end with the exit code of the result contract. Call it while there is but one thread."""
    began, began_at, killed_before = time.monotonic(), time.time(), Memory().killed()
    printed, print_to = os.pipe()
    said, say = os.pipe()
    answer, answer_to = os.pipe()
    is_init = os.getpid() == 1
    if not is_init:  # orphans come to us, as they do to a container's first process
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # none is lost before somebody listens
    child = os.fork()
    if child:
        for handle in (print_to, say, answer):
            os.close(handle)
        supervisor = Supervisor(child, printed, said, answer_to, began, began_at, killed_before)
        os._exit(supervisor.run())
    if not is_init:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)  # Ctrl-C in a terminal is for the supervisor, which hands it on
    for handle in (printed, said, answer_to):
        os.close(handle)
    os.dup2(print_to, 1)
    os.dup2(print_to, 2)
    os.close(print_to)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a pipe would hide a hook's progress
    _work(work, Link(say, answer))


def _work(work: Callable[[Link], int], link: Link) -> NoReturn:
    code = 1
    try:
        code = work(link)
        flush()
        link.done(code)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        flush()
    os._exit(code)  # threads and exit handlers that libraries leave behind must not hold the pod or change its code


class Supervisor:
    """Looks after one child until it and all that it started have ended."""

    def __init__(
        self, child: int, printed: int, said: int, answer: int, began: float, began_at: float, killed_before: int
    ) -> None:
        self._child = child
        self._said = [said]
        self._answer = answer
        self._began = began
        self._began_at = began_at
        self._memory = Memory()
        self._killed_before = killed_before
        self._grace = float(os.environ.get("SANDBOX_GRACE_SECONDS", GRACE))
        self._log = Log(1)
        self._copier = threading.Thread(target=self._log.copy, args=(printed,), name="log", daemon=True)
        self._wake, wake_write = os.pipe()
        self._half_line = b""
        self._status: int | None = None
        self._told_code: int | None = None
        self._stopped: Stopped | None = None
        self._seconds: int | None = None
        self._kill_at: float | None = None
        self._events: Events | None = None
        self._sampler: PeakSampler | None = None
        self._reporter: Reporter | None = None
        self._peak: int | None = None
        self._hook_began: float | None = None
        for handle in (said, self._wake, wake_write):
            os.set_blocking(handle, False)
        for number in HEARD:
            signal.signal(number, _wake_up)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)

    def run(self) -> int:
        """Until the end; the exit code."""
        self._copier.start()
        while self._status is None:
            signals = self._wait()
            self._reap()
            for number in signals:
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._tell_to_end(told_to_end(signal.Signals(number)))
            self._hear()
            self._keep_time()
            if self._sampler is not None:
                self._sampler.sample()
        self._end_others()
        self._hear()  # its last word may have come with its end
        code = os.waitstatus_to_exitcode(self._status)
        if code != self._told_code:
            code = self._report_death(code)
        self._drain(STUCK)
        if self._reporter is not None:
            self._reporter.end()
            self._reporter.wait()
        return code

    def _wait(self) -> bytes:
        """Until something is said or ends, or it is time for something; the numbers of the signals that came."""
        now = time.monotonic()
        times = [self._kill_at, self._limit_at(), None if self._sampler is None else now + INTERVAL]
        nearest = min((at for at in times if at is not None), default=None)
        handles = [self._wake, *self._said]
        ready, _, _ = select.select(handles, [], [], None if nearest is None else max(0.0, nearest - now))
        return os.read(self._wake, 4096) if self._wake in ready else b""

    def _limit_at(self) -> float | None:
        return None if self._seconds is None or self._stopped is not None else self._began + self._seconds

    def _keep_time(self) -> None:
        now, limit = time.monotonic(), self._limit_at()
        if limit is not None and now >= limit:
            words = f"the job's time of {self._seconds} s (timeouts.active) ran out"
            self._tell_to_end(Stopped("Timeout", "Timeout", words))
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_all()

    def _tell_to_end(self, stopped: Stopped) -> None:
        """Once: the first reason is the one that counts."""
        if self._stopped is None and self._status is None:
            self._stopped = stopped
            self._kill_at = time.monotonic() + self._grace
            send({self._child}, signal.SIGTERM)

    def _hear(self) -> None:
        """What the child says."""
        for said in self._said_lines():
            if "seconds" in said:
                self._seconds = said["seconds"]
            elif "log" in said:
                self._log.open(Path(said["log"]))
                self._events = Events(Path(said["events"]))
            elif "termination" in said and self._events is not None:
                self._hook_began = time.monotonic()
                self._sampler = PeakSampler(self._memory, self._events, Path(said["termination"]))
                self._report_progress(said.get("progress"))
            elif "ended" in said:
                self._stop_sampling()
                self._end_others()
                stopped = self._stopped and (self._stopped.class_, self._stopped.kind, str(self._stopped))
                with contextlib.suppress(OSError):  # it may have died meanwhile
                    os.write(self._answer, json.dumps({"peak": self._peak, "stopped": stopped}).encode() + b"\n")
            elif "code" in said:
                self._told_code = said["code"]

    def _report_progress(self, told: Mapping[str, Any] | None) -> None:
        if told is None or self._events is None:
            return
        from .progress import Reporter

        events, token = self._events, Path(os.environ.get("SANDBOX_PROGRESS_TOKEN", told["token"]))
        self._reporter = Reporter(told, token, lambda words: events.add("progress", words=words))
        self._reporter.start()

    def _said_lines(self) -> Iterator[dict[str, Any]]:
        for handle in tuple(self._said):
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(handle, 65536):
                    self._half_line += chunk
                self._said.remove(handle)  # its end: nobody can say anything more
        *lines, self._half_line = self._half_line.split(b"\n")
        return map(json.loads, lines)

    def _stop_sampling(self) -> None:
        """The hook has ended."""
        if self._reporter is not None:
            self._reporter.end()
        if self._sampler is not None:
            self._peak, self._sampler = self._sampler.peak, None
            if self._killed():  # what was used then no sample has seen
                self._peak = self._memory.peak() or self._peak

    def _killed(self) -> int:
        """Processes of the container that the kernel has killed for memory since our start."""
        return self._memory.killed() - self._killed_before

    def _reap(self) -> None:
        """Collect the dead among our children, orphans of the hook's included."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self._child:
                    self._status = found[1]

    def _others(self) -> set[int]:
        """Living processes below us, the hook's own left out."""
        self._reap()
        return descendants() - {self._child}

    def _end_others(self) -> None:
        """End every process that the hook left behind, politely first."""
        send(self._others(), signal.SIGTERM)
        deadline = time.monotonic() + LEFT_OVER_GRACE
        while self._others() and time.monotonic() < deadline:
            time.sleep(0.02)
        deadline = time.monotonic() + LEFT_OVER_GRACE
        while (left := self._others()) and time.monotonic() < deadline:  # a parent's end may bring its orphans to us
            send(left, signal.SIGKILL)
            time.sleep(0.01)

    def _kill_all(self) -> None:
        """The grace period is over. What can't be killed (it waits for a volume) ends with the container."""
        deadline = time.monotonic() + STUCK
        while self._status is None and time.monotonic() < deadline:
            send(descendants(), signal.SIGKILL)
            time.sleep(0.01)
            self._reap()
        if self._status is None:
            self._status = signal.SIGKILL

    def _drain(self, patience: float) -> None:
        """Wait until all that was printed is copied: for a reader that is slow, not for one that reads nothing."""
        copied = -1
        while self._copier.is_alive() and self._log.copied != copied:
            copied = self._log.copied
            self._copier.join(patience)

    def _report_death(self, code: int) -> int:
        """The child has told no end of its job: tell it in its place."""
        from .death import Death, report_death

        self._stop_sampling()
        self._drain(PATIENCE)  # its last words belong to the result, which must not wait for ever
        death = Death(
            code=code,
            stopped=self._stopped,
            killed_for_memory=self._killed(),
            sampled_peak=self._peak,
            last_words=self._log.tail.decode(errors="replace"),
            started_at=self._began_at,
            hook_seconds=None if self._hook_began is None else round(time.monotonic() - self._hook_began, 3),
        )
        try:
            told = report_death(death, os.environ)
        except Exception as error:  # the exit code still tells the class
            sys.excepthook(type(error), error, error.__traceback__)
            return code if code > 0 else 128 - code
        if not self._copier.is_alive():
            self._log.write(f"{told.words}\n".encode())
        if self._events is not None:
            self._events.add("died", code=code, words=told.words)
        return told.code


def _wake_up(*_: object) -> None:
    """That a signal came is read from the wake-up descriptor."""
