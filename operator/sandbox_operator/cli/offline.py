# SPDX-License-Identifier: Apache-2.0
"""Reads files of manifests as the API server would take them: experiments, and hooks and ConfigMaps beside them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from sandbox_api.base import API_VERSION
from sandbox_api.hook import Hook
from sandbox_api.hook_resource import KIND as HOOK_KIND
from sandbox_api.hook_resource import hooks_in

from .documents import documents_in, why_unreadable
from .experiments import Ended
from .values import read_values, with_values

STDIN = "-"
UNNAMED = "?"
"""Stands for the name of what has none."""
KIND = "SandboxExperiment"
SWEEP_KIND = "SandboxSweep"


@dataclass(frozen=True)
class Experiment:
    """A SandboxExperiment, or a SandboxSweep, as it would be stored."""

    name: str
    namespace: str | None
    spec: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": self.metadata, "spec": self.spec}


@dataclass(frozen=True)
class Documents:
    experiments: tuple[Experiment, ...]
    others: tuple[Mapping[str, Any], ...] = ()

    @property
    def config_maps(self) -> dict[str, Mapping[str, Any]]:
        """By name."""
        return {_name_of(item): item for item in self.others if item.get("kind") == "ConfigMap"}

    @property
    def sweeps(self) -> tuple[Experiment, ...]:
        """The SandboxSweeps."""
        return tuple(_experiment(item) for item in self.others if item.get("kind") == SWEEP_KIND)

    def hooks_for(self, experiment: Experiment) -> dict[str, Hook | tuple[str, ...]]:
        """The SandboxHooks that jobs of an experiment may name, or what is wrong with them, by name."""
        return hooks_in(self.others, experiment.namespace)[0]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the SandboxHooks, and with the experiments and sweeps taken together."""
        namespaces = {_metadata(item).get("namespace") for item in self.others if item.get("kind") == HOOK_KIND}
        found = [hooks_in(self.others, name)[1] for name in sorted(filter(None, namespaces))] or [
            hooks_in(self.others)[1]
        ]
        kinds = ((KIND, self.experiments), (SWEEP_KIND, self.sweeps))
        named = Counter(
            (kind, item.namespace, item.name) for kind, items in kinds for item in items if item.name != UNNAMED
        )
        doubles = [f"{kind} {name}: metadata.name: there are {n} of this name; rename all but one"
                   for (kind, _, name), n in named.items() if n > 1]  # fmt: skip
        return tuple(dict.fromkeys([*(problem for problems in found for problem in problems), *doubles]))


def read_files(files: Iterable[Path], values: Path | None = None) -> Documents:
    """The documents of all files together, `-` being the standard input; with `values` in every experiment.

    Raises Ended with a sentence that names the file, or when there is no SandboxExperiment
    (and no SandboxSweep or SandboxHook).
    """
    read: dict[str, Documents] = {}
    for file in files:
        name = "standard input" if str(file) == STDIN else str(file)
        try:
            content = sys.stdin.buffer.read() if str(file) == STDIN else file.read_bytes()
            read[name] = read_documents(content.decode())
        except (Ended, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise Ended(f"{name}: {why_unreadable(error)}") from error
    whole = Documents(
        tuple(item for documents in read.values() for item in documents.experiments),
        tuple(item for documents in read.values() for item in documents.others),
    )
    if not whole.experiments and not any(item.get("kind") in (HOOK_KIND, SWEEP_KIND) for item in whole.others):
        bare = [name for name, documents in read.items() if any("kind" not in item for item in documents.others)]
        why = f"; what becomes of a file that is no resource is told by sandboxctl convert {bare[0]}" if bare else ""
        raise Ended(f"{', '.join(read)}: there is no {KIND} in it{why}")
    return whole if values is None else _sized(whole, values)


def _sized(documents: Documents, file: Path) -> Documents:
    values = read_values(file)
    try:
        found = tuple(replace(item, spec=with_values(item.spec, values)) for item in documents.experiments)
    except Ended as error:
        raise Ended(f"{file}: {error}") from error
    return replace(documents, experiments=found)


def read_documents(text: str) -> Documents:
    """The documents of a YAML (or JSON) text. Raises Ended when an experiment or a sweep is of another version."""
    found = [document for document in documents_in(text) if isinstance(document, Mapping)]
    for document in found:
        if document.get("kind") in (KIND, SWEEP_KIND) and document.get("apiVersion") != API_VERSION:
            raise Ended(f"apiVersion: write {API_VERSION}, not {document.get('apiVersion')!r}")
    experiments = [_experiment(document) for document in found if document.get("kind") == KIND]
    return Documents(tuple(experiments), tuple(document for document in found if document.get("kind") != KIND))


def _experiment(document: Mapping[str, Any]) -> Experiment:
    namespace = _metadata(document).get("namespace")
    return Experiment(
        _name_of(document),
        str(namespace) if namespace is not None else None,
        as_stored(document.get("spec") or {}),
        _metadata(document),
    )


def _name_of(document: Mapping[str, Any]) -> str:
    return str(_metadata(document).get("name", UNNAMED))


def _metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


_TYPELESS = ("djConfigs", "extraConfigs", "local", "affinity", "patch", "parameters")
"""Fields whose content is not ours: a null in it may mean something."""


def as_stored(value: Any) -> Any:
    """As the API server stores it: fields set to null are as good as absent."""
    if isinstance(value, list):
        return [as_stored(item) for item in value]
    if isinstance(value, Mapping):
        return {key: item if key in _TYPELESS else as_stored(item) for key, item in value.items() if item is not None}
    return value
