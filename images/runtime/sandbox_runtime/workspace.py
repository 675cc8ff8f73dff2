# SPDX-License-Identifier: Apache-2.0
"""Where everything lies on the volume: the only place that knows the folder layout (docs: contracts, section 3).

Each pod writes in a folder of its own, so that a late pod of an older attempt can mislead a person but never a job.
Names that users chose (`export_path`) are links to what a pod wrote, made when it succeeded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sandbox_api.contract import JobContract, attempt_folder, contract_digest, experiment_folder, job_folder
from sandbox_api.result import Output, Result

from .digests import digest_of
from .errors import ConfigError, InfraError
from .files import link_atomic

METRICS = "metrics.jsonl"
CONFIGS = "configs.jsonl"
RESULT = "result.json"


@dataclass(frozen=True)
class Stored:
    """A result that lies on the volume."""

    path: Path
    result: Result
    sha256: str
    """Digest of its file."""
    bytes: int


class NotStored(Exception):
    """There is no such result, or not the one that was meant; in words that follow its name."""


class Workspace:
    """The volume as one attempt of one job sees it. Making it touches nothing; `enter` does."""

    def __init__(self, root: Path, inputs: Path, contract: JobContract, pod_uid: str) -> None:
        self.root = root.absolute()
        self.inputs = inputs.absolute()
        self._contract = contract
        name = experiment_folder(contract.experiment.name, contract.experiment.uid)
        self.experiment = self.root / name
        self.job = self.experiment / "jobs" / job_folder(contract.job.id)
        self.attempt = self.root / attempt_folder(name, contract.job.id, contract.attempt, pod_uid)
        self.out = self.attempt / "out"
        self.scratch = self.attempt / "work"
        self.state = self.job / "state" / contract_digest(contract)[:12]
        """What a later attempt of the same contract may resume from; shared, so entries are made by rename."""
        self.cache = self.root / "cache"
        self.digests = self.cache / "digests"
        """Digests that are remembered, so that what is large and has not changed is not read again."""
        self.metrics = self.attempt / METRICS
        self.configs = self.attempt / CONFIGS
        """What the job was configured with, a line of `<prefix>.<key>` each time something was told."""
        self.log = self.attempt / "log.txt"
        self.events = self.attempt / "events.jsonl"
        self.result = self.attempt / RESULT

    def prepare(self) -> None:
        """Make the experiment's folder and the link to the inputs in it, from where relative paths begin.

        Raises InfraError when the volume can't be written.
        """
        with self._writing():
            self.cache.mkdir(parents=True, exist_ok=True)
            link_atomic(self.experiment / "inputs", self.inputs, relative=False)

    def enter(self, *, is_followed: bool = True) -> None:
        """Make the attempt's folder too, and go to the experiment's. Raises InfraError as `prepare` does.

        `is_followed`: whether it is the one that people look at, of the pods of a job.
        """
        self.prepare()
        with self._writing():
            self.out.mkdir(parents=True, exist_ok=True)
            if is_followed:
                _point(self.job / "current", self.attempt, self._contract.attempt)
            os.chdir(self.experiment)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
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

    def user_name(self, path: Path) -> str:
        """A path as its user would write it: relative to the experiment's folder where it lies there."""
        return str(path.relative_to(self.experiment)) if path.is_relative_to(self.experiment) else str(path)

    def as_output(self, path: Path, given: str) -> Path | str:
        """What lies on the volume as such, whose digest is part of a result; anything else as `given`, by its name."""
        found, root = path.resolve(), self.root.resolve()
        return self.root / found.relative_to(root) if found.is_relative_to(root) else given

    def is_input(self, path: Path) -> bool:
        """Whether a path leads into the read-only inputs."""
        return path.resolve().is_relative_to(self.inputs.resolve())

    def input_names(self) -> str:
        """The inputs there are, for people."""
        names = sorted(entry.name for entry in self.inputs.iterdir()) if self.inputs.is_dir() else []
        return ", ".join(f"inputs/{name}" for name in names[:20]) or "none"

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

    def committed(self, result_path: str, sha256: str) -> Stored:
        """The very result that a contract names. Raises NotStored."""
        path = self.root / result_path
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotStored(f"can't be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise NotStored("is not the one that was committed")
        stored = _stored(path, content)
        if stored is None:
            raise NotStored("is not a result that this image can read")
        return stored

    def results(self, attempt: int | None = None) -> Iterator[Stored]:
        """What pods of this job left, the newest attempt first; only those of one attempt where it is given."""
        return _stored_in(folder for folder in self._attempts() if attempt in (None, _attempt_number(folder)))

    def results_of_namesakes(self) -> Iterator[Stored]:
        """What pods of this very job left in experiments of the same name that were before this one on the volume."""
        name = self._contract.experiment.name
        for folder in sorted(self.experiment.parent.glob(f"{name}-*")):
            uid = folder.name.removeprefix(f"{name}-")
            if folder != self.experiment and len(uid) == 8 and "-" not in uid:
                yield from _stored_in((folder / "jobs" / job_folder(self._contract.job.id) / "attempts").glob("*/*"))

    def results_of_experiment(self) -> Iterator[Stored]:
        """What pods of all jobs of this experiment left, in no order."""
        for folder in attempts_in(self.experiment):
            if (stored := _read(folder / RESULT)) is not None:
                yield stored

    def results_read(self) -> Iterator[Stored]:
        """The results that this job's contract names; they may be another experiment's."""
        for references in (*self._contract.inputs.values(), self._contract.compared):
            for reference in references if isinstance(references, list) else [references]:
                if reference is not None and (stored := _read(self.root / reference.result_path)) is not None:
                    yield stored

    def metrics_of_experiment(self) -> Iterator[Path]:
        """The metrics files of all pods of this experiment, in no order."""
        return (folder / METRICS for folder in attempts_in(self.experiment) if (folder / METRICS).exists())

    def unfinished(self, attempt: int | None = None) -> list[Path]:
        """Folders of other pods of this job that ended without a result, the newest attempt last."""
        has_several = self._contract.nodes > 1 or self._contract.shards > 1
        at_work = self._contract.attempt if has_several and attempt is None else None
        folders = [
            folder
            for folder in self._attempts()
            if folder != self.attempt
            and attempt in (None, _attempt_number(folder))
            and _attempt_number(folder) != at_work
            and not (folder / "result.json").exists()
        ]
        return sorted(folders, key=_attempt_number)

    def is_intact(self, output: Output, element: int | None = None) -> bool:
        """Whether an output, or one element of a list, still is what its result says. Values always are."""
        if output.kind == "path" and output.path is not None:
            return self._is(output.path, output.sha256, output.bytes)
        return all(
            self._is(output.value[entry.index], entry.sha256, entry.bytes)
            for entry in output.elements or ()
            if element in (None, entry.index)
        )

    def _is(self, path: str, sha256: str | None, size: int | None) -> bool:
        try:
            digest = digest_of(self.root / path, memory=self.digests)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return digest.bytes == size and digest.sha256 == sha256

    def clean_up(self) -> None:
        """After a success: artifacts of failed attempts go, their logs stay; nothing is resumed any more."""
        for folder in self._attempts():
            if folder == self.attempt or _attempt_number(folder) > self._contract.attempt:
                continue
            stored = _read(folder / "result.json")
            if stored is None or stored.result.outcome == "Failed":
                shutil.rmtree(folder / "out", ignore_errors=True)
        if all(_attempt_number(folder) <= self._contract.attempt for folder in self._attempts()):
            shutil.rmtree(self.state.parent, ignore_errors=True)  # what earlier generations left there, too

    def _attempts(self) -> Iterator[Path]:
        return (self.job / "attempts").glob("*/*")


def attempts_in(experiment: Path) -> Iterator[Path]:
    """The folders of all pods of an experiment's jobs; a job's id has four parts."""
    return (folder for folder in (experiment / "jobs").glob("*/*/*/*/attempts/*/*") if folder.is_dir())


def _point(link: Path, attempt: Path, number: int) -> None:
    """`current` names the newest attempt; an older one that starts late leaves it alone."""
    if link.is_symlink() and int(link.readlink().parent.name) > number:
        return
    link_atomic(link, attempt)


def _attempt_number(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def _stored(path: Path, content: bytes) -> Stored | None:
    try:
        result = Result.model_validate_json(content)
    except ValidationError:
        return None
    return Stored(path, result, hashlib.sha256(content).hexdigest(), len(content))


def _read(path: Path) -> Stored | None:
    try:
        return _stored(path, path.read_bytes())
    except OSError:
        return None


def _stored_in(folders: Iterable[Path]) -> Iterator[Stored]:
    # by name among the pods of one attempt: all who read it find the same one first
    for folder in sorted(folders, key=lambda folder: (_attempt_number(folder), folder.name), reverse=True):
        stored = _read(folder / "result.json")
        if stored is not None:
            yield stored
