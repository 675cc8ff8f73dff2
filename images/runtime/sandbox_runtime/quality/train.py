# SPDX-License-Identifier: Apache-2.0
"""A classifier of one's own, from good texts and bad ones.

What Spark's LogisticRegression minimises is minimised here, with the same stopping rule; its features are those that
scoring has. Where good and bad texts can be told apart without a mistake there is no best model, only a better one
after each step: then this is one like Spark's, not the same to the last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .folder import FEATURES, Classifier
from .score import Reader

BATCH = 1024
TOLERANCE, STEPS = 1e-6, 100
"""Spark's and upstream's."""


@dataclass(frozen=True)
class Agreement:
    """How well a classifier tells texts apart that it has not seen: at a score of one half, shares of 1."""

    precision: float
    recall: float
    f1: float


def fit(
    texts: Sequence[str],
    good: NDArray[np.bool_],
    tokenizer: Path | None = None,
    *,
    features: int = FEATURES,
    regularization: float = 0.0,
) -> Classifier:
    """The logistic regression of hashed word counts.

    good: (texts,). features: length of the vector. regularization: Spark's regParam, half the weight of the squared
    coefficients (of counts in standard deviations) beside the mean loss.
    """
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    counts = _matrix(texts, Reader(tokenizer), features)
    seen, places = np.unique(counts.indices, return_inverse=True)
    narrow = sparse.csr_matrix((counts.data, places, counts.indptr), (len(texts), len(seen)))
    mean = np.asarray(narrow.mean(axis=0)).ravel()
    squares = np.asarray(narrow.multiply(narrow).sum(axis=0)).ravel()
    deviation = np.sqrt(np.maximum(squares - len(texts) * mean**2, 0) / max(len(texts) - 1, 1))
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    strength = 1 / (regularization * len(texts)) if regularization else np.inf
    regression = LogisticRegression(C=strength, tol=TOLERANCE, max_iter=STEPS)
    regression.fit(narrow @ sparse.diags(scale), good)
    coefficients = np.zeros(features)
    coefficients[seen] = regression.coef_[0] * scale
    return Classifier(coefficients, float(regression.intercept_[0]), cuts_words=tokenizer is None)


def agreement(scores: NDArray[np.float64], good: NDArray[np.bool_]) -> Agreement:
    said = scores > 0.5
    right = int((said & good).sum())
    precision = right / max(int(said.sum()), 1)
    recall = right / max(int(good.sum()), 1)
    return Agreement(precision, recall, 2 * precision * recall / max(precision + recall, 1e-300))


def _matrix(texts: Sequence[str], reader: Reader, features: int) -> Any:
    """(texts, features), sparse."""
    from scipy import sparse

    parts = []
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        found = reader.counts(some, features, "standard")
        cells = (found.counts.astype(np.float64), (found.texts, found.places))
        parts.append(sparse.csr_matrix(cells, (len(some), features)))
    return sparse.vstack(parts, format="csr")
