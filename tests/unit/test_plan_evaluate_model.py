# SPDX-License-Identifier: Apache-2.0
"""What the planner knows of EvaluateModelHook: its types, mistakes before anything starts, what may be referred to."""

from typing import Any

import pytest
from tests.unit.builders import a_spec, process

from sandbox_api.evaluate_videos import EasyAnimateEvalConfig
from sandbox_api.hooks import HOOKS
from sandbox_operator.plan.cache import has_key
from sandbox_operator.plan.compile import Compiled, compile_spec

V = "spec.evaluationJobConfigs[0]"
LANGUAGE = {"type": "lm", "models": ["inputs/raw/a", "inputs/raw/b"], "dataset_path": "inputs/raw/heldout.jsonl"}
SCORED = {"type": "modelscope", "models": ["inputs/raw/a"], "eval_dataset": "inputs/raw/val.jsonl"}
FVD = {"type": "video_inception_evaluator", "name": "fvd", "extraConfigs": {"real_mm_dir": "inputs/raw/real"}}
HELDOUT = {"type": "heldout_flow_loss", "name": "heldout", "extraConfigs": {"dataset_path": "inputs/raw/held.jsonl"}}
VIDEOS = {
    "type": "easyanimate",
    "base_model": "inputs/raw/base",
    "models": ["inputs/raw/a.safetensors", "inputs/raw/b.safetensors"],
    "prompts": ["a cat"],
    "evaluators": [FVD, HELDOUT],
    "metric": "fvd",
}
CAPTIONS = {"type": "internvl_coco_caption", "ckpt_paths": ["inputs/raw/a"]}
TRAIN = {
    "hook": "TrainModelHook",
    "type": "swift",
    "extraConfigs": {"model": "inputs/raw/base", "dataset": ["inputs/raw/rows.jsonl"]},
}


def judged(extra: dict[str, Any], **more: Any) -> Compiled:
    job = {"hook": "EvaluateModelHook", "extraConfigs": extra, **more}
    return compile_spec(a_spec(probes=[], executions=[process(), TRAIN], evaluations=[job]))


@pytest.mark.parametrize(("extra", "image"), [(LANGUAGE, "easyanimate"), (SCORED, "modelscope"), (CAPTIONS, "data"), (VIDEOS, "easyanimate")])  # fmt: skip
def test_each_type_runs_in_its_image(extra: dict[str, Any], image: str) -> None:
    found = judged(extra)
    assert (found.problems, found.warnings) == ((), ())
    job = found.jobs[-1]
    assert (job.meta_name, job.outputs, job.hook.image) == (
        "evaluate_model", ("best", "ranking", "value", "results"), image,
    )  # fmt: skip
    assert has_key(found.spec, job), "equal models and rows give equal figures"


@pytest.mark.parametrize(("extra", "name"), [(LANGUAGE, "models"), (SCORED, "models"), (CAPTIONS, "ckpt_paths"), (VIDEOS, "models")])  # fmt: skip
@pytest.mark.parametrize("output", ["checkpoints", "model"])
def test_checkpoints_come_from_a_training(extra: dict[str, Any], name: str, output: str) -> None:
    without = {key: value for key, value in extra.items() if key != name}
    found = judged(without, input={f"extraConfigs.{name}": f"anonymous.train.{output}"})
    assert (found.problems, found.warnings) == ((), ())


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({**LANGUAGE, "models": []}, ".extraConfigs.models: name the checkpoints, or one in model, or fill it with an input"),
        ({**LANGUAGE, "model": "inputs/raw/c"}, ".extraConfigs.model: models are named as well; name the checkpoints once"),
        ({**LANGUAGE, "max_length": 64, "stride": 64}, ".extraConfigs.stride: must be less than max_length (64)"),
        ({**LANGUAGE, "metric": "accuracy"}, ".extraConfigs.metric: input should be 'perplexity', 'loss' or 'bits_per_byte'"),
        ({**LANGUAGE, "metric": "bits_per_byte", "add_start_token": False}, ".extraConfigs.metric: bits_per_byte needs add_start_token"),
        ({"type": "lm", "models": ["inputs/raw/a"]}, ".extraConfigs.dataset_path: field required"),
        ({**LANGUAGE, "textkey": "a"}, ".extraConfigs.textkey: EvaluateModelHook has no such setting; did you mean 'text_key'?"),
        ({**SCORED, "metric": "bleu"}, ".extraConfigs.goal: say whether the best checkpoint has the largest bleu (maximize)"),
        ({**SCORED, "trainer_name": "nlp-gpt3-trainer"}, ".extraConfigs.trainer_name: nlp-gpt3-trainer needs Megatron"),
        ({**CAPTIONS, "metric": "SPICE"}, ".extraConfigs.metric: input should be 'avg_score'"),
        ({**VIDEOS, "models": []}, ".extraConfigs.models: name the checkpoints"),
        ({**VIDEOS, "prompts": []}, ".extraConfigs.prompts: write prompts, or name a file of them"),
        ({**VIDEOS, "evaluators": [{**FVD, "extraConfigs": {}}]}, ".extraConfigs.evaluators.0.extraConfigs.real_data_path: name the real videos"),
        ({**VIDEOS, "evaluators": [{**FVD, "extraConfigs": {"real_mm_dirr": "a"}}]}, ".extraConfigs.evaluators.0.extraConfigs: real_mm_dirr: video_inception_evaluator has no such setting; did you mean 'real_mm_dir'?"),
        ({**VIDEOS, "evaluators": [{**FVD, "extraConfigs": {"real_mm_dir": "a", "metric": "fvdd"}}]}, ".extraConfigs.evaluators.0.extraConfigs.metric: input should be 'fvd2048_16f'"),
        ({**VIDEOS, "evaluators": [FVD, {**HELDOUT, "extraConfigs": {"lora_path": "a"}}]}, ".extraConfigs.evaluators.1.extraConfigs: lora_path: leave it out, it is each checkpoint's own"),
        ({**VIDEOS, "evaluators": [FVD, FVD]}, ".extraConfigs.evaluators: two of them are called fvd; give each a name"),
        ({**VIDEOS, "evaluators": []}, ".extraConfigs.evaluators: there is none; it takes: video_inception_evaluator, heldout_flow_loss"),
        ({**VIDEOS, "evaluators": [FVD, {"type": "vbench_video_evaluator"}]}, ".extraConfigs.evaluators.1.type: vbench_video_evaluator runs in the image vbench, not in this job's; make videos with InferModelHook for each checkpoint (forEach), and judge them with EvaluateDataHook of type vbench_video_evaluator"),
        ({**VIDEOS, "metric": "fid"}, ".extraConfigs.metric: 'fid' is not <evaluator>.<figure>; evaluators: fvd, heldout"),
        ({**VIDEOS, "metric": "heldout.losses"}, ".extraConfigs.metric: heldout_flow_loss has no figure 'losses'; heldout alone is its value"),
        ({**VIDEOS, "metric": "heldout.clips"}, ".extraConfigs.goal: say whether the best checkpoint has the largest heldout.clips (maximize)"),
        ({"models": ["a"]}, ".type: name the component, its image depends on it; EvaluateModelHook has: lm, modelscope"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_starts(extra: dict[str, Any], problem: str) -> None:
    (found,) = judged(extra).problems
    assert found.startswith(V + problem)


def test_upstreams_keys_are_told_of() -> None:
    """It would run the evaluation as well; ours reads what it has left."""
    found = judged({**CAPTIONS, "internvl_home": "inputs/raw/internvl", "num_gpus": 8, "env_name": "x"})
    assert found.problems == ()
    assert any("internvl_home is not used: the logs are only read" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (LANGUAGE, "value"), (LANGUAGE, "perplexity"), (LANGUAGE, "checkpoint-10.bits_per_byte"),
        (SCORED, "long.accuracy"), (VIDEOS, "fvd"), (VIDEOS, "checkpoint-10.heldout.loss.0.5"), (CAPTIONS, "avg_score"), (CAPTIONS, "CIDEr"),
    ],
)  # fmt: skip
def test_its_figures_may_be_targets(extra: dict[str, Any], name: str) -> None:
    job = {"hook": "EvaluateModelHook", "extraConfigs": extra}
    spec = a_spec(probes=[], executions=[process()], evaluations=[job])
    found = compile_spec({**spec, "maxIterNum": 2, "iterTargets": [f"anonymous.evaluate_model.{name} >= 0.5"]})
    assert found.problems == ()


def test_a_figure_of_another_type_is_none() -> None:
    assert not HOOKS["EvaluateModelHook"].of_type("lm").has_figure("accuracy")


@pytest.mark.parametrize(
    ("metric", "goal"),
    [("fvd", "minimize"), ("fvd.fvd2048_16f", "minimize"), ("heldout.loss.0.5", "minimize"), ("real.pr50k_3n_recall", "maximize")],
)  # fmt: skip
def test_the_better_direction_of_a_known_figure_need_not_be_said(metric: str, goal: str) -> None:
    real = {**FVD, "name": "real", "extraConfigs": {"real_mm_dir": "inputs/raw/real", "metric": "pr50k3n"}}
    extra = {**VIDEOS, "evaluators": [FVD, HELDOUT, real], "metric": metric}
    assert judged(extra).problems == ()
    assert EasyAnimateEvalConfig.model_validate(extra).direction == goal


def test_the_held_out_loss_alone_needs_no_prompts() -> None:
    without = {key: value for key, value in VIDEOS.items() if key != "prompts"}
    assert judged({**without, "evaluators": [HELDOUT], "metric": "heldout"}).problems == ()


def test_an_input_may_fill_a_setting_of_an_evaluator() -> None:
    extra = {**VIDEOS, "evaluators": [FVD, {"type": "heldout_flow_loss", "name": "heldout"}]}
    found = judged(extra, input={"extraConfigs.evaluators.1.extraConfigs.dataset_path": "anonymous.process.dataset"})
    assert (found.problems, found.warnings) == ((), ())
