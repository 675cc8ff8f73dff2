# SPDX-License-Identifier: Apache-2.0
"""A worker process's side: `python -m MODULE FOLDER`, with `job.json` in the folder.

It makes `began-<rank>`, then writes `result-<rank>.json` or `error-<rank>.json`, the first one also `figures.jsonl`.
Between two steps it looks for a file `stop`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import STORAGE_ERRNOS, HookError
from ..files import write_atomic


class Desk:
    """The folder by which a worker and its parent talk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.is_among_others = self.size > int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        """Whether processes of other pods compute with it."""
        self.total: int | None = None
        """Steps in all, where the worker knows."""
        (folder / f"began-{self.rank}").touch()

    def job(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder / "job.json").read_text())
        return found

    def should_stop(self) -> bool:
        return (self._folder / "stop").exists()

    def figures(self, figures: Mapping[str, float], step: int) -> None:
        with (self._folder / "figures.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "total": self.total, "figures": figures}) + "\n")

    def result(self, value: Any) -> None:
        write_atomic(self._folder / f"result-{self.rank}.json", json.dumps(value).encode())

    def error(self, kind: str, message: str) -> None:
        content = json.dumps({"class": kind, "message": message}).encode()
        write_atomic(self._folder / f"error-{self.rank}.json", content)


IsOfOthers = Callable[[BaseException], bool]


def work(
    tasks: Mapping[str, Callable[[dict[str, Any], Desk], Any]], smaller: str, *, is_of_others: IsOfOthers | None = None
) -> None:
    """Do the task that `job.json` names. smaller: what the user can do where a GPU has too little memory. is_of_others:
    whether an error only says that another process has gone.
    """
    desk = Desk(Path(sys.argv[1]))
    try:
        job = desk.job()
        desk.result(tasks[job["task"]](job, desk))
    except BaseException as error:
        desk.error(*_told(error, desk, smaller, is_of_others))
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # other ranks may be waiting in a collective; torchrun ends them


def _told(error: BaseException, desk: Desk, smaller: str, is_of_others: IsOfOthers | None) -> tuple[str, str]:
    import torch  # a worker has it by now

    if isinstance(error, HookError):
        return type(error).__name__, str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "UserError", f"a GPU has too little memory: {str(error).splitlines()[0]}; {smaller}"
    if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
        return "InfraError", str(error)
    if desk.is_among_others and is_of_others is not None and is_of_others(error):
        return "PeerLost", f"another pod of the training has gone: {str(error).splitlines()[0]}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "UserError", f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
