# SPDX-License-Identifier: Apache-2.0
"""What a local run must be given because no cluster is asked: data for `spec.inputs`, values of Secrets."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sandbox_api.contract import INPUTS, WORKSPACE
from sandbox_api.experiment import ExperimentSpec, InputVolume
from sandbox_api.paths import paths_in

from ..plan.configs import effective
from ..plan.job import PlannedJob
from .experiments import Ended


def input_problems(
    spec: ExperimentSpec, given: Mapping[str, Path], config_maps: Mapping[str, Mapping[str, Any]], folder: Path
) -> Iterator[str]:
    """A sentence for each input that is missing. `folder` holds those of an earlier run."""
    for number, volume in enumerate(spec.inputs):
        if volume.name in given:
            if not given[volume.name].exists():
                yield f"--input {volume.name}={given[volume.name]}: there is no such file or folder"
            elif folder.resolve().is_relative_to(given[volume.name].resolve()):
                yield (
                    f"--input {volume.name}={given[volume.name]}: holds the folder of this run ({folder}), where inputs"
                    " are copied to; give another --folder"
                )
        elif volume.config_map_name not in config_maps and not (folder / volume.name).exists():
            yield (
                f"spec.inputs[{number}]: {_source(volume)} is in a cluster; give its files with"
                f" --input {volume.name}=PATH (a folder, or one file)"
            )


def unknown_inputs(specs: Iterable[ExperimentSpec], given: Iterable[str]) -> Iterator[str]:
    """A sentence for each input that was given and that no experiment asks for."""
    known = {volume.name for spec in specs for volume in spec.inputs}
    for name in given:
        if name not in known:
            yield f"--input {name}: spec.inputs has no {name!r}; there is: {', '.join(sorted(known)) or 'none'}"


def place_inputs(
    spec: ExperimentSpec, given: Mapping[str, Path], config_maps: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
    """Put every input into its place below `folder`; those of an earlier run stay where nothing new is given.

    Raises Ended when a file can't be read.
    """
    for volume in spec.inputs:
        target = folder / volume.name
        try:
            if volume.name in given:
                _empty(target)
                _mirror(given[volume.name], target)
            elif volume.config_map_name in config_maps:
                _empty(target)
                _unpack(config_maps[str(volume.config_map_name)], target)
        except (OSError, binascii.Error) as error:
            raise Ended(f"--input {volume.name}: {error}") from error


def place_problems(jobs: Iterable[PlannedJob]) -> Iterator[str]:
    """A sentence for each path of a configuration that begins where a pod has its volumes: that is no place here."""
    for job in jobs:
        for root, value in effective(job.config).items():
            for field, path in paths_in(value, root):
                if path.startswith((f"{INPUTS}/", f"{WORKSPACE}/")):
                    better = repr(path[1:]) if path.startswith(INPUTS) else "a path in the experiment's folder"
                    yield (
                        f"{job.where}.{field}: {path!r} is there in a pod only; write {better}, which is right here too"
                    )


def secrets_of(jobs: Iterable[PlannedJob], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Values for all `secrets` by variable, and a sentence for each that the environment does not have."""
    found: dict[str, str] = {}
    problems: dict[str, str] = {}
    for job in jobs:
        for number, secret in enumerate(job.config.secrets or ()):
            if secret.env in environ:
                found[secret.env] = environ[secret.env]
            else:
                problems.setdefault(
                    secret.env,
                    f"{job.where}.secrets[{number}]: the Secret {secret.name} is in a cluster; export its value"
                    f" as the environment variable {secret.env}",
                )
    return found, list(problems.values())


def _source(volume: InputVolume) -> str:
    return f"the claim {volume.claim_name!r}" if volume.claim_name else f"the ConfigMap {volume.config_map_name!r}"


def _empty(target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)


def _mirror(source: Path, target: Path) -> None:
    """The files of a folder, or one file, as hard links, and as copies where the disk is another.

    Not one symbolic link: the runtime takes no path that leads out of the workspace and the inputs.
    """
    source = source.resolve()
    if source.is_file():
        _link(str(source), str(target / source.name))
    else:
        shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(Path(source).resolve(), target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)
    return target


def _unpack(config_map: Mapping[str, Any], target: Path) -> None:
    for name, text in (config_map.get("data") or {}).items():
        (target / name).write_text(str(text))
    for name, text in (config_map.get("binaryData") or {}).items():
        (target / name).write_bytes(base64.b64decode(text, validate=True))
