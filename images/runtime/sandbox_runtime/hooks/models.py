# SPDX-License-Identifier: Apache-2.0
"""TrainModelHook and InferModelHook: the component that `type` names does the work; what it gives back is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, UserError
from ..pieces import Piece
from .base import Artifact, HookContext, HookResult


class ModelHook:
    """Runs one component of a factory. What the component returns may be a whole `HookResult`, or what an executor of
    Data-Juicer's sandbox returns: nothing, a path, figures by name."""

    factory = ""
    outputs = 0
    """How many the hook has; the first is where the component worked, unless it says otherwise."""

    def run(self, context: HookContext) -> HookResult:
        import asyncio  # with the components it takes longer than all that other hooks need

        from ..components import Watcher

        watcher = Watcher(context.metrics)
        component, config = self._component(context, watcher)
        returned = asyncio.run(component.run(config["type"], None))
        if isinstance(returned, HookResult):
            return returned
        figures = {**watcher.last, **_figures(returned)}
        made = _made(returned, Path(config["work_dir"]))
        if not made.exists():
            raise UserError(f"type: the component {config['type']} has made nothing: there is no {made}")
        return HookResult(
            outputs=[Artifact(made), *[None] * (self.outputs - 1)],
            metrics=figures,
            message=f"{config['type']} has ended",
        )

    def merge(self, context: HookContext, pieces: list[Piece]) -> HookResult:
        """One result of those of all pieces, as the component makes it."""
        from ..components import Watcher

        component, config = self._component(context, Watcher(context.metrics))
        if not hasattr(component, "merge"):
            raise ConfigError(f"shards: the component {config['type']} can't be divided; leave shards at 1")
        merged: HookResult = component.merge(pieces)
        return merged

    def _component(self, context: HookContext, watcher: Any) -> tuple[Any, dict[str, Any]]:
        """The component that `type` names, for this job, and its settings."""
        from ..components import factory

        config = component_settings(context, self.factory)
        if config.get("work_dir") is None or not isinstance(context.extra, Mapping):  # ours publish what is named there
            config["work_dir"] = str(context.out / "model")
        component = factory(self.factory)(config, watcher=watcher)
        component.context = context
        return component, config


class TrainModelHook(ModelHook):
    """Outputs: model (a file or folder), checkpoints (list). Metrics: what the component has watched."""

    factory = "model_train"
    outputs = 2


class InferModelHook(ModelHook):
    """Outputs: dir, dataset (jsonl of what was made). Metrics: what the component has watched."""

    factory = "model_infer"
    outputs = 2


def component_settings(context: HookContext, factory_name: str) -> dict[str, Any]:
    """`extraConfigs` as a component gets them, with the `type` that the job names. Raises ConfigError without one."""
    from ..components import factory

    extra = context.extra
    config: dict[str, Any] = dict(extra) if isinstance(extra, Mapping) else extra.model_dump(by_alias=True)
    kind = context.contract.job.type or config.get("type")
    if not isinstance(kind, str):
        raise ConfigError(f"type: is missing; it has: {', '.join(factory(factory_name).types())}")
    return {**config, "type": kind}


def _made(returned: Any, folder: Path) -> Path:
    return Path(returned) if isinstance(returned, (str, Path)) else folder


def _figures(returned: Any) -> dict[str, float]:
    if not isinstance(returned, Mapping):
        return {}
    return {str(name): value for name, value in returned.items() if isinstance(value, (int, float))}
