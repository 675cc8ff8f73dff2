# SPDX-License-Identifier: Apache-2.0
"""Training by one of ModelScope's own trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sandbox_api.modelscope import ModelscopeTrainConfig

from ..errors import ConfigError
from ..hooks.base import Artifact, HookContext, HookResult
from ..modelscope.folder import look, task_of
from ..workers.launch import run_workers
from .base import BaseModelExecutor
from .hub import HUB_ID

WORKER = "sandbox_runtime.modelscope.worker"


class ModelscopeTrainExecutor(BaseModelExecutor):
    """type: modelscope. Results: the trainer's work folder; the folders in it that pipelines can load (`output`)."""

    async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: ModelscopeTrainConfig = context.extra
        work_dir = context.out / "model"
        job = {
            "config": config.model_dump(mode="json", exclude_unset=True),
            "model": _model(config, context),
            "train_dataset": str(file_of(config.train_dataset, "train_dataset", context)),
            "eval_dataset": str(file_of(config.eval_dataset, "eval_dataset", context)) if config.eval_dataset else None,
            "work_dir": str(work_dir),
            "state": str(context.state),
            "scratch": str(context.scratch / "modelscope"),
        }
        [told] = run_workers(
            WORKER,
            "train",
            job,
            processes=1,
            together=True,
            cpus=context.cpus,
            scratch=context.scratch / "worker",
            on_figures=lambda figures, step: self.watcher.watch(figures, step=step),
            on_total=context.metrics.expect,
            should_stop=lambda: False,
        )
        figures = {name: value for name, value in told["figures"].items() if name == "loss" or name.startswith("eval_")}
        lr = {"lr": told["figures"]["lr"]} if "lr" in told["figures"] else {}
        loss = f", loss {figures['loss']:.4f}" if "loss" in figures else ""
        earlier = f", {told['resumed_from']} of them by an earlier attempt" if told["resumed_from"] else ""
        return HookResult(
            outputs=[
                Artifact(work_dir, publish=context.user_path("extraConfigs.work_dir")),
                [work_dir / name for name in told["outputs"]],
            ],
            metrics={**figures, **lr, "steps": told["steps"], "seconds": round(told["seconds"], 3)},
            message=f"{told['steps']} iterations{earlier}{loss}",
        )


def _model(config: ModelscopeTrainConfig, context: HookContext) -> str | None:
    """The folder of the model; None where it is an id of the hub. Raises ConfigError where it is neither, or no model
    that can be trained."""
    path = context.workspace.inside(config.model_name, "extraConfigs.model_name")
    if path.is_dir():
        task_of(look(path), config)
        return str(path)
    if path.exists() or not HUB_ID.fullmatch(config.model_name):
        raise ConfigError(f"extraConfigs.model_name: there is no folder {config.model_name}")
    return None


def file_of(name: str, key: str, context: HookContext) -> Path:
    """A file that `extraConfigs` names. Raises ConfigError."""
    path = context.workspace.inside(name, f"extraConfigs.{key}")
    if not path.is_file():
        raise ConfigError(f"extraConfigs.{key}: there is no file {name}")
    return path
