# SPDX-License-Identifier: Apache-2.0
"""Reads a configuration of Data-Juicer's sandbox as upstream means it, of any version: settings, pipelines, jobs.

All that is wrong with it is told at once, as sentences that begin with the key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..plan.references import did_you_mean
from .convert_read import SUFFIXES, Unreadable, read_file
from .convert_tree import Entry, Map, Seq, plain

LISTS = {
    "probe_job_configs": "probeJobConfigs",
    "refine_recipe_job_configs": "refineRecipeJobConfigs",
    "execution_job_configs": "executionJobConfigs",
    "evaluation_job_configs": "evaluationJobConfigs",
}
SETTINGS = (
    "project_name", "experiment_name", "work_dir", "hpo_config", "resume", "debug", "max_iter_num", "iter_targets",
    "iter_targets_mode", "iter_updater",
)  # fmt: skip
JOB_KEYS = ("hook", "meta_name", "input", "output", "local", "dj_configs", "extra_configs")
ANONYMOUS = "anonymous"
_NO_SUCH_SETTING = ": the sandbox has no such setting"
_NO_SUCH_KEY = ": a job has no such key; upstream passes over it"


class NotConverted(Exception):
    """A file can't be converted; `problems` are sentences."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class UpstreamJob:
    where: str
    entry: Entry
    """Where it stands in its list, for the comments."""
    body: Map
    source: str | None = None
    """The file of its own that held it."""


@dataclass
class UpstreamPipeline:
    name: str
    entry: Entry
    lists: dict[str, tuple[Entry, list[UpstreamJob]]] = field(default_factory=dict)
    """By upstream's name, in the order in which they run."""


@dataclass
class Upstream:
    settings: Map
    pipelines: list[UpstreamPipeline]
    is_single: bool
    """Whether the four lists stand at the top: the pipeline `anonymous`."""
    below: list[str]
    """Comments after the last key."""
    problems: list[str] = field(default_factory=list)
    """Keys that upstream knows nothing of. It can't be converted, but what else is wrong with it can be found."""


class Files:
    """Finds files as upstream did: from the one folder that it was started in.

    That is `root`, or the nearest of this folder and those above the configuration that has the first side file.
    """

    def __init__(self, config: Path, root: Path | None) -> None:
        self._config = config
        self._given = root
        self._root = root

    def find(self, path: str) -> Path | None:
        """A path that jobs read, if it is there."""
        try:
            found = (self._root or Path()) / Path(path).expanduser()
        except RuntimeError:  # the home of nobody
            return None
        return found if _is_there(found) else None

    def shown(self, path: str) -> str:
        """A path as it can be typed where the command was started."""
        if self._root is None or self._root == Path() or path.startswith(("/", "~")):
            return path
        return os.path.relpath(self._root / path)

    def read(self, path: str, where: str) -> tuple[Map, list[str]]:
        """A fresh copy of a side file's content, and the comments after it. Raises NotConverted."""
        places = [self._root] if self._root else [Path(), *self._config.absolute().parents]
        place = next((place for place in places if _is_there(place / path)), None)
        if place is None:
            raise NotConverted(
                f"{where}: there is no file {path!r} {self._looked()}; --root names the folder that upstream was"
                " started in"
            )
        if not path.startswith("/"):
            self._root = place
        try:
            return read_file(place / path)
        except Unreadable as error:
            raise NotConverted(f"{where}: {path}: {error}") from error

    def _looked(self) -> str:
        if self._given:
            return f"in {self._given}"
        if self._root is None:
            return "in this folder, nor in one above the configuration"
        return "in this folder" if self._root == Path() else f"in {os.path.relpath(self._root)}, where others are"


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that can't be read
        return False


def read_upstream(file: Path, files: Files) -> Upstream:
    """The sandbox configuration in a file. Raises NotConverted with everything that is wrong with its form."""
    try:
        root, below = read_file(file)
    except Unreadable as error:
        raise NotConverted(str(error)) from error
    if (foreign := _foreign(root)) is not None:
        raise NotConverted(foreign)
    known = (*SETTINGS, "pipelines", *LISTS)
    problems = [f"{key}{_NO_SUCH_SETTING}{did_you_mean(key, known)}" for key in root.entries if key not in known]
    problems += _setting_problems(root)
    has_lists = any(_is_filled(root.get(name)) for name in LISTS)
    has_pipelines = _is_filled(root.get("pipelines"))
    if has_pipelines and has_lists:
        problems.append("pipelines: give either pipelines or the four job lists; upstream refuses both as well")
    found = _pipelines(root, problems, files) if has_pipelines else [_lists(root, ANONYMOUS, "", problems, files)]
    pipelines = [*found]
    if not any(jobs for pipeline in pipelines for _, jobs in pipeline.lists.values()) and not problems:
        problems.append(f"there is no job in it; write at least one in {' or '.join(LISTS)}")
    if not all(map(_hides_nothing, problems)):
        raise NotConverted(*problems)
    settings = Map({key: entry for key, entry in root.entries.items() if key in SETTINGS})
    return Upstream(settings, pipelines, not has_pipelines, below, problems)


def _setting_problems(root: Map) -> Iterator[str]:
    updater = root.get("iter_updater")
    if plain(updater) not in (None, "", [], {}) and not isinstance(updater, Map):
        yield "iter_updater: write `<pipeline>.<meta_name>.<output>: <pipeline>.<meta_name>.<key>`"


def _foreign(root: Map) -> str | None:
    """What a file is that is none of upstream's."""
    if "apiVersion" in root.entries or "kind" in root.entries:
        return f"it is a Kubernetes resource already (kind {root.get('kind')})"
    if "process" in root.entries:
        return (
            "it is a recipe of Data-Juicer, not a configuration of its sandbox; name it in dj_configs of a"
            " ProcessDataHook job"
        )
    if "hook" in root.entries:
        return "it is a single job; convert the configuration whose job list names it"
    if {"method", "parameters"} <= set(root.entries):
        return (
            "it is the definition of a search (what hpo_config names) and does not say what is to run; convert the"
            " configuration whose hpo_config names it, or write it into the spec of a SandboxSweep, beside a `template`"
        )
    return None


def _is_filled(value: object) -> bool:
    return bool(value.entries) if isinstance(value, Map | Seq) else value is not None


def _pipelines(root: Map, problems: list[str], files: Files) -> Iterator[UpstreamPipeline]:
    """From a mapping (the newest guide) or a list of mappings with one key each (the newest parser)."""
    value = root.get("pipelines")
    named: list[tuple[str, Entry, Entry, str]] = []
    if isinstance(value, Map):
        named = [(name, entry, entry, f"pipelines.{name}.") for name, entry in value.entries.items()]
    elif isinstance(value, Seq):
        for number, item in enumerate(value.entries):
            where = f"pipelines[{number}]"
            if not isinstance(item.value, Map):
                problems.append(f"{where}: write `<name>: {{<job lists>}}`")
            elif len(item.value.entries) != 1:
                keys = ", ".join(item.value.entries)
                problems.append(
                    f"{where}: it has the keys {keys}, and upstream would see the first alone; write one name, with its"
                    " job lists indented below it"
                )
            else:
                ((name, entry),) = item.value.entries.items()
                named.append((name, item, entry, f"{where}.{name}."))
    else:
        problems.append("pipelines: write a list of `<name>: {<job lists>}`")
    for name, outer, entry, where in named:
        if not isinstance(entry.value, Map):
            problems.append(f"{where[:-1]}: write its job lists below it: {', '.join(LISTS)}")
            continue
        for key in entry.value.entries:
            if key not in LISTS:
                problems.append(f"{where}{key}: a pipeline has no such key{did_you_mean(key, LISTS)}")
        pipeline = _lists(entry.value, name, where, problems, files)
        pipeline.entry = Entry(None, [*outer.above, *(entry.above if entry is not outer else [])], entry.beside)
        yield pipeline


def _lists(body: Map, name: str, where: str, problems: list[str], files: Files) -> UpstreamPipeline:
    pipeline = UpstreamPipeline(name, Entry(None))
    for key in LISTS:
        entry = body.entries.get(key)
        if entry is None:
            continue
        jobs: list[UpstreamJob] = []
        if isinstance(entry.value, Seq):
            for number, item in enumerate(entry.value.entries):
                try:
                    jobs.append(_job(item, f"{where}{key}[{number}]", problems, files))
                except NotConverted as error:
                    problems += error.problems
        elif entry.value is not None:
            problems.append(f"{where}{key}: write a list of jobs")
        pipeline.lists[key] = (entry, jobs)
    return pipeline


def _job(item: Entry, where: str, problems: list[str], files: Files) -> UpstreamJob:
    """One job, from its file where the list names one. Raises NotConverted when there is none."""
    source = item.value if isinstance(item.value, str) else None
    body = item.value
    if source is not None:
        if not source.endswith(SUFFIXES):
            raise NotConverted(f"{where}: {source!r} is neither a job nor the path of a .yaml or .json file of one")
        body, _ = files.read(source, where)
    if not isinstance(body, Map):
        raise NotConverted(f"{where}: write a job, as `- hook: <name>`, or the path of a file that holds one")
    problems += [f"{where}{f' ({source})' if source else ''}{problem}" for problem in _form_problems(body)]
    return UpstreamJob(where, item, body, source)


def _hides_nothing(problem: str) -> bool:
    """Whether it is an unknown key that is not a misspelt one: then all else says what it means."""
    return (_NO_SUCH_SETTING in problem or _NO_SUCH_KEY in problem) and "; did you mean" not in problem


def _form_problems(job: Map) -> Iterator[str]:
    if not isinstance(job.get("hook"), str):
        yield ".hook: name the hook that runs the job"
    for key in job.entries:
        if key not in JOB_KEYS:
            yield f".{key}{_NO_SUCH_KEY}{did_you_mean(key, JOB_KEYS)}"
    name = job.get("meta_name")
    if isinstance(name, Map | Seq | bool | float):
        yield ".meta_name: write text"
    for key in ("dj_configs", "extra_configs"):
        if not isinstance(job.get(key), Map | str | None):
            yield f".{key}: write keys and values, or the path of a .yaml or .json file"
    for key in ("input", "local"):
        settings = job.get(key)
        if not isinstance(settings, Map | None):
            yield f".{key}: write `<dj_configs or extra_configs>.<key>: ...`"
            continue
        for target, entry in (settings.entries if settings else {}).items():
            if target.split(".")[0] not in ("dj_configs", "extra_configs"):
                yield f".{key}.{target}: begin with dj_configs or extra_configs; upstream knows nothing else"
            if key == "input" and not isinstance(entry.value, str):
                yield f".input.{target}: write a reference, <pipeline>.<meta_name>.<output> or -1.<output>"
    output = plain(job.get("output"))
    names = output if isinstance(output, list) else [output]
    if not all(isinstance(one, str) for one in names) and output is not None:
        yield ".output: write a name, or a list of names"
