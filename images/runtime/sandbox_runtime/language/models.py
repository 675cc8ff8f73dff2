# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of a causal language model, loaded: a whole model, or an adapter of peft beside whose base it is put."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sandbox_api.evaluate_model import LanguageModelConfig

from ..errors import ConfigError
from ..hooks.base import HookContext

CONFIG, ADAPTER, TOKENIZER = "config.json", "adapter_config.json", "tokenizer_config.json"
FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
"""Where configurations say how many tokens a model can take."""


@dataclass(frozen=True)
class Loaded:
    tokenizer: Any
    model: Any
    length: int
    """Tokens that it sees at a time."""
    stride: int
    start: tuple[int, ...]
    """The token that a text begins with; empty: none."""


def check(folder: Path, given: str, context: HookContext) -> str | None:
    """Look at a folder before any model is loaded. Returns the folder of an adapter's base. Raises ConfigError."""
    where = f"extraConfigs.models: {given}"
    if (folder / ADAPTER).is_file():
        base = base_of(folder)
        if base is None:
            raise ConfigError(f"{where}/{ADAPTER} does not name the model that it adapts (base_model_name_or_path)")
        path = context.workspace.inside(base, f"{where}/{ADAPTER}")
        if not path.is_dir():
            raise ConfigError(f"{where} adapts the model {base}, and there is no such folder")
        return str(path)
    if (folder / CONFIG).is_file():
        return None
    inner = sorted(path.parent.name for name in (CONFIG, ADAPTER) for path in folder.glob(f"*/{name}"))
    hint = f"; name what is in it: {', '.join(inner[:10])}" if inner else ""
    raise ConfigError(f"{where} has neither {CONFIG} nor {ADAPTER}, so it is no model of transformers{hint}")


def base_of(folder: Path) -> str | None:
    try:
        found = json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found else None


def load(source: str, config: LanguageModelConfig, given: str) -> Loaded:
    """On the GPU where there is one. Raises ConfigError."""
    folder = Path(source)
    is_bare = (folder / ADAPTER).is_file() and not (folder / TOKENIZER).is_file()
    try:
        tokenizer = AutoTokenizer.from_pretrained(base_of(folder) if is_bare else source)
        model = AutoModelForCausalLM.from_pretrained(source, **config.model_params)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        first = " ".join(str(error).split())[:300]
        raise ConfigError(f"extraConfigs.models: {given} can't be loaded: {first}") from error
    if "device_map" not in config.model_params:
        model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    length = min(config.max_length, _most(model.config))
    stride = config.stride or max(1, length // 2)
    if stride >= length:
        raise ConfigError(
            f"extraConfigs.stride: {stride} is not less than the {length} tokens that {given} can take; each token must"
            " have one before it in its window"
        )
    return Loaded(tokenizer, model.eval(), length, stride, _start(tokenizer, config, given))


def _most(config: Any) -> int:
    text = config.get_text_config()
    found = [getattr(text, name, None) for name in FIELDS]
    return min((value for value in found if isinstance(value, int) and value > 1), default=1 << 62)


def _start(tokenizer: Any, config: LanguageModelConfig, given: str) -> tuple[int, ...]:
    if not config.add_start_token:
        return ()
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return (int(token),)
    raise ConfigError(
        f"extraConfigs.add_start_token: the tokenizer of {given} has neither a BOS nor an EOS token; set it to false"
    )
