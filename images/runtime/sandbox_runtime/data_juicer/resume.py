# SPDX-License-Identifier: Apache-2.0
"""The rows after the operators that are done, kept so that a later attempt goes on from there.

Data-Juicer's own checkpoint compares operators with their working folder in them, is written in place and
only at the end; a retry in another folder would begin anew, and a pod killed in the middle of writing would
leave half a data set. Here each entry is a folder of its own, complete by its rename, and names the attempt
that wrote it.
"""

import contextlib
import json
import logging
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import sync_folder, sync_tree

log = logging.getLogger(__name__)

RECORD = "record.json"
ROWS = "rows"
# Where and how wide an operator runs says nothing of what it does to rows.
EXECUTION_ONLY = frozenset({"work_dir", "num_proc", "batch_size", "auto_op_parallelism", "turbo", "num_cpus", "memory"})


@dataclass(frozen=True)
class Saved:
    """The rows in `path` are what the first `done` operators left; `counts` are the rows after each of them."""

    path: Path
    done: int
    counts: tuple[int, ...]


class State:
    """Saved rows of one job in `folder`, for an input with the digest `source` and the operators `process`."""

    def __init__(self, folder: Path, attempt: int, source: str, process: Sequence[Mapping[str, Any]]) -> None:
        self._folder = folder
        self._attempt = attempt
        self._source = source
        self._process = [_content(entry) for entry in process]

    def latest(self) -> Saved | None:
        """Return the entry with the most operators done that fits this input and the beginning of this
        recipe.
        """
        best: tuple[int, int] = (0, 0)
        found = None
        for record, path in self._entries():
            done = len(record["process"])
            if (
                record["source"] != self._source
                or record["process"] != self._process[:done]
                or done > len(self._process)
            ):
                log.info("the saved rows in %s are of another input or recipe", path)
            elif (done, record["attempt"]) > best:
                best = (done, record["attempt"])
                found = Saved(path / ROWS, done, tuple(record["counts"]))
        return found

    def save(self, dataset: Any, counts: Sequence[int]) -> None:
        """Keep `dataset`, the rows after `len(counts)` operators. It is whole or not there; entries of others
        are never touched.
        """
        if not counts or len(dataset) == 0:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"a{self._attempt}-op{len(counts)}-{uuid.uuid4().hex[:8]}"
        partial = self._folder / f".{name}"
        # one process: workers would open files that Data-Juicer has unlinked already and that only this
        # process still maps
        dataset.save_to_disk(str(partial / ROWS))
        record = {
            "attempt": self._attempt,
            "source": self._source,
            "process": self._process[: len(counts)],
            "counts": list(counts),
        }
        (partial / RECORD).write_text(json.dumps(record), encoding="utf-8")
        sync_tree(partial)
        partial.rename(self._folder / name)
        sync_folder(self._folder)
        self._drop(lambda record: record["attempt"] <= self._attempt, keep=self._folder / name)

    def clear(self) -> None:
        """Drop what this attempt and earlier ones saved: the job has its result."""
        self._drop(lambda record: record["attempt"] <= self._attempt)

    def _drop(self, unwanted: Any, keep: Path | None = None) -> None:
        for record, path in self._entries():
            if path != keep and unwanted(record):
                shutil.rmtree(path, ignore_errors=True)
        for path in self._folder.glob(".a*-op*"):  # a writer was killed in the middle
            if int(path.name.removeprefix(".a").partition("-")[0]) < self._attempt:
                shutil.rmtree(path, ignore_errors=True)

    def _entries(self) -> list[tuple[dict[str, Any], Path]]:
        entries = []
        for path in sorted(self._folder.glob("a*-op*")):
            with contextlib.suppress(OSError, ValueError):  # another attempt may be dropping it
                entries.append((json.loads((path / RECORD).read_text(encoding="utf-8")), path))
        return entries


def _content(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operator as what it does to rows, in a form that survives JSON."""
    kept = {
        op: {name: value for name, value in (arguments or {}).items() if name not in EXECUTION_ONLY}
        for op, arguments in entry.items()
    }
    plain: dict[str, Any] = json.loads(json.dumps(kept, sort_keys=True, default=str))
    return plain
