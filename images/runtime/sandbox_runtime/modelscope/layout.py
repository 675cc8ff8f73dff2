# SPDX-License-Identifier: Apache-2.0
"""A folder that ModelScope can load, made beside the one that was given, which may be read-only and is left as it is.

ModelScope's own BERT reads `pytorch_model.bin` with names that begin with `bert.`, and begins at random, with no more
than a warning, where it finds others. So a Hugging Face folder is converted, and after a model was built its weights
are compared with the files': a training that would begin at random is refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import ConfigError
from .folder import CONFIGURATION, LENGTH, Folder, longest

BERT = "bert"
"""The one Hugging Face architecture that is given to ModelScope's own code."""
BIN = "pytorch_model.bin"
LOSS, PPL = "loss-metric", "ppl"
"""ModelScope's metrics of language models. PPL compares what is said at a token with that token, not with the next one,
which transformers' labels mean; LOSS takes the model's own."""
BUFFERS = ("position_ids",)
"""Names of what is computed, though some files hold it."""


@dataclass(frozen=True)
class Layout:
    """A folder as ModelScope wants it."""

    path: Path
    is_hugging_face: bool
    """Whether transformers builds the model, not ModelScope."""


def laid_out(folder: Folder, task: str, target: Path) -> Layout:
    """The folder itself where it is ModelScope's and complete, else one made at `target`: links, and what differs."""
    if folder.configuration is not None:
        kind = str((folder.configuration.get("model") or {}).get("type") or "")
        if kind != BERT or (folder.path / BIN).exists():
            return Layout(folder.path, not _has_own(task, kind))
    target.mkdir(parents=True)
    bert = folder.configuration is not None or (
        folder.config.get("model_type") == BERT and task != "text-generation" and _has_own(task, BERT)
    )
    if bert and not folder.weights:
        raise ConfigError(f"extraConfigs.model_name: {folder.path} has no weights: neither *.safetensors nor {BIN}")
    weights = set(folder.weights) if bert else set()
    for path in folder.path.iterdir():
        if path not in weights and path.name != CONFIGURATION and "index.json" not in path.name:
            (target / path.name).symlink_to(path)
    if bert:
        torch.save(dict(_bert_names(folder)), target / BIN)
    configuration = folder.configuration or _configuration(folder, task, BERT if bert else "transformers")
    (target / CONFIGURATION).write_text(json.dumps(configuration, indent=1))
    return Layout(target, not bert)


def weights_reached(model: torch.nn.Module, folder: Folder) -> str:
    """In words, that the model holds what the folder's files hold. Raises ConfigError when it began at random."""
    if not folder.weights:
        return f"{folder.path.name} has no file of weights that could be compared with the model"
    held: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        for ending in _endings(name):
            held.setdefault(ending, tensor)
    total = found = equal = 0
    for name, tensor in _tensors(folder):
        total += 1
        mine = next((held[ending] for ending in _endings(name) if ending in held), None)
        if mine is None or mine.shape != tensor.shape:
            continue
        found += 1
        equal += torch.allclose(mine.cpu(), tensor.to(mine.dtype), rtol=0, atol=0, equal_nan=True)
    if equal < found or found * 2 < total:
        raise ConfigError(
            f"extraConfigs.model_name: of {total} weights in {folder.path} only {equal} are in the model that was"
            " built; it would begin at random. Convert the folder, so that its names are the model's"
        )
    return f"{equal} of {total} weights of the folder are in the model"


def _configuration(folder: Folder, task: str, kind: str) -> dict[str, Any]:
    """For a Hugging Face folder: what its ModelScope configuration would say."""
    made: dict[str, Any] = {"framework": "pytorch", "task": task, "model": {"type": kind}}
    if task == "text-classification":
        made["preprocessor"] = {"type": "sen-cls-tokenizer", "max_length": min(LENGTH, longest(folder.config))}
        made["evaluation"] = {"metrics": "seq-cls-metric"}
    elif task == "text-generation":
        made["evaluation"] = {"metrics": LOSS}
    return made


def _has_own(task: str, kind: str) -> bool:
    """Whether ModelScope has code of its own for such a model."""
    from modelscope.utils.automodel_utils import can_load_by_ms

    return bool(can_load_by_ms("", task, kind))


def _bert_names(folder: Folder) -> Iterator[tuple[str, torch.Tensor]]:
    tensors = dict(_tensors(folder))
    bare = not any(name.startswith(f"{BERT}.") for name in tensors)
    for name, tensor in tensors.items():
        yield f"{BERT}.{name}" if bare else name, tensor


def _tensors(folder: Folder) -> Iterator[tuple[str, torch.Tensor]]:
    for path in folder.weights:
        with contextlib.ExitStack() as stack:
            if path.suffix == ".safetensors":
                file = stack.enter_context(safe_open(path, framework="pt"))
                found = ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 - it is no mapping
            else:
                found = iter(torch.load(path, map_location="cpu", weights_only=True, mmap=True).items())
            for name, tensor in found:
                if not name.endswith(BUFFERS):
                    yield name, tensor


def _endings(name: str) -> list[str]:
    """A name, and what is left of it without one or two prefixes, such as the one of the base model."""
    parts = name.split(".")
    return [".".join(parts[cut:]) for cut in range(min(3, len(parts) - 1))]
