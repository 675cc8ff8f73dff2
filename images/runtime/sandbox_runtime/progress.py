# SPDX-License-Identifier: Apache-2.0
"""Tells the operator how far the hook is: a thread of the supervisor that follows the attempt's metrics.jsonl.

The file is the truth and the hook knows nothing of this: nobody who listens, listens slowly or refuses can delay it,
fail it or hold its exit for more than a moment. It is no part of the hook's process, whose Python may be locked for
minutes. Standard library alone: the supervisor imports nothing large.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .metrics import NOT_FINITE

MAX_FIGURES = 8
"""Of the newest figures, those of the newest lines first; as many as the operator takes."""
MAX_ANSWER = 65536
RECENT = 100
"""Steps over which the speed is taken."""
CHUNK = 1 << 20

Answer = tuple[int, dict[str, Any]]
"""HTTP status, and what the body says."""
Post = Callable[[str, str, bytes, float], Answer]
"""URL, token, body and seconds; raises OSError or ValueError when there is no answer that can be read."""


@dataclass(frozen=True)
class Pace:
    """Seconds."""

    first: float = 5.0
    """The first report comes within so long, at a moment of each pod's own: thousands may start at once."""
    look: float = 1.0
    """Between two looks at the file of a trial that has rungs, whose values are told at once."""
    interval: float = 10.0
    """Between two reports, until the operator says otherwise."""
    longest: float = 300.0
    """Between two tries while nobody takes them."""
    again: float = 3.0
    """After the first one that was not taken; doubled by each one that follows."""
    answer: float = 10.0
    """For so long an answer is waited for."""
    last: float = 1.0
    """The same for the last report, from the hook's end on."""


PACE = Pace()


class Followed:
    """What the lines of a metrics.jsonl say, as far as they were read.

    prefix: what the hook's figures begin with. rungs: of the contract; the value of `metric` at the first line where
    `resource` has come to each of `at`.
    """

    def __init__(self, prefix: str, rungs: Mapping[str, Any] | None = None) -> None:
        self.step: int | None = None
        self.total: int | None = None
        self.t: float | None = None
        self.reached: dict[int, float | None] = {}
        """Value by rung, in the order in which they came; None: no finite number."""
        self._prefix = prefix + "."
        self._figures: dict[str, float] = {}
        """The newest last."""
        self._steps: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._metric, self._resource = (rungs or {}).get("metric"), (rungs or {}).get("resource")
        self._at = [int(rung) for rung in (rungs or {}).get("at", ())]
        self._way: float | None = None
        """The newest value of the resource."""

    @property
    def metrics(self) -> dict[str, float]:
        """The newest figures, the newest first."""
        return dict(list(reversed(self._figures.items()))[:MAX_FIGURES])

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, as fast as the last ones went."""
        if self.total is None or len(self._steps) < 2:
            return None
        (began, first), (now, last) = self._steps[0], self._steps[-1]
        return round(max(0, self.total - last) * (now - began) / (last - first), 1)

    def take(self, line: bytes) -> None:
        """Read one line. What can't be read is left out: the file may be a user's own program's."""
        try:
            found = json.loads(line)
        except ValueError:
            return
        if not isinstance(found, dict):
            return
        numbers = {name: _float(value) for name, value in found.items() if _is_number(value)}
        figures = {name: value for name, value in numbers.items() if math.isfinite(value)}
        named = found.get(NOT_FINITE)
        no_numbers = {name for name in named if isinstance(name, str)} if isinstance(named, list) else set()
        no_numbers |= numbers.keys() - figures.keys()
        for name in no_numbers:  # the last good one would be taken for how it is
            self._figures.pop(name.removeprefix(self._prefix), None)
        self.t = figures.get("t", self.t)
        if "step" in figures:
            self._stepped(int(figures["step"]))
        if "total" in figures:
            self.total = int(figures["total"])
        for name, value in reversed(figures.items()):
            if name not in ("t", "step", "total"):
                name = name.removeprefix(self._prefix)
                self._figures.pop(name, None)
                self._figures[name] = value
        self._climb(figures, no_numbers)

    def _stepped(self, step: int) -> None:
        if self.step is not None and step < self.step:  # another part of the job counts from the start again
            self._steps.clear()
        self.step = step
        if self.t is not None and not (self._steps and (self._steps[-1][1] >= step or self._steps[-1][0] >= self.t)):
            self._steps.append((self.t, step))

    def _climb(self, figures: Mapping[str, float], no_numbers: Container[str | None]) -> None:
        if not self._at:
            return
        way = figures.get(self._resource or "")
        if way is None and (self._resource == "step" or str(self._resource).endswith(".step")):
            way = figures.get("step")  # every line has it without the metaName
        self._way = self._way if way is None else way
        value = figures.get(self._metric or "")
        if self._way is None or (value is None and self._metric not in no_numbers):
            return
        for rung in self._at:
            if self._way >= rung:
                self.reached.setdefault(rung, value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more digits than a float holds
        return math.inf


class Reporter:
    """`start` it when the hook starts, `end` it when the hook has ended, `wait` for it at the very end.

    told: url, pod, job, attempt, tellers, prefix, metrics (path of the file) and rungs. token: the file that the
    kubelet keeps up to date. note: hears in words what changes: that reports are not taken, and that they are again.
    """

    def __init__(
        self,
        told: Mapping[str, Any],
        token: Path,
        note: Callable[[str], None],
        *,
        post: Post | None = None,
        pace: Pace = PACE,
    ) -> None:
        self._told = told
        self._token = token
        self._note = note
        self._post = post or http_post
        self._pace = pace
        self._followed = Followed(told["prefix"], told.get("rungs"))
        self._path = Path(told["metrics"])
        self._read = 0
        self._news = False
        self._acknowledged: set[int] = set()
        self._sent: set[int] = set()
        """Rungs that were in a report that was taken."""
        self._interval = pace.interval
        self._failures = 0
        self._trouble = ""
        self._ended = threading.Event()
        self._ended_at = 0.0
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """The hook has ended: one last report. Returns at once; calling it again means nothing."""
        if not self._ended.is_set():
            self._ended_at = time.monotonic()
            self._ended.set()

    def wait(self) -> None:
        """Until the last report is out, but not for more than a moment after `end`."""
        self._thread.join(max(0.0, self._ended_at + self._pace.last - time.monotonic()))

    def _run(self) -> None:
        due = time.monotonic() + random.uniform(0, self._pace.first)
        while not self._ended.wait(self._pause(due)):
            self._look()
            now = time.monotonic()
            if now < due and not (self._new_rungs() and not self._failures):
                continue
            # A rung is told again as long as nobody has said that it is known, whether or not anything else is new.
            taken = self._tell(self._pace.answer) if self._news or self._unacknowledged() else True
            due = time.monotonic() + (self._interval if taken else self._back_off())
        self._look()
        if self._news or self._unacknowledged():
            self._tell(max(0.1, self._ended_at + self._pace.last - time.monotonic()))

    def _pause(self, due: float) -> float:
        left = max(0.01, due - time.monotonic())
        return min(left, self._pace.look) if self._told.get("rungs") else left

    def _back_off(self) -> float:
        pause = min(self._pace.longest, self._pace.again * 2 ** min(self._failures - 1, 20))
        return pause * random.uniform(0.8, 1.2)

    def _look(self) -> None:
        """Read the lines that are new. The last one may not be whole yet."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._read)
            rest = b""
            while chunk := file.read(CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._followed.take(line)
                    self._read += len(line) + 1
                    self._news = True

    def _unacknowledged(self) -> list[int]:
        return [rung for rung in self._followed.reached if rung not in self._acknowledged]

    def _new_rungs(self) -> bool:
        return any(rung not in self._sent for rung in self._unacknowledged())

    def _tell(self, seconds: float) -> bool:
        """Send one report; whether it was taken."""
        followed, rungs = self._followed, self._unacknowledged()
        report = {
            **{name: self._told[name] for name in ("pod", "job", "attempt", "tellers")},
            "step": followed.step,
            "total": followed.total,
            "metrics": followed.metrics,
            "t": followed.t,
            "secondsLeft": followed.seconds_left,
            "rungs": [{"rung": rung, "value": followed.reached[rung]} for rung in rungs],
        }
        try:
            token = self._token.read_text().strip()  # the kubelet puts a new one there now and then
            status, answer = self._post(self._told["url"], token, json.dumps(report).encode(), seconds)
        except Exception as error:  # whatever it is: the hook must not hear of it
            return self._failed(f"{type(error).__name__}: {error}")
        if status != 200:
            return self._failed(f"it was answered with {status}: {answer.get('text', '')}")
        self._news = False
        self._failures = 0
        self._sent |= set(rungs)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self._interval = min(max(float(answer["interval"]), self._pace.look), 24 * 3600.0)
            self._acknowledged |= {int(rung) for rung in answer.get("acknowledged", ())}
        if self._trouble:
            self._trouble = ""
            self._note("progress is told again")
        return True

    def _failed(self, why: str) -> bool:
        self._failures += 1
        if why != self._trouble:
            self._trouble = why
            self._note(f"progress is not told, and the hook goes on: {why}"[:500])
        return False


def http_post(url: str, token: str, body: bytes, seconds: float) -> Answer:
    """Send one report; no redirect is followed and no proxy asked, for the token is for this address alone."""
    import http.client  # only where progress is told

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=seconds)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", parts.path or "/", body, headers)
        response = connection.getresponse()
        text = response.read(MAX_ANSWER).decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"no answer that can be read: {error!r}") from error
    finally:
        connection.close()
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    return response.status, said if isinstance(said, dict) else {"text": text.strip()[:300]}
