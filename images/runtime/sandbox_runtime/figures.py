# SPDX-License-Identifier: Apache-2.0
"""What is known in an experiment under a key, whichever pod wrote it: committed results, then lines of `metrics.jsonl`.

Read from the volume each time: results and lines are there before anybody is told of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sandbox_api.contract import figure_names
from sandbox_api.result import Output, Result

from .workspace import Stored, Workspace


def newest(workspace: Workspace, key: str) -> Any:
    """The value of a key that was written last; None when there is none."""
    found = [*_in_results(workspace, key), *_in_lines(workspace, key)]
    return max(found, key=lambda one: one[0])[1] if found else None


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of a metrics file; what is no object is passed over, and so is a last line without its end."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    for line in content.split(b"\n")[:-1]:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _in_results(workspace: Workspace, key: str) -> Iterator[tuple[float, Any]]:
    for stored in _results(workspace):
        result = stored.result
        value = _value(workspace, result, key)
        if value is not None:
            yield _seconds(result.finished_at), value


def _results(workspace: Workspace) -> Iterator[Stored]:
    """Those of the experiment's jobs, and those that this job reads, which may be another experiment's."""
    seen = set()
    for stored in (*workspace.results_of_experiment(), *workspace.results_read()):
        if stored.sha256 not in seen and stored.result.outcome == "Succeeded":
            seen.add(stored.sha256)
            yield stored


def _value(workspace: Workspace, result: Result, key: str) -> Any:
    name = key.removeprefix(f"{result.meta_name}.") if key != result.meta_name else ""
    for known in (key, *(figure_names(result.meta_name, name)[:2] if name else ())):
        if known in result.metrics and (known == key or key.startswith(f"{result.meta_name}.")):
            return result.metrics[known]
    output = result.outputs.get(name) if key.startswith(f"{result.meta_name}.") else None
    return _typed(workspace, output) if output is not None else None


def _typed(workspace: Workspace, output: Output) -> Any:
    if output.kind == "path" and output.path is not None:
        return workspace.root / output.path
    if output.kind != "list":
        return output.value
    paths = {element.index for element in output.elements or ()}
    return [workspace.root / item if index in paths else item for index, item in enumerate(output.value)]


def _in_lines(workspace: Workspace, key: str) -> Iterator[tuple[float, Any]]:
    for path in workspace.metrics_of_experiment():
        for line in lines_of(path):
            at = line.get("t")
            at = float(at) if isinstance(at, (int, float)) else 0.0
            tables, values = line.get("_tables") or {}, line.get("_values") or {}
            if key in line and key not in ("t", "step"):
                yield at, line[key]
            elif key in values:
                yield at, values[key]
            elif key in tables:
                yield at, workspace.root / tables[key]


def _seconds(stamp: str) -> float:
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
