# SPDX-License-Identifier: Apache-2.0
"""Loss and perplexity of causal language models on a data set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox_api.evaluate_model import LanguageModelConfig

from ..configs import EXTRA
from ..data_juicer.dataset import plain_sources
from ..data_juicer.errors import DatasetError
from ..data_juicer.rows import read_rows, value_at
from ..errors import ConfigError, UserError
from ..hooks.base import HookContext, HookResult
from ..hooks.recipe import addressed_errors
from .base import BaseEvaluator
from .checkpoints import Checkpoint, checkpoints, judge

TELL_SECONDS = 2.0


@dataclass
class Told:
    """What is known of all texts by one model so far."""

    first: Checkpoint | None = None
    tokens: str = ""
    """Digest of the tokens of all texts, as the first model's tokenizer makes them."""


class LanguageModelEvaluator(BaseEvaluator):
    """type: lm. Figures of each checkpoint: `perplexity`, `loss` (nats a token), `bits_per_byte`, `tokens` (that
    count), `rows`, `empty` (rows without a token that counts).

    Raises ConfigError where a folder is no model or the data set has no texts, and where loss or perplexity should rank
    models whose tokenizers differ. A model whose loss is not finite is ranked last, with the first row where it is so.
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: LanguageModelConfig = context.extra
        from ..language import models  # torch and transformers take seconds

        chosen = checkpoints(context, config)
        for checkpoint in chosen:
            if checkpoint.path is not None and (base := models.check(checkpoint.path, checkpoint.given, context)):
                context.read.add(base)
        told = Told()

        def figures_of(checkpoint: Checkpoint) -> Mapping[str, float]:
            return self._figures(context, config, checkpoint, told)

        with addressed_errors(context, EXTRA):
            return judge(context, chosen, figures_of, config.metric, config.goal)

    def _figures(
        self, context: HookContext, config: LanguageModelConfig, checkpoint: Checkpoint, told: Told
    ) -> Mapping[str, float]:
        from ..language.models import load
        from ..language.perplexity import NotFinite, Tally, add_texts

        model = load(checkpoint.source, config, f"{checkpoint.given}")
        tally, clock = Tally(), time.monotonic()
        try:
            for _ in add_texts(tally, model, texts(config), config):
                if time.monotonic() - clock > TELL_SECONDS:
                    clock = time.monotonic()
                    context.metrics.log({f"{checkpoint.name}.rows_done": tally.rows})
        except NotFinite as error:
            raise UserError(f"its loss is {error.loss} in row {error.row} of {config.dataset_path}") from error
        if not tally.rows:
            raise DatasetError(f"{config.dataset_path} holds no rows", "dataset_path")
        if not tally.tokens:
            raise DatasetError(f"{config.dataset_path} has no text with a token that could be predicted", "dataset_path")
        if told.first is None:
            told.first, told.tokens = checkpoint, tally.digest
        elif told.tokens != tally.digest and config.metric != "bits_per_byte":
            raise ConfigError(
                f"extraConfigs.metric: {told.first.given} and {checkpoint.given} cut the texts into different tokens, so"
                f" that their {config.metric} can't be compared; rank them by bits_per_byte"
            )
        return tally.figures(whole=config.add_start_token)


def texts(config: LanguageModelConfig) -> Iterator[str]:
    """The text of each row. Raises DatasetError and ConfigError, which name the row."""
    sources = plain_sources({"dataset_path": config.dataset_path})
    if not sources:
        raise DatasetError(f"{config.dataset_path} holds neither JSON nor Parquet", "dataset_path")
    for path in sources:
        for number, row in enumerate(read_rows(path), 1):
            text = value_at(row, config.text_key)
            if not isinstance(text, str):
                fields = ", ".join(map(str, row))
                raise ConfigError(
                    f"extraConfigs.text_key: row {number} of {path.name} has no text under {config.text_key!r}; its"
                    f" fields are {fields}"
                )
            yield text
