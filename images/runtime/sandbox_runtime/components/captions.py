# SPDX-License-Identifier: Apache-2.0
"""Figures that InternVL's own evaluation of COCO captions has left in its logs."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from sandbox_api.evaluate_model import CAPTION_FIGURES, CaptionConfig

from ..errors import ConfigError, UserError
from ..hooks.base import HookResult
from .base import BaseEvaluator
from .checkpoints import Checkpoint, Measured, checkpoints, judge

LOG = "eval_log.txt"
AVERAGE = "avg_score"
_LINE = re.compile(rf"\b({'|'.join(CAPTION_FIGURES)}): *(\S+) *\r?$", re.MULTILINE)


class CaptionEvaluator(BaseEvaluator):
    """type: internvl_coco_caption. Figures of each checkpoint: `avg_score`, the mean of those that its log has, as
    upstream; and these: `Bleu_1` to `Bleu_4`, `METEOR`, `ROUGE_L`, `CIDEr`.

    Raises ConfigError where a folder has no log, and where logs have different figures, whose means can't be compared.
    A log without any (an evaluation that has failed) makes its checkpoint the last one.
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: CaptionConfig = context.extra
        chosen = checkpoints(context, config, hub=False)
        logs = {checkpoint.name: log_of(checkpoint) for checkpoint in chosen}

        def measure(checkpoint: Checkpoint) -> Measured:
            figures = captions_of(logs[checkpoint.name])
            if not figures:
                raise UserError(
                    f"its {LOG} has none of {', '.join(CAPTION_FIGURES)}: the evaluation has not ended well"
                )
            average = math.fsum(figures.values()) / len(figures)
            return Measured({AVERAGE: average, **figures}, ", ".join(figures) if config.metric == AVERAGE else "")

        return judge(context, config, chosen, measure, config.goal, unlike)


def unlike(one: str, other: str) -> str:
    return (
        f"the {LOG} of {one} and of {other} have different figures, whose means can't be compared; evaluate again"
        " (METEOR needs Java), or rank by one that both have"
    )


def log_of(checkpoint: Checkpoint) -> Path:
    assert checkpoint.path is not None, "no model of a hub has logs"
    path = checkpoint.path / LOG
    if not path.is_file():
        raise ConfigError(
            f"extraConfigs.ckpt_paths: there is no {LOG} in {checkpoint.given}; it is what InternVL's evaluate.sh has"
            f" printed (bash evaluate.sh CHECKPOINT caption-coco --dynamic | tee CHECKPOINT/{LOG})"
        )
    return path


def captions_of(log: Path) -> dict[str, float]:
    """Figures by name, in upstream's order. Of one that stands there several times the last counts: each evaluation
    adds to the log of those before it. Raises ConfigError for what is no number."""
    found: dict[str, float] = {}
    for name, value in _LINE.findall(log.read_text(encoding="utf-8", errors="replace")):
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"extraConfigs.ckpt_paths: {log}: {name} is {value!r}, which is no number") from error
    return {name: found[name] for name in CAPTION_FIGURES if name in found}
