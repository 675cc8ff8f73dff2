# SPDX-License-Identifier: Apache-2.0
"""How the order to end reaches a hook: SIGTERM becomes an exception in the main thread, so that the hook's own
`finally` saves what a later attempt resumes from.

Nothing more. Who gives the order, and what becomes of a hook that does not heed it, is the supervisor's.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox_api.result import ErrorClass


class Stopped(BaseException):
    """The job was told to end. Not an Exception, so that a hook's `except Exception` doesn't swallow it."""

    def __init__(self, class_: ErrorClass, kind: str, message: str) -> None:
        super().__init__(message)
        self.class_ = class_
        self.kind = kind


def told_to_end(number: signal.Signals) -> Stopped:
    """Somebody sent this signal."""
    return Stopped("Preempted", number.name, f"the pod was told to end ({number.name})")


class Stop:
    """Turns SIGTERM into `Stopped`, once."""

    def __init__(self) -> None:
        self.reason: Stopped | None = None
        """Why the job is to end, as far as it is known here."""
        self._armed = False

    def install(self) -> None:
        """Listen from now on. In a forked child the signal means what it always means."""
        signal.signal(signal.SIGTERM, self._receive)
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Where an exception may land. Outside of it a signal is only remembered."""
        self._armed = True
        try:
            if self.reason:
                raise self.reason
            yield
        finally:
            self._armed = False

    def _receive(self, *_: object) -> None:
        if self.reason is None:
            self.reason = told_to_end(signal.SIGTERM)
            if self._armed:
                raise self.reason
