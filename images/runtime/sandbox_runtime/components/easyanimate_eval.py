# SPDX-License-Identifier: Apache-2.0
"""Text-to-video checkpoints: the same videos are made with each, and evaluators of this image judge them."""

from __future__ import annotations

from typing import Any

from sandbox_api.evaluate_videos import HELDOUT, EasyAnimateEvalConfig, Evaluator
from sandbox_api.inception import METRICS

from ..easyanimate import InferResult, infer_each
from ..easyanimate.disk import newest
from ..errors import ConfigError, UserError
from ..hooks.base import HookContext, HookResult
from .base import BaseEvaluator
from .checkpoints import Checkpoint, Measured, judge, key_of, named_checkpoints
from .easyanimate import processes_of
from .factories import factory
from .heldout import clips_of
from .inception import detector_file, videos_of_side


class EasyAnimateEvaluator(BaseEvaluator):
    """type: easyanimate. Figures of each checkpoint: `<evaluator>`, its value, and `<evaluator>.<figure>`.

    Videos stand in `out/<checkpoint>/videos`, reports of evaluators in `out/<checkpoint>/<evaluator>`. What evaluators
    read is looked at before any video is made. A checkpoint that can't make its videos, or that an evaluator can't
    judge, is ranked last with the reason.
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: EasyAnimateEvalConfig = context.extra
        chosen = loras(context, config)
        for number, evaluator in enumerate(config.evaluators):
            look(evaluator, number, context)
        made = videos(context, config, chosen) if config.looks_at_videos else {}

        def measure(checkpoint: Checkpoint) -> Measured:
            if (found := made.get(checkpoint.name)) and found.problem:
                raise UserError(f"its videos can't be made: {found.problem}")
            figures: dict[str, float] = {}
            for number, evaluator in enumerate(config.evaluators):
                figures |= judged(context, config, evaluator, number, checkpoint)
            return Measured(figures)

        return judge(context, config, chosen, measure, config.direction)


def loras(context: HookContext, config: EasyAnimateEvalConfig) -> list[Checkpoint]:
    """The checkpoints' files, of a training's folder the last one. Raises ConfigError where one is not there."""
    key, paths = key_of(config), []
    for given in config.checkpoints:
        path = newest(context.workspace.inside(given, key), key, given)
        if not path.is_file():
            raise ConfigError(f"{key}: there is no file {given}")
        paths.append(path)
    return named_checkpoints(config.checkpoints, paths)


def videos(context: HookContext, config: EasyAnimateEvalConfig, chosen: list[Checkpoint]) -> dict[str, InferResult]:
    """The videos of each, by its name; those of an earlier attempt are not made again."""
    found = infer_each(
        config.to_infer(),
        [(str(each.path), context.out / each.name / "videos") for each in chosen],
        state=context.state,
        scratch=context.scratch,
        processes=processes_of(config.processes, context),
        cpus=context.cpus,
        digests=context.workspace.cache / "digests.json",
        log_metrics=lambda figures, step: context.metrics.log(figures, step=step),
    )
    return dict(zip((each.name for each in chosen), found, strict=True))


def look(evaluator: Evaluator, number: int, context: HookContext) -> None:
    """See that what it reads is there, beside the videos. Raises ConfigError."""
    settings = evaluator.draft
    try:
        if evaluator.type == HELDOUT:
            clips_of(settings, context)
            return
        detector_file(settings, context)
        if METRICS[settings.metric].needs_real:
            videos_of_side("real", settings, context)
    except ConfigError as error:
        raise ConfigError(_addressed(error, number)) from error


def judged(
    context: HookContext, config: EasyAnimateEvalConfig, evaluator: Evaluator, number: int, checkpoint: Checkpoint
) -> dict[str, float]:
    """What one evaluator says of one checkpoint, each figure with the evaluator's name before it."""
    if evaluator.type == HELDOUT:
        own = {"base_model": config.base_model, "lora_path": str(checkpoint.path)}
    else:
        own = {"fake_mm_dir": str(context.out / checkpoint.name / "videos")}
    component = factory("data_evaluator").load(evaluator.type)({})
    component.context = context.for_part(f"{checkpoint.name}/{evaluator.label}", evaluator.settings_with(**own))
    try:
        result: HookResult = component.run("data")
    except ConfigError as error:
        raise ConfigError(_addressed(error, number)) from error
    print(f"{checkpoint.name}, {evaluator.label}: {result.message}", flush=True)
    return {f"{evaluator.label}.{name}" if name else evaluator.label: value for name, value in result.metrics.items()}


def _addressed(error: ConfigError, number: int) -> str:
    """What an evaluator says of its settings, with the place where they stand."""
    return str(error).replace("extraConfigs.", f"extraConfigs.evaluators.{number}.extraConfigs.", 1)
