# SPDX-License-Identifier: Apache-2.0
"""`SandboxWatcher`: the four verbs with which hooks tell what they see.

The truth is a line in `metrics.jsonl`, durable before `watch` returns; Weights & Biases gets it from there, by an
exporter beside the hooks. Nothing here asks a network.
"""

from __future__ import annotations

import json
import os
import re
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox_api.digest import sha256_of

from .figures import newest
from .metrics import MetricsLog
from .secrets import without_secrets
from .sweep_file import checked_sweep, sweep_file
from .watched import Found
from .workspace import Workspace

Settings = Mapping[str, Any] | Namespace


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

    def watch_cfgs(self, configs: Iterable[tuple[Settings | None, str]]) -> None:
        """Keep configurations, each with a prefix: a line of `<prefix>.<key>` in the configs file.

        A configuration is a mapping, or a namespace as argparse and jsonargparse make them.
        """
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
        found.tell(meta_name)
        if found.keys:
            root = meta_name.partition(".")[0]
            self._steps[root] = step if step is not None else self._steps.get(root, 0) + 1
            self.keep(found, self._steps[root])
        return result

    def keep(self, found: Found, step: int) -> None:
        """Write what was found as one line, its tables as files."""
        names = {}
        for number, (key, table) in enumerate(found.tables.items()):
            path = self.workspace.out / "watched" / f"{_file_name(key)}_{number}_{time.time_ns()}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                table.to_csv(file)
                file.flush()
                os.fsync(file.fileno())
            names[key] = self.workspace.relative(path)
        self.log.line(found.figures, step=step, values=found.values, tables=names, not_finite=found.left_out)

    def query(self, key: str) -> Any:
        """The newest value of a key in this experiment, whichever pod wrote it; None when there is none.

        A number, a text, the path of a table, or a committed output (`<metaName>.<output>`).
        """
        return newest(self.workspace, key)


def write_configs(path: Path, configs: Iterable[tuple[Settings | None, str]]) -> None:
    """Append one durable line of `<prefix>.<key>`: value, without what may be secret (the volume has many readers)."""
    line = {
        f"{prefix}.{key}" if prefix else str(key): without_secrets(str(key), value)
        for config, prefix in configs
        for key, value in _plain(config or {}).items()
    }
    if not line:
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=str, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _plain(config: Any) -> Any:
    """The same with mappings where there are namespaces, at any depth."""
    if isinstance(config, Namespace):
        config = vars(config)
    if isinstance(config, Mapping):
        return {key: _plain(value) for key, value in config.items()}
    return [_plain(item) for item in config] if isinstance(config, (list, tuple)) else config


def _file_name(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", key)[:100].strip(".") or "table"
