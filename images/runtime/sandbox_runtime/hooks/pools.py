# SPDX-License-Identifier: Apache-2.0
"""Hooks on whole data sets: the component that `type` names cuts, combines, ranks or converts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .base import Artifact, HookContext, HookResult
from .models import component_settings


class PoolHook:
    """Runs one component of a factory. It may return a `HookResult`, or what one of Data-Juicer's sandbox returns: a
    path, or a list of paths."""

    factory = ""

    def run(self, context: HookContext) -> HookResult:
        from ..components import factory

        config = component_settings(context, self.factory)
        component = factory(self.factory)(config)
        component.context = context
        returned = component.run()
        return returned if isinstance(returned, HookResult) else HookResult([_made(returned, context)])


class DataPoolManipulationHook(PoolHook):
    """Outputs: paths (list), or dataset of a merging. Metrics: `pools`, `rows`, `rows.<name>` of each."""

    factory = "data_pool_manipulator"


class GeneralDataExecutorHook(PoolHook):
    """Outputs: paths (list; a path where `dataset_path` is one). Metrics: `pools`, `rows`, `rows.<name>` of each."""

    factory = "general_data_executor"


class GeneralProbeHook(PoolHook):
    """Outputs: ranked (list). Metrics: `rank.<place>`."""

    factory = "general_probe"


def _made(returned: Any, context: HookContext) -> Any:
    if isinstance(returned, list):
        return [_made(each, context) for each in returned]
    if isinstance(returned, str | Path):
        path = context.out / returned
        return Artifact(path) if path.is_relative_to(context.out) and path.exists() else str(returned)
    return returned
