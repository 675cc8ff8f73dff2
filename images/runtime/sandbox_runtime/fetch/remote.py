# SPDX-License-Identifier: Apache-2.0
"""A file that lies elsewhere, and how patiently it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ..errors import InfraError

TRIES = 5
"""In a row without one byte gained; then the attempt fails, and the job's own budget decides."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds between two tries; doubled each time."""
T = TypeVar("T")


class Interrupted(Exception):
    """The other side or the way to it failed; the same may work in a moment. `after`: seconds it asks to wait."""

    def __init__(self, said: str, after: float | None = None) -> None:
        super().__init__(said)
        self.after = after


class Changed(Interrupted):
    """What was fetched so far is of another content than what is there now."""

    def __init__(self) -> None:
        super().__init__("it has changed since a part of it was fetched")


class Halted(Exception):
    """The job was told to end."""


@dataclass(frozen=True)
class Body:
    """An answer: the bytes of a file from `start` on."""

    start: int
    chunks: Iterator[bytes]
    size: int | None = None
    """Of the whole file, where the other side says so."""
    version: str | None = None
    """What the other side calls this content; None: two answers can't be told apart."""
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class RemoteFile:
    """One file. What the listing does not know is learnt from the answer."""

    name: str
    """Where it goes below the fetched folder, with `/`."""
    told: str
    """How it is named in messages; no query, no secret."""
    open: Callable[[int, str | None], Body]
    """Ask for the bytes from an offset on, of the version that the first ones are of. The answer may begin at 0."""
    size: int | None = None
    version: str | None = None
    sha256: str | None = None
    """Digest that it must have."""
    is_pinned: bool = False
    """Whether that digest stands in the configuration, not in what the hub lists."""


def patiently(told: str, act: Callable[[], T], halt: threading.Event, gained: Callable[[], int] = lambda: 0) -> T:
    """Do something until it works. Raises InfraError when it was interrupted TRIES times and gained nothing, and
    Halted when the job was told to end meanwhile.
    """
    failures = 0
    while True:
        before = gained()
        try:
            return act()
        except Interrupted as error:
            failures = 1 if gained() > before else failures + 1
            if failures >= TRIES:
                raise InfraError(f"{told}: {error}; {failures} tries in a row") from None
            wait = min(error.after or FIRST_WAIT * 2 ** (failures - 1), LONGEST_WAIT)
            print(f"{told}: {error}; asking again in {wait:g} s", flush=True)
            if halt.wait(wait):
                raise Halted from None
