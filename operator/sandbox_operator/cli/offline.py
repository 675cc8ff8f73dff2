# SPDX-License-Identifier: Apache-2.0
"""Reads a file of manifests as the API server would take it in: experiments, and the ConfigMaps beside them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sandbox_api.base import API_VERSION

from .experiments import Ended

STDIN = "-"


@dataclass(frozen=True)
class Experiment:
    """A SandboxExperiment as it would be stored."""

    name: str
    namespace: str | None
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Documents:
    experiments: tuple[Experiment, ...]
    config_maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name."""


def read_file(file: Path) -> Documents:
    """The documents of a file, `-` being the standard input. Raises Ended with a sentence that names the file."""
    name = "standard input" if str(file) == STDIN else str(file)
    try:
        content = sys.stdin.buffer.read() if str(file) == STDIN else file.read_bytes()
        return read_documents(content.decode())
    except (Ended, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Ended(f"{name}: {error}") from error


def read_documents(text: str) -> Documents:
    """The documents of a YAML (or JSON) text. Raises Ended when there is no SandboxExperiment in it."""
    experiments: list[Experiment] = []
    config_maps: dict[str, Mapping[str, Any]] = {}
    for document in yaml.safe_load_all(text):
        if not isinstance(document, Mapping):
            continue
        if document.get("kind") == "SandboxExperiment":
            experiments.append(_experiment(document))
        elif document.get("kind") == "ConfigMap":
            config_maps[_name_of(document)] = document
    if not experiments:
        raise Ended("there is no SandboxExperiment in it")
    return Documents(tuple(experiments), config_maps)


def _experiment(document: Mapping[str, Any]) -> Experiment:
    if document.get("apiVersion") != API_VERSION:
        raise Ended(f"apiVersion: write {API_VERSION}, not {document.get('apiVersion')!r}")
    namespace = _metadata(document).get("namespace")
    return Experiment(
        _name_of(document),
        str(namespace) if namespace is not None else None,
        _without_nulls(document.get("spec") or {}),
    )


def _name_of(document: Mapping[str, Any]) -> str:
    return str(_metadata(document).get("name", "?"))


def _metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


_TYPELESS = ("djConfigs", "extraConfigs", "local", "affinity", "patch")
"""Fields whose content is not ours: a null in it may mean something."""


def _without_nulls(value: Any) -> Any:
    """As the API server stores it: fields set to null are as good as absent."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, Mapping):
        return {
            key: item if key in _TYPELESS else _without_nulls(item) for key, item in value.items() if item is not None
        }
    return value
