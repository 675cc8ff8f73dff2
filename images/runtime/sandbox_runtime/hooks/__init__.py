# SPDX-License-Identifier: Apache-2.0
"""The hooks that come with the runtime, and how any hook is found by its name.

Third parties add theirs by an entry point in the group `sandbox.hooks`. Nothing is imported until a job asks for it.
"""

from __future__ import annotations

import importlib
from typing import cast

from ..errors import ConfigError
from .base import Hook

ENTRY_POINTS = "sandbox.hooks"

BUILT_IN = {
    "DataPoolManipulationHook": "sandbox_runtime.hooks.pools:DataPoolManipulationHook",
    "EvaluateDataHook": "sandbox_runtime.hooks.evaluate:EvaluateDataHook",
    "EvaluateModelHook": "sandbox_runtime.hooks.evaluate_model:EvaluateModelHook",
    "GeneralDataExecutorHook": "sandbox_runtime.hooks.pools:GeneralDataExecutorHook",
    "GeneralProbeHook": "sandbox_runtime.hooks.pools:GeneralProbeHook",
    "InferModelHook": "sandbox_runtime.hooks.models:InferModelHook",
    "ProbeViaAnalyzerHook": "sandbox_runtime.hooks.analyzer:ProbeViaAnalyzerHook",
    "ProbeViaModelInferHook": "sandbox_runtime.hooks.model_probe:ProbeViaModelInferHook",
    "RefineRecipeViaKSigmaHook": "sandbox_runtime.hooks.k_sigma:RefineRecipeViaKSigmaHook",
    "RefineRecipeViaModelFeedbackHook": "sandbox_runtime.hooks.feedback:RefineRecipeViaModelFeedbackHook",
    "RefineRecipeViaPoolHook": "sandbox_runtime.hooks.pool_recipe:RefineRecipeViaPoolHook",
    "TrainModelHook": "sandbox_runtime.hooks.models:TrainModelHook",
    "ProcessDataHook": "sandbox_runtime.hooks.process:ProcessDataHook",
    "FetchHook": "sandbox_runtime.hooks.fetch:FetchHook",
}


def load_hook(name: str) -> type[Hook]:
    """The class of a hook. Raises ConfigError when this image has none of that name."""
    if name in BUILT_IN:
        module, _, class_name = BUILT_IN[name].partition(":")
        return cast("type[Hook]", getattr(importlib.import_module(module), class_name))
    from importlib.metadata import entry_points  # 30 ms that built-in hooks need not pay

    added = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in added:
        known = ", ".join(sorted({*BUILT_IN, *added}))
        raise ConfigError(f"hook: this image has no hook named {name!r}; it has: {known}")
    try:
        return cast("type[Hook]", added[name].load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"hook: {name} ({added[name].value}) can't be loaded in this image: {error}") from error
