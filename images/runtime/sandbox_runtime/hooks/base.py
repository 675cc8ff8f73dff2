# SPDX-License-Identifier: Apache-2.0
"""What a hook is given, and what it gives back.

A hook is a small class with `run`. It writes artifacts under `context.out`, returns them in the order of its catalogue
entry, and knows nothing of results, digests or exit codes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from sandbox_api.contract import JobContract

from ..errors import ConfigError
from ..inputs import ResolvedInput
from ..metrics import MetricsLog
from ..place import ALONE, Place
from ..watcher import SandboxWatcher
from ..workspace import Workspace


@dataclass(frozen=True)
class Artifact:
    """A file or folder under the attempt's `out`."""

    path: Path
    rows: int | None = None
    """How many rows it has, where that means something."""
    publish: Path | None = None
    """The name its user gave it: a link to be made there when the job has succeeded."""


@dataclass(frozen=True)
class HookResult:
    outputs: list[Any]
    """By position: an `Artifact`, the `Path` of what another job has made, None for one that was not made, a list, or a
    value that JSON can hold."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Figures without the metaName, the most important ones first: a cut keeps the first. Not finite: left out."""
    message: str = ""
    """One sentence for people: what was done."""
    tables: list[Path] = field(default_factory=list)
    """Files under `out` that are tables for people."""


@dataclass(frozen=True)
class HookContext:
    """One attempt of one job."""

    contract: JobContract
    dj: dict[str, Any]
    """Data-Juicer's configuration; empty when the job has none."""
    extra: Any
    """`extraConfigs` as the hook's model, or the plain mapping where it has none."""
    inputs: Mapping[str, ResolvedInput]
    """By target, verified; those that name configuration keys are in the configurations already."""
    workspace: Workspace
    metrics: MetricsLog
    written: set[str] = field(default_factory=set)
    """Fields that name what this job itself writes."""
    read: set[str] = field(default_factory=set)
    """Files and folders on the volume that it has read and that no configuration names."""
    place: Place = ALONE
    """Which of the job's pods this is: one that works with others (`nodes`), or on a piece of the job (`shards`)."""
    named: dict[str, Path] = field(default_factory=dict)
    """Files under `out` that the result names beside the hook's own outputs."""
    part: str = ""
    """Folder below `out` and `scratch` of a part of the job that works as if it was one."""

    def for_part(self, part: str, extra: Any) -> HookContext:
        """The same for a part of the job with settings of its own, e.g. an evaluator that looks at one checkpoint."""
        found = replace(self, part=part, extra=extra)
        found.out.mkdir(parents=True, exist_ok=True)
        return found

    @cached_property
    def watcher(self) -> SandboxWatcher:
        """The sandbox's watcher: `watch`, `watch_cfgs`, `query`, `setup_sweep`."""
        return SandboxWatcher(self.workspace, self.metrics, self.contract.experiment.uid, self.named)

    @property
    def out(self) -> Path:
        """Where artifacts go."""
        return self.workspace.out / self.part

    @property
    def state(self) -> Path:
        """For what a later attempt may resume from; it is theirs too: entries are made by rename, named by attempt."""
        return self.workspace.state

    @property
    def scratch(self) -> Path:
        """Working files of this attempt on the volume; they go when the job has ended."""
        folder = self.workspace.scratch / self.part
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def seed(self) -> int:
        return self.contract.seed

    @property
    def cpus(self) -> int:
        """How many processes may work at a time: the pod's limit, rounded up, and at least one."""
        limit = self.contract.limits.cpus
        return max(1, math.ceil(limit)) if limit else len(os.sched_getaffinity(0))

    def user_path(self, field: str) -> Path | None:
        """Where an artifact is published that the user named in `djConfigs.<key>` or `extraConfigs.<key>`.

        What several iterations or items would publish under one name goes into a folder of its own.
        """
        self.written.add(field)
        root, _, key = field.partition(".")
        extra = self.extra if isinstance(self.extra, Mapping) else self.extra.model_dump()
        named = (self.dj if root == "djConfigs" else extra).get(key)
        if named is None:
            return None
        if not isinstance(named, str) or not named:
            raise ConfigError(f"{field}: must be a path")
        return self.workspace.publishable(published_under(named, self.contract.publish_under), field)


def published_under(path: str, under: str) -> str:
    """`a/b.jsonl` as `a/<under>/b.jsonl`, a folder `a/b` as `a/b/<under>`, as Data-Juicer's sandbox does.

    A folder of the same kind that stands there already (`iter_1`, `item_0`) is replaced: nothing piles up.
    """
    parts = [part for part in under.split("/") if part]
    if not parts or "://" in path:
        return path
    whole = PurePosixPath(path)
    folder, file = (whole.parent, whole.name) if whole.suffix else (whole, "")
    kinds = {part.rpartition("_")[0] for part in parts}
    while (part := folder.name.rpartition("_"))[0] in kinds and part[2].isdigit():
        folder = folder.parent
    return str(folder.joinpath(*parts, file))


class Hook(Protocol):
    """A hook's class takes no arguments.

    One from outside the catalogue may have an attribute `extra`: the pydantic model of its `extraConfigs`.

    With `nodes`, each of several pods runs it at once and knows its rank by `context.place`; rank 0's result counts.
    One that can be divided (`shards`) does the piece `context.place.shard` in `run`, and has a method
    `merge(context, pieces: list[Piece]) -> HookResult`, which makes the job's result of those of all pieces.
    """

    def run(self, context: HookContext) -> HookResult:
        """Do the job. Raises an error of `sandbox_runtime.errors` whose class fits; others count as the user's."""
        ...


def data_set_name(publish: Path | None) -> str:
    """The file that a data set is written to, in the format of the path that its user wants it under."""
    return f"dataset{publish.suffix if publish and publish.suffix else '.jsonl'}"
