# SPDX-License-Identifier: Apache-2.0
"""One experiment in several sizes: a file of values says what differs from what is written.

    spec: {pods: ..., inputs: ...}       # merged into the spec
    jobs: {train: {extraConfigs: ...}}   # merged into each job of that metaName; of one without: its hook's name

Objects are merged key by key, anything else takes the place of what stands there, and null takes it away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..plan.references import did_you_mean
from .documents import documents_in, why_unreadable
from .experiments import Ended

ROOTS = ("spec", "jobs")
LISTS = ("probeJobConfigs", "refineRecipeJobConfigs", "executionJobConfigs", "evaluationJobConfigs", "jobConfigs")


def read_values(file: Path) -> Mapping[str, Any]:
    """A file of values. Raises Ended with a sentence that names it."""
    try:
        found = documents_in(file.read_text(encoding="utf-8"))
    except (Ended, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Ended(f"{file}: {why_unreadable(error)}") from error
    values = found[0] if found else {}
    if len(found) > 1 or not isinstance(values, Mapping):
        raise Ended(f"{file}: write one document with spec, jobs or both")
    for key in values:
        if key not in ROOTS or not isinstance(values[key], Mapping):
            raise Ended(f"{file}: {key}: write spec (fields of the spec) or jobs (fields of jobs by metaName)")
    return values


def with_values(spec: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with values in it. Raises Ended where they name a job that is not there."""
    names = {name for job in _jobs(spec) for name in _names(job)}
    for name in values.get("jobs", {}):
        if name not in names:
            raise Ended(f"jobs.{name}: no job has that metaName{did_you_mean(name, sorted(names))}")
    filled = with_each_job(spec, lambda job: _with_job(job, values.get("jobs", {})))
    found: dict[str, Any] = merged(filled, values.get("spec", {}))
    return found


def merged(base: Any, over: Any) -> Any:
    """Objects merged key by key, a null in `over` taking the key away; anything else is `over`."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    found = {key: value for key, value in base.items() if key not in over}
    found |= {key: merged(base.get(key), value) for key, value in over.items() if value is not None}
    return {key: found[key] for key in (*base, *over) if key in found}


def with_each_job(value: Any, change: Callable[[Any], Any]) -> Any:
    """A spec, a pipeline or a list of them, as written, with each job in it changed."""
    if isinstance(value, list):
        return [with_each_job(item, change) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: [*map(change, inner)] if key in LISTS and isinstance(inner, list) else
        with_each_job(inner, change) if key in ("pipelines", "stages") else inner
        for key, inner in value.items()
    }  # fmt: skip


def _with_job(job: Any, jobs: Mapping[str, Any]) -> Any:
    for name in _names(job):
        job = merged(job, jobs.get(name, {}))
    return job


def _names(job: Any) -> tuple[str, ...]:
    """What values may call a job."""
    name = (job.get("metaName") or job.get("hook")) if isinstance(job, Mapping) else None
    return (name,) if isinstance(name, str) else ()


def _jobs(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _jobs(item)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key in LISTS and isinstance(inner, list):
                yield from inner
            elif key in ("pipelines", "stages"):
                yield from _jobs(inner)
