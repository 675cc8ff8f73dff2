# SPDX-License-Identifier: Apache-2.0
"""TrainModelHook and InferModelHook: the component that `type` names does the work; what it gives back is recorded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..pieces import Piece
from .base import Artifact, HookContext, HookResult
from .components import component_settings, result_of_component

if TYPE_CHECKING:
    from ..components import Config


class ModelHook:
    """Runs one component of a factory. What the component returns may be a whole `HookResult`, or what an executor of
    Data-Juicer's sandbox returns: nothing, a path, figures by name."""

    factory = ""
    outputs = 0
    """How many the hook has; the first is where the component worked, unless it says otherwise."""

    def run(self, context: HookContext) -> HookResult:
        import asyncio  # with the components it takes longer than all that other hooks need

        from ..components import Watcher

        watcher = Watcher(context.metrics, context.watcher)
        component, config = self._component(context, watcher)
        returned = asyncio.run(component.run(config["type"], None))
        is_ours = not isinstance(context.extra, Mapping)  # and publishes what it was told to itself
        publish = None if is_ours else context.user_path("extraConfigs.work_dir")
        made = Path(config["work_dir"])
        return result_of_component(returned, config["type"], watcher, made, self.outputs, publish)

    def merge(self, context: HookContext, pieces: list[Piece]) -> HookResult:
        """One result of those of all pieces, as the component makes it."""
        from ..components import Watcher

        component, config = self._component(context, Watcher(context.metrics, context.watcher))
        if not hasattr(component, "merge"):
            raise ConfigError(f"shards: the component {config['type']} can't be divided; leave shards at 1")
        merged: HookResult = component.merge(pieces)
        return merged

    def _component(self, context: HookContext, watcher: Any) -> tuple[Any, Config]:
        """The component that `type` names, for this job, and its settings."""
        from ..components import factory

        config = in_repeat(component_settings(context, self.factory), context.contract.job.repeat or 0)
        config["work_dir"] = str(context.out / "model")
        component = factory(self.factory)(config, watcher=watcher)
        component.context = context
        return component, config


class TrainModelHook(ModelHook):
    """Outputs: model (a file or folder), checkpoints (list). Metrics: what the component has watched.

    Of checkpoints that are named by their steps only the newest are kept where `spec.keep.checkpoints` says how many.
    """

    factory = "model_train"
    outputs = 2

    def run(self, context: HookContext) -> HookResult:
        done = super().run(context)
        count = context.contract.keep_checkpoints
        return done if count is None or len(done.outputs) < 2 else newest_kept(done, count, context.out)


_STEP = re.compile(r"-([0-9]+)(\.[a-z]+)?$")


def newest_kept(done: HookResult, count: int, out: Path) -> HookResult:
    """The result with its newest checkpoints, by the steps in their names; the older ones are removed from `out`.

    What has no step in its name stays, and so does the model.
    """
    model, checkpoints, *rest = done.outputs
    if not isinstance(checkpoints, list):
        return done
    steps = {index: int(found[1]) for index, item in enumerate(checkpoints) if (found := _STEP.search(str(item)))}
    old = sorted(steps, key=steps.__getitem__)[:-count]
    main = model.path if isinstance(model, Artifact) else model
    places = {index: out / checkpoints[index] for index in old}
    gone = {index for index, path in places.items() if path != main and path.is_relative_to(out)}
    for index in gone:
        path = places[index]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    left = [item for index, item in enumerate(checkpoints) if index not in gone]
    note = f"; {len(gone)} older checkpoint{'s' if len(gone) > 1 else ''} removed" if gone else ""
    return replace(done, outputs=[model, left, *rest], message=f"{done.message}{note}")


class InferModelHook(ModelHook):
    """Outputs: dir, dataset (jsonl of what was made). Metrics: what the component has watched."""

    factory = "model_infer"
    outputs = 2


SEEDS = ("seed", "data_seed")
"""Settings of components from which their random draws come."""


def in_repeat(settings: Config, repeat: int) -> Config:
    """The settings of one of an experiment's `repeats`: each has seeds of its own, the first those that are written."""
    for name in SEEDS:
        if isinstance(seed := settings.get(name), int):
            settings[name] = seed + repeat
    return settings
