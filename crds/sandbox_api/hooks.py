# SPDX-License-Identifier: Apache-2.0
"""The catalogue of hooks: what each is called by default, what it returns, where it runs, what it may be told.

The planner checks a spec against it before anything starts; the runtime finds the hook's code by the same name.
"""

from __future__ import annotations

from . import pools
from .contract import REFINED
from .easyanimate import EasyAnimateInferConfig, EasyAnimateTrainConfig, infer_settings, train_settings
from .evaluate import AccuracyConfig, MseConfig, QualityConfig
from .evaluate_model import (
    CaptionConfig,
    LanguageModelConfig,
    ModelscopeEvalConfig,
    caption_settings,
    scored_settings,
)
from .evaluate_videos import EasyAnimateEvalConfig, judged_settings
from .fetch import FetchConfig
from .heldout import FIGURES as HELDOUT_FIGURES
from .heldout import HeldoutLossConfig
from .hook import Component, Hook
from .inception import FIGURES as INCEPTION_FIGURES
from .inception import InceptionConfig, inception_settings
from .model_probe import ModelProbeConfig, PipelineProbeConfig, pipeline_settings
from .modelscope import ModelscopeTrainConfig
from .modelscope import train_settings as modelscope_settings
from .recipe import FeedbackConfig, KSigmaConfig, PoolRecipeConfig, ProcessConfig
from .source import is_pinned
from .swift import SwiftTrainConfig
from .swift import train_settings as swift_settings
from .text_infer import ApiInferConfig, HuggingfaceInferConfig
from .vbench import DIMENSIONS, VBenchConfig, vbench_settings


def _catalogue(*hooks: Hook) -> dict[str, Hook]:
    return {hook.name: hook for hook in hooks}


def _both(*figures: str) -> tuple[str, ...]:
    """Figures of a refine job, which may have its probe's metaName: then they are told from the probe's."""
    return (*figures, *(f"{REFINED}.{figure}" for figure in figures))


def _each(*figures: str) -> tuple[str, ...]:
    """Figures of the best checkpoint, and of each one by its name."""
    return (*figures, *(f"*.{figure}" for figure in figures))


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
        ("recipe", "changes", "bounds"),
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
        ("recipe", "changes", "copies", "bounds"),
        ("path", "path", "list"),
        extra=FeedbackConfig,
        writes={"extraConfigs.path_feedback_recipe": "recipe"},
        reads_probe="stats",
        reads_dj=True,
        figures=_both("expected_kept", "kept_before", "rows_scored", "refined.*.before", "refined.*.after"),
    ),
    Hook(
        "RefineRecipeViaPoolHook",
        "refine",
        ("refine",),
        ("recipe", "changes", "bounds"),
        ("path", "path"),
        extra=PoolRecipeConfig,
        writes={"extraConfigs.path_pool_recipe": "recipe"},
        reads_probe="stats",
        reads_dj=True,
        figures=_both("rows_pool", "rows_kept", "refined.*.before", "refined.*.after"),
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
        figures=("rows_in", "rows_out", "ops.*.rows_in", "ops.*.rows_out", "ops.*.short"),
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
    Hook(
        "GeneralProbeHook",
        "ranking",
        ("probe",),
        ("ranked",),
        ("list",),
        components={
            "data_pool_ranking": Component(pools.RankingConfig, image="data", figures=("pools", "unranked", "rank.*"))
        },
        repeats_with_inputs=False,
    ),
    Hook(
        "DataPoolManipulationHook",
        "pools",
        ("execution",),
        ("paths",),
        ("list",),
        components={
            "data_pool_construction": Component(pools.ConstructionConfig, image="data", figures=pools.FIGURES),
            "data_pool_combination": Component(
                pools.CombinationConfig, image="data", figures=(*pools.FIGURES, "empty")
            ),
            "data_pool_duplication": Component(pools.DuplicationConfig, image="data", figures=pools.FIGURES),
            "data_pool_downsampling": Component(
                pools.DownsamplingConfig,
                image="data",
                figures=(*pools.FIGURES, "short"),
                settings=pools.downsampling_settings,
                outputs=("paths",),  # a path where `dataset_path` is one, so its kind is not known before
            ),
            "data_pool_merging": Component(
                pools.MergingConfig, image="data", figures=pools.FIGURES, outputs=("dataset",), kinds=("path",)
            ),
            "data_pool_cartesian_join": Component(pools.CartesianJoinConfig, image="data", figures=pools.FIGURES),
        },
    ),
    Hook(
        "GeneralDataExecutorHook",
        "convert",
        ("execution",),
        ("paths",),
        components={
            "dj_to_easyanimate_video_dataset_conversion": Component(
                pools.ToEasyAnimateConfig, image="data", figures=(*pools.FIGURES, "without_video")
            ),
            "coco_caption_to_dj_conversion": Component(pools.CocoToDjConfig, image="data", figures=pools.FIGURES),
            "coco_caption_meta_generation": Component(pools.CocoMetaConfig, image="data", figures=pools.FIGURES),
        },
    ),
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
        draws=True,
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
                keeps_newest=True,
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
                keeps_newest=True,
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
        draws=True,
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
    Hook(
        "EvaluateDataHook",
        "evaluate",
        ("evaluation", "probe"),
        ("value", "report"),
        ("number",),
        components={
            "dj_text_quality_classifier": Component(
                QualityConfig,
                image="data",
                figures=("mean", "std", "min", "max", "*%", "kept_share", "kept", "rows", "tokens"),
            ),
            "accuracy": Component(AccuracyConfig, image="data", figures=("accuracy", "rows")),
            "mse": Component(MseConfig, image="data", figures=("mse", "format_error", "rows")),
            "video_inception_evaluator": Component(
                InceptionConfig,
                image="easyanimate",
                figures=INCEPTION_FIGURES,
                settings=inception_settings,
            ),
            "heldout_flow_loss": Component(
                HeldoutLossConfig,
                image="easyanimate",
                figures=HELDOUT_FIGURES,
            ),
            "vbench_video_evaluator": Component(
                VBenchConfig,
                image="vbench",
                figures=(
                    "mean_score",
                    "quality",
                    "semantic",
                    "total",
                    "official",
                    *DIMENSIONS,
                    "dimensions",
                    "videos",
                    "missing",
                    "extra",
                    "seconds",
                ),
                settings=vbench_settings,
                divisible=True,
            ),
        },
        writes={
            "extraConfigs.export_path": "report",
            "extraConfigs.output_path": "report",
            "extraConfigs.result_dir": "report",
            "extraConfigs.result_path": "report",
        },
    ),
    Hook(
        "EvaluateModelHook",
        "evaluate_model",
        ("evaluation",),
        ("best", "ranking", "value", "results"),
        ("path", "list", "number", "list"),
        components={
            "lm": Component(
                LanguageModelConfig,
                image="easyanimate",
                figures=_each("perplexity", "loss", "bits_per_byte", "tokens", "rows", "empty"),
            ),
            "modelscope": Component(ModelscopeEvalConfig, image="modelscope", figures=("*",), settings=scored_settings),
            "internvl_coco_caption": Component(
                CaptionConfig,
                image="data",
                figures=_each("avg_score", "Bleu_*", "METEOR", "ROUGE_L", "CIDEr"),
                settings=caption_settings,
            ),
            "easyanimate": Component(
                EasyAnimateEvalConfig, image="easyanimate", figures=("*",), settings=judged_settings
            ),
        },
    ),
)


def known_hook(name: str, type_: str | None) -> Hook | None:
    """A hook of the catalogue, as the component makes it that it has of this type."""
    hook = HOOKS.get(name)
    return hook.of_type(type_) if hook and type_ is not None and type_ in hook.components else hook
