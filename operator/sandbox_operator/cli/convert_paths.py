# SPDX-License-Identifier: Apache-2.0
"""Paths in configurations: what an earlier job writes becomes a reference, what lies on the user's machine an input.

Upstream's jobs hand files on by paths that users type twice. Here the second of them becomes `input`, so that nothing
depends on how a path is spelt. Paths of results stay: they are the users' names for them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sandbox_api.paths import PATH_WORDS, URL, data_sets_in

from .convert_hooks import ANALYZER, WRITING_KEYS, Write
from .convert_job import Job, upstreams
from .convert_tree import Entry, Map, entry_at, texts
from .convert_upload import Uploads, is_placeholder
from .convert_upstream import Files

_SURELY_PATHS = {"path", "paths", "dir", "dirs", "file", "files", "folder", "folders"}
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,11}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_ITERATION = re.compile(r"iter_[0-9]+")


@dataclass(frozen=True)
class Written:
    """A path that a job writes, normalised."""

    path: str
    job: Job
    write: Write


def normal(path: str) -> str:
    """One spelling of a path, without the folder that upstream puts in for each iteration."""
    parts = posixpath.normpath(path).split("/")
    return "/".join(part for part in parts if not _ITERATION.fullmatch(part)) or "."


def unrooted(path: str, job: Job) -> str:
    """A path from upstream's root; EasyAnimate's settings are relative to its own folder, two or three levels down."""
    return re.sub(r"^(\./)?(\.\./){2,3}", "", path) if job.kind == "easyanimate" else path


def written_by(job: Job) -> Iterator[Written]:
    """What a job's configuration says it writes."""
    for write in job.writes:
        value = _value(job, write.target)
        if not isinstance(value, str):
            continue
        if job.hook == ANALYZER and not _value(job, "djConfigs.export_original_dataset"):
            continue
        yield Written(normal(unrooted(value, job)), job, write)


def _value(job: Job, target: str) -> object:
    """What stands at a target, `local` applied; in a refined recipe, what stood in the one that was refined."""
    if job.recipe is not None and target.startswith("djConfigs."):
        return _value(job.recipe, target)
    if target in job.local.entries:
        return job.local.get(target)
    root, _, rest = target.partition(".")
    config = job.config(root)
    entry = entry_at(config, rest) if config is not None else None
    return entry.value if entry else None


def writer_of(path: str, before: list[Written]) -> Written | None:
    """Whose output a path is: the last job that writes it, or the folder it is all of."""
    for written in reversed(before):
        if path == written.path:
            return written
    for written in reversed(before):
        rest = path.removeprefix(f"{written.path}/")
        if rest != path and written.write.inside and re.fullmatch(written.write.inside, rest):
            return written
    return None


@dataclass
class Paths:
    """Settles the paths of one job after the other."""

    files: Files
    uploads: Uploads
    written: list[Written]
    """By all jobs, in order."""
    is_shared: dict[tuple[int, str], bool]
    """By job and root: whether the configuration stands in a file that other jobs read as well."""
    left_out: list[str] = field(default_factory=list)
    """What nobody has filled in, as sentences."""

    def settle(self, job: Job) -> None:
        """`local` first: what it overrides, and what inputs replace, is read by nobody."""
        overridden = [*job.local.entries]
        self._part_recipes(job)
        for target, override in [*job.local.entries.items()]:
            key = target.rpartition(".")[2]
            for inner, nearest, entry in [*texts(override, target, key)]:
                if not job.is_filled(inner):
                    self._settle(job, inner, nearest, entry, is_local=True)
        for root in ("djConfigs", "extraConfigs"):
            self._settle_filled(job, root)
            config = job.out.entries.get(root)
            for target, key, entry in [*texts(config, root, root)] if config else ():
                if job.is_filled(target):
                    continue
                if not any(f"{target}.".startswith(f"{over}.") for over in overridden):
                    self._settle(job, target, key, entry, is_local=False)
                elif self.is_shared.get((job.index, root)):
                    self._keep_alike(entry)

    def _part_recipes(self, job: Job) -> None:
        """Two jobs that run refined recipes would write one file: the refine job says otherwise in its recipe."""
        target = "djConfigs.export_path"
        path = _value(job, target)
        if job.recipe is None or not isinstance(path, str):
            return
        others = self._others(job, path)
        if others and all(other.recipe is not job.recipe for other in others):
            new, words = _parted(path, others)
            job.recipe.local.put(target, new, words)

    def _others(self, job: Job, path: str) -> list[Job]:
        """Earlier jobs that write a path."""
        here = normal(unrooted(path, job))
        return [w.job for w in self.written if w.job.index < job.index and w.path == here]

    def _settle_filled(self, job: Job, root: str) -> None:
        """What an input replaces goes; in a file that others read as well it stays, so that it is written once."""
        for target, filled in job.input.entries.items():
            if not target.startswith(f"{root}."):
                continue
            holder, key, entry = _place(job, target)
            if holder is None or entry is None:
                continue
            if not self.is_shared.get((job.index, root)):
                del holder.entries[key]
                filled.above += [line for line in (*entry.above, entry.beside) if line]
                if root in job.files and entry.value and isinstance(entry.value, str | int | float):
                    filled.remark(f"takes the place of {entry.value!r} in {job.files[root]}")
            else:
                self._keep_alike(entry)

    def _keep_alike(self, entry: Entry) -> None:
        """What nobody reads in this job's copy of a file reads as in the copies of others."""
        if isinstance(entry.value, str) and (known := self.uploads.known(entry.value)):
            entry.remark(f"was {entry.value!r}")
            entry.value = known

    def _settle(self, job: Job, target: str, key: str, entry: Entry, is_local: bool) -> None:
        text = str(entry.value)
        holder, _, _ = _place(job, target)
        if key == "path" and holder is not None and holder.get("type") == "remote":
            return  # a name in a hub, which Data-Juicer itself fetches
        is_operator = target.startswith("djConfigs.process.")
        own = next((write for write in job.writes if write.target == target), None)
        if own is not None or (WRITING_KEYS.fullmatch(key) and not is_operator):
            self._settle_written(job, target, own, entry)
        elif is_operator:
            if is_path(key, text, self.files) and self.files.find(text):
                self._upload(entry, key, text)
        elif re.fullmatch(r"<[^<>]+>", text) and not _is_surely_a_path(key):
            entry.remark("nobody has filled that in")
            self.left_out.append(f"{job.where}.{upstreams(target)}: {text} has to be filled in")
        elif key == "dataset_path" and len(data_sets_in(text)) > 1 and not self.files.find(text):
            self._settle_weighted(entry, key, text)
        elif is_path(key, text, self.files):
            self._settle_read(job, target, key, entry, is_local)

    def _settle_written(self, job: Job, target: str, own: Write | None, entry: Entry) -> None:
        """A path that is written lies in the experiment's folder, and is one job's alone."""
        text = str(entry.value)
        path = unrooted(text, job)
        if is_placeholder(path) or path.startswith(("/", "~", "..")):
            rest = re.sub(r"^.*<[^<>]*>/?", "", path) if "<" in path else posixpath.basename(path.rstrip("/"))
            path = posixpath.join("outputs", rest or "results")
        if path != text:
            entry.remark(f"was {text!r}; results lie in the experiment's folder")
            entry.value = path
        others = self._others(job, text)
        if others and any(w.job is job and w.write is own for w in self.written):
            path, words = _parted(path, others)
            if self.is_shared.get((job.index, target.partition(".")[0])):
                job.local.put(target, path, words)
            else:
                entry.value = path
                entry.remark(words)

    def _settle_weighted(self, entry: Entry, key: str, text: str) -> None:
        """Several data sets with weights, in one text."""
        paths = data_sets_in(text)
        entry.value = " ".join(
            self.uploads.add(part, key) if part in paths and not URL.match(part) else part for part in text.split()
        )
        entry.remark(f"was {text!r}")

    def _settle_read(self, job: Job, target: str, key: str, entry: Entry, is_local: bool) -> None:
        text = str(entry.value)
        path = normal(unrooted(text, job))
        if f"{path}/".startswith(("inputs/", "/inputs/", "/workspace/")):
            return
        before = [written for written in self.written if written.job.index < job.index]
        writer = writer_of(path, before)
        if writer is not None:
            self._refer(job, target, entry, writer, is_local)
        elif any(written.path == path for written in self.written):
            entry.value = path  # a job that runs later writes it: the planner says so
        elif within := next((w for w in reversed(before) if path.startswith(f"{w.path}/")), None):
            entry.value = path
            if path != posixpath.normpath(text):
                entry.remark(f"was {text!r}; {within.job.where} writes that folder, here without upstream's iter_<n>")
        else:
            self._upload(entry, key, unrooted(text, job))

    def _refer(self, job: Job, target: str, entry: Entry, writer: Written, is_local: bool) -> None:
        """Let an input fill a key that a path was typed for; the user's comments move along."""
        whose = "which" if normal(unrooted(str(entry.value), job)) == writer.path else "in the folder that"
        words = f"was the path {entry.value!r}, {whose} {writer.job.where} writes"
        job.fill(target, writer.job.reference(writer.write.output), words)
        holder, key, _ = _place(job, target)
        is_alone = is_local or (holder is not None and not self.is_shared.get((job.index, target.partition(".")[0])))
        if key.isdigit():
            # a list keeps its length until the input fills it
            entry.value = str(_value(writer.job, writer.write.target))
        elif is_alone:
            filled = job.input.entries[target]
            filled.above, filled.beside = [line for line in entry.above if line], entry.beside
            if is_local:
                job.local.entries.pop(target, None)
            elif holder is not None:
                del holder.entries[key]

    def _upload(self, entry: Entry, key: str, path: str) -> None:
        entry.remark(f"was {entry.value!r}")
        entry.value = self.uploads.add(path, key)


def _parted(path: str, others: list[Job]) -> tuple[str, str]:
    """A path of a job's own, where others write the same; and why."""
    stem, suffix = posixpath.splitext(path.rstrip("/"))
    words = f"{others[0].where} writes {path} as well; each job's results are its own"
    return f"{stem}_{1 + len({other.index for other in others})}{suffix}", words


def _place(job: Job, target: str) -> tuple[Map | None, str, Entry | None]:
    """The mapping in a job's configuration that holds a target, the key in it, and the entry."""
    root, _, rest = target.partition(".")
    above, _, key = rest.rpartition(".")
    config = job.out.get(root)
    place = entry_at(config, above) if above and isinstance(config, Map) else None
    holder = place.value if place else config if not above else None
    return (holder, key, holder.entries.get(key)) if isinstance(holder, Map) else (None, key, None)


def _is_surely_a_path(key: str) -> bool:
    return bool(set(key.lower().split("_")) & _SURELY_PATHS)


def is_path(key: str, text: str, files: Files) -> bool:
    """Whether a text under a key names a file or folder, and not a model on a hub or a name."""
    words = set(key.lower().split("_"))
    if not text or not words & PATH_WORDS or URL.match(text):
        return False
    if text.startswith(("./", "../", "/", "~/")) or is_placeholder(text):
        return True
    if _SUFFIX.fullmatch(posixpath.splitext(text)[1]):
        return True
    if not _is_surely_a_path(key) or ("model" in words and ("/" not in text or _HUB_ID.fullmatch(text))):
        return "/" in text and files.find(text) is not None
    return True
