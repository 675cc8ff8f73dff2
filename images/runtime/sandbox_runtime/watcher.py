# SPDX-License-Identifier: Apache-2.0
"""`SandboxWatcher`: the four verbs with which hooks tell what they see.

The truth is a line in `metrics.jsonl`, durable before `watch` returns; Weights & Biases gets it from there, by an
exporter beside the hooks. Nothing here asks a network.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox_api.digest import sha256_of

from .figures import newest
from .metrics import MetricsLog
from .secrets import without_secrets
from .sweep_file import checked_sweep, sweep_file
from .workspace import Workspace

PAIR = ("all", "best")
"""Names of the two that the sandbox's own evaluators return: `([each data set's figures], the best)`."""


@dataclass
class SandboxWatcher:
    """Of one attempt. Keys are the guide's: `<meta_name>`, or `<meta_name>.<k1>.<k2>` for what a mapping holds."""

    workspace: Workspace
    log: MetricsLog
    experiment: str
    """Uid of the experiment."""
    outputs: dict[str, Path] = field(default_factory=dict)
    """Files that the job's result names beside the hook's own outputs."""
    _steps: dict[str, int] = field(default_factory=dict)

    def setup_sweep(self, hpo_config: Mapping[str, Any] | str | Path, project_name: str | None = None) -> str:
        """Check a W&B sweep definition (or the path of one) and record it as the output `sweep_<id>`; returns the id.

        The id depends on the experiment, the project and the definition alone. A search is run by a SandboxSweep, so
        no server is told. Raises ConfigError, which names every field that is wrong.
        """
        if isinstance(hpo_config, (str, Path)):
            hpo_config = sweep_file(self.workspace.inside(hpo_config, "hpo_config"))
        definition = checked_sweep(hpo_config)
        identity = [self.experiment, project_name, definition]
        sweep = sha256_of(identity)[:8]
        path = self.workspace.out / "sweeps" / f"{sweep}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"project": project_name, "definition": definition}, indent=1) + "\n")
        self.outputs[f"sweep_{sweep}"] = path
        return sweep

    def watch_cfgs(self, configs: Iterable[tuple[Mapping[str, Any] | None, str]]) -> None:
        """Keep configurations, each with a prefix: a line of `<prefix>.<key>` in the configs file."""
        write_configs(self.workspace.configs, configs)

    def watch(self, result: Any, meta_name: str, *, step: int | None = None) -> Any:
        """Keep a result; returns it. A number, or the numbers at the ends of a mapping, become one line.

        Texts and truths stand in that line under `_values`; a table (anything with `to_csv`) becomes a file that the
        line names under `_tables`; the two of `([figures of each], best)` are `<meta_name>.all.<n>` and
        `<meta_name>.best`. What is not finite is only named, under `_notFinite` and in the job's log. step: by default
        counted for each first part of the keys.
        """
        found = Found()
        found.take(result, meta_name)
        for key, table in found.tables.items():
            path = self.workspace.out / "watched" / f"{_file_name(key)}_{len(found.names)}_{time.time_ns()}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                table.to_csv(file)
                file.flush()
                os.fsync(file.fileno())
            found.names[key] = self.workspace.relative(path)
        if found.left_out:
            print(f"watch({meta_name!r}): left out, not finite: {', '.join(found.left_out)}", flush=True)
        if found.figures or found.values or found.names or found.left_out:
            root = meta_name.partition(".")[0]
            self._steps[root] = step if step is not None else self._steps.get(root, 0) + 1
            step = self._steps[root]
            self.log.line(found.figures, step=step, values=found.values, tables=found.names, not_finite=found.left_out)
        return result

    def query(self, key: str) -> Any:
        """The newest value of a key in this experiment, whichever pod wrote it; None when there is none.

        A number, a text, the path of a table, or a committed output (`<metaName>.<output>`).
        """
        return newest(self.workspace, key)


@dataclass
class Found:
    """What is in a result, by key."""

    figures: dict[str, float] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def take(self, result: Any, key: str) -> None:
        if isinstance(result, Mapping):
            for name, value in result.items():
                self.take(value, f"{key}.{name}" if key else str(name))
        elif hasattr(result, "to_csv"):
            self.tables[key] = result
        elif isinstance(result, (bool, str)) or result is None:
            self.values[key] = result
        elif (number := _number(result)) is not None:
            if math.isfinite(number):
                self.figures[key] = number
            else:
                self.left_out.append(key)
        elif _is_sequence(result):
            for name, value in _named(result):
                self.take(value, f"{key}.{name}")
        else:
            self.values[key] = str(result)[:10_000]


def write_configs(path: Path, configs: Iterable[tuple[Mapping[str, Any] | None, str]]) -> None:
    """Append one durable line of `<prefix>.<key>`: value, without what may be secret (the volume has many readers)."""
    line = {
        f"{prefix}.{key}" if prefix else str(key): without_secrets(str(key), value)
        for config, prefix in configs
        for key, value in (config or {}).items()
    }
    if not line:
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=str, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _number(value: Any) -> float | None:
    """A number, numpy's and torch's single ones included."""
    if isinstance(value, (int, float)):
        return float(value)
    if not hasattr(value, "__float__") or getattr(value, "ndim", 0):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_sequence(value: Any) -> bool:
    return (isinstance(value, Sequence) or hasattr(value, "tolist")) and not isinstance(value, (str, bytes))


def _named(values: Any) -> Iterator[tuple[str, Any]]:
    items = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(items, Sequence):
        items = [items]
    is_pair = isinstance(values, tuple) and len(items) == 2 and isinstance(items[0], (list, tuple))
    return zip(PAIR, items, strict=True) if is_pair else ((str(number), item) for number, item in enumerate(items))


def _file_name(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", key)[:100].strip(".") or "table"
