# SPDX-License-Identifier: Apache-2.0
"""The catalogue of hooks: what each is called by default, what it returns, where it runs, what it may be told.

The planner checks a spec against it before anything starts; the runtime finds the hook's code by the same name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .contract import REFINED
from .easyanimate import EasyAnimateInferConfig, EasyAnimateTrainConfig, infer_settings, train_settings
from .extra import SAID, ComponentConfig, ExtraConfig, NoExtra, Settings, without_surroundings
from .model_probe import ModelProbeConfig, PipelineProbeConfig, pipeline_settings
from .modelscope import ModelscopeTrainConfig
from .modelscope import train_settings as modelscope_settings
from .source import HUBS, STORES, Source, is_pinned, parse_source
from .swift import SwiftTrainConfig
from .swift import train_settings as swift_settings
from .text_infer import ApiInferConfig, HuggingfaceInferConfig

STAGES = ("probe", "refine", "execution", "evaluation")
Kind = Literal["path", "list", "number"]


class KSigmaConfig(ExtraConfig):
    k: Annotated[float, Field(gt=0)] = 3.0
    """Half the width of the kept band, in standard deviations."""
    path_k_sigma_recipe: Annotated[str, Field(pattern=r"\.(ya?ml|json)$")] | None = None
    """Where the refined recipe is published, .yaml or .json."""


class FeedbackConfig(ExtraConfig):
    """Where scores of rows are, and how far they may move the bounds of a recipe.

    The statistics of the rows come from the job's probe, as with k-sigma.
    """

    path_scores: Annotated[str, Field(min_length=1)]
    """The scores: a .jsonl, .json (also .gz, .zst) or .parquet file, one row a scored row, with the row id that the
    Analyzer's `stats` and processed data sets have (`__sandbox_id__`). A user's file, or an earlier job's result by
    `input: {extraConfigs.path_scores: <pipeline>.<metaName>.<output>}`."""
    score: Annotated[str, Field(min_length=1)] = "score"
    """The column of that file that holds the score, a number; dots lead into nested ones
    (`__dj__stats__.llm_quality_score`). Rows without a number are left out; of several scores of a row the mean
    counts."""
    goal: Literal["maximize", "minimize"]
    """Which scores are good: high ones (a quality), or low ones (a loss)."""
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    """Into how many ranges with equally many rows each statistic is cut, at the most."""
    min_support: Annotated[int, Field(alias="minSupport", ge=2)] = 100
    """Scored rows that each range must have; where there are fewer rows, there are fewer ranges."""
    min_kept: Annotated[float, Field(alias="minKept", ge=0, le=1)] = 0.5
    """Share of the analysed rows that all bounds of the recipe together must keep."""
    max_step: Annotated[int, Field(alias="maxStep", ge=1)] = 1
    """How many ranges a bound may move in one run."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Chance that any bound moves where the scores have nothing to do with the statistics."""
    path_feedback_recipe: Annotated[str, Field(pattern=r"\.(ya?ml|json)$")] | None = None
    """Where the refined recipe is published, .yaml or .json."""


class ProcessConfig(ExtraConfig):
    count_each_op: Annotated[bool, Field(alias="countEachOp")] = False
    """With executor_type ray: count rows after each operator, which reads the data once more for each."""


def _source(text: str) -> str:
    try:
        parse_source(text)
    except ValueError as error:
        raise PydanticCustomError(SAID, str(error)) from error
    return text


KEYS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "oss": ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"),
}
"""Environment variables that hold a store's access key."""


class FetchConfig(ExtraConfig):
    source: Annotated[str, Field(max_length=4096), AfterValidator(_source)]
    """What to fetch: https://..., hf://[datasets/]owner/name[@revision][/path], modelscope://..., s3://bucket/key,
    oss://bucket/key; a key that ends with / is all below it."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Digest that the file must have, where the source is one file."""
    export_path: str | None = None
    """Where what was fetched is published."""
    unpack: Literal["auto", "never", "all"] = "auto"
    """auto: a source that is one archive (zip, tar, tar.gz, tar.bz2, tar.xz, tar.zst); all: archives in a repository
    or below a key too."""
    include: Annotated[list[str], Field(max_length=256)] = []
    """Patterns of the files to fetch from a repository or below a key, e.g. *.jsonl; none: all."""
    exclude: Annotated[list[str], Field(max_length=256)] = []
    """Patterns of the files to leave out."""
    endpoint: Annotated[str | None, Field(pattern=r"^https?://[^\s@]+$", validate_default=True)] = None
    """Address of the hub or store where it is not the usual one; oss:// needs it."""
    region: str | None = None
    """Region of a bucket."""
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Environment variable that holds the token, from `secrets`; default: HF_TOKEN, MODELSCOPE_API_TOKEN."""
    max_bytes: Annotated[int, Field(gt=0)] | None = None
    """Refuse to fetch more; default: what the volume has room for."""
    max_unpacked_bytes: Annotated[int, Field(gt=0)] | None = None
    """Refuse to unpack to more; default: a hundred times the archive, at least 1 GiB."""

    @field_validator("endpoint", "region", "token_env", "include", "exclude")
    @classmethod
    def _belongs_to_the_source(cls, value: Any, info: ValidationInfo) -> Any:
        if "source" in info.data:  # else it is wrong itself, or comes later
            problem = _misplaced(str(info.field_name), value, parse_source(info.data["source"]))
            if problem:
                raise PydanticCustomError(SAID, problem)
        return value


def _misplaced(field: str, value: Any, source: Source) -> str | None:
    """What is wrong with a setting of a source of this scheme."""
    if field == "endpoint" and source.scheme == "oss" and value is None:
        return "oss:// needs the address of the bucket's region, e.g. https://s3.oss-cn-hangzhou.aliyuncs.com"
    if value in (None, []):
        return None
    if field == "token_env" and source.scheme in STORES:
        return f"{source.scheme}:// takes no token but keys: give {' and '.join(KEYS[source.scheme])} in `secrets`"
    if field == "region" and source.scheme not in STORES:
        return "only s3:// and oss:// have a region"
    if field in ("endpoint", "include", "exclude") and source.scheme not in (*HUBS, *STORES):
        return f"{source.scheme}:// is one file at one address; leave it out"
    return None


@dataclass(frozen=True)
class Component:
    """A kind of a hook, chosen by a job's `type`: a library, its settings, the image that has it."""

    extra: type[ComponentConfig]
    image: str
    figures: tuple[str, ...] = ()
    """As a hook's."""
    cacheable: bool = True
    """As a hook's."""
    settings: Callable[[Mapping[str, Any]], Settings] = without_surroundings
    """From the layout of Data-Juicer's sandbox to ours."""
    spans_pods: bool = False
    """As a hook's."""
    divisible: bool = False
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
    reads_probe: str | None = None
    """The output of a ProbeViaAnalyzerHook that it reads; which probe, `metaName` or `probe` says."""
    reads_dj: bool = False
    """Whether it runs on a Data-Juicer configuration."""
    reads_data: bool = False
    """Whether that configuration must name a data set."""
    figures: tuple[str, ...] = ()
    """Names of the figures that may be referred to besides outputs, without the metaName; `*` stands for any text."""
    components: Mapping[str, Component] = field(default_factory=dict)
    """Its kinds by `type`; without any there is only one."""
    settings: Callable[[Mapping[str, Any]], Settings] | None = None
    """A component's."""
    lacks: tuple[str, ...] = ()
    """Kinds that Data-Juicer's sandbox has and this version has not."""
    available: bool = True
    """Whether this version can run it."""
    cacheable: bool = True
    """Whether equal inputs give results that are as good as equal."""
    pinned: Callable[[Mapping[str, Any]], bool] | None = None
    """Where that depends on `extraConfigs`: whether they settle what comes out."""
    spans_pods: bool = False
    """Whether several pods can work at it as one (`nodes`)."""
    spans_with: Mapping[str, str] = field(default_factory=dict)
    """Configuration keys that must have a value for that."""
    divisible: bool = False
    """Whether it can be divided into independent pieces (`shards`) and made one again."""
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
            self,
            image=found.image,
            extra=found.extra,
            figures=found.figures,
            cacheable=found.cacheable,
            settings=found.settings,
            spans_pods=found.spans_pods,
            divisible=found.divisible,
            components={},
        )

    def has_figure(self, name: str) -> bool:
        """Whether a metric of that name (without the metaName) comes out of this hook."""
        return any(re.fullmatch(".*".join(map(re.escape, figure.split("*"))), name) for figure in self.figures)


def _catalogue(*hooks: Hook) -> dict[str, Hook]:
    return {hook.name: hook for hook in hooks}


def _both(*figures: str) -> tuple[str, ...]:
    """Figures of a refine job, which may have its probe's metaName: then they are told from the probe's."""
    return (*figures, *(f"{REFINED}.{figure}" for figure in figures))


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
        figures=("rows", "*.count", "*.mean", "*.std", "*.min", "*.max", "*.*%"),
    ),
    Hook(
        "RefineRecipeViaKSigmaHook",
        "refine",
        ("refine",),
        ("recipe", "changes"),
        ("path", "path"),
        extra=KSigmaConfig,
        writes={"extraConfigs.path_k_sigma_recipe": "recipe"},
        reads_probe="overall",
        reads_dj=True,
        figures=_both("refined.*.before", "refined.*.after"),
    ),
    Hook(
        "RefineRecipeViaModelFeedbackHook",
        "refine",
        ("refine",),
        ("recipe", "changes", "copies"),
        ("path", "path", "list"),
        extra=FeedbackConfig,
        writes={"extraConfigs.path_feedback_recipe": "recipe"},
        reads_probe="stats",
        reads_dj=True,
        figures=_both("expected_kept", "kept_before", "rows_scored", "refined.*.before", "refined.*.after"),
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
        figures=("rows_in", "rows_out", "ops.*.rows_in", "ops.*.rows_out"),
        spans_pods=True,
        spans_with={"djConfigs.executor_type": "ray"},
    ),
    Hook(
        "ProbeViaModelInferHook",
        "model_probe",
        ("probe", "evaluation"),
        ("results", "hard", "dirty"),
        ("path", "path", "path"),
        components={
            "transformers": Component(
                ModelProbeConfig, image="data", figures=("rows", "hard", "dirty", "loss.*", "score.*", "latency.mean")
            ),
            "modelscope": Component(
                PipelineProbeConfig,
                image="modelscope",
                figures=("rows", "hard", "dirty", "value.*", "latency.mean"),
                settings=pipeline_settings,
            ),
        },
        reads_dj=True,
        reads_data=True,
    ),
    Hook("GeneralProbeHook", "ranking", ("probe",), ("ranked",), available=False),
    Hook("DataPoolManipulationHook", "pools", ("execution",), ("paths",), available=False),
    Hook("GeneralDataExecutorHook", "convert", ("execution",), ("paths",), available=False),
    Hook(
        "FetchHook",
        "fetch",
        ("probe", "execution"),
        ("path",),
        ("path",),
        extra=FetchConfig,
        writes={"extraConfigs.export_path": "path"},
        figures=("bytes", "seconds", "files", "transferred_bytes"),
        pinned=is_pinned,
    ),
    Hook(
        "TrainModelHook",
        "train",
        ("execution",),
        ("model", "checkpoints"),
        ("path", "list"),
        components={
            "easyanimate": Component(
                EasyAnimateTrainConfig,
                image="easyanimate",
                figures=(
                    "loss",
                    "heldout_loss",
                    "heldout_loss_before",
                    "lr",
                    "steps",
                    "step_seconds",
                    "compute_seconds",
                    "clips",
                    "broken",
                ),
                settings=train_settings,
                spans_pods=True,
            ),
            "modelscope": Component(
                ModelscopeTrainConfig,
                image="modelscope",
                figures=("loss", "lr", "steps", "seconds", "eval_*"),
                settings=modelscope_settings,
            ),
            "swift": Component(
                SwiftTrainConfig,
                image="swift",
                figures=("loss", "heldout_loss", "lr", "steps", "step_seconds"),
                settings=swift_settings,
            ),
        },
        lacks=("trinity-rft", "internvl_coco_caption"),
        writes={
            "extraConfigs.output_dir": "model",
            "extraConfigs.train.saving_config.output_dir": "model",
            "extraConfigs.work_dir": "model",
        },
    ),
    Hook(
        "InferModelHook",
        "infer",
        ("execution",),
        ("dir", "dataset"),
        ("path", "path"),
        components={
            "api": Component(ApiInferConfig, image="data", figures=("rows", "failed"), cacheable=False),
            "easyanimate": Component(
                EasyAnimateInferConfig,
                image="easyanimate",
                figures=("videos", "seconds"),
                settings=infer_settings,
                divisible=True,
            ),
            "huggingface": Component(HuggingfaceInferConfig, image="data", figures=("rows", "failed")),
        },
        lacks=("vllm",),
        writes={
            "extraConfigs.export_path": "dir",
            "extraConfigs.output_video_dir": "dir",
            "extraConfigs.train.saving_config.output_video_dir": "dir",
        },
    ),
    Hook("EvaluateDataHook", "evaluate", ("evaluation", "probe"), ("value", "report"), available=False),
    Hook("EvaluateModelHook", "evaluate_model", ("evaluation",), ("best", "ranking"), available=False),
)
