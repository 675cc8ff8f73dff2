# SPDX-License-Identifier: Apache-2.0
"""What has to be known of upstream's hooks to convert a job: what they return, write, ignore, and need of a machine.

`type` is upstream's name of the component that a hook runs. Outputs are ours, as `sandbox_api.hooks` names them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox_api.hooks import HOOKS, known_hook

ANALYZER = "ProbeViaAnalyzerHook"
K_SIGMA = "RefineRecipeViaKSigmaHook"
FEEDBACK = "RefineRecipeViaModelFeedbackHook"
PROCESS = "ProcessDataHook"
TRAIN = "TrainModelHook"
EVALUATE_DATA = "EvaluateDataHook"

REFINES = {K_SIGMA, FEEDBACK}
"""Hooks that read a probe's result and write a recipe."""
READ_DJ = {ANALYZER, *REFINES, PROCESS, "ProbeViaModelInferHook"}
"""Hooks that read `dj_configs`; what the others have there, upstream ignores."""
IGNORE_EXTRA = {ANALYZER, PROCESS}

TYPES = {
    "GeneralProbeHook": ("data_pool_ranking",),
    "DataPoolManipulationHook": (
        "data_pool_construction", "data_pool_combination", "data_pool_duplication", "data_pool_downsampling",
        "data_pool_merging", "data_pool_cartesian_join",
    ),
    "GeneralDataExecutorHook": (
        "coco_caption_to_dj_conversion", "coco_caption_meta_generation", "dj_to_easyanimate_video_dataset_conversion",
    ),
    "ProbeViaModelInferHook": ("modelscope",),
    TRAIN: ("modelscope", "easyanimate"),
    "InferModelHook": ("easyanimate", "huggingface", "vllm", "api"),
    EVALUATE_DATA: (
        "dj_text_quality_classifier", "vbench_video_evaluator", "video_inception_evaluator", "accuracy", "mse",
    ),
    "EvaluateModelHook": ("internvl_coco_caption",),
}  # fmt: skip
"""Components of upstream that have a place on the cluster."""

OWN_IMAGE = "the way out is a SandboxHook with an image of your own"
WITHOUT_A_PLACE = {
    (TRAIN, "trinity-rft"): f"Trinity-RFT brings its own Ray cluster and installation; {OWN_IMAGE} that holds it",
    (TRAIN, "internvl_coco_caption"): f"it runs the scripts of an InternVL checkout; {OWN_IMAGE} that holds one",
    ("EvaluateModelHook", "med_evaluator"): f"it needs EvalScope and models that are being served; {OWN_IMAGE}",
    ("EvaluateModelHook", "evalscope_evaluator"): f"it needs an EvalScope installation; {OWN_IMAGE} that holds it",
}

_RETURNS: dict[tuple[str, str | None], tuple[str, ...]] = {
    (ANALYZER, None): ("dataset",),
    ("InferModelHook", None): ("dataset",),
    ("InferModelHook", "easyanimate"): ("dir",),
    (EVALUATE_DATA, "accuracy"): ("report", "value"),
    (EVALUATE_DATA, "mse"): ("report", "value"),
    (EVALUATE_DATA, "video_inception_evaluator"): ("report",),
    ("EvaluateModelHook", None): ("results",),
}
"""Where what upstream returns is not what stands first with us: our outputs in upstream's order."""


def returns(hook: str, kind: str | None) -> tuple[str, ...]:
    """Our outputs in the order in which upstream returns them; empty for a hook that is not known."""
    known = known_hook(hook, kind)
    first = known.outputs[:1] if known else ()
    return _RETURNS.get((hook, kind)) or _RETURNS.get((hook, None)) or first


@dataclass(frozen=True)
class Write:
    """A configuration key that names what a hook writes."""

    target: str
    output: str
    inside: str | None = None
    """Pattern of the names of files in that folder which are the output itself."""


_WRITES: dict[tuple[str, str | None], tuple[Write, ...]] = {
    (ANALYZER, None): (Write("djConfigs.export_path", "dataset"),),
    (K_SIGMA, None): (Write("extraConfigs.path_k_sigma_recipe", "recipe"),),
    (PROCESS, None): (Write("djConfigs.export_path", "dataset"),),
    ("DataPoolManipulationHook", "data_pool_merging"): (
        Write("extraConfigs.export_path", "dataset", r".*_merged\.jsonl"),
    ),
    ("GeneralDataExecutorHook", None): (
        Write("extraConfigs.export_path", "paths", r".*(_ea_fmt\.json|_dj_fmt\.jsonl|_meta\.json)"),
    ),
    (TRAIN, "modelscope"): (Write("extraConfigs.work_dir", "model", r".*"),),
    (TRAIN, "easyanimate"): (Write("extraConfigs.train.saving_config.output_dir", "model", r".*"),),
    (TRAIN, "internvl_coco_caption"): (Write("extraConfigs.work_dir", "model", r".*"),),
    ("InferModelHook", None): (Write("extraConfigs.export_path", "dataset", r".*_inference\.jsonl"),),
    ("InferModelHook", "easyanimate"): (Write("extraConfigs.train.saving_config.output_video_dir", "dir"),),
    (EVALUATE_DATA, "vbench_video_evaluator"): (
        Write("extraConfigs.result_dir", "report", r".*_merged_results\.json"),
        Write("extraConfigs.output_path", "report", r".*_merged_results\.json"),
    ),
    (EVALUATE_DATA, "video_inception_evaluator"): (Write("extraConfigs.result_path", "report"),),
}


def writes(hook: str, kind: str | None) -> tuple[Write, ...]:
    return _WRITES.get((hook, kind)) or _WRITES.get((hook, None)) or ()


WRITING_KEYS = re.compile(
    r"export_path|path_k_sigma_recipe|work_dir|(output|result|save|saving|script)(_.+)?_(dir|path)"
)
"""Names of keys under which something is written, whatever the hook."""

_GPUS: dict[tuple[str, str], str | None] = {
    (TRAIN, "easyanimate"): None,
    (TRAIN, "internvl_coco_caption"): "num_gpus",
    ("InferModelHook", "easyanimate"): "train.infer_config.gpu_num",
    ("InferModelHook", "vllm"): None,
    (EVALUATE_DATA, "vbench_video_evaluator"): "num_gpus",
    (EVALUATE_DATA, "video_inception_evaluator"): None,
}
"""Components that can't work without a GPU, and the key that says how many."""


def needs_gpu(hook: str, kind: str | None) -> tuple[bool, str | None]:
    """Whether a component needs a GPU, and the key of `extra_configs` that says how many."""
    key = (hook, kind or "")
    return key in _GPUS, _GPUS.get(key)


ENVIRONMENT = ("env_name", "env_manager", "env_params", "internvl_home", "trinity_home")
"""Keys that made a conda environment or named a checkout."""
SETTLED = ("work_dir", "ds_cache_dir", "temp_dir", "event_log_dir", "checkpoint_dir", "partition_dir", "ray_address")
"""Keys of a Data-Juicer configuration that the runtime settles itself."""


def default_name(hook: str) -> str:
    """The metaName of a job that has none."""
    known = HOOKS.get(hook)
    return known.meta_name if known else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", hook.removesuffix("Hook")).lower()
