# SPDX-License-Identifier: Apache-2.0
"""Scores of texts, and whether a text is kept for its score."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .folder import Classifier
from .hashing import Counts, Tail, counted, pieces_as_words, words_of

Keep = Literal["label", "pareto"]
ALPHA = 9
"""Of the Pareto distribution that GPT-3's authors chose (Brown et al. 2020, appendix A)."""


class Reader:
    """Turns texts into counts: at white space, or by a sentencepiece model."""

    def __init__(self, tokenizer: Path | None) -> None:
        """Raises ConfigError where the file is no model of sentencepiece."""
        self._pieces: Any = None
        if tokenizer is not None:
            import sentencepiece

            try:
                self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
            except (OSError, RuntimeError) as error:
                raise ConfigError(f"{tokenizer} is no model of sentencepiece: {error}") from error

    def counts(self, texts: Sequence[str], features: int, tail: Tail) -> Counts:
        if self._pieces is None:
            return counted(words_of(texts), features, tail)
        readable = [text.encode(errors="replace").decode() for text in texts]
        return counted(pieces_as_words(self._pieces.encode(readable, out_type=str, num_threads=1)), features, tail)


class Scorer:
    """A classifier with its tokenizer."""

    def __init__(self, classifier: Classifier, tokenizer: Path | None = None) -> None:
        self._classifier = classifier
        self._reader = Reader(tokenizer)

    def scores(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], int]:
        """(texts,): the probability that each is a good one; and how many words they have together.

        Numbers are added in the order of their places, as Spark does, so that its result is met to the last digits.
        """
        model = self._classifier
        found = self._reader.counts(texts, len(model.coefficients), model.tail)
        terms = model.coefficients[found.places] * (1 if model.binary else found.counts)
        margins = np.bincount(found.texts, terms, len(texts)) + model.intercept
        with np.errstate(over="ignore"):  # a probability of 1
            return 1.0 - 1.0 / (1.0 + np.exp(margins)), found.words


def keeps(method: Keep, score: float, row_id: str, seed: int) -> bool:
    """Whether a text is kept. label: where the score is over one half. pareto: also worse ones, the rarer the worse
    they are; chance follows from the seed and the row's id, so that it is the same in every run.
    """
    if method == "label":
        return score > 0.5
    drawn = int.from_bytes(hashlib.blake2b(f"{seed}:{row_id}".encode(), digest_size=8).digest(), "big")
    chance = (drawn + 1) / 2**64  # in (0, 1]
    return score > 1 - (chance ** (-1 / ALPHA) - 1)
