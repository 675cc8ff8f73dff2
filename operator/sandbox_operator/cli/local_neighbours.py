# SPDX-License-Identifier: Apache-2.0
"""Other local runs on the same volume: what they have done may be used again, what they do may be waited for.

Each run leaves a link to its folder in its own folder of the volume, so that they find each other there.
"""

from __future__ import annotations

import contextlib
import fcntl
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from sandbox_api.contract import experiment_folder
from sandbox_api.status import DONE_STATES, ExperimentStatus

from ..plan.facts import CacheEntry
from ..plan.rerun import makes_a_result
from .local_folder import LOCK, STATUS, LocalFolder, Stored

LINK = ".local-run"


@dataclass
class Around:
    """What the planner asks about the volume."""

    cached: dict[str, CacheEntry] = field(default_factory=dict)
    running_keys: dict[str, str] = field(default_factory=dict)
    at_work: bool = False


class Neighbours:
    def __init__(self, folder: LocalFolder) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[int, ExperimentStatus]] = {}
        """By status file: when it was written, and what it says."""

    def look(self, name: str, status: ExperimentStatus) -> Around:
        """What stands on the volume by now, this run's own results (`status`) among it."""
        around = Around()
        for link in sorted(self._folder.workspace.glob(f"experiments/*/{LINK}")):
            file = link.resolve() / STATUS
            if file == self._folder.status_file or (theirs := self._read(file)) is None:
                continue
            other = link.parent.name.rpartition("-")[0]
            _take_done(around, other, theirs)
            if theirs.completion_time is None and _is_locked(file.with_name(LOCK)):
                around.at_work = True
                keys = {job.cache_key for job in theirs.jobs if job.cache_key and makes_a_result(job)}
                around.running_keys |= dict.fromkeys(keys, other)
        _take_done(around, name, status)
        return around

    def _read(self, file: Path) -> ExperimentStatus | None:
        """Another run's status; None while there is none. Read again only when it was written again."""
        try:
            written = file.stat().st_mtime_ns
            known = self._known.get(file)
            if known is None or known[0] != written:
                known = self._known[file] = written, ExperimentStatus.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):  # it has gone, or is another version's
            return None
        return known[1]


def leave_link(folder: LocalFolder, stored: Stored) -> None:
    """Let other runs on the volume find this one."""
    link = folder.workspace / experiment_folder(stored.name, stored.uid) / LINK
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(folder.root)


def _take_done(around: Around, name: str, status: ExperimentStatus) -> None:
    for job in status.jobs:
        if job.state in DONE_STATES and job.result is not None and job.result.cache_key:
            around.cached.setdefault(job.result.cache_key, CacheEntry(name, job))


def _is_locked(lock: Path) -> bool:
    """Whether its sandboxctl lives."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
