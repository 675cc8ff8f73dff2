# SPDX-License-Identifier: Apache-2.0
"""Losses of a transformers model over texts, one pass at a time.

The text of a row alone decides its loss: rows of a batch are padded and masked, and do not see each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from ..errors import ConfigError

Floats = NDArray[np.float64]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Texts:
    texts: Sequence[str]
    max_length: int
    """Tokens of a text that are read; the rest is cut off."""
    batch_size: int
    progress: Progress
    """Called with the number of rows that are done, after each batch."""


@dataclass(frozen=True)
class Losses:
    loss: Floats
    """(rows,): in nats; NaN where a text has nothing to predict."""
    tokens: NDArray[np.int64]
    """(rows,): how many the loss is the mean of."""
    latency: Floats
    """(rows,): seconds of a row's batch over its rows."""


@dataclass(frozen=True)
class Classes:
    probabilities: Floats
    """(rows, classes)"""
    names: tuple[str, ...]
    """Of the classes, in the model's order."""
    latency: Floats
    """(rows,): as above."""


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def causal_lm(model_path: str, asked: Texts, *, dropout_seed: int | None = None) -> Losses:
    """Mean loss of a text's tokens, each given those before it."""
    tokenizer, model = _loaded(AutoModelForCausalLM, model_path, dropout_seed)
    rows = len(asked.texts)
    loss, tokens, latency = np.full(rows, np.nan), np.zeros(rows, dtype=np.int64), np.zeros(rows)
    for places, batch in _batches(asked, tokenizer, model.device):
        began = time.perf_counter()
        batch.pop("token_type_ids", None)  # some tokenizers of such models make them, and the models take none
        logits = model(**batch).logits[:, :-1].float()
        wanted, counts = batch["input_ids"][:, 1:], batch["attention_mask"][:, 1:].bool()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        number = counts.sum(dim=1)
        means = torch.where(counts, losses, 0.0).sum(dim=1) / number  # no token: 0 / 0 is NaN
        loss[places], tokens[places] = means.double().cpu().numpy(), number.cpu().numpy()
        latency[places] = (time.perf_counter() - began) / len(places)
        asked.progress(places[-1] + 1)
    return Losses(loss, tokens, latency)


@torch.inference_mode()
def classification(model_path: str, asked: Texts, *, dropout_seed: int | None = None) -> Classes:
    """Probabilities of the classes that the model knows."""
    tokenizer, model = _loaded(AutoModelForSequenceClassification, model_path, dropout_seed)
    names = tuple(str(model.config.id2label[number]) for number in range(model.config.num_labels))
    probabilities, latency = np.zeros((len(asked.texts), len(names))), np.zeros(len(asked.texts))
    for places, batch in _batches(asked, tokenizer, model.device):
        began = time.perf_counter()
        probabilities[places] = model(**batch).logits.double().softmax(dim=1).cpu().numpy()
        latency[places] = (time.perf_counter() - began) / len(places)
        asked.progress(places[-1] + 1)
    return Classes(probabilities, names, latency)


def _loaded(kind: Any, model_path: str, dropout_seed: int | None) -> tuple[Any, Any]:
    """Tokenizer and model, on the GPU where there is one. With a seed its dropout stays on, and is that seed's."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_path)
        model = kind.from_pretrained(model_path).to(device())
    except (OSError, ValueError, KeyError) as error:
        known = "the folder" if Path(model_path).is_dir() else "the model"
        first = " ".join(str(error).split())[:300]
        raise ConfigError(f"extraConfigs.models: {known} {model_path} can't be loaded: {first}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    model.eval()
    if dropout_seed is not None:
        torch.manual_seed(dropout_seed)
        dropouts = [part for part in model.modules() if isinstance(part, torch.nn.Dropout)]
        if not any(part.p > 0 for part in dropouts):
            raise ConfigError(f"extraConfigs.dropout_seeds: {model_path} has no dropout, so all passes would be equal")
        for part in dropouts:
            part.train()
    return tokenizer, model


def _batches(asked: Texts, tokenizer: Any, where: torch.device) -> Iterator[tuple[list[int], Any]]:
    for start in range(0, len(asked.texts), asked.batch_size):
        places = list(range(start, min(start + asked.batch_size, len(asked.texts))))
        texts = [asked.texts[place] for place in places]
        batch = tokenizer(texts, padding=True, truncation=True, max_length=asked.max_length, return_tensors="pt")
        yield places, batch.to(where)
