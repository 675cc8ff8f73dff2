# SPDX-License-Identifier: Apache-2.0
"""Factories: from a component's `type` to the component. Each is open by entry points.

A third party adds a component by an entry point in `sandbox.components.<factory>`, named by its type, and a factory of
its own by one in `sandbox.factories`. Nothing is imported until a job asks for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from ..errors import ConfigError

COMPONENTS = "sandbox.components"
FACTORIES_GROUP = "sandbox.factories"


@dataclass(frozen=True)
class Factory:
    """Makes components of one kind."""

    name: str
    """As entry points and messages name it, e.g. model_train."""
    built_in: Mapping[str, str] = field(default_factory=dict)
    """`module:class` by type."""

    def types(self) -> list[str]:
        """Every type that this image has."""
        return sorted({*self.built_in, *(entry.name for entry in entry_points(group=f"{COMPONENTS}.{self.name}"))})

    def load(self, type_: str) -> Any:
        """The class for a type. Raises ConfigError when this image has none, or can't import it."""
        added = {entry.name: entry.value for entry in entry_points(group=f"{COMPONENTS}.{self.name}")}
        place = self.built_in.get(type_) or added.get(type_)
        if place is None:
            known = ", ".join(self.types()) or "none"
            raise ConfigError(f"type: this image has no component {type_!r} of {self.name}; it has: {known}")
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"type: {type_} ({place}) can't be loaded in this image: {error}") from error

    def __call__(self, config: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The component that `type` in the configuration names, made from it. Raises ConfigError."""
        type_ = config.get("type")
        if not isinstance(type_, str):
            raise ConfigError(f"type: is missing; {self.name} has: {', '.join(self.types()) or 'none'}")
        return self.load(type_)(config, *args, **kwargs)


FACTORIES: dict[str, Factory] = {
    made.name: made
    for made in (
        Factory("data_executor"),
        Factory("data_analyzer"),
        Factory(
            "data_evaluator",
            {
                "accuracy": "sandbox_runtime.components.pairs:AccuracyEvaluator",
                "dj_text_quality_classifier": "sandbox_runtime.components.quality:QualityEvaluator",
                "heldout_flow_loss": "sandbox_runtime.components.heldout:HeldoutLossEvaluator",
                "mse": "sandbox_runtime.components.pairs:MseEvaluator",
                "video_inception_evaluator": "sandbox_runtime.components.inception:InceptionEvaluator",
                "vbench_video_evaluator": "sandbox_runtime.components.vbench:VBenchEvaluator",
            },
        ),
        Factory(
            "data_pool_manipulator",
            {
                "data_pool_cartesian_join": "sandbox_runtime.components.pools:DataPoolCartesianJoin",
                "data_pool_combination": "sandbox_runtime.components.pools:DataPoolCombination",
                "data_pool_construction": "sandbox_runtime.components.pools:DataPoolConstruction",
                "data_pool_downsampling": "sandbox_runtime.components.pools:DataPoolDownsampling",
                "data_pool_duplication": "sandbox_runtime.components.pools:DataPoolDuplication",
                "data_pool_merging": "sandbox_runtime.components.pools:DataPoolMerging",
            },
        ),
        Factory(
            "general_data_executor",
            {
                "coco_caption_meta_generation": "sandbox_runtime.components.conversions:COCOCaptionMetaGeneration",
                "coco_caption_to_dj_conversion": "sandbox_runtime.components.conversions:COCOCaptionToDJConversion",
                "dj_to_easyanimate_video_dataset_conversion": (
                    "sandbox_runtime.components.conversions:DJToEasyAnimateVideoConversion"
                ),
            },
        ),
        Factory("general_probe", {"data_pool_ranking": "sandbox_runtime.components.ranking:DataPoolRanking"}),
        Factory("model_infer_evaluator"),
        Factory(
            "model_train",
            {
                "easyanimate": "sandbox_runtime.components.easyanimate:EasyAnimateTrainExecutor",
                "modelscope": "sandbox_runtime.components.modelscope:ModelscopeTrainExecutor",
                "swift": "sandbox_runtime.components.swift:SwiftTrainExecutor",
            },
        ),
        Factory(
            "model_infer",
            {
                "easyanimate": "sandbox_runtime.components.easyanimate:EasyAnimateInferExecutor",
                "api": "sandbox_runtime.components.api_infer:ApiInferExecutor",
                "huggingface": "sandbox_runtime.components.huggingface_infer:HuggingfaceInferExecutor",
            },
        ),
        Factory(
            "model_evaluator",
            {
                "easyanimate": "sandbox_runtime.components.easyanimate_eval:EasyAnimateEvaluator",
                "internvl_coco_caption": "sandbox_runtime.components.captions:CaptionEvaluator",
                "lm": "sandbox_runtime.components.lm:LanguageModelEvaluator",
                "modelscope": "sandbox_runtime.components.modelscope_eval:ModelscopeEvaluator",
            },
        ),
    )
}


def factory(name: str) -> Factory:
    """A factory by its name, built in or a third party's. Raises ConfigError."""
    if name in FACTORIES:
        return FACTORIES[name]
    added = {entry.name: entry for entry in entry_points(group=FACTORIES_GROUP)}
    if name not in added:
        raise ConfigError(f"factory: there is no {name!r}; there is: {', '.join(sorted({*FACTORIES, *added}))}")
    loaded: Factory = added[name].load()
    return loaded
