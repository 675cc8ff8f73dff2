# SPDX-License-Identifier: Apache-2.0
"""Losses of a model over texts, added up: every token counts once, whatever batch or window it is read in."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sandbox_api.evaluate_model import LanguageModelConfig

from .models import Loaded
from .windows import Window, windows


class NotFinite(Exception):
    """The loss of a text is NaN or infinite."""

    def __init__(self, row: int, loss: float) -> None:
        super().__init__(row, loss)
        self.row = row
        """From 1."""
        self.loss = loss


@dataclass
class Tally:
    nats: float = 0.0
    """Sum of the losses of all tokens that count."""
    tokens: int = 0
    """That count."""
    bytes: int = 0
    """Of all texts in UTF-8."""
    rows: int = 0
    empty: int = 0
    """Rows without a token that counts."""
    _hash: Any = field(default_factory=hashlib.sha256)

    def text(self, text: str, tokens: Sequence[int], read: Sequence[Window]) -> None:
        """Count a text that is read in these windows; the losses of its tokens come later."""
        self.rows += 1
        self.empty += not read
        self.bytes += len(text.encode())
        self._hash.update(array("q", [len(tokens), *tokens, *(place for window in read for place in window)]).tobytes())

    @property
    def digest(self) -> str:
        """Of the tokens of all texts and of the windows: equal for models that read the same in the same way."""
        return str(self._hash.hexdigest())

    def figures(self, *, whole: bool) -> dict[str, float]:
        """whole: whether the first token of each text counts; else there are bytes without bits."""
        loss = self.nats / self.tokens
        try:
            perplexity = math.exp(loss)
        except OverflowError:
            perplexity = math.inf
        bits = {"bits_per_byte": self.nats / math.log(2) / self.bytes} if whole else {}
        counts = {"tokens": self.tokens, "rows": self.rows, "empty": self.empty}
        return {"perplexity": perplexity, "loss": loss, **bits, **counts}


@dataclass(frozen=True)
class _Piece:
    row: int
    tokens: Sequence[int]
    """Of the whole text, with the start token."""
    window: Window


def add_texts(tally: Tally, loaded: Loaded, texts: Iterable[str], config: LanguageModelConfig) -> Iterator[None]:
    """Add up the losses of all texts; yields after each batch. Raises NotFinite."""
    batch: list[_Piece] = []
    for text in texts:
        ids = loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        tokens = [*loaded.start, *ids]
        read = list(windows(len(tokens), loaded.length, loaded.stride))
        tally.text(text, ids, read)
        for window in read:
            batch.append(_Piece(tally.rows, tokens, window))
            if len(batch) == config.batch_size:
                _add(tally, loaded.model, batch)
                batch = []
                yield
    if batch:
        _add(tally, loaded.model, batch)
        yield


@torch.inference_mode()
def _add(tally: Tally, model: Any, batch: Sequence[_Piece]) -> None:
    longest = max(piece.window.end - piece.window.begin for piece in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, piece in enumerate(batch):
        begin, end, _ = piece.window
        ids[place, : end - begin] = torch.tensor(piece.tokens[begin:end])
        mask[place, : end - begin] = 1
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    for place, piece in enumerate(batch):
        begin, end, first = piece.window
        # one row at a time: the numbers of a batch in full precision would take twice the room of the logits
        said = logits[place, first - begin - 1 : end - begin - 1].float()
        wanted = ids[place, first - begin : end - begin].to(said.device)
        losses = torch.nn.functional.cross_entropy(said, wanted, reduction="none")
        nats = float(losses.double().sum())
        if not math.isfinite(nats):
            raise NotFinite(piece.row, nats)
        tally.nats += nats
        tally.tokens += end - first
