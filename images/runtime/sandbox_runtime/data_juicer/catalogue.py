# SPDX-License-Identifier: Apache-2.0
"""The names that Data-Juicer's configuration accepts, as one small JSON document.

`python -m sandbox_runtime.data_juicer.catalogue > crds/sandbox_api/data_juicer.json` writes what the planner
checks keys, operators and arguments with, before any pod exists and without the library. Inside a pod
`config` asks the library itself, by the same form.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from . import operators

# Command line only: a configuration file can't hold them.
COMMAND_LINE = frozenset({"help", "config", "auto", "print_config"})

# What an argument takes of these tells its kind; what takes several kinds has none.
SAMPLES = (7, 0.5, True, "text")
KINDS = {
    (True, False, False, False): "whole",
    (True, True, False, False): "numbers",
    (False, False, True, False): "switches",
}


def top_level_keys() -> dict[str, list[str]]:
    """Return the keys of a configuration; where a key holds a mapping of named settings, their names."""
    from data_juicer.config.config import build_base_parser

    keys: dict[str, list[str]] = {}
    for action in build_base_parser()._actions:
        key, _, setting = action.dest.partition(".")
        if key not in COMMAND_LINE:
            settings = keys.setdefault(key, [])
            if setting:
                settings.append(setting)
    return keys


def describe() -> dict[str, Any]:
    """Return `{version, keys, common, operators}`.

    `common` holds, by kind, the arguments that all operators of that kind take. An operator is `{type,
    executors, args}`, its arguments with their defaults where these are plain values, else with null; and by each
    of `KINDS` its own arguments that take nothing else.
    """
    import data_juicer

    common: dict[str, list[str]] = {}
    described: dict[str, Any] = {}
    for name, operator in sorted(operators.registry().items()):
        kind = operators.kind(operator)
        shared = operators.common_arguments(operator)
        common.setdefault(kind, sorted(shared))
        described[name] = {
            "type": kind,
            "executors": list(operators.executors(operator)),
            "args": {arg: _plain(parameter.default) for arg, parameter in operators.own_arguments(operator).items()},
        }
        described[name] |= _kinds(name, operators.own_arguments(operator))
        extra = sorted(set(shared) - set(common[kind]))
        if extra:
            described[name]["args"].update({arg: _plain(shared[arg]) for arg in extra})
    return {"version": data_juicer.__version__, "keys": top_level_keys(), "common": common, "operators": described}


def _kinds(name: str, arguments: Iterable[str]) -> dict[str, list[str]]:
    """Return the arguments that are whole numbers, numbers or switches, as the library's own check takes them."""
    found: dict[str, list[str]] = {}
    for argument in arguments:
        taken = tuple(_is_taken(name, argument, sample) for sample in SAMPLES)
        kind = KINDS.get(taken)
        if kind is not None:
            found.setdefault(kind, []).append(argument)
    return found


def _is_taken(name: str, argument: str, value: Any) -> bool:
    from data_juicer.core.preflight import PipelineConfigError, pre_instantiation_check

    try:
        pre_instantiation_check([{name: {argument: value}}])
    except PipelineConfigError as error:
        return not any(f"'{argument}' expects type" in found.message for found in error.errors)
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, str):  # a path is one of the machine that asks
        return value if len(value) <= 80 and not value.startswith("/") else None
    return value if isinstance(value, bool | int | float) else None


def dump(catalogue: Mapping[str, Any]) -> str:
    """Return the catalogue as JSON, one operator a line, so that an upgrade of the library reads well as a
    diff.
    """
    head = {key: value for key, value in catalogue.items() if key != "operators"}
    lines = [json.dumps(key) + ": " + json.dumps(value, sort_keys=True) for key, value in head.items()]
    each = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in catalogue["operators"].items()]
    return "{\n" + ",\n".join([*lines, '"operators": {\n' + ",\n".join(each) + "\n}"]) + "\n}\n"


if __name__ == "__main__":
    sys.stdout.write(dump(describe()))
