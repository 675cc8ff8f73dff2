# SPDX-License-Identifier: Apache-2.0
"""From entries of the journal to what a run is told: rows, metrics with their steps, a configuration.

Pure but for reading the volume; nothing of wandb's is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sandbox_api.export import ExportContract

from ..secrets import without_secrets
from ..workspace import METRICS
from .sources import Entry, attempt_of, configs_in, metrics_line, result_at, whole_lines

OWN = "sandbox"
"""Under it a row says which line it is: `sandbox.job`, `sandbox.attempt`, `sandbox.pod`, `sandbox.line`."""
MAX_TEXT = 10_000


def rows_of(root: Path, entry: Entry) -> Iterator[dict[str, Any]]:
    """The rows of lines, or of a result, one by one. Times are in seconds since 1970, under `_timestamp`."""
    attempt = attempt_of(entry.source)
    own = {f"{OWN}.job": attempt.job, f"{OWN}.attempt": attempt.number, f"{OWN}.pod": attempt.pod}
    if entry.kind == "result":
        result = result_at(root, entry.source)
        yield {**(result.metrics if result is not None else {}), **own, f"{OWN}.line": "result"}
        return
    lines = whole_lines(root / entry.source / METRICS, entry.begin)[: entry.count]
    lines += [b""] * (entry.count - len(lines))  # a file that was removed leaves its rows' places
    for number, line in enumerate(lines, entry.begin):
        yield {**row_of(metrics_line(line)), **own, f"{OWN}.line": number}


def row_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl as a row; its step stands under `<first part of the key>.step` for each such part."""
    figures = {key: value for key, value in line.items() if _is_number(value) and key not in ("t", "step", "total")}
    values = line.get("_values")
    texts = (
        {key: value[:MAX_TEXT] for key, value in values.items() if isinstance(value, str)}
        if isinstance(values, dict)
        else {}
    )
    row: dict[str, Any] = {**figures, **texts}
    if _is_number(step := line.get("step")):
        row = {f"{root}.step": step for root in roots_of(figures)} | row
    if _is_number(at := line.get("t")):
        row["_timestamp"] = float(at)
    return row


def roots_of(keys: Mapping[str, Any]) -> list[str]:
    """First parts of keys, which are metaNames."""
    return list(dict.fromkeys(key.partition(".")[0] for key in keys if not key.startswith(("_", f"{OWN}."))))


def config_of(experiment: Path, contract: ExportContract) -> dict[str, Any]:
    """The run's configuration: what jobs ran with and what hooks watched, a trial's parameters.

    The newest attempt counts. Where several jobs say the same key differently, the later ones' keys are followed by
    their job's id.
    """
    found: dict[str, Any] = {}
    job_of: dict[str, str] = {}
    for source, line in configs_in(experiment):
        job = attempt_of(source).job
        for key, value in line.items():
            first = job_of.setdefault(key, job)
            name = key if first == job or found.get(key) == value else f"{key} ({job})"
            found[name] = value
    told = found | {f"parameters.{name}": without_secrets(name, value) for name, value in contract.parameters.items()}
    ref = contract.experiment
    return told | {f"{OWN}.experiment": f"{ref.namespace}/{ref.name}", f"{OWN}.uid": ref.uid}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
