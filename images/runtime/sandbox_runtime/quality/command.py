# SPDX-License-Identifier: Apache-2.0
"""`sandbox-runtime train-quality-classifier`: reads texts, trains, tests, writes the folder."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..data_juicer.dataset import plain_sources
from ..data_juicer.errors import DataJuicerError
from ..data_juicer.rows import read_rows, value_at
from ..errors import ConfigError
from ..hooks.recipe import counted
from .folder import write_classifier
from .score import Scorer
from .train import BATCH, agreement, fit


def train(arguments: argparse.Namespace) -> str:
    """What was learnt, and how well, in a sentence. Ends the process with one where something is wrong."""
    try:
        return _trained(arguments)
    except ConfigError as error:
        raise SystemExit(str(error)) from error


def _trained(arguments: argparse.Namespace) -> str:
    output, tokenizer = Path(arguments.output), arguments.tokenizer and Path(arguments.tokenizer)
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"--output: {there} is a file; name a new folder")
    if there == output and any(output.iterdir()):
        raise ConfigError(f"--output: {output} is not empty; name a new folder")
    if not 0 <= arguments.test_share < 1:
        raise ConfigError("--test-share: must be at least 0 and less than 1")
    if not 0 <= arguments.regularization < math.inf:
        raise ConfigError("--regularization: must be a number that is at least 0")
    positive = [*texts_of(arguments.positive, arguments.text_key, "--positive")]
    negative = [*texts_of(arguments.negative, arguments.text_key, "--negative")]
    texts = np.array([*positive, *negative], object)
    good = np.arange(len(texts)) < len(positive)
    tested = np.random.default_rng(arguments.seed).random(len(texts)) < arguments.test_share
    if good[~tested].all() or not good[~tested].any():
        raise ConfigError("--test-share: of one kind no text is left to learn from; give more of both")
    try:
        classifier = fit(texts[~tested], good[~tested], tokenizer, regularization=arguments.regularization)
    except ConfigError as error:
        raise ConfigError(f"--tokenizer: {error}") from error
    write_classifier(classifier, output, {"regParam": arguments.regularization})
    told = f"{output}: learnt from {counted(int((~tested).sum()), 'text')}"
    if tested.any():
        scorer, others = Scorer(classifier, tokenizer), texts[tested]
        scores = [scorer.scores(others[at : at + BATCH])[0] for at in range(0, len(others), BATCH)]
        found = agreement(np.concatenate(scores), good[tested])
        told += (
            f"; on {len(others)} others precision {found.precision:.4f}, recall {found.recall:.4f}, F1 {found.f1:.4f}"
        )
    return told


def texts_of(paths: Sequence[str], key: str, option: str) -> Iterator[str]:
    """Raises ConfigError where a file can't be read or a row has no text."""
    for name in paths:
        try:
            sources = plain_sources({"dataset_path": name})
            if not sources:
                raise ConfigError(f"{option}: {name} holds neither JSON nor Parquet")
            for source in sources:
                for number, row in enumerate(read_rows(source), 1):
                    text = value_at(row, key)
                    if not isinstance(text, str):
                        raise ConfigError(f"--text-key: row {number} of {source} has no text under {key!r}")
                    yield text
        except DataJuicerError as error:
            raise ConfigError(f"{option}: {error.problem}") from error
