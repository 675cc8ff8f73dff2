# SPDX-License-Identifier: Apache-2.0
"""What training and inference have in common: base models, digests and links on the volume; who does the work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..digests import digest_of
from ..errors import ConfigError, InputError
from ..files import sync_folder
from .names import checkpoints_in

WORKER = "sandbox_runtime.easyanimate.worker"


def never() -> bool:
    """Nobody says stop."""
    return False


def unheard(_figures: Mapping[str, float], _step: int) -> None:
    """Nobody asks for figures meanwhile."""


def base_model(named: str) -> Path:
    """The folder of a text-to-video model of EasyAnimate V5.1 in diffusers' layout. Raises ConfigError, InputError."""
    path = Path(named).absolute()
    index = path / "model_index.json"
    if not index.is_file():
        raise InputError(f"base_model: {named} is not a model in diffusers' layout: it has no model_index.json")
    found = read_json(index).get("_class_name")
    if found != "EasyAnimatePipeline":
        raise ConfigError(f"base_model: {named} is a {found}, not an EasyAnimatePipeline (text-to-video)")
    missing = [name for name in ("transformer", "vae", "text_encoder", "tokenizer") if not (path / name).is_dir()]
    if missing:
        raise InputError(f"base_model: {named} is not whole: {', '.join(missing)} is missing")
    channels = read_json(path / "transformer/config.json").get("in_channels")
    latents = read_json(path / "vae/config.json").get("latent_channels")
    if channels != latents:
        raise ConfigError(
            f"base_model: {named} takes {channels} channels where its VAE makes {latents}: it is a model for inpainting"
            " or control; give a text-to-video one"
        )
    return path


def newest(path: Path, field: str, given: str) -> Path:
    """A checkpoint, or the last one of a training's folder. Raises ConfigError where the folder has none; field, given:
    as the user has named it."""
    if not path.is_dir():
        return path
    found = checkpoints_in(path)
    if not found:
        raise ConfigError(f"{field}: there is no checkpoint-<step>.safetensors in {given}")
    return found[-1]


def read_json(path: Path) -> dict[str, Any]:
    """What a file of the base model says. Raises InputError when it can't be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"base_model: {path} can't be read: {error}") from error
    return found if isinstance(found, dict) else {}


def digest(path: Path, memory: Path | None) -> str:
    """Of a file's or a folder's content. memory: where digests of large files are remembered."""
    return digest_of(path, memory=memory).content


def link(path: Path, target: Path) -> Path:
    """The same file under another name, or a copy where the file systems differ."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        make: Callable[[Path, Path], Any] = os.link
        try:
            make(path, target)
        except OSError:
            shutil.copyfile(path, target)
        sync_folder(target.parent)
    return target
