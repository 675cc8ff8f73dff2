# SPDX-License-Identifier: Apache-2.0
"""Reads experiments from files and shows what the operator's own planner makes of them, with no cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from sandbox_api.base import API_VERSION
from sandbox_api.crd import MAX_NAME

from ..plan.compile import compile_spec
from ..plan.job import told
from .experiments import Ended


def read_experiments(text: str) -> Iterator[Mapping[str, Any]]:
    """The SandboxExperiments in a YAML text. Raises Ended when there is none."""
    found = False
    for document in yaml.safe_load_all(text):
        if isinstance(document, Mapping) and document.get("kind") == "SandboxExperiment":
            if document.get("apiVersion") != API_VERSION:
                raise Ended(f"apiVersion: write {API_VERSION}, not {document.get('apiVersion')!r}")
            found = True
            yield document
    if not found:
        raise Ended("there is no SandboxExperiment in it")


def planned_jobs(experiment: Mapping[str, Any]) -> tuple[Table, tuple[str, ...], tuple[str, ...]]:
    """A table of the jobs in order, all problems and all warnings as sentences."""
    metadata = experiment.get("metadata")
    name = str(metadata.get("name", "?") if isinstance(metadata, Mapping) else "?")
    compiled = compile_spec(_without_nulls(experiment.get("spec") or {}))
    too_long = (f"metadata.name: {name!r} has more than {MAX_NAME} characters",) if len(name) > MAX_NAME else ()
    many = "1 job" if len(compiled.jobs) == 1 else f"{len(compiled.jobs)} jobs, one after another"
    table = Table(title=f"{name}: {many}", title_justify="left")
    for column in ("job", "hook", "metaName", "image", "inputs", "outputs"):
        table.add_column(column, overflow="fold", no_wrap=column == "job")
    for job in compiled.jobs:
        inputs = [f"{target} = {told(source)}" for target, source in job.inputs.items()]
        cells = (job.id, job.hook.name, job.meta_name, job.hook.image, "\n".join(inputs), ", ".join(job.outputs))
        table.add_row(*map(Text, cells))
    return table, (*too_long, *compiled.problems), compiled.warnings


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
