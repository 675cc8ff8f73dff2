# SPDX-License-Identifier: Apache-2.0
"""A job's two configurations, made ready: read, `local` applied, inputs applied, a trial's parameters applied, every
path in them held inside.

Text that only looks like a variable (`$(HOME)`, `$$`) is text. What the keys mean is the hook's business.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_api.contract import JobContract
from sandbox_api.parameters import in_order, place_of
from sandbox_api.paths import data_sets_in, paths_in

from .errors import ConfigError
from .inputs import ResolvedInput
from .workspace import Workspace

DJ = "djConfigs"
EXTRA = "extraConfigs"
PROBE = "probe"
"""Target of the result that a refine job reads; not a configuration key."""


@dataclass(frozen=True)
class Configurations:
    dj: dict[str, Any] | None
    """Data-Juicer's configuration, or None when the job has none."""
    extra: dict[str, Any]

    def by_root(self) -> dict[str, dict[str, Any]]:
        """As the hook has them, by the names that fields begin with."""
        return {DJ: self.dj or {}, EXTRA: self.extra}


def resolve_configs(contract: JobContract, inputs: Mapping[str, ResolvedInput], workspace: Workspace) -> Configurations:
    """The configurations as the hook gets them. Raises ConfigError with the field's name."""
    roots = {DJ: copy.deepcopy(contract.configs.dj), EXTRA: copy.deepcopy(contract.configs.extra)}
    for name in roots:
        # an input that replaces the whole configuration may stand where an earlier job's file is named
        roots[name] = _mapping(roots[name] if name not in inputs else None, name, workspace)
    for target, value in contract.configs.local.items():
        _assign(roots, target, value, f"local[{target!r}]")
    for target in sorted(inputs, key=lambda t: t.count(".")):  # a whole configuration first, then what lies in it
        value = inputs[target].value
        if target in roots:
            roots[target] = _mapping(copy.deepcopy(value), target, workspace)
        elif target != PROBE:
            _assign(roots, target, value, f"input[{target!r}]")
    for name, value in in_order(contract.configs.parameters):  # last: a recipe may have come by an input
        _apply(roots, name, value)
    for name, root in roots.items():
        for field, text in paths_in(root, name):
            _confine(text, field, workspace)
    return Configurations(dj=roots[DJ], extra=roots[EXTRA] or {})


def read_config(path: Path, field: str) -> dict[str, Any]:
    """A mapping from a .yaml, .yml or .json file. Raises ConfigError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{field}: the file {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{field}: {path} is not text (UTF-8)") from error
    try:
        if path.suffix == ".json":
            value = json.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            import yaml

            value = yaml.safe_load(text)
        else:
            raise ConfigError(f"{field}: {path} must end in .yaml, .yml or .json")
    except ValueError as error:
        raise ConfigError(f"{field}: {path} is not JSON: {error}") from error
    except ConfigError:
        raise
    except Exception as error:
        # yaml's own error class can't be named before yaml is imported
        raise ConfigError(f"{field}: {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{field}: {path} holds {_kind(value)}, where keys and values are needed")
    return value


def _mapping(value: Any, field: str, workspace: Workspace) -> dict[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    if isinstance(value, str):
        return read_config(workspace.inside(value, field), field)
    raise ConfigError(f"{field}: {_kind(value)} is neither keys and values nor the path of a .yaml or .json file")


def _apply(roots: dict[str, Any], name: str, value: Any) -> None:
    """Set a trial's parameter."""
    told = f"parameters[{name!r}]"
    try:
        target = place_of(name, roots[DJ])
    except LookupError as error:
        raise ConfigError(f"{told}: {error}") from error
    _assign(roots, target, value, told)


def _assign(roots: dict[str, Any], target: str, value: Any, told: str) -> None:
    """Set `djConfigs.a.b` or `djConfigs.process.0.op.arg`; mappings on the way are made where they are missing."""
    root, *keys = target.split(".")
    if root not in roots or not keys:
        raise ConfigError(f"{told}: must begin with {DJ}. or {EXTRA}. and name a key")
    if roots[root] is None:
        roots[root] = {}
    place: Any = roots[root]
    for depth, key in enumerate(keys):
        where = ".".join([root, *keys[: depth + 1]])
        index: Any = key
        if isinstance(place, list):
            if not key.isdigit() or int(key) >= len(place):
                raise ConfigError(f"{told}: {where} does not exist; the list there has {len(place)} elements, from 0")
            index = int(key)
        elif not isinstance(place, dict):
            raise ConfigError(f"{told}: {where} can't be set: what holds it is {_kind(place)}")
        if depth == len(keys) - 1:
            place[index] = copy.deepcopy(value)  # what is set in it later is not set where it came from
            return
        if (place[index] if isinstance(place, list) else place.get(index)) is None:
            place[index] = {}
        place = place[index]


def files_in(text: str, field: str, workspace: Workspace) -> list[str]:
    """The paths in a text: itself, or the weighted data sets that it names. Raises ConfigError when it leads out."""
    return [text] if workspace.inside(text, field).exists() else data_sets_in(text)


def _confine(text: str, field: str, workspace: Workspace) -> None:
    if text.lower().startswith("file:"):
        raise ConfigError(f"{field}: give {text!r} as a plain path inside the workspace or the inputs")
    for part in files_in(text, field, workspace):
        path = workspace.inside(part, field)
        # nobody can make it while the experiment runs; elsewhere the hook may, or it is only a name
        if workspace.is_input(path) and not path.exists() and not set(part) & set("*?["):
            raise ConfigError(f"{field}: there is no file or folder {part}; inputs: {workspace.input_names()}")


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return "nothing" if value is None else kinds.get(type(value), type(value).__name__)
