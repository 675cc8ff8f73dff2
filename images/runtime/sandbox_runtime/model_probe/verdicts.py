# SPDX-License-Identifier: Apache-2.0
"""Hard rows and dirty rows, from the losses of several passes of models over the same rows.

A hard row is one that models learn late though it is right; a dirty row is one that is wrong. Both have high losses.
What tells them apart is whether the passes contradict the row's label, and how far they are from each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Verdicts:
    mean_loss: Floats
    """(rows,): over the passes, in nats."""
    spread: Floats
    """(rows,): standard deviation between the passes, in nats; 0 with one pass."""
    hard: Bools
    """(rows,)"""
    dirty: Bools
    """(rows,): never both."""


def top(values: Floats, share: float) -> Bools:
    """Which rows are among the `ceil(share * rows)` largest; of equal ones the earlier rows. NaN is never."""
    count = math.ceil(share * len(values))
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:count]
    found = np.zeros(len(values), dtype=bool)
    found[order] = True
    return found & ~np.isnan(values)


def classification(losses: Floats, probabilities: Floats, labels: Ints, *, share: float, confidence: float) -> Verdicts:
    """Verdicts where rows have a label.

    losses: (passes, rows), cross-entropy in nats. probabilities: (passes, rows, classes). labels: (rows,).
    share: of the rows that count as high in loss. confidence: mean probability from which a class that most passes
    prefer is a confident contradiction of another label.

    Dirty: high, and most passes prefer one other class, confidently. Hard: high otherwise, while most passes prefer the
    label, or all passes the same class.
    """
    mean, spread = losses.mean(axis=0), losses.std(axis=0)
    preferred = probabilities.argmax(axis=2)
    votes = np.stack([(preferred == number).sum(axis=0) for number in range(probabilities.shape[2])])
    majority, share_of = votes.argmax(axis=0), votes.max(axis=0) / len(losses)
    sure = np.take_along_axis(probabilities.mean(axis=0), majority[:, None], axis=1)[:, 0]
    high = top(mean, share)
    dirty = high & (majority != labels) & (share_of > 0.5) & (sure >= confidence)
    agree = ((majority == labels) & (share_of > 0.5)) | (share_of == 1.0)
    return Verdicts(mean, spread, high & agree & ~dirty, dirty)


def language(losses: Floats, *, share: float, spread_share: float) -> Verdicts:
    """Verdicts where rows are texts.

    losses: (passes, rows), mean over a text's tokens, in nats. share: of the rows that count as high in loss.
    spread_share: of the rows that count as high in spread.

    Dirty: high in both, for nobody has learnt anything of it. Hard: high in loss, and the passes agree. With one pass
    nothing is known of the spread, and nothing is dirty.
    """
    mean, spread = losses.mean(axis=0), losses.std(axis=0)
    high = top(mean, share)
    dirty = high & top(spread, spread_share) if len(losses) > 1 else np.zeros_like(high)
    return Verdicts(mean, spread, high & ~dirty, dirty)


def margins(probabilities: Floats, labels: Ints) -> Floats:
    """(passes, rows): the label's probability less the largest of the others'; below 0 where it is not preferred."""
    rows = np.arange(len(labels))
    own = probabilities[:, rows, labels]
    others = probabilities.copy()
    others[:, rows, labels] = -np.inf
    return own - others.max(axis=2)
