# SPDX-License-Identifier: Apache-2.0
"""A local run's folder: what stands where a cluster has objects and volumes. The only place that knows its layout.

    experiment.json   the resource as applied: name, uid, generation, spec
    status.json       its status, as the operator would write it
    claim.json        the claim that was made for it
    jobs/<name>/      one for each Kubernetes Job: job.json, pod.json, log.txt, what its hook said at its end
    inputs/<name>     spec.inputs
    workspace/        the volume

Every file is replaced in one step, so that whoever reads, or comes after a crash, finds it whole.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from sandbox_api.base import API_VERSION
from sandbox_api.status import ExperimentStatus

from .experiments import Ended
from .offline import Experiment

LOCAL_NAMESPACE = "local"
"""Of an experiment whose file names none."""
STATUS = "status.json"
LOCK = "lock"


@dataclass(frozen=True)
class Stored:
    """An experiment as an API server would have it."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: Mapping[str, Any]


class LocalFolder:
    def __init__(self, root: Path, volume: Path | None = None) -> None:
        """`volume` is the workspace, where it is not the folder's own."""
        self.root = root.absolute()
        self.workspace = volume.absolute() if volume is not None else self.root / "workspace"
        self.inputs = self.root / "inputs"
        self.jobs = self.root / "jobs"
        self.claim = self.root / "claim.json"
        self.status_file = self.root / STATUS
        self._experiment = self.root / "experiment.json"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Make the folder and keep other runs out of it until this process ends. Raises Ended when one is in it."""
        try:
            for folder in (self.root, self.workspace, self.inputs, self.jobs):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.root / LOCK).open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Ended(f"another sandboxctl runs in {self.root}; wait for it, or take another --folder") from None
        except OSError as error:
            raise Ended(f"--folder: {error}") from error

    def close(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read_experiment(self) -> Stored | None:
        """The experiment that runs or ran here. Raises Ended when its file is not one of ours."""
        if not self._experiment.exists():
            return None
        try:
            item = json.loads(self._experiment.read_text())
            meta = item["metadata"]
            return Stored(meta["name"], meta["namespace"], meta["uid"], meta["generation"], item["spec"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Ended(f"{self._experiment}: can't be read as a local run's experiment: {error!r}") from error

    def write_experiment(self, stored: Stored) -> None:
        meta = {
            "name": stored.name,
            "namespace": stored.namespace,
            "uid": stored.uid,
            "generation": stored.generation,
        }
        item = {"apiVersion": API_VERSION, "kind": "SandboxExperiment", "metadata": meta, "spec": stored.spec}
        write_json(self._experiment, item)

    def read_status(self) -> ExperimentStatus:
        """Raises Ended when the file is not a status."""
        if not self.status_file.exists():
            return ExperimentStatus()
        try:
            return ExperimentStatus.model_validate_json(self.status_file.read_bytes())
        except (OSError, ValueError) as error:
            raise Ended(f"{self.status_file}: can't be read as a status: {error}") from error

    def write_status(self, status: ExperimentStatus) -> None:
        write_json(self.status_file, status.model_dump(mode="json", exclude_none=True))


def new_experiment(experiment: Experiment) -> Stored:
    """What an API server makes of an experiment that it sees first."""
    return Stored(experiment.name, experiment.namespace or LOCAL_NAMESPACE, str(uuid4()), 1, experiment.spec)


def read_run(folder: Path, name: str) -> tuple[Stored, ExperimentStatus]:
    """An experiment that runs or ran in a folder, and how it stands. Raises Ended when none of that name does."""
    run = LocalFolder(folder)
    stored = run.read_experiment()
    if stored is None:
        raise Ended(f"--folder: {folder} holds no run")
    if stored.name != name:
        raise Ended(f"--folder: {folder} holds a run of {stored.name!r}, not of {name!r}")
    return stored, run.read_status()


def write_json(path: Path, value: Any) -> None:
    """Replace a file in one step, its content on the disk before its name."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
