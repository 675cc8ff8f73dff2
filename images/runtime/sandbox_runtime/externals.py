# SPDX-License-Identifier: Apache-2.0
"""What a job reads and no job made: users' files and folders, each with a digest, so that a result is used again only
where they are still the same.

The digests are taken beside the hook's work, from what the file system held when it began. Where that can't be told (a
file was changed meanwhile, or can't be read) the result is kept and never used again. URLs are not looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sandbox_api.contract import JobContract
from sandbox_api.hooks import HOOKS
from sandbox_api.paths import URL, paths_in
from sandbox_api.result import ABSENT, UNKNOWN

from .configs import DJ, EXTRA, Configurations, files_in
from .digests import File, Manifest, files_of, walk
from .errors import ConfigError
from .inputs import ResolvedInput
from .media import KEYS, MediaDigest, is_data, keys_in, media_look
from .workspace import Workspace

DJ_WRITES = ("export_path", "work_dir", "ds_cache_dir", "temp_dir", "event_log_dir", "checkpoint_dir", "partition_dir")
"""Keys of Data-Juicer that name where it writes; the runtime settles most of them itself."""
OF_INPUT = "input:"
"""Begins the name of an entry that is about the media files which an input's rows name."""
LONGEST_PATH = 4096


class ChangedMeanwhile(Exception):
    """A file was changed after the hook had begun: what the hook saw of it can't be told."""


@dataclass
class Named:
    """A path as configurations name it."""

    path: Path
    fields: set[str] = field(default_factory=set)


class Externals:
    """Digests of what one job reads. `begun_ns`: from then on a change may have come too late for the hook."""

    def __init__(
        self,
        contract: JobContract,
        configs: Configurations,
        inputs: Mapping[str, ResolvedInput],
        workspace: Workspace,
        begun_ns: int,
    ) -> None:
        self._named = named_paths(contract, configs, inputs, workspace)
        self._inputs = {f"{OF_INPUT}{target}": found.paths for target, found in inputs.items() if found.paths}
        self._keys = media_keys(configs.dj)
        self._workspace = workspace
        self._begun_ns = begun_ns
        self._found = {name: ABSENT for name, named in self._named.items() if not _exists(str(named.path))}
        self._thread = threading.Thread(target=self._read_all, name="externals", daemon=True)

    @property
    def _about(self) -> tuple[tuple[str, ...], Workspace, int]:
        return self._keys, self._workspace, self._begun_ns

    def start(self) -> None:
        self._thread.start()

    def finish(self, written: set[str], read: set[str], is_told_to_end: Callable[[], bool]) -> dict[str, str]:
        """Wait for the digests, by path as configured. Fields in `written` name what the hook itself made; `read` are
        paths that no configuration names.

        Who is told to end gets what there is; the rest counts as unknown.
        """
        while self._thread.is_alive() and not is_told_to_end():
            self._thread.join(0.2)
        for name in read:
            self._take(name, partial(external_digest, self._workspace.inside(name, name), *self._about))
        mine = {name for name, named in self._named.items() if named.fields <= written}
        names = [name for name in (*self._named, *read) if name not in mine]
        found = {name: self._found.get(name, UNKNOWN) for name in names}
        found |= {name: value for name in self._inputs if (value := self._found.get(name, UNKNOWN))}
        return found

    def _read_all(self) -> None:
        about = self._about
        for name, named in self._named.items():
            if name not in self._found:
                self._take(name, partial(external_digest, named.path, *about))
        for name, paths in self._inputs.items():
            self._take(name, partial(input_media, paths, *about))

    def _take(self, name: str, read: Callable[[], str]) -> None:
        try:
            self._found[name] = read()
        except Exception as error:  # of whatever kind: the hook's result stands, it is only not used again
            self._found[name] = UNKNOWN
            print(f"{name}: its digest can't be taken, so this result will not be used again: {error}", flush=True)


def named_paths(
    contract: JobContract, configs: Configurations, inputs: Mapping[str, ResolvedInput], workspace: Workspace
) -> dict[str, Named]:
    """Paths in the configurations, and of the configurations, by their text; without those that inputs brought."""
    known = HOOKS.get(contract.job.hook)
    written = {*(known.writes if known else ()), *(f"{DJ}.{key}" for key in DJ_WRITES)}
    brought = {path for found in inputs.values() for path in found.paths}
    named: dict[str, Named] = {}
    for where, text in _texts(contract, configs, inputs, workspace):
        if where.partition("[")[0] in written or text in brought or not text.strip() or len(text) > LONGEST_PATH:
            continue
        try:
            path = workspace.inside(text, where)
        except ConfigError:  # a text that only looks like a path; those that are have been refused before
            continue
        named.setdefault(text, Named(path)).fields.add(where)
    return named


def media_keys(dj: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Keys of rows under which media files are named."""
    own = [str((dj or {}).get(f"{kind}_key") or "") for kind in ("video", "image", "audio")]
    return tuple(dict.fromkeys([*KEYS, *(key for key in own if key and not set(key) & set(",:+"))]))


def external_digest(path: Path, keys: tuple[str, ...], workspace: Workspace, begun_ns: int | None = None) -> str:
    """Digest of a file, or of a folder's sorted manifest, and of the media files that their rows name.

    Files of 1 GiB and more count by size and time of change. Raises ChangedMeanwhile, and OSError when something can't
    be read.
    """
    if workspace.attempt.is_relative_to(path.resolve()):
        raise ConfigError("it holds the job's own folder")
    if not path.exists():
        return ABSENT
    folder = path.is_dir()
    manifest, media, whole = Manifest(), MediaDigest(keys), ""
    for file in files_of(path, memory=workspace.digests, follow=True, look=media_look(keys)):
        _refuse_changed(file.name or str(path), file.identity.ctime_ns if file.identity else 0, begun_ns)
        whole = _mark(file)
        manifest.add([file.name, file.size, whole])
        if file.look:
            media.add(file.path, _bases(path, file.path, workspace))
    _refuse_changed(f"a file that {path} names", media.newest_ns, begun_ns)
    return "+".join(part for part in (manifest.digest() if folder else whole, media.text()) if part)


def input_media(
    paths: tuple[str, ...], keys: tuple[str, ...], workspace: Workspace, begun_ns: int | None = None
) -> str:
    """Digest of the media files that rows of other jobs' results name; empty when they name none."""
    media, look = MediaDigest(keys), media_look(keys)
    for root in map(Path, paths):
        for _, path in walk(root):
            if is_data(path) and look.answer(path, path.stat().st_size):
                media.add(path, _bases(root, path, workspace))
    _refuse_changed("a file that its rows name", media.newest_ns, begun_ns)
    return media.text()


def difference(name: str, was: str, paths: tuple[str, ...], workspace: Workspace) -> str | None:
    """What is no longer as it was when a result was made, in words; None when it is the same.

    `paths` are those of the input that an entry is about.
    """
    if was == UNKNOWN:
        return f"what was read of {name} is not known"
    keys = keys_in(was.rpartition("+")[2])
    if name.startswith(OF_INPUT):
        same = bool(paths) and input_media(paths, keys, workspace) == was
        return None if same else f"files that the rows of {name.removeprefix(OF_INPUT)} name have changed"
    try:
        now = external_digest(workspace.inside(name, name), keys, workspace)
    except ConfigError as error:
        return f"{name} can't be compared: {error}"
    if now == was:
        return None
    if now == ABSENT:
        return f"{name} is missing"
    if was == ABSENT:
        return f"{name} was not there and is now"
    if now.partition("+")[0] == was.partition("+")[0]:
        return f"files that {name} names have changed"
    return f"{name} has changed"


def _texts(
    contract: JobContract, configs: Configurations, inputs: Mapping[str, ResolvedInput], workspace: Workspace
) -> Iterator[tuple[str, str]]:
    """Texts that name files, or may do so, with their fields."""
    for name, configured, root in (
        (DJ, contract.configs.dj, configs.dj),
        (EXTRA, contract.configs.extra, configs.extra),
    ):
        if isinstance(configured, str) and name not in inputs:
            yield name, configured
        sure = set()
        for where, text in paths_in(root, name):
            sure.add(where)
            yield from ((where, part) for part in files_in(text, where, workspace))
        for where, text in _all_texts(root, name):
            if where not in sure and "/" in text and not URL.match(text) and _exists(text):
                yield where, text


def _all_texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _all_texts(item, f"{where}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _all_texts(item, f"{where}[{number}]")
    elif isinstance(value, str):
        yield where, value


def _exists(text: str) -> bool:
    """From the working directory, which is the experiment's folder."""
    try:
        return len(text) <= LONGEST_PATH and Path(text).exists()
    except (OSError, ValueError):  # a name that is too long, a zero byte
        return False


def _mark(file: File) -> str:
    if file.identity is None:
        return ABSENT
    return file.sha256 or f"{file.identity.size}@{file.identity.mtime_ns}"


def _bases(root: Path, path: Path, workspace: Workspace) -> tuple[Path, ...]:
    """Where relative names of media begin: the data set's folder, as Data-Juicer takes them, then the file's own."""
    return (root if root.is_dir() else root.parent, path.parent, workspace.experiment)


def _refuse_changed(what: str, changed_ns: int, begun_ns: int | None) -> None:
    if begun_ns is not None and changed_ns > begun_ns:
        raise ChangedMeanwhile(f"{what} was changed while the job ran")
