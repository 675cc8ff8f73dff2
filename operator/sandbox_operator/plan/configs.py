# SPDX-License-Identifier: Apache-2.0
"""Checks `djConfigs` and `extraConfigs`, which the resource's schema can't type.

A configuration given as a path can't be read here: the pod checks it with the same words before it works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from sandbox_api import contract as wire
from sandbox_api.contract import INPUTS, WORKSPACE
from sandbox_api.data_juicer import configuration_problems
from sandbox_api.experiment import JobConfig
from sandbox_api.extra import Settings, said_by
from sandbox_api.extra_schema import LATER, holds_later
from sandbox_api.hook import Hook
from sandbox_api.hook_resource import AnyExtra, extra_problems, merged_extra
from sandbox_api.parameters import ROOTS as ROOTS
from sandbox_api.parameters import in_order, place_of
from sandbox_api.paths import data_sets_in, paths_in
from sandbox_api.sentences import fields_beside

from .job import Given, PlannedJob
from .references import did_you_mean, normal_path

_LATER = None
"""Stands in a configuration for what an input will bring."""


def effective(config: JobConfig) -> dict[str, Any]:
    """Both configurations of a job with `local` applied, as `{"djConfigs": ..., "extraConfigs": ...}`.

    One that `input` replaces as a whole is None. One that is a path stays that text: only the pod can see into it.
    """
    replaced = set(config.input or ())
    given = {"djConfigs": config.dj_configs, "extraConfigs": config.extra_configs}
    configs: dict[str, Any] = {root: None if root in replaced else value for root, value in given.items()}
    for target, value in (config.local or {}).items():
        try:
            configs = placed(configs, target, value)
        except LookupError:
            continue  # check_configs tells it
    return configs


def with_parameters(config: JobConfig, parameters: Mapping[str, Any]) -> JobConfig:
    """A job's configuration with a trial's parameters as the last of `local`, to look at.

    What goes to an operator that only the pod can see is left out.
    """
    local = dict(config.local or {})
    for name, value in in_order(parameters):
        with suppress(LookupError):
            place = place_of(name, effective(config)["djConfigs"])
            local.pop(place, None)
            local[place] = value
            config = config.model_copy(update={"local": dict(local)})
    return config


def placed(configs: Mapping[str, Any], target: str, value: Any) -> dict[str, Any]:
    """Configurations with one key set. Raises LookupError with a sentence when there is no such place."""
    root, *path = target.split(".")
    if root not in ROOTS or not path or not all(path):
        raise LookupError("a target is djConfigs.<key> or extraConfigs.<key>")
    if isinstance(configs[root], str):
        return dict(configs)
    return {**configs, root: _with(configs[root], path, value, root)}


def _with(tree: Any, path: list[str], value: Any, where: str) -> Any:
    if not path:
        return value
    key, *rest = path
    if isinstance(tree, list):
        if not key.isdigit() or int(key) >= len(tree):
            raise LookupError(f"{where}.{key} does not exist; the list there has {len(tree)} elements, from 0")
        number = int(key)
        return [*tree[:number], _with(tree[number], rest, value, f"{where}.{key}"), *tree[number + 1 :]]
    if tree is not None and not isinstance(tree, Mapping):
        raise LookupError(f"{where} holds no keys, so {key!r} can't be set in it")
    below = (tree or {}).get(key)
    return {**(tree or {}), key: _with(below, rest, value, f"{where}.{key}")}


def given_configs(job: PlannedJob) -> wire.Configs:
    """The configurations as written, with the items of literal lists in their places."""
    given: dict[str, Any] = {"djConfigs": job.config.dj_configs, "extraConfigs": job.config.extra_configs}
    local = dict(job.config.local or {})
    for target, source in job.inputs.items():
        if isinstance(source, Given):
            if target in ROOTS:
                given[target] = source.value
                local = {key: value for key, value in local.items() if key.split(".")[0] != target}
            else:
                local[target] = source.value
    extra = merged_extra(job.hook, given["extraConfigs"])
    return wire.Configs(dj=given["djConfigs"], extra=extra, local=local, parameters=dict(job.parameters))


def settled_extra(job: PlannedJob) -> dict[str, Any]:
    """What of a job's `extraConfigs` is known before it runs: nothing that other jobs fill in or a file holds."""
    configs = given_configs(job)
    roots: Mapping[str, Any] = {"djConfigs": configs.dj, "extraConfigs": configs.extra}
    for target, value in configs.local.items():
        with suppress(LookupError):  # it has been told
            roots = placed(roots, target, value)
    for name, value in in_order(configs.parameters):
        with suppress(LookupError):
            roots = placed(roots, place_of(name, roots["djConfigs"]), value)
    later = {target for target, source in job.inputs.items() if not isinstance(source, Given)}
    extra = roots["extraConfigs"]
    if "extraConfigs" in later or not isinstance(extra, Mapping):
        return {}
    return {key: value for key, value in extra.items() if f"extraConfigs.{key}" not in later}


def value_at(config: JobConfig, configs: Mapping[str, Any], target: str) -> Any:
    """What stands at a target; `local` is seen even where the rest is a path."""
    if target in (config.local or {}):
        return (config.local or {})[target]
    value: Any = configs
    for part in target.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def check_configs(
    config: JobConfig, hook: Hook, where: str, inputs: Set[str], volumes: tuple[str, ...], gpus: int = 0
) -> Iterator[str]:
    """A sentence for each mistake in a job's configurations. `gpus`: of a pod."""
    configs = effective(config)
    filled = {*inputs, *(config.input or {})}  # a reference that is wrong is one mistake, not two
    yield from _target_problems(config, configs, where)
    for name, value in (("djConfigs", config.dj_configs), ("extraConfigs", config.extra_configs)):
        if value is not None and not isinstance(value, str | Mapping):
            yield f"{where}.{name}: write an object, or the path of a .yaml or .json file, not {_kind(value)}"
        if isinstance(value, str) and not value.endswith((".yaml", ".yml", ".json")) and name not in filled:
            yield f"{where}.{name}: {value!r} is not the path of a .yaml, .yml or .json file"
    yield from _dj_problems(hook, configs["djConfigs"], where, filled)
    extra = configs["extraConfigs"]
    yield from (f"{where}{problem}" for problem in extra_problems(hook, extra, filled))
    if "extraConfigs" not in filled and hook.extra is not AnyExtra and (extra is None or isinstance(extra, Mapping)):
        yield from _extra_problems(hook, extra or {}, filled, where, gpus, config.nodes or 1)
    written = {f"{where}.{target}" for target in hook.writes}
    for target, text in _paths(config, configs):
        if target not in filled:
            yield from _path_problems(text, f"{where}.{target}", volumes, f"{where}.{target}" in written)


def _paths(config: JobConfig, configs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every path that can be seen, by target; where a configuration is a path, that one and those that `local` sets."""
    for root, value in configs.items():
        yield from paths_in(value, root)
        if isinstance(value, str):
            yield root, value
    for target, value in (config.local or {}).items():
        root, _, key = target.rpartition(".")
        if isinstance(configs.get(target.split(".")[0]), str):
            yield from paths_in({key: value}, root)


def _target_problems(config: JobConfig, configs: Mapping[str, Any], where: str) -> Iterator[str]:
    """Keys of `local` and `input` that name no place in a configuration."""
    for name, targets in (("local", config.local or {}), ("input", config.input or {})):
        for target in targets:
            if name == "input" and target in ROOTS:
                continue
            try:
                placed(configs, target, _LATER)
            except LookupError as error:
                yield f'{where}.{name}["{target}"]: {error}'


def _dj_problems(hook: Hook, dj: Any, where: str, targets: Set[str]) -> Iterator[str]:
    filled = sorted(target for target in targets if target.split(".")[0] == "djConfigs")
    if not hook.reads_dj:
        if dj is not None or filled:
            yield f"{where}.djConfigs: {hook.name} reads no Data-Juicer configuration; leave it out"
        return
    if dj is None and not filled:
        yield f"{where}.djConfigs: {hook.name} needs a Data-Juicer configuration, inline, as a path or by input"
    if "djConfigs" in filled or not (dj is None or isinstance(dj, Mapping)):
        return
    complete: dict[str, Any] = {"djConfigs": dj, "extraConfigs": None}
    for target in filled:
        if not target.removeprefix("djConfigs.process.").isdigit():  # a whole operator: nothing can be said of it yet
            try:
                complete = placed(complete, target, _LATER)
            except LookupError:
                continue
    dj = complete["djConfigs"]
    if dj is None:
        return
    yield from (f"{where}.djConfigs{problem}" for problem in configuration_problems(dj))
    if hook.reads_data and not {"dataset_path", "dataset", "generated_dataset_config"} & set(dj):
        yield f"{where}.djConfigs.dataset_path: name the data set to read, or fill it with input"


def _extra_problems(
    hook: Hook, extra: Mapping[str, Any], inputs: Set[str], where: str, gpus: int, nodes: int
) -> Iterator[str]:
    filled, settings = _in_our_layout(hook, extra, inputs)
    extra = settings.values
    known = {field.alias or name for name, field in hook.extra.model_fields.items()}
    there_is = f"; it has: {', '.join(sorted(known)) or 'none'}"
    for name in sorted(filled - known):
        yield f"{where}.extraConfigs.{name}: {hook.name} has no such setting{there_is}"
    lacking = hook.extra.lacking(extra, lambda key: key in filled or extra.get(key))
    yield from (f"{where}.extraConfigs.{problem}" for problem in lacking)
    try:
        found = hook.extra.model_validate({key: value for key, value in extra.items() if key not in filled})
        yield from (f"{where}.extraConfigs.{problem}" for problem in found.misfits(gpus, nodes))
    except ValidationError as error:
        for entry in error.errors():
            if entry["type"] == "missing" and entry["loc"][0] in filled:
                continue
            path = "".join(f".{part}" for part in entry["loc"])
            if entry["type"] == "extra_forbidden":
                hint = _of_those(hook, settings, entry["loc"])
                yield f"{where}.extraConfigs{path}: {hook.name} has no such setting{hint}"
            else:
                said = said_by(entry)
                yield f"{where}.extraConfigs{path}: {said[0].lower()}{said[1:]}"


def _of_those(hook: Hook, settings: Settings, loc: tuple[int | str, ...]) -> str:
    """The end of a sentence about a key that is none: what it was probably meant to be, or all there are beside it."""
    key = str(loc[-1])
    in_old_layout = len(loc) == 1 and "." in key
    beside = sorted(settings.layout if in_old_layout else fields_beside(loc, hook.extra))
    return did_you_mean(key, beside) or f"; it has: {', '.join(beside) or 'none'}"


def _in_our_layout(hook: Hook, extra: Mapping[str, Any], inputs: Set[str]) -> tuple[set[str], Settings]:
    """The keys that inputs fill, and the settings, both as this version lays them out."""
    targets = [target for target in inputs if target.startswith("extraConfigs.")]
    if hook.settings is None:
        return {target.split(".")[1] for target in targets}, Settings(dict(extra))
    configs: dict[str, Any] = {"djConfigs": None, "extraConfigs": extra}
    for target in targets:
        try:
            configs = placed(configs, target, LATER)
        except LookupError:
            continue  # told already
    settings = hook.settings(configs["extraConfigs"])
    return {key for key, value in settings.values.items() if holds_later(value)}, settings


def notes_on(job: PlannedJob) -> Iterator[str]:
    """What is worth knowing of a job's configurations, though nothing is wrong."""
    configs = effective(job.config)
    for root, value in configs.items():
        if isinstance(value, str) and root not in job.inputs:
            seen = "is seen by the job's pod only, which checks it first of all"
            yield f"{job.where}.{root}: what stands in {value!r} {seen}"
    extra = configs["extraConfigs"]
    if job.hook.settings is not None and isinstance(extra, Mapping):
        _, settings = _in_our_layout(job.hook, extra, set(job.inputs))
        yield from (f"{job.where}.extraConfigs.{note}" for note in settings.notes)


def _path_problems(text: str, where: str, volumes: tuple[str, ...], is_written: bool) -> Iterator[str]:
    if text.lower().startswith("file:"):
        yield f"{where}: give {text!r} as a plain path inside the workspace or the inputs"
        return
    for path in data_sets_in(text):
        normal = normal_path(path)
        if normal.startswith("/") and not f"{normal}/".startswith(f"{WORKSPACE}/"):
            yield (
                f"{where}: {path!r} lies outside the workspace; use a relative path,"
                f" or one under {WORKSPACE} or {INPUTS}"
            )
        elif normal == ".." or normal.startswith("../"):
            yield f"{where}: {path!r} leads out of the workspace"
        elif normal.startswith("inputs/"):
            name = normal.split("/")[1]
            if name not in volumes:
                yield f"{where}: spec.inputs has no {name!r}{did_you_mean(name, volumes)}"
            elif is_written:
                yield f"{where}: {path!r} lies in an input, which is read-only; give a path such as outputs/..."


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return kinds.get(type(value), type(value).__name__)
