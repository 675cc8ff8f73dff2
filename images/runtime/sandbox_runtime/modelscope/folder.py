# SPDX-License-Identifier: Apache-2.0
"""What a model's folder says of itself, and what of a configuration can be told wrong before a model is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_api.modelscope import MEGATRON, MEGATRON_TYPES, ModelscopeTrainConfig

from ..errors import ConfigError

CONFIGURATION = "configuration.json"
LENGTH = 128
"""Tokens of a text, where nothing else is said."""
_TASKS = {
    r".*(ForCausalLM|LMHeadModel)": "text-generation",
    r".*ForSequenceClassification": "text-classification",
    r".*ForTokenClassification": "token-classification",
}
"""Of Hugging Face's architectures, those that say the task."""


@dataclass(frozen=True)
class Folder:
    """A model on the volume."""

    path: Path
    configuration: dict[str, Any] | None
    """ModelScope's; None for a Hugging Face folder."""
    config: dict[str, Any]
    """Hugging Face's; empty where there is none."""

    @property
    def weights(self) -> list[Path]:
        """Files with the weights: safetensors, or what torch saved."""
        return sorted(self.path.glob("model*.safetensors")) or sorted(self.path.glob("pytorch_model*.bin"))


def look(path: Path) -> Folder:
    """Read a folder's own descriptions. Raises ConfigError where it is no model, or one that can't be trained."""
    configuration = _json(path / CONFIGURATION)
    config = _json(path / "config.json") or {}
    if configuration is None and not config:
        raise ConfigError(
            f"extraConfigs.model_name: {path} has neither {CONFIGURATION} nor config.json; it is no model"
        )
    kind = str(((configuration or {}).get("model") or {}).get("type") or "")
    if kind in MEGATRON_TYPES:
        raise ConfigError(f"extraConfigs.model_name: {path.name} is a {kind} model, which {MEGATRON}")
    return Folder(path, configuration, config)


def task_of(folder: Folder, config: ModelscopeTrainConfig) -> str:
    """The task: the user's word, the configuration's, or what the architecture says. Raises ConfigError."""
    named = config.task or (folder.configuration or {}).get("task")
    if named:
        return str(named)
    architectures = [str(name) for name in folder.config.get("architectures") or ()]
    for pattern, task in _TASKS.items():
        if any(re.fullmatch(pattern, name) for name in architectures):
            return task
    told = ", ".join(architectures) or "nothing"
    raise ConfigError(
        f"extraConfigs.task: name the task, e.g. text-classification or text-generation; the model's architecture"
        f" ({told}) does not say it"
    )


def longest(config: Mapping[str, Any]) -> int:
    """Tokens that a model of this `config.json` can take."""
    return int(config.get("max_position_embeddings") or config.get("n_positions") or LENGTH)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"extraConfigs.model_name: {path} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"extraConfigs.model_name: {path} holds no keys and values")
    return found
