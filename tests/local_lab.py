# SPDX-License-Identifier: Apache-2.0
"""Local runs of toy hooks: the real planner, the real runtime in processes of its own, a folder of the test's."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hook_pod import PATHS

from sandbox_api.extra import ExtraConfig
from sandbox_api.hook import STAGES, Hook
from sandbox_api.status import ExperimentStatus, JobStatus
from sandbox_operator.cli.local_apply import applied
from sandbox_operator.cli.local_folder import LocalFolder, Stored
from sandbox_operator.cli.local_neighbours import leave_link
from sandbox_operator.cli.local_pod import Machine, Programs
from sandbox_operator.cli.local_run import LocalRun
from sandbox_operator.cli.offline import Experiment


class ToySettings(ExtraConfig):
    do: str
    text: str = ""
    say: str = ""
    read: Any = None
    items: list[str] = []
    words: list[str] = []
    broken: list[int] = []
    waits: list[int] = []
    fails: int | None = None
    export_path: str | None = None


TOYS = {
    "ToyHook": Hook("ToyHook", "toy", STAGES, ("text", "seen", "folder"), extra=ToySettings),
    "toy": Hook("toy", "toy", STAGES, ("words", "second"), extra=ToySettings, spans_pods=True, divisible=True),
}
"""The same class under two names, with as many results as what it does there has."""
ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, PATHS))}


def toy(do: str = "write", **more: Any) -> dict[str, Any]:
    """A job of the hook that does what it is told."""
    extra = {"do": do, **more.pop("extra", {})}
    return {"hook": "ToyHook", "extraConfigs": extra, **more}


def toys(*jobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A spec of such jobs in one list."""
    return {
        "workspace": {"claim": {"size": "1Gi"}},
        "retry": {"backoff": "1s"},
        "executionJobConfigs": list(jobs),
        **more,
    }


@dataclass
class LocalLab:
    """`start` begins or resumes the run of a spec in one folder, as `sandboxctl run --local` does."""

    root: Path
    volume: Path | None = None
    name: str = "demo"

    def __post_init__(self) -> None:
        self.folder = LocalFolder(self.root, self.volume)

    @property
    def stored(self) -> Stored:
        stored = self.folder.read_experiment()
        assert stored is not None
        return stored

    @property
    def status(self) -> ExperimentStatus:
        return self.folder.read_status()

    @property
    def jobs(self) -> list[str]:
        """State, reason and attempts of each job."""
        return [f"{job.state} {job.reason} {job.attempts}" for job in self.status.jobs]

    def job(self, meta_name: str) -> JobStatus:
        (found,) = [job for job in self.status.jobs if job.meta_name == meta_name]
        return found

    def text_at(self, path: str | Path) -> str:
        return Path(path).read_text()

    def start(self, spec: Mapping[str, Any], *, most: int | None = None, python: str = sys.executable) -> LocalRun:
        self.folder.close()
        self.folder.lock()
        stored = applied(Experiment(self.name, None, spec), self.folder.read_experiment(), self.status)
        self.folder.write_experiment(stored)
        leave_link(self.folder, stored)
        machine = Machine(self.folder.workspace, self.folder.inputs, ENVIRON, {}, Programs(python))
        return LocalRun(stored, self.folder, machine, TOYS, most=most)

    async def run(self, spec: Mapping[str, Any], **more: Any) -> ExperimentStatus:
        """To its end."""
        async for status in self.start(spec, **more).statuses():
            last = status
        return last
