# SPDX-License-Identifier: Apache-2.0
"""The catalogue of hooks: what each is called by default, what it returns, where it runs, what it may be told.

The planner checks a spec against it before anything starts; the runtime finds the hook's code by the same name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from .extra import ComponentConfig, ExtraConfig, NoExtra
from .model_probe import ModelProbeConfig
from .text_infer import ApiInferConfig, HuggingfaceInferConfig

STAGES = ("probe", "refine", "execution", "evaluation")
Kind = Literal["path", "list", "number"]


class KSigmaConfig(ExtraConfig):
    k: Annotated[float, Field(gt=0)] = 3.0
    """Half the width of the kept band, in standard deviations."""
    path_k_sigma_recipe: Annotated[str, Field(pattern=r"\.(ya?ml|json)$")] | None = None
    """Where the refined recipe is published, .yaml or .json."""


class ProcessConfig(ExtraConfig):
    count_each_op: Annotated[bool, Field(alias="countEachOp")] = False
    """With executor_type ray: count rows after each operator, which reads the data once more for each."""


@dataclass(frozen=True)
class Component:
    """A kind of a hook, chosen by a job's `type`: a library, its settings, the image that has it."""

    extra: type[ComponentConfig]
    image: str
    figures: str = r"(?!)"
    """As a hook's."""
    cacheable: bool = True
    """As a hook's."""


@dataclass(frozen=True)
class Hook:
    """One hook of the catalogue."""

    name: str
    meta_name: str
    """Default metaName; the second one of a pipeline gets `_2`, and so on."""
    stages: tuple[str, ...]
    """Job lists it belongs to; in another list it is a warning."""
    outputs: tuple[str, ...]
    """Default names of what it returns, in order."""
    kinds: tuple[Kind, ...] = ()
    """What each of them is; empty where nobody knows before it has run, as with a SandboxHook."""
    image: str = "data"
    extra: type[ExtraConfig] = NoExtra
    writes: dict[str, str] = field(default_factory=dict)
    """Configuration keys that name a file it writes, and the output that file is."""
    only_with: dict[str, str] = field(default_factory=dict)
    """Outputs that it makes only where a configuration key is true."""
    reads_dj: bool = False
    """Whether it runs on a Data-Juicer configuration."""
    reads_data: bool = False
    """Whether that configuration must name a data set."""
    figures: str = r"(?!)"
    """Pattern of the figures that may be referred to besides outputs."""
    components: Mapping[str, Component] = field(default_factory=dict)
    """Its kinds by `type`; without any there is only one."""
    lacks: tuple[str, ...] = ()
    """Kinds that Data-Juicer's sandbox has and this version has not."""
    available: bool = True
    """Whether this version can run it."""
    cacheable: bool = True
    """Whether equal inputs give results that are as good as equal."""
    image_reference: str | None = None
    """A SandboxHook's own image, used as it stands instead of the image named `image`."""
    command: tuple[str, ...] = ()
    """A SandboxHook's own program (`contract: raw`) instead of the runtime's."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """A SandboxHook's `extraConfigs` where a job does not say otherwise."""
    schema: Mapping[str, Any] | None = None
    """A SandboxHook's JSON schema of `extraConfigs`; None: `extra` says what it may hold."""

    def of_type(self, type_: str) -> Hook:
        """The hook as one of its components makes it."""
        found = self.components[type_]
        return replace(
            self, image=found.image, extra=found.extra, figures=found.figures, cacheable=found.cacheable, components={}
        )

    def has_figure(self, name: str) -> bool:
        """Whether a metric of that name (without the metaName) comes out of this hook."""
        return re.fullmatch(self.figures, name) is not None


def _catalogue(*hooks: Hook) -> dict[str, Hook]:
    return {hook.name: hook for hook in hooks}


HOOKS: dict[str, Hook] = _catalogue(
    Hook(
        "ProbeViaAnalyzerHook",
        "probe",
        ("probe", "evaluation"),
        ("stats", "overall", "histograms", "dataset"),
        ("path", "path", "path", "path"),
        writes={"djConfigs.export_path": "dataset"},
        only_with={"dataset": "djConfigs.export_original_dataset"},
        reads_dj=True,
        reads_data=True,
        figures=r"rows|[A-Za-z0-9_]+\.(count|mean|std|min|max|[0-9.]+%)",
    ),
    Hook(
        "RefineRecipeViaKSigmaHook",
        "refine",
        ("refine",),
        ("recipe", "changes"),
        ("path", "path"),
        extra=KSigmaConfig,
        writes={"extraConfigs.path_k_sigma_recipe": "recipe"},
        reads_dj=True,
        figures=r"(refineRecipe\.)?refined\..+\.(before|after)",
    ),
    Hook(
        "ProcessDataHook",
        "process",
        ("execution",),
        ("dataset",),
        ("path",),
        extra=ProcessConfig,
        writes={"djConfigs.export_path": "dataset"},
        reads_dj=True,
        reads_data=True,
        figures=r"rows_(in|out)|ops\..+\.rows_(in|out)",
    ),
    Hook(
        "ProbeViaModelInferHook",
        "model_probe",
        ("probe", "evaluation"),
        ("results", "hard", "dirty"),
        ("path", "path", "path"),
        components={
            "transformers": Component(
                ModelProbeConfig, image="data", figures=r"rows|hard|dirty|(loss|score)\..+|latency\.mean"
            )
        },
        lacks=("modelscope",),
        reads_dj=True,
        reads_data=True,
    ),
    Hook("GeneralProbeHook", "ranking", ("probe",), ("ranked",), available=False),
    Hook("RefineRecipeViaModelFeedbackHook", "refine", ("refine",), ("recipe", "changes"), available=False),
    Hook("DataPoolManipulationHook", "pools", ("execution",), ("paths",), available=False),
    Hook("GeneralDataExecutorHook", "convert", ("execution",), ("paths",), available=False),
    Hook("FetchHook", "fetch", ("probe", "execution"), ("path",), available=False),
    Hook("TrainModelHook", "train", ("execution",), ("model", "checkpoints"), image="easyanimate", available=False),
    Hook(
        "InferModelHook",
        "infer",
        ("execution",),
        ("dir", "dataset"),
        ("path", "path"),
        components={
            "api": Component(ApiInferConfig, image="data", figures=r"rows|failed", cacheable=False),
            "huggingface": Component(HuggingfaceInferConfig, image="data", figures=r"rows|failed"),
        },
        lacks=("easyanimate", "vllm"),
        writes={"extraConfigs.export_path": "dir"},
    ),
    Hook("EvaluateDataHook", "evaluate", ("evaluation", "probe"), ("value", "report"), available=False),
    Hook("EvaluateModelHook", "evaluate_model", ("evaluation",), ("best", "ranking"), available=False),
)
