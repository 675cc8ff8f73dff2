# SPDX-License-Identifier: Apache-2.0
"""What the planner knows of EvaluateModelHook: its types, mistakes before anything starts, what may be referred to."""

from typing import Any

import pytest
from tests.unit.builders import a_spec, process

from sandbox_api.hooks import HOOKS
from sandbox_operator.plan.cache import has_key
from sandbox_operator.plan.compile import Compiled, compile_spec

V = "spec.evaluationJobConfigs[0]"
LANGUAGE = {"type": "lm", "models": ["inputs/raw/a", "inputs/raw/b"], "dataset_path": "inputs/raw/heldout.jsonl"}
SCORED = {"type": "modelscope", "models": ["inputs/raw/a"], "eval_dataset": "inputs/raw/val.jsonl"}
CAPTIONS = {"type": "internvl_coco_caption", "ckpt_paths": ["inputs/raw/a"]}
TRAIN = {
    "hook": "TrainModelHook",
    "type": "swift",
    "extraConfigs": {"model": "inputs/raw/base", "dataset": ["inputs/raw/rows.jsonl"]},
}


def judged(extra: dict[str, Any], **more: Any) -> Compiled:
    job = {"hook": "EvaluateModelHook", "extraConfigs": extra, **more}
    return compile_spec(a_spec(probes=[], executions=[process(), TRAIN], evaluations=[job]))


@pytest.mark.parametrize(("extra", "image"), [(LANGUAGE, "easyanimate"), (SCORED, "modelscope"), (CAPTIONS, "data")])
def test_each_type_runs_in_its_image(extra: dict[str, Any], image: str) -> None:
    found = judged(extra)
    assert (found.problems, found.warnings) == ((), ())
    job = found.jobs[-1]
    assert (job.meta_name, job.outputs, job.hook.image) == (
        "evaluate_model", ("best", "ranking", "value", "results"), image,
    )  # fmt: skip
    assert has_key(found.spec, job), "equal models and rows give equal figures"


@pytest.mark.parametrize(("extra", "name"), [(LANGUAGE, "models"), (SCORED, "models"), (CAPTIONS, "ckpt_paths")])
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
        ({"type": "easyanimate"}, ".type: EvaluateModelHook of type easyanimate is not in this version yet"),
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
        (SCORED, "long.accuracy"), (CAPTIONS, "avg_score"), (CAPTIONS, "CIDEr"),
    ],
)  # fmt: skip
def test_its_figures_may_be_targets(extra: dict[str, Any], name: str) -> None:
    job = {"hook": "EvaluateModelHook", "extraConfigs": extra}
    spec = a_spec(probes=[], executions=[process()], evaluations=[job])
    found = compile_spec({**spec, "maxIterNum": 2, "iterTargets": [f"anonymous.evaluate_model.{name} >= 0.5"]})
    assert found.problems == ()


def test_a_figure_of_another_type_is_none() -> None:
    assert not HOOKS["EvaluateModelHook"].of_type("lm").has_figure("accuracy")
