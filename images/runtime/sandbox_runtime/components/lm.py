# SPDX-License-Identifier: Apache-2.0
"""Loss and perplexity of causal language models on a data set."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
from .checkpoints import Checkpoint, Measured, checkpoints, judge

TELL_SECONDS = 2.0


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
        with addressed_errors(context, EXTRA):
            return judge(
                context,
                config,
                chosen,
                lambda checkpoint: measured(context, config, checkpoint),
                config.goal,
                lambda one, other: (
                    f"{one} and {other} read the texts in different tokens or windows, so that their {config.metric}"
                    " can't be compared; rank them by bits_per_byte, or set max_length to what each can take"
                ),
            )


def measured(context: HookContext, config: LanguageModelConfig, checkpoint: Checkpoint) -> Measured:
    """One model on all texts. Raises UserError where its loss is not finite."""
    import torch

    from ..language.models import load
    from ..language.perplexity import NotFinite, Tally, add_texts

    tally, clock = Tally(), time.monotonic()
    try:
        model = load(checkpoint.source, config, checkpoint.given)
        for _ in add_texts(tally, model, texts(config), config):
            if time.monotonic() - clock > TELL_SECONDS:
                clock = time.monotonic()
                context.metrics.log({f"{checkpoint.name}.rows_done": tally.rows})
    except NotFinite as error:
        raise UserError(f"its loss is {error.loss} in row {error.row} of {config.dataset_path}") from error
    except torch.OutOfMemoryError as error:
        less = "a smaller batch_size or max_length, or model_params: {dtype: bfloat16} needs less"
        raise UserError(f"a GPU has too little memory: {str(error).splitlines()[0]}; {less}") from error
    if not tally.rows:
        raise DatasetError(f"{config.dataset_path} holds no rows", "dataset_path")
    if not tally.tokens:
        raise DatasetError(f"{config.dataset_path} has no text with a token that counts", "dataset_path")
    figures = tally.figures(whole=config.add_start_token)
    return Measured(figures, "" if config.metric == "bits_per_byte" else tally.digest)


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
