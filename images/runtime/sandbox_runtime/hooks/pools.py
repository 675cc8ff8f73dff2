# SPDX-License-Identifier: Apache-2.0
"""Hooks on whole data sets: the component that `type` names cuts, combines, ranks or converts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .base import Artifact, HookContext, HookResult
from .components import component_settings

EXPORT = "extraConfigs.export_path"


class PoolHook:
    """Runs one component of a factory. It may return a `HookResult`, or what one of Data-Juicer's sandbox returns: a
    path, or a list of paths. A third party's finds in `export_path` where it may write."""

    factory = ""

    def run(self, context: HookContext) -> HookResult:
        from ..components import factory

        config = component_settings(context, self.factory)
        folder = context.out / "pools"
        if is_third_partys := isinstance(context.extra, Mapping):
            config["export_path"] = str(folder)
        component = factory(self.factory)(config)
        component.context = context
        returned = component.run()
        if isinstance(returned, HookResult):
            return returned
        publish = context.user_path(EXPORT) if is_third_partys else None
        return HookResult([_output(returned, folder, publish)], message=f"{config['type']} has ended")


class DataPoolManipulationHook(PoolHook):
    """Outputs: paths (list), or dataset of a merging. Metrics: `pools`, `rows`, `rows.<name>` of each."""

    factory = "data_pool_manipulator"


class GeneralDataExecutorHook(PoolHook):
    """Outputs: paths (list; a path where `dataset_path` is one). Metrics: `pools`, `rows`, `rows.<name>` of each."""

    factory = "general_data_executor"


class GeneralProbeHook(PoolHook):
    """Outputs: ranked (list). Metrics: `rank.<place>`."""

    factory = "general_probe"


def _output(returned: Any, folder: Path, publish: Path | None) -> Any:
    """Files that were written in the folder as such, with the names that their user gave them."""
    if isinstance(returned, list):
        return [_output(each, folder, publish) for each in returned]
    if not isinstance(returned, str | Path):
        return returned
    path = folder / returned
    if not path.is_relative_to(folder) or not path.exists():
        return str(returned)
    return Artifact(path, publish=publish and publish / path.relative_to(folder))
