# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of a language model by ms-swift."""

from __future__ import annotations

import shutil
from typing import Any

from sandbox_api.swift import SwiftTrainConfig

from ..errors import ConfigError
from ..hooks.base import Artifact, HookContext, HookResult
from ..swift.checkpoints import for_others, newest
from ..workers.launch import run_workers
from .base import BaseModelExecutor
from .hub import HUB_ID

WORKER = "sandbox_runtime.swift.worker"


class SwiftTrainExecutor(BaseModelExecutor):
    """type: swift. Results: the last checkpoint's folder, an adapter or a whole model; all checkpoints."""

    async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: SwiftTrainConfig = context.extra
        out = context.out / "training"
        job = {
            "config": config.model_dump(mode="json", exclude_unset=True),
            "model": _model(config, context),
            "dataset": _files(config.dataset, "dataset", context),
            "val_dataset": _files(config.val_dataset, "val_dataset", context),
            "out": str(out),
            "state": str(context.state),
            "scratch": str(context.scratch / "swift"),
        }
        told, *_ = run_workers(
            WORKER,
            "train",
            job,
            processes=config.processes or max(1, context.contract.limits.gpus),
            together=True,
            cpus=context.cpus,
            scratch=context.scratch / "worker",
            on_figures=lambda figures, step: self.watcher.watch(figures, step=step),
            on_total=context.metrics.expect,
            should_stop=lambda: False,
        )
        if (last := newest(context.state)) is not None and not (out / last.name).exists():
            shutil.copytree(last, out / last.name)  # an earlier attempt had done it all
        checkpoints = for_others(out)
        figures = {name: told["figures"][name] for name in ("loss", "heldout_loss", "lr") if name in told["figures"]}
        loss = f", loss {figures['loss']:.4f}" if "loss" in figures else ""
        earlier = f", {told['resumed_from']} of them by an earlier attempt" if told["resumed_from"] else ""
        return HookResult(
            outputs=[
                Artifact(checkpoints[-1], publish=context.user_path("extraConfigs.output_dir")),
                checkpoints,
            ],
            metrics={**figures, "steps": told["steps"], "step_seconds": round(told["step_seconds"], 6)},
            message=f"{told['steps']} steps{earlier}{loss}",
        )


def _model(config: SwiftTrainConfig, context: HookContext) -> str:
    """The folder of the model, or an id of the hub. Raises ConfigError where it is neither."""
    path = context.workspace.inside(config.model, "extraConfigs.model")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ConfigError(f"extraConfigs.model: {config.model} has no config.json; it is no model")
        return str(path)
    if path.exists() or not HUB_ID.fullmatch(config.model):
        raise ConfigError(f"extraConfigs.model: there is no folder {config.model}")
    return config.model


def _files(named: str | list[str] | None, key: str, context: HookContext) -> list[str]:
    found = []
    for name in [named] if isinstance(named, str) else named or []:
        path = context.workspace.inside(name, f"extraConfigs.{key}")
        if not path.is_file():
            raise ConfigError(f"extraConfigs.{key}: there is no file {name}")
        found.append(str(path))
    return found
