# SPDX-License-Identifier: Apache-2.0
"""What the planner knows of EvaluateDataHook: its types, mistakes before anything starts, what may be referred to."""

from typing import Any

import pytest
from tests.unit.builders import a_spec, process

from sandbox_operator.plan.cache import has_key
from sandbox_operator.plan.compile import Compiled, compile_spec

V = "spec.evaluationJobConfigs[0]"
SCORED = {"type": "dj_text_quality_classifier", "dataset_path": "inputs/raw/demo.jsonl"}
GRADED = {
    "type": "mse",
    "predicted_dataset_path": ["a.jsonl", "b.jsonl"],
    "predicted_value_key": "a",
    "ground_truth_value_key": "b",
}
LABELLED = {
    "type": "accuracy",
    "predicted_dataset_path": "a.jsonl",
    "predicted_label_key": "a",
    "ground_truth_label_key": "b",
}
FVD = {"type": "video_inception_evaluator", "fake_mm_dir": "outputs/videos", "real_mm_dir": "inputs/raw"}
HELDOUT = {"type": "heldout_flow_loss", "base_model": "inputs/raw/model", "dataset_path": "inputs/raw/clips.jsonl"}
CLIPS = {"layout": "BCTHW", "output": "features", "dimension": 8}


def judged(extra: dict[str, Any], **more: Any) -> Compiled:
    job = {"hook": "EvaluateDataHook", "extraConfigs": extra, **more}
    return compile_spec(a_spec(probes=[], executions=[process()], evaluations=[job]))


@pytest.mark.parametrize(
    ("extra", "image"),
    [(SCORED, "data"), (GRADED, "data"), (LABELLED, "data"), (FVD, "easyanimate"), (HELDOUT, "easyanimate")],
)
def test_it_runs_in_evaluation_and_probe_lists_on_its_image(extra: dict[str, Any], image: str) -> None:
    found = judged(extra)
    assert (found.problems, found.warnings) == ((), ())
    job = found.jobs[-1]
    assert (job.meta_name, job.outputs, job.hook.image) == ("evaluate", ("value", "report"), image)
    assert has_key(found.spec, job), "equal rows get equal figures"
    before = compile_spec(a_spec(probes=[{"hook": "EvaluateDataHook", "extraConfigs": extra}]))
    assert (before.problems, before.warnings) == ((), ())


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({**SCORED, "dataset": "a"}, ".extraConfigs.dataset: EvaluateDataHook has no such setting; did you mean 'dataset_path'?"),
        ({"type": "dj_text_quality_classifier"}, ".extraConfigs.dataset_path: field required"),
        ({**SCORED, "keep_method": "best"}, ".extraConfigs.keep_method: input should be 'label', 'pareto' or 'gpt3'"),
        ({**GRADED, "ground_truth_dataset_path": "t.jsonl"}, ".extraConfigs.ground_truth_dataset_path: 1 data sets can't be compared with the 2"),
        ({**LABELLED, "predicted_label_key": ""}, ".extraConfigs.predicted_label_key: "),
        ({**FVD, "metric": "fvd"}, ".extraConfigs.metric: input should be 'fvd2048_16f', 'fvd2048_128f', "),
        ({**FVD, "metric": "fid50k", "real_mm_dir": None}, ".extraConfigs.real_data_path: name the real videos, a data set or a folder, or fill one"),
        ({"type": "video_inception_evaluator", "metric": "is50k"}, ".extraConfigs.fake_data_path: name the generated videos, a data set or a folder, or fill one"),
        ({**FVD, "height": 240}, ".extraConfigs: height and width: give both or none of them"),
        ({**FVD, "metric": "fid50k", "detector": CLIPS}, ".extraConfigs: detector.layout: fid50k is computed from frames: layout must be BCHW"),
        ({**FVD, "metric": "isv2048_ucf", "detector": CLIPS}, ".extraConfigs: detector.output: isv2048_ucf needs a classifier's logits or probabilities"),
        ({**HELDOUT, "dataset_path": None}, ".extraConfigs.dataset_path: name the held-out clips, or fill it with input"),
        ({"dataset_path": "a"}, ".type: name the component, its image depends on it; EvaluateDataHook has: dj_text_quality_classifier"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_starts(extra: dict[str, Any], problem: str) -> None:
    (found,) = judged(extra).problems
    assert found.startswith(V + problem)


@pytest.mark.parametrize("name", ["value", "mean", "kept_share", "95%", "rows", "tokens"])
def test_its_figures_may_be_targets(name: str) -> None:
    job = {"hook": "EvaluateDataHook", "extraConfigs": SCORED}
    spec = a_spec(probes=[], executions=[process()], evaluations=[job])
    found = compile_spec({**spec, "maxIterNum": 2, "iterTargets": [f"anonymous.evaluate.{name} >= 0.5"]})
    assert found.problems == ()


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (FVD, "fvd2048_16f"),
        ({**FVD, "num_runs": 3}, "fvd2048_16f_mean"),
        ({**FVD, "metric": "prv2048_3n_16f"}, "prv2048_3n_16f_recall"),
        (FVD, "samples.fake"),
        (FVD, "valid"),
        (HELDOUT, "loss"),
        (HELDOUT, "loss.0.5"),
    ],
)
def test_figures_of_videos_may_be_targets(extra: dict[str, Any], name: str) -> None:
    job = {"hook": "EvaluateDataHook", "extraConfigs": extra}
    spec = a_spec(probes=[], executions=[process()], evaluations=[job])
    found = compile_spec({**spec, "maxIterNum": 2, "iterTargets": [f"anonymous.evaluate.{name} <= 0.5"]})
    assert found.problems == ()


def test_real_videos_may_come_by_input_and_a_score_needs_none() -> None:
    extra = {"type": "video_inception_evaluator", "fake_mm_dir": "inputs/raw"}
    by_input = judged(extra, input={"extraConfigs.real_data_path": "anonymous.process.dataset"})
    assert by_input.problems == judged({**extra, "metric": "is50k"}).problems == ()
    assert judged({**FVD, "metric": "pr50k3n"}).problems == (), "also so written"
    told = judged({**FVD, "replace_cache": True, "verbose": True})
    assert told.problems == ()


def test_a_figure_of_another_type_is_none() -> None:
    job = {"hook": "EvaluateDataHook", "extraConfigs": LABELLED}
    spec = a_spec(probes=[], executions=[process()], evaluations=[job])
    found = compile_spec({**spec, "maxIterNum": 2, "iterTargets": ["anonymous.evaluate.kept_share >= 0.5"]})
    assert len(found.problems) == 1
