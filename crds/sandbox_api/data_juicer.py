# SPDX-License-Identifier: Apache-2.0
"""What Data-Juicer's configuration may hold: its keys, its operators and their arguments, checked without the library.

The names come from `data_juicer.json`, which is generated from the version that the data image carries, and so does
which arguments are numbers or switches. All else about values is the library's own business: the pod asks it before it
works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from .words import shown, written_as_text

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
    arguments = arguments or {}
    for argument in arguments:
        if argument not in known:
            yield f"{where}.{name}.{argument}: the operator has no such argument{_nearest(str(argument), known)}"
        elif advice := _misfit(operator, argument, arguments[argument]):
            yield f"{where}.{name}.{argument}: {advice}"
    executor = config.get("executor_type", "default")
    if isinstance(executor, str) and executor not in operator["executors"]:
        twin = f"ray_{name}"
        instead = f"; use {twin}" if twin in operators else ""
        yield f"{where}.{name}: the operator does not run with executor_type {executor!r}{instead}"


def _misfit(operator: Mapping[str, Any], argument: str, value: Any) -> str:
    """What to write instead of a value that the library's own check refuses, or nothing; null is any argument's."""
    is_switch = isinstance(value, bool)
    is_number = isinstance(value, int | float) and not is_switch
    if value is None:
        return ""
    if argument in operator.get("whole", ()) and not (is_number and value == value // 1):
        return f"write a whole number, not {shown(value)}{written_as_text(value)}"
    if argument in operator.get("numbers", ()) and not is_number:
        return f"write a number, not {shown(value)}{written_as_text(value)}"
    if argument in operator.get("switches", ()) and not is_switch:
        return f"write true or false, not {shown(value)}"
    return ""


def _nearest(word: str, known: Any) -> str:
    close = get_close_matches(word, [str(k) for k in known], 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
