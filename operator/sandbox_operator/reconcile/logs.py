# SPDX-License-Identifier: Apache-2.0
"""How the process logs: text for people, JSON lines for collectors, and in both what each line is about.

Who works at something says so once (`about`); every line that is logged meanwhile, also by the wall to the API server,
then carries it. No call of a logger names the experiment itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from .settings import Settings

_QUIET = ("aiohttp.access", "kopf", "asyncio")
_NOTHING: Final[Mapping[str, str | int]] = {}
_subject: ContextVar[Mapping[str, str | int]] = ContextVar("subject", default=_NOTHING)


@contextmanager
def about(**subject: str | int) -> Iterator[None]:
    """What is logged in this block is about this, and about what the blocks around it say: `namespace`, one of
    `experiment`, `hook` and `sweep`, and of an experiment's `job` (its id) the `attempt`."""
    before = _subject.set({**_subject.get(), **subject})
    try:
        yield
    finally:
        _subject.reset(before)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, what it is about, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_subject.get(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """`time level logger: namespace/experiment job aN: message`, as far as it is known."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(subject)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        known = _subject.get()
        words = []
        words += [f"{kind} {known.get('namespace', '')}/{known[kind]}" for kind in ("hook", "sweep") if kind in known]
        if "experiment" in known:
            words.append(f"{known.get('namespace', '')}/{known['experiment']}")
        if "job" in known:
            words.append(str(known["job"]))
        if "attempt" in known:
            words.append(f"a{known['attempt']}")
        record.subject = " ".join(words) + ": " if words else ""
        return super().format(record)


def configure_logging(settings: Settings) -> None:
    """Log to standard error in the chosen form; libraries only when they warn."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
