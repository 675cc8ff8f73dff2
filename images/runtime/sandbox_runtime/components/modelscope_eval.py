# SPDX-License-Identifier: Apache-2.0
"""Evaluation by ModelScope's own trainers, each checkpoint in a worker process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox_api.evaluate_model import GOALS, ModelscopeEvalConfig

from ..errors import ConfigError
from ..hooks.base import HookContext, HookResult
from ..modelscope.folder import look
from ..workers.launch import run_workers
from .base import BaseEvaluator
from .checkpoints import Checkpoint, Measured, checkpoints, judge
from .modelscope import WORKER, file_of

SHARED = {"trainer_name", "key_remapping", "task", "dataset", "preprocessor", "evaluation", "seed"}
"""Settings that mean the same in a training."""
RENAMED = {"extraConfigs.model_name": "extraConfigs.models", "extraConfigs.train_dataset": "extraConfigs.eval_dataset"}
"""What a training's errors name, and what it is here."""


class ModelscopeEvaluator(BaseEvaluator):
    """type: modelscope. Figures of each checkpoint: what `trainer.evaluate` returns, by the names that a training has
    after `eval_` (`accuracy`, `binary_f1`, ...).

    Raises ConfigError where a folder is no model, one that would begin at random, or a language model of transformers.
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: ModelscopeEvalConfig = context.extra
        chosen = checkpoints(context, config, hub=False)
        data = str(file_of(config.eval_dataset, "eval_dataset", context))
        shared = config.model_dump(mode="json", exclude_unset=True, include=SHARED)

        def measure(checkpoint: Checkpoint) -> Measured:
            said = {"model_name": checkpoint.source, "train_dataset": data, "eval_dataset": data}
            return Measured(_evaluated(context, {**said, **shared}, checkpoint))

        try:
            for checkpoint in chosen:
                look(Path(checkpoint.source))
            return judge(context, config, chosen, measure, config.goal or GOALS[config.metric])
        except ConfigError as error:
            told = str(error)
            for theirs, ours in RENAMED.items():
                told = told.replace(theirs, ours)
            raise ConfigError(told) from error


def _evaluated(context: HookContext, config: Mapping[str, Any], checkpoint: Checkpoint) -> Mapping[str, float]:
    place = context.scratch / checkpoint.name
    job = {
        "config": config,
        "model": checkpoint.source,
        "train_dataset": config["train_dataset"],  # the trainer wants one, though nothing is trained
        "eval_dataset": config["eval_dataset"],
        **{name: str(place / name) for name in ("work_dir", "state", "scratch")},
    }
    [told] = run_workers(
        WORKER,
        "evaluate",
        job,
        processes=1,
        together=True,
        cpus=context.cpus,
        scratch=place / "worker",
        on_figures=lambda *_: None,
        should_stop=lambda: False,
    )
    figures: Mapping[str, float] = told["figures"]
    return figures
