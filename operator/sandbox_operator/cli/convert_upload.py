# SPDX-License-Identifier: Apache-2.0
"""What lies on the user's machine: each folder of it becomes an input, and is named with the commands that upload it.

Small text files travel as a ConfigMap, all else through a pod that mounts a claim.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .convert_names import object_name, unique
from .convert_tree import Map, tree
from .convert_upstream import Files
from .convert_write import Document, write

_PLACEHOLDER = re.compile(r"(?i)<[^<>]+>|^/?path/to(/|$)")
_MEDIA = re.compile(r'"(images|videos|audios)"\s*:')
_ROWS = re.compile(r"\.(jsonl|parquet|csv|tsv)(\.\w+)?$")
_MAX_CONFIG_MAP = 900_000
"""Bytes; the API server takes 1 MiB."""
_TOO_WIDE = ("", ".", "..", "/", "~")
"""Folders of which only the named files are copied."""


def is_placeholder(text: str) -> bool:
    """Whether a text stands for a path that the user has to fill in."""
    return _PLACEHOLDER.search(text) is not None


@dataclass
class Source:
    """A folder of the user's."""

    name: str
    """Of the input."""
    folder: str
    """As it can be typed; "" for one that nobody has filled in."""
    files: dict[str, str] = field(default_factory=dict)
    """Paths below it that jobs name, and how each was written; "" is the folder itself."""
    has_to_be_filled_in: bool = False
    comes_from_a_run: bool = False


@dataclass
class Uploads:
    files: Files
    experiment: str
    command: str
    """The command that was given, to be given again."""
    claim: str | None = None
    """The user's own claim for data."""
    sources: dict[str, Source] = field(default_factory=dict)

    @property
    def pod(self) -> str:
        return f"{self.experiment}-upload"

    @property
    def data_claim(self) -> str:
        return self.claim or f"{self.experiment}-data"

    def known(self, path: str) -> str | None:
        """Where a job will find a path, if another job reads it as well."""
        found = (
            posixpath.join("inputs", source.name, rest).rstrip("/")
            for source in self.sources.values()
            for rest, written in source.files.items()
            if written in (path, posixpath.normpath(path))
        )
        return next(found, None)

    def add(self, path: str, key: str) -> str:
        """Note a path that a job reads; where the job will find it."""
        is_open = is_placeholder(path)
        if is_open:
            prefix = re.match(r"<([^<>]+)>/?", path)
            folder, base = (prefix[0].rstrip("/"), prefix[1]) if prefix else (f"the {key}", re.sub("_?path$", "", key))
            rest = path[prefix.end() :].rstrip("/") if prefix else posixpath.basename(path.rstrip("/"))
        else:
            path = posixpath.normpath(path)
            folder, rest = (path, "") if self._is_folder(path) else posixpath.split(path)
            base = posixpath.basename(folder)
        if folder not in self.sources:
            taken = {source.name for source in self.sources.values()}
            name = unique(object_name(base, 40) or "files", taken, "-")
            self.sources[folder] = Source(name, folder, has_to_be_filled_in=is_open)
            in_outputs = f"{folder}/".startswith("outputs/")
            self.sources[folder].comes_from_a_run = in_outputs and self.files.find(path) is None
        source = self.sources[folder]
        rest = re.sub(r"[<>]", "", rest)
        source.files.setdefault(rest, path)
        return posixpath.join("inputs", source.name, rest).rstrip("/")

    def _is_folder(self, path: str) -> bool:
        found = self.files.find(path)
        return found.is_dir() if found else not posixpath.splitext(path)[1]

    def is_small(self, source: Source) -> bool:
        """Whether a ConfigMap can hold all that is named, and that is all there is to it."""
        total = 0
        for rest, path in source.files.items():
            found = self.files.find(path)
            if not rest or found is None or not found.is_file() or not re.fullmatch(r"[-._a-zA-Z0-9]+", rest):
                return False
            total += found.stat().st_size
            if total > _MAX_CONFIG_MAP or _names_media(found):
                return False
        return True

    def object_of(self, source: Source) -> str:
        return f"{self.experiment}-{source.name}"

    def inputs(self) -> list[dict[str, str]]:
        """Entries of `spec.inputs`."""
        return [
            {"name": source.name, "configMapName": self.object_of(source)}
            if self.is_small(source)
            else {"name": source.name, "claimName": self.data_claim, "subPath": source.name}
            for source in self.sources.values()
        ]

    def needs_pod(self) -> bool:
        return any(not self.is_small(source) for source in self.sources.values())

    def told(self) -> Iterator[tuple[str, list[str]]]:
        """For each folder a sentence, and the commands that upload it."""
        for source in self.sources.values():
            if self.is_small(source):
                command = f"kubectl create configmap {self.object_of(source)}"
                for path in source.files.values():
                    command += f" --from-file={_quoted(self.files.shown(path))}"
                yield f"{self._what(source)} -> inputs/{source.name}", [command]
            else:
                yield f"{self._what(source)} -> inputs/{source.name}", [*self._copies(source)]

    def _what(self, source: Source) -> str:
        named = ", ".join(source.files.values())
        if source.has_to_be_filled_in:
            return f"{source.folder if source.folder.startswith('<') else named} (nobody has filled that in)"
        if source.comes_from_a_run:
            return f"{named} (of another run: no job here writes it)"
        if self.is_small(source) or source.files.keys() == {""} or source.folder in _TOO_WIDE:
            return ", ".join(self.files.shown(path) for path in source.files.values())
        rows = " and the files that its rows name" if any(map(_ROWS.search, source.files)) else ""
        return f"{self.files.shown(source.folder)} (for {', '.join(filter(None, source.files))}{rows})"

    def _copies(self, source: Source) -> Iterator[str]:
        target = f"{self.pod}:/inputs/{source.name}"
        if source.folder.startswith("<"):
            yield f"kubectl cp {_yours(source)} {target}"
        elif source.has_to_be_filled_in:
            for rest in source.files:
                yield f"kubectl cp {_yours(source)} {posixpath.join(target, rest)}"
        elif source.folder in _TOO_WIDE:
            for rest, path in source.files.items():
                yield f"kubectl cp {_quoted(self.files.shown(path))} {posixpath.join(target, rest)}"
        else:
            yield f"kubectl cp {_quoted(self.files.shown(source.folder))} {target}"

    def before_and_after(self) -> tuple[list[str], list[str]]:
        """Commands that make the pod to copy through, and that end it."""
        return (
            [f"{self.command} --upload-pod | kubectl apply -f -", f"kubectl wait --for=condition=Ready pod/{self.pod}"],
            [f"kubectl delete pod {self.pod}"],
        )

    def manifests(self) -> str:
        """The claim for the data, unless it is the user's own, and the pod to copy through."""
        documents = [] if self.claim else [Document(_block(_claim(self.data_claim)))]
        folders = [
            f"/inputs/{posixpath.join(source.name, posixpath.dirname(rest))}".rstrip("/")
            for source in self.sources.values()
            if (source.folder.startswith("the ") or source.folder in _TOO_WIDE) and not self.is_small(source)
            for rest in source.files
        ]
        return write([*documents, Document(_block(_pod(self.pod, self.data_claim, [*dict.fromkeys(folders)])))])


def _names_media(path: Path) -> bool:
    """Whether rows name pictures, videos or sounds: files that have to come along."""
    return path.suffix in (".json", ".jsonl") and _MEDIA.search(path.read_text("utf-8", "replace")) is not None


def _yours(source: Source) -> str:
    return f"YOUR_{source.name.upper().replace('-', '_')}"


def _quoted(path: str) -> str:
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)


def _block(manifest: dict[str, Any]) -> Map:
    result = tree(manifest)
    assert isinstance(result, Map)
    return result


def _claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": tree({"name": name}, True),
        "spec": {
            "accessModes": tree(["ReadWriteMany"], True),
            "resources": tree({"requests": {"storage": "50Gi"}}, True),
        },
    }


def _pod(name: str, claim: str, folders: list[str]) -> dict[str, Any]:
    """Waits a day for files to be copied into it; as restricted as the hooks' own pods."""
    wait = f"mkdir -p {' '.join(folders)} && sleep 86400" if folders else "sleep 86400"
    user = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
    container = {
        "name": "upload",
        "image": "busybox",
        "command": tree(["sh", "-c", wait], True),
        "securityContext": tree({"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, True),
        "volumeMounts": [tree({"name": "inputs", "mountPath": "/inputs"}, True)],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": tree({"name": name}, True),
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": tree({**user, "seccompProfile": {"type": "RuntimeDefault"}}, True),
            "containers": [container],
            "volumes": [tree({"name": "inputs", "persistentVolumeClaim": {"claimName": claim}}, True)],
        },
    }
