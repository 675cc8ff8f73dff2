# SPDX-License-Identifier: Apache-2.0
"""Hard rows, dirty rows, and which rows a model is asked about."""

import numpy as np
import pytest

from sandbox_runtime.errors import ConfigError
from sandbox_runtime.model_probe.selectors import SELECTORS
from sandbox_runtime.model_probe.verdicts import classification, language, margins, top

NAN = float("nan")


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -np.log(probabilities[:, np.arange(len(labels)), labels])


def test_the_top_share_of_some_values() -> None:
    assert top(np.array([1.0, 3.0, NAN, 3.0, 2.0]), 0.4).tolist() == [False, True, False, True, False]
    assert top(np.array([NAN, NAN, NAN]), 1.0).tolist() == [False, False, False]


def test_high_loss_is_dirty_where_the_passes_contradict_and_hard_where_they_agree() -> None:
    probabilities = np.array(
        [
            # label 0 in all rows:   easy        contradicted  late learnt    undecided     contradicted, not sure
            [[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3], [0.2, 0.5, 0.3], [0.3, 0.36, 0.34]],
            [[0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.3, 0.36, 0.34]],
            [[0.9, 0.0, 0.1], [0.2, 0.7, 0.1], [0.4, 0.4, 0.2], [0.4, 0.3, 0.3], [0.3, 0.36, 0.34]],
        ]
    )
    labels = np.zeros(5, dtype=int)
    found = classification(cross_entropy(probabilities, labels), probabilities, labels, share=0.8, confidence=0.5)
    assert found.dirty.tolist() == [False, True, False, False, False]
    assert found.hard.tolist() == [False, False, True, False, True], "all passes prefer the same: hard, if not dirty"
    assert margins(probabilities, labels)[0].tolist() == pytest.approx([0.8, -0.7, 0.1, -0.3, -0.06])


def test_high_loss_of_texts_is_dirty_where_the_passes_are_far_from_each_other() -> None:
    losses = np.array([[1.0, 9.0, 8.0, 2.0], [1.0, 9.1, 14.0, 2.0]])
    found = language(losses, share=0.5, spread_share=0.25)
    assert (found.hard.tolist(), found.dirty.tolist()) == ([False, True, False, False], [False, False, True, False])
    assert found.mean_loss.tolist() == pytest.approx([1.0, 9.05, 11.0, 2.0])
    one = language(losses[:1], share=0.5, spread_share=0.25)
    assert (one.hard.tolist(), one.dirty.any()) == ([False, True, True, False], False)


@pytest.mark.parametrize("seed", range(5))
def test_flipped_labels_are_found(seed: int) -> None:
    """5 % of the labels are wrong; a linear model is trained on bootstrap samples of them, three times."""
    chance = np.random.default_rng(seed)
    classes, rows = 4, 1000
    truth = chance.integers(classes, size=rows)
    places = chance.normal(size=(rows, 2)) * 0.5 + 3 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[truth]
    flipped = chance.permutation(rows) < rows * 0.05
    labels = np.where(flipped, (truth + chance.integers(1, classes, size=rows)) % classes, truth)
    features = np.hstack([places, np.ones((rows, 1))])
    passes = []
    for _ in range(3):
        chosen = chance.integers(rows, size=rows)
        weights = np.zeros((3, classes))
        for _ in range(300):
            probabilities = softmax(features[chosen] @ weights)
            weights -= 0.5 * features[chosen].T @ (probabilities - np.eye(classes)[labels[chosen]]) / rows
        passes.append(softmax(features @ weights))
    probabilities = np.stack(passes)
    found = classification(cross_entropy(probabilities, labels), probabilities, labels, share=0.05, confidence=0.5)
    assert found.dirty.sum() >= 30
    assert (found.dirty & flipped).sum() / found.dirty.sum() >= 0.8


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


ROWS = [
    {"meta": {"lang": lang}, "score": score} for lang, score in zip("abacabad", [3, 1, 4, 1, 5, 9, 2, 6], strict=True)
]


def test_rows_are_chosen_by_a_value_or_its_frequency() -> None:
    frequent, largest = (SELECTORS[f"{name}_specified_field_selector"] for name in ("frequency", "topk"))
    assert frequent(ROWS, "meta.lang", topk=2) == [0, 2, 4, 6, 1, 5]
    assert frequent(ROWS, "meta.lang", top_ratio=0.5, reverse=False) == [3, 7]
    assert largest(ROWS, "score", topk=3) == [5, 7, 4]
    assert largest(ROWS, "score", top_ratio=0.5, topk=2, reverse=False) == [1, 3]
    assert frequent(ROWS) == largest(ROWS, "score") == list(range(8)), "nothing asked: all"


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("topk_specified_field_selector", "meta.none", "field_key: there is no 'meta.none' in every row"),
        ("frequency_specified_field_selector", "meta", "field_key: 'meta' of row 0 is neither text nor a number"),
        ("topk_specified_field_selector", "meta", "field_key: the values of 'meta' can't be compared"),
    ],
)
def test_a_field_that_does_not_serve_is_named(name: str, key: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SELECTORS[name](ROWS, key, topk=2)
