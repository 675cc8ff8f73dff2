# SPDX-License-Identifier: Apache-2.0
"""Checks `djConfigs` and `extraConfigs`, which the resource's schema can't type.

A configuration given as a path can't be read here: the pod checks it with the same words before it works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from sandbox_api.contract import INPUTS, WORKSPACE
from sandbox_api.data_juicer import configuration_problems
from sandbox_api.experiment import JobConfig
from sandbox_api.hooks import Hook

from .references import Reference, normal_path, strings_in

PATH_KEYS = {"dataset_path", "export_path", "work_dir", "path_k_sigma_recipe", "ds_cache_dir", "validators"}


def effective(config: JobConfig) -> dict[str, Any]:
    """Both configurations of a job with `local` applied, as `{"djConfigs": ..., "extraConfigs": ...}`."""
    configs: dict[str, Any] = {"djConfigs": config.dj_configs, "extraConfigs": config.extra_configs}
    for target, value in (config.local or {}).items():
        configs = _with(configs, target.split("."), value)
    return configs


def _with(tree: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    head, *rest = path
    if not rest:
        return {**tree, head: value}
    below = tree.get(head)
    return {**tree, head: _with(below if isinstance(below, Mapping) else {}, rest, value)}


def check_configs(
    config: JobConfig, hook: Hook, where: str, inputs: Mapping[str, Reference], volumes: tuple[str, ...]
) -> Iterator[str]:
    """A sentence for each mistake in a job's configurations."""
    for target in config.local or {}:
        if target.split(".", 1)[0] not in ("djConfigs", "extraConfigs") or "." not in target:
            yield f'{where}.local["{target}"]: a target is djConfigs.<key> or extraConfigs.<key>'
    configs = effective(config)
    dj, extra = configs["djConfigs"], configs["extraConfigs"]
    for name, value in (("djConfigs", dj), ("extraConfigs", extra)):
        if value is not None and not isinstance(value, str | Mapping):
            yield f"{where}.{name}: write an object, or the path of a .yaml or .json file, not {type(value).__name__}"
        if isinstance(value, str) and not value.endswith((".yaml", ".yml", ".json")) and name not in inputs:
            yield f"{where}.{name}: {value!r} is not the path of a .yaml, .yml or .json file"
    if hook.reads_dj:
        if isinstance(dj, Mapping):
            yield from (f"{where}.djConfigs{problem}" for problem in configuration_problems(dj))
            named = {"dataset_path", "dataset", "generated_dataset_config"} & set(dj)
            if not named and not {"djConfigs", "djConfigs.dataset_path"} & set(inputs):
                yield f"{where}.djConfigs.dataset_path: name the data set to read, or fill it with input"
        elif dj is None and not any(target.split(".")[0] == "djConfigs" for target in inputs):
            yield f"{where}.djConfigs: {hook.name} needs a Data-Juicer configuration, inline, as a path or by input"
    elif dj is not None:
        yield f"{where}.djConfigs: {hook.name} reads no Data-Juicer configuration; leave it out"
    if extra is None or isinstance(extra, Mapping):
        filled = {target.split(".")[1] for target in inputs if target.startswith("extraConfigs.")}
        yield from _extra_problems(hook, {**(extra or {})}, filled, where)
    for target, value in strings_in(configs):
        if target.rsplit(".", 1)[-1] in PATH_KEYS and target not in inputs:
            yield from _path_problems(value, f"{where}.{target}", volumes)


def _extra_problems(hook: Hook, extra: Mapping[str, Any], filled: set[str], where: str) -> Iterator[str]:
    try:
        hook.extra.model_validate({key: value for key, value in extra.items() if key not in filled})
    except ValidationError as error:
        for entry in error.errors():
            path = "".join(f".{part}" for part in entry["loc"])
            if entry["type"] == "missing" and str(entry["loc"][0]) in filled:
                continue
            if entry["type"] == "extra_forbidden":
                known = ", ".join(field.alias or name for name, field in hook.extra.model_fields.items())
                yield f"{where}.extraConfigs{path}: {hook.name} has no such setting; it has: {known or 'none'}"
            else:
                yield f"{where}.extraConfigs{path}: {entry['msg'][0].lower()}{entry['msg'][1:]}"


def _path_problems(path: str, where: str, volumes: tuple[str, ...]) -> Iterator[str]:
    normal = normal_path(path)
    if normal.startswith("/"):
        if not normal.startswith((f"{WORKSPACE}/", f"{INPUTS}/")):
            yield (
                f"{where}: {path!r} lies outside the workspace; use a relative path,"
                f" or one under {WORKSPACE} or {INPUTS}"
            )
        name = normal.removeprefix(f"{INPUTS}/").split("/")[0] if normal.startswith(f"{INPUTS}/") else None
    elif normal.startswith(".."):
        yield f"{where}: {path!r} leads out of the workspace"
        name = None
    else:
        name = normal.split("/")[1] if normal.startswith("inputs/") else None
    if name is not None and name not in volumes:
        yield f"{where}: spec.inputs has no {name!r}"
