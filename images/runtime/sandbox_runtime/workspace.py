# SPDX-License-Identifier: Apache-2.0
"""Where everything lies on the volume: the only place that knows the folder layout (docs: contracts, section 3).

Each pod writes in a folder of its own, so that a late pod of an older attempt can mislead a person but never a job.
Names that users chose (`export_path`) are links to what a pod wrote, made when it succeeded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from sandbox_api.contract import JobContract, attempt_folder, contract_digest, experiment_folder
from sandbox_api.result import Output, Result

from .errors import ConfigError, InfraError
from .files import digest_of, link_atomic


class Workspace:
    """The volume as one attempt of one job sees it. Making it touches nothing; `enter` does."""

    def __init__(self, root: Path, inputs: Path, contract: JobContract, pod_uid: str) -> None:
        self.root = root.absolute()
        self.inputs = inputs.absolute()
        self._contract = contract
        name = experiment_folder(contract.experiment.name, contract.experiment.uid)
        self.experiment = self.root / name
        self.job = self.experiment / "jobs" / contract.job.id
        self.attempt = self.root / attempt_folder(name, contract.job.id, contract.attempt, pod_uid)
        self.out = self.attempt / "out"
        self.scratch = self.attempt / "work"
        self.state = self.job / "state" / contract_digest(contract)[:12]
        """What a later attempt of the same contract may resume from; shared, so entries are made by rename."""
        self.cache = self.root / "cache"
        self.metrics = self.attempt / "metrics.jsonl"
        self.log = self.attempt / "log.txt"
        self.events = self.attempt / "events.jsonl"
        self.result = self.attempt / "result.json"

    def enter(self) -> None:
        """Make the attempt's folder and the link to the inputs, and go to the experiment's folder.

        Raises InfraError when the volume can't be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self.cache.mkdir(exist_ok=True)
            link_atomic(self.experiment / "inputs", self.inputs, relative=False)
            _point(self.job / "current", self.attempt, self._contract.attempt)
            os.chdir(self.experiment)
        except OSError as error:
            raise InfraError(f"the workspace at {self.root} can't be written: {error.strerror or error}") from error

    def relative(self, path: Path) -> str:
        """A path as results name it: relative to the volume's root. ValueError when it lies elsewhere."""
        return path.absolute().relative_to(self.root).as_posix()

    def inside(self, path: str | Path, field: str) -> Path:
        """A path of a configuration, absolute. ConfigError when it leads out of the volume and the inputs."""
        target = Path(path).expanduser()
        try:
            found = (self.experiment / target).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a zero byte
            raise ConfigError(f"{field}: {str(path)[:200]!r} is not a path: {error}") from error
        if not any(found.is_relative_to(allowed.resolve()) for allowed in (self.root, self.inputs)):
            raise ConfigError(
                f"{field}: the path {str(path)!r} leads out of the workspace; give one inside {self.root} or"
                f" {self.inputs}, or one relative to the experiment's folder"
            )
        return self.experiment / target

    def publishable(self, path: str, field: str) -> Path:
        """Where a user's name for an artifact is published. ConfigError when that is no place for one."""
        if "://" in path:
            raise ConfigError(f"{field}: {path!r} is not a path; results are published in the workspace only")
        link = self.inside(path, field)
        folder = link.parent.resolve()
        if folder.is_relative_to(self.inputs.resolve()):
            raise ConfigError(
                f"{field}: {path!r} lies in an input, which is read-only; give a path such as outputs/..."
            )
        if folder.is_relative_to((self.experiment / "jobs").resolve()) or folder.is_relative_to(self.cache.resolve()):
            raise ConfigError(
                f"{field}: {path!r} lies where jobs keep their own files; give a path such as outputs/..."
            )
        return link

    def earlier_success(self) -> tuple[Path, Result] | None:
        """A result of this very contract that an earlier pod of this job wrote, its artifacts still as they were."""
        wanted = contract_digest(self._contract)
        for folder in sorted(self._attempts(), key=_attempt_number, reverse=True):
            result = _read_result(folder / "result.json")
            if result is None or result.outcome != "Succeeded" or result.contract != wanted:
                continue
            if all(self.is_intact(output) for output in result.outputs.values()):
                return folder, result
        return None

    def is_intact(self, output: Output) -> bool:
        """Whether an output that is a path still is what its result says."""
        if output.kind != "path" or output.path is None:
            return True
        try:
            digest = digest_of(self.root / output.path)
        except OSError:
            return False
        return digest.bytes == output.bytes and digest.sha256 == output.sha256

    def clean_up(self) -> None:
        """After a success: artifacts of failed attempts go, their logs stay; nothing is resumed any more."""
        for folder in self._attempts():
            if folder == self.attempt or _attempt_number(folder) > self._contract.attempt:
                continue
            result = _read_result(folder / "result.json")
            if result is None or result.outcome == "Failed":
                shutil.rmtree(folder / "out", ignore_errors=True)
        if all(_attempt_number(folder) <= self._contract.attempt for folder in self._attempts()):
            shutil.rmtree(self.state, ignore_errors=True)

    def _attempts(self) -> Iterator[Path]:
        return (self.job / "attempts").glob("*/*")


def _point(link: Path, attempt: Path, number: int) -> None:
    """`current` names the newest attempt; an older one that starts late leaves it alone."""
    if link.is_symlink() and int(link.readlink().parent.name) > number:
        return
    link_atomic(link, attempt)


def _attempt_number(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def _read_result(path: Path) -> Result | None:
    try:
        return Result.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
