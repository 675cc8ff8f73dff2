# SPDX-License-Identifier: Apache-2.0
"""The flow-matching loss of a text-to-video model on held-out clips: the cheap signal for ranking data."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sandbox_api.heldout import HeldoutLossConfig

from ..data_juicer.errors import DatasetError
from ..data_juicer.row_ids import ROW_ID, RowIds
from ..data_juicer.rows import Row, read_rows
from ..easyanimate import heldout_losses, prepare
from ..easyanimate.disk import newest
from ..errors import ConfigError, UserError
from ..hooks.base import Artifact, HookContext, HookResult
from ..hooks.recipe import counted
from .base import BaseEvaluator


class HeldoutLossEvaluator(BaseEvaluator):
    """type: heldout_flow_loss. Value: the mean loss over the clips. Report: JSON lines, one a clip, in the rows' order:
    the row's id, `videos`, `text`, `loss`, and `levels` (the loss at each noise level).

    Metrics: `loss` (the value), `loss.<level>`, `std` (of the clips' losses), `standard_error` (of their mean),
    `clips`, `broken`.
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config = with_lora(context.extra, context)
        data, rows = clips_of(config, context)
        roots = [context.workspace.inside(root, "extraConfigs.video_root") for root in (config.video_root, ".") if root]
        settings = {
            "scratch": context.scratch,
            "processes": config.processes or max(1, context.contract.limits.gpus),
            "cpus": context.cpus,
        }
        cache = context.workspace.cache / "easyanimate"
        prepared = prepare(
            config.of_training(),
            rows,
            cache,
            roots=[data.parent, *roots],
            digests=context.workspace.cache / "digests.json",
            **settings,
        )
        if not prepared.samples:
            raise ConfigError("extraConfigs.dataset_path: no clip is left to measure")
        losses = heldout_losses(
            config,
            prepared,
            cache,
            log_metrics=lambda figures, step: context.metrics.log(figures, step=step),
            **settings,
        )
        return result_of(config, rows, prepared.numbers, losses, len(prepared.broken), context)


def clips_of(config: HeldoutLossConfig, context: HookContext) -> tuple[Path, list[Row]]:
    """The data set's file and its rows. Raises ConfigError where there are none."""
    if config.dataset_path is None:
        raise ConfigError("extraConfigs.dataset_path: name the held-out clips, or fill it with input")
    data = context.workspace.inside(config.dataset_path, "extraConfigs.dataset_path")
    if not data.is_file():
        raise ConfigError(f"extraConfigs.dataset_path: there is no file {config.dataset_path}")
    try:
        rows = list(read_rows(data))
    except DatasetError as error:
        raise ConfigError(f"extraConfigs.dataset_path: {error.problem}") from error
    if not rows:
        raise ConfigError(f"extraConfigs.dataset_path: {config.dataset_path} holds no rows")
    return data, rows


def result_of(
    config: HeldoutLossConfig,
    rows: Sequence[Row],
    numbers: Sequence[int],
    losses: Sequence[Sequence[float]],
    broken: int,
    context: HookContext,
) -> HookResult:
    """numbers: of the rows whose losses they are. Raises UserError where one is not finite."""
    report, means = context.out / "losses.jsonl", [math.fsum(found) / len(found) for found in losses]
    with report.open("w", encoding="utf-8") as file, closing(RowIds(context.scratch)) as ids:
        named = [ids.of(row) for row in rows]
        for number, found, mean in zip(numbers, losses, means, strict=True):
            row = rows[number]
            if not math.isfinite(mean):
                hint = "; try precision: fp32" if config.precision != "fp32" else ""
                raise UserError(f"the loss of row {number} ({row.get('videos')}) is not finite{hint}")
            line = {
                ROW_ID: named[number],
                "videos": row.get("videos"),
                "text": row.get("text"),
                "loss": mean,
                "levels": {f"{level:g}": value for level, value in zip(config.levels, found, strict=True)},
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    value, count = statistics.fmean(means), len(means)
    spread = statistics.stdev(means) if count > 1 else math.nan
    at_levels = {
        f"loss.{level:g}": statistics.fmean(each)
        for level, each in zip(config.levels, zip(*losses, strict=True), strict=True)
    }
    return HookResult(
        outputs=[value, Artifact(report, rows=count, publish=context.user_path("extraConfigs.export_path"))],
        metrics={
            "": value,
            "loss": value,
            "std": spread,
            "standard_error": spread / math.sqrt(count),
            "clips": count,
            "broken": broken,
            **at_levels,
        },
        message=f"mean loss {value:.6f} of {counted(count, 'clip')}" + (f", {broken} left out" if broken else ""),
    )


def with_lora(config: HeldoutLossConfig, context: HookContext) -> HeldoutLossConfig:
    """With the last checkpoint, where `lora_path` names a training's folder. Raises ConfigError where it has none."""
    if config.lora_path is None:
        return config
    field = "extraConfigs.lora_path"
    path = newest(context.workspace.inside(config.lora_path, field), field, config.lora_path)
    return config.model_copy(update={"lora_path": str(path)})
