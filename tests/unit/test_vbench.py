# SPDX-License-Identifier: Apache-2.0
"""VBench: the leaderboard's sums, what the planner refuses, both layouts of settings, videos by prompts."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.unit.builders import a_spec

from sandbox_api.vbench import DIMENSIONS, GRIT, Name, VBenchConfig, sums, vbench_settings
from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.vbench.results import figures_of, merged, report_of, sentence
from sandbox_runtime.vbench.videos import extra_videos, match, match_all, names_in, read_info
from sandbox_runtime.vbench.weights import FILES, check_weights

V = "spec.evaluationJobConfigs[0]"
ASKED = {"videos_path": "inputs/raw/videos", "dimension_list": ["temporal_flickering"]}

COLUMNS = (
    "subject_consistency", "background_consistency", "temporal_flickering", "motion_smoothness", "dynamic_degree",
    "aesthetic_quality", "imaging_quality", "object_class", "multiple_objects", "human_action", "color",
    "spatial_relationship", "scene", "appearance_style", "temporal_style", "overall_consistency",
)  # fmt: skip
LEADERBOARD = {
    "T2V-Turbo": (
        (96.28, 97.02, 97.48, 97.34, 49.17, 63.04, 72.49, 93.96, 54.65, 95.20, 89.90, 38.67, 55.58, 24.42, 25.51, 28.16),
        (82.57, 74.76, 81.01),
    ),
    "Data-Juicer, 147k": (
        (97.32, 99.03, 96.60, 96.51, 51.67, 68.92, 70.42, 95.85, 61.63, 95.60, 94.06, 46.95, 57.57, 24.42, 26.34, 28.90),
        (83.14, 77.93, 82.10),
    ),
    "Data-Juicer, 228k": (
        (97.92, 99.27, 98.14, 97.77, 38.89, 67.39, 70.41, 96.44, 64.51, 95.40, 95.51, 47.17, 57.30, 25.55, 26.82, 29.25),
        (83.38, 79.13, 82.53),
    ),
}  # fmt: skip
"""Raw scores, and quality, semantic and total, in per cent, as Data-Juicer's recipe gallery prints them."""


def judged(extra: dict[str, Any], **more: Any) -> Compiled:
    job = {"hook": "EvaluateDataHook", "type": "vbench_video_evaluator", "extraConfigs": extra, **more}
    return compile_spec(a_spec(probes=[], evaluations=[job]))


@pytest.mark.parametrize("model", LEADERBOARD)
def test_the_sums_are_those_of_the_leaderboard(model: str) -> None:
    scores, printed = LEADERBOARD[model]
    found = sums({name: score / 100 for name, score in zip(COLUMNS, scores, strict=True)})
    assert [100 * found[name] for name in ("quality", "semantic", "total")] == pytest.approx(printed, abs=0.01)


@pytest.mark.parametrize("missing", COLUMNS)
def test_there_is_no_sum_where_a_dimension_is_missing(missing: str) -> None:
    scores, _ = LEADERBOARD["T2V-Turbo"]
    assert sums({name: score for name, score in zip(COLUMNS, scores, strict=True) if name != missing}) == {}


def test_every_list_of_dimensions_has_all_sixteen() -> None:
    assert set(get_args(Name)) == set(DIMENSIONS) == set(FILES) == set(COLUMNS)
    assert len(DIMENSIONS) == 16


def test_the_value_is_the_plain_mean_whatever_the_sums_say() -> None:
    scores, _ = LEADERBOARD["T2V-Turbo"]
    each = {"normalized": 0.0, "videos": 1, "scored": 1, "missing": 0, "seconds": 1.0, "labels": []}
    dimensions = {name: {"score": score / 100, **each} for name, score in zip(COLUMNS, scores, strict=True)}
    report = report_of(dimensions, [], ["extra.mp4"], own_prompts=True, videos=3)
    assert report["mean_score"] == merged(dimensions)["mean_score"] == pytest.approx(sum(scores) / 1600, abs=1e-12)
    assert not report["partial"]
    assert (report["official"], report["why"], figures_of(report)["official"]) == (True, [], 1)
    figures = figures_of(report)
    assert next(iter(figures.items())) == ("", report["mean_score"])
    assert (figures["total"], figures["dimensions"], figures["extra"], figures["seconds"]) == (
        report["total"],
        16,
        1,
        16,
    )
    assert sentence(report) == "mean score 0.6743 of 16 of 16 dimensions, total 0.8100; 1 videos besides"
    del dimensions["color"]
    partial = report_of(dimensions, [], [], own_prompts=True, videos=3)
    assert partial["partial"]
    assert (partial["official"], partial["why"]) == (False, ["1 of 16 dimensions are not scored"])
    assert not {"quality", "semantic", "total"} & (partial.keys() | figures_of(partial).keys())


@pytest.mark.parametrize(
    ("labels", "missing", "own_prompts", "why"),
    [
        (["synthetic"], [], True, "synthetic: temporal_flickering"),
        (["unfiltered"], [], True, "unfiltered: temporal_flickering"),
        ([], ["a-3.mp4", "a-4.mp4"], True, "2 videos missing"),
        ([], [], False, "the prompts are not all of VBench's own"),
    ],
)
def test_sums_that_are_not_the_leaderboards_say_why(
    labels: list[str], missing: list[str], own_prompts: bool, why: str
) -> None:
    each = {"score": 0.5, "seconds": 1.0}
    dimensions = {name: {**each, "labels": labels if name == "temporal_flickering" else []} for name in DIMENSIONS}
    report = report_of(dimensions, missing, [], own_prompts=own_prompts, videos=3)
    assert (report["partial"], report["official"], report["why"]) == (False, False, [why])
    assert figures_of(report)["official"] == 0
    assert sentence(report).endswith(f", total {report['total']:.4f}; not official: {why}")


def test_a_job_runs_on_its_own_image_and_can_be_divided() -> None:
    found = judged(ASKED, shards=2)
    assert (found.problems, found.warnings) == ((), ())
    job = found.jobs[-1]
    assert (job.hook.image, job.outputs, job.hook.has_figure("total")) == ("vbench", ("value", "report"), True)


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({"dimension_list": ["temporal_flickering"]}, ".videos_path: name the folder of the videos, or fill it with input, e.g. <infer>.dir"),
        ({**ASKED, "dimension_list": []}, ".dimension_list: list should have at least 1 item"),
        ({**ASKED, "dimension_list": ["flickering"]}, ".dimension_list.0: input should be 'subject_consistency'"),
        ({**ASKED, "dimension_list": ["color", "color"], "detectron2": True}, ": dimension_list: color stands in it twice"),
        ({**ASKED, "dimension_list": [*GRIT, "scene"]}, ": dimension_list: object_class, multiple_objects, color, spatial_relationship can't be scored: GRiT needs detectron2"),
        ({**ASKED, "dimension_list": ["scene", "color"], "detectron2": True, "mode": "custom_input"}, ": dimension_list: scene, color can't be scored with mode custom_input"),
        ({**ASKED, "dimension_list": ["scene"], "staticFilter": True}, ": staticFilter: is for temporal_flickering"),
        ({**ASKED, "mode": "custom_input", "staticFilter": True}, ": staticFilter: chooses among the videos of VBench's prompts"),
        ({**ASKED, "eval_name": "a/b"}, ".eval_name: "),
        ({**ASKED, "dimensions": []}, ".dimensions: EvaluateDataHook has no such setting"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_starts(extra: dict[str, Any], problem: str) -> None:
    (found,) = judged(extra).problems
    assert found.startswith(f"{V}.extraConfigs{problem}")


def test_both_layouts_of_the_sandbox_are_understood() -> None:
    older = {
        "prompt_path": "mini.json", "videos_path": "videos", "result_dir": "results", "eval_name": "mini",
        "dimension_list": ["scene"], "load_ckpt_from_local": False,
    }  # fmt: skip
    newer = {
        "full_json_dir": "mini.json", "videos_path": "videos", "output_path": "results", "eval_name": "mini",
        "dimension_list": ["scene"], "load_ckpt_from_local": True, "num_gpus": 2, "env_name": "vbench",
        "env_manager": "conda", "env_params": {},
    }  # fmt: skip
    first, second = vbench_settings(older), vbench_settings(newer)
    assert VBenchConfig.model_validate(first.values) == VBenchConfig.model_validate(
        {key: value for key, value in second.values.items() if key != "processes"}
    )
    assert second.values["processes"] == 2
    assert "load_ckpt_from_local is not used: weights are read from the volume, never downloaded" in first.notes
    assert judged({**older, "videos_path": "inputs/raw/videos", "prompt_path": "inputs/raw/mini.json"}).problems == ()


def test_processes_are_no_more_than_gpus() -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    (problem,) = judged({**ASKED, "num_gpus": 2}, **limits).problems
    assert problem.startswith(f"{V}.extraConfigs.processes: 2 are more than the 1 GPUs of a pod")


INFO = [{"prompt_en": "a cat", "dimension": ["scene"]}, {"prompt_en": "a dog", "dimension": ["temporal_flickering"]}]


def test_videos_are_matched_by_prompt_and_number() -> None:
    found = {name: f"{name}.mp4" for name in ("a cat-0", "a cat-4", "a cat-5", "a dog-7", "a dog-25", "a cow-0")}
    cats = match(INFO, found, "scene", folder=Path("/v"))
    assert cats.videos == ["/v/a cat-0.mp4", "/v/a cat-4.mp4"]
    assert cats.missing == ["a cat-1.mp4", "a cat-2.mp4", "a cat-3.mp4"]
    assert extra_videos(INFO, found, filtered=False) == ["a cat-5.mp4", "a dog-7.mp4", "a dog-25.mp4", "a cow-0.mp4"]
    assert extra_videos(INFO, found, filtered=True) == ["a cat-5.mp4", "a dog-25.mp4", "a cow-0.mp4"]
    assert match(INFO, found, "temporal_flickering", folder=Path("/v"), each=25).videos == ["/v/a dog-7.mp4"]
    assert [entry["prompt_en"] for entry in match_all(found, "scene", folder=Path("/v")).entries][-2:] == [
        "a dog",
        "a cow",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "can't be read as JSON"),
        ("[]", "holds no list of prompts"),
        ('{"a": 1}', "holds no list of prompts"),
        ('[{"prompt_en": "a"}]', "entry 0 of info.json has no prompt_en and no dimension"),
        ('[{"prompt_en": "a", "dimension": ["beauty"]}]', "entry 0 of info.json has no prompt_en and no dimension"),
    ],
)
def test_an_info_file_that_is_none_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "info.json").write_text(content)
    with pytest.raises(ConfigError, match=words):
        read_info(tmp_path / "info.json", "info.json")


def test_renamed_videos_are_found(tmp_path: Path) -> None:
    for name in ("a.mp4", "b-1.mp4", "note.txt"):
        (tmp_path / name).touch()
    (tmp_path / "names.json").write_text(json.dumps({"a.mp4": {"prompt": "a/b", "index": 3}}))
    assert names_in(tmp_path, "videos") == {"a/b-3": "a.mp4", "b-1": "b-1.mp4"}
    (tmp_path / "names.json").write_text('{"a.mp4": 3}')
    with pytest.raises(ConfigError, match=r"videos/names.json can't be read"):
        names_in(tmp_path, "videos")


@pytest.mark.parametrize("dimension", [name for name in DIMENSIONS if FILES[name]])
def test_weights_that_are_missing_are_named(tmp_path: Path, dimension: str) -> None:
    with pytest.raises(ConfigError, match="missing in weights: ") as told:
        check_weights(tmp_path, "weights", [dimension], static_filter=False)
    assert f"for {dimension}" in str(told.value)
    assert FILES[dimension][0].file in str(told.value)


def test_the_static_filter_needs_raft(tmp_path: Path) -> None:
    check_weights(tmp_path, "weights", ["temporal_flickering"], static_filter=False)
    with pytest.raises(ConfigError, match=r"raft-things\.pth, for temporal_flickering"):
        check_weights(tmp_path, "weights", ["temporal_flickering"], static_filter=True)
