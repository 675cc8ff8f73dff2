# SPDX-License-Identifier: Apache-2.0
"""What Data-Juicer's configuration may hold: its keys, its operators and their arguments, checked without the library.

The names come from `data_juicer.json`, which is generated from the version that the data image carries. Values are the
library's own business: the pod checks them before it works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

PROBE_ALGORITHMS = ("uniform", "frequency_specified_field_selector", "topk_specified_field_selector")
"""Ways to choose the rows that a model is asked about, which Data-Juicer itself takes as any text."""


@cache
def catalogue() -> dict[str, Any]:
    """`{version, keys, common, operators}` as `sandbox_runtime.data_juicer.catalogue` describes them."""
    data: dict[str, Any] = json.loads(files(__package__).joinpath("data_juicer.json").read_text())
    return data


def configuration_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """A text `<.path>: <sentence>` for each key, operator or argument that Data-Juicer does not have."""
    keys: dict[str, list[str]] = catalogue()["keys"]
    for key, value in config.items():
        head = str(key).split(".", 1)[0]
        if head not in keys:
            yield f".{key}: Data-Juicer {catalogue()['version']} has no such key{_nearest(str(key), keys)}"
        elif keys[head] and isinstance(value, Mapping):
            for name in value:
                if name not in keys[head]:
                    yield f".{key}.{name}: Data-Juicer has no such setting{_nearest(str(name), keys[head])}"
    algorithm = config.get("data_probe_algo")
    if algorithm is not None and algorithm not in PROBE_ALGORITHMS:
        known = _nearest(str(algorithm), PROBE_ALGORITHMS) or f"; write one of {', '.join(PROBE_ALGORITHMS)}"
        yield f".data_probe_algo: there is no way to choose rows named {algorithm!r}{known}"
    ratio = config.get("data_probe_ratio")
    if ratio is not None and not (isinstance(ratio, int | float) and not isinstance(ratio, bool) and ratio > 0):
        yield f".data_probe_ratio: {ratio!r} is no share of the rows; write a number above 0, 1 for all of them"
    process = config.get("process")
    if process is None:
        return
    if not isinstance(process, list):
        yield ".process: write a list of operators"
        return
    for index, entry in enumerate(process):
        yield from _operator_problems(entry, f".process[{index}]", config)


def _operator_problems(entry: Any, where: str, config: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        yield f"{where}: write one operator, as `- name: {{argument: value}}`"
        return
    ((name, arguments),) = entry.items()
    operators = catalogue()["operators"]
    operator = operators.get(name)
    if operator is None:
        if not config.get("custom_operator_paths"):  # a user's own operators are known to the pod only
            yield f"{where}: Data-Juicer has no operator {name!r}{_nearest(str(name), operators)}"
        return
    if arguments is not None and not isinstance(arguments, Mapping):
        yield f"{where}.{name}: write its arguments as a mapping"
        return
    known = [*operator["args"], *catalogue()["common"][operator["type"]]]
    for argument in arguments or {}:
        if argument not in known:
            yield f"{where}.{name}.{argument}: the operator has no such argument{_nearest(str(argument), known)}"
    executor = config.get("executor_type", "default")
    if isinstance(executor, str) and executor not in operator["executors"]:
        twin = f"ray_{name}"
        instead = f"; use {twin}" if twin in operators else ""
        yield f"{where}.{name}: the operator does not run with executor_type {executor!r}{instead}"


def _nearest(word: str, known: Any) -> str:
    close = get_close_matches(word, [str(k) for k in known], 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
