# SPDX-License-Identifier: Apache-2.0
"""Which texts of a configuration name files: one rule for the planner, which looks first, and for the pod, the last."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

PATH_WORDS = frozenset(
    ["path", "paths", "dir", "dirs", "file", "files", "folder", "folders", "recipe", "model", "models", "dataset"]
)
"""A key that holds one of these words between its underscores names a path, if its value looks like one."""

URL = re.compile(r"^(?!file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def paths_in(value: Any, field: str, names_path: bool = False) -> Iterator[tuple[str, str]]:
    """Texts under keys that name paths, with their fields (`djConfigs.dataset.configs[0].path`). URLs are none."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from paths_in(item, f"{field}.{key}", bool(PATH_WORDS & set(str(key).lower().split("_"))))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from paths_in(item, f"{field}[{number}]", names_path)
    elif isinstance(value, str) and names_path and not URL.match(value):
        yield field, value


def data_sets_in(text: str) -> list[str]:
    """The paths in a text that may name several weighted data sets, as Data-Juicer takes them (`0.5 a 0.5 b`)."""
    parts = text.split()
    return [text] if len(parts) < 2 else [part for part in parts if not _is_weight(part)]


def _is_weight(text: str) -> bool:
    return re.fullmatch(r"[0-9]*\.?[0-9]+", text) is not None
