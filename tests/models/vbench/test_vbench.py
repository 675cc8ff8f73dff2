# SPDX-License-Identifier: Apache-2.0
"""EvaluateDataHook of type vbench_video_evaluator through the real runtime, on VBench's own code.

temporal_flickering is for real; the other dimensions have random weights, so that what they say means nothing.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import vbench
from tests.hook_pod import PATHS, Ended, HookPod, job_contract
from tests.models.vbench import fixture_weights
from tests.models.vbench.clips import write_clip
from tests.models.warm_pod import WarmPod
from tests.progress import deep_only

from sandbox_api.contract import Limits
from sandbox_api.result import ABSENT, UNKNOWN
from sandbox_runtime.check import check
from sandbox_runtime.components.vbench import of_vbench
from sandbox_runtime.vbench import scoring  # noqa: F401  # once, for all pods that are forked

TYPE = "vbench_video_evaluator"
FLICKERING = ["temporal_flickering"]
INFO = [
    {"prompt_en": "a still life", "dimension": ["temporal_flickering", "imaging_quality"]},
    {"prompt_en": "a cat", "dimension": ["subject_consistency", "motion_smoothness", "dynamic_degree"]},
    {"prompt_en": "a beach", "dimension": ["background_consistency", "aesthetic_quality"]},
    {"prompt_en": "a person is singing", "dimension": ["human_action"]},
    {
        "prompt_en": "a red bird, oil painting",
        "dimension": ["appearance_style", "temporal_style", "overall_consistency"],
        "auxiliary_info": {"appearance_style": {"appearance_style": "oil painting"}},
    },
]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = fixture_weights.save_small(tmp_path_factory.mktemp("weights"))
    fixture_weights.save_pyiqa(folder)
    return folder


@pytest.fixture
def pod(tmp_path: Path, weights: Path) -> WarmPod:
    """A volume with two videos of each prompt, an info file, and weights among the inputs."""
    pod = WarmPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    shutil.copytree(weights, pod.inputs / "weights")
    for entry in INFO:
        for index, kind in enumerate(("stands", "moves")):
            write_clip(pod.inputs / "videos" / f"{entry['prompt_en']}-{index}.mp4", kind, seed=index)
    (pod.inputs / "info.json").write_text(json.dumps(INFO))
    return pod


def evaluate(pod: HookPod, extra: dict[str, Any], **more: Any) -> Ended:
    given = {"videos_path": "inputs/videos", "full_json_dir": "inputs/info.json", "weights_path": "inputs/weights"}
    contract = job_contract(
        "EvaluateDataHook",
        type=TYPE,
        extra={**given, **extra},
        stage="evaluation",
        meta_name="vbench",
        limits=Limits(cpus=1, memory_bytes=2**33),
        **more,
    )
    return pod.run(contract)


def said(ended: Ended) -> str:
    error = ended.message.error
    assert error is not None, ended.log
    return error.message


def report_of(ended: Ended) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ended.output("report") / "report.json").read_text())
    return found


def flickering(path: Path) -> float:
    """VBench's definition, written down once more: 1 - mean absolute difference of neighbouring frames / 255."""
    reader, frames = cv2.VideoCapture(str(path)), []
    while (read := reader.read())[0]:
        frames.append(read[1].astype(np.float32))
    return float(1 - np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(frames)]) / 255)


def test_flickering_is_scored_for_real_and_the_files_are_those_of_upstream(pod: WarmPod) -> None:
    write_clip(pod.inputs / "videos" / "a still life-4.mp4", "flickers")
    write_clip(pod.inputs / "videos" / "a still life-5.mp4")
    write_clip(pod.inputs / "videos" / "nobody asked-0.mp4")
    ended = evaluate(
        pod, {"dimension_list": FLICKERING, "eval_name": "mini", "output_path": "outputs/eval", "weights_path": None}
    )
    assert ended.code == 0, ended.log
    expected = [flickering(pod.inputs / "videos" / f"a still life-{index}.mp4") for index in (0, 1, 4)]
    assert expected[0] > expected[1] > expected[2]
    published = pod.experiment / "outputs" / "eval"
    score, each = json.loads((published / "mini-temporal_flickering_eval_results.json").read_text())[FLICKERING[0]]
    assert [one["video_results"] for one in each] == pytest.approx(expected, abs=1e-6)
    assert [Path(one["video_path"]).name for one in each] == [f"a still life-{index}.mp4" for index in (0, 1, 4)]
    assert score == pytest.approx(np.mean(expected), abs=1e-6)
    merged = json.loads((published / "mini_merged_results.json").read_text())
    assert merged == {"mean_score": score, "detail": {"temporal_flickering": score}}
    assert (published / "mini-temporal_flickering_full_info.json").is_file()
    report = report_of(ended)
    assert (report["partial"], report.get("total")) == (True, None)
    assert (report["official"], report["why"]) == (
        False,
        [
            "15 of 16 dimensions are not scored",
            "unfiltered: temporal_flickering",
            "2 videos missing",
            "the prompts are not all of VBench's own",
        ],
    )
    assert report["dimensions"]["temporal_flickering"]["labels"] == ["unfiltered"]
    assert report["missing"] == ["a still life-2.mp4", "a still life-3.mp4"]
    assert report["extra"] == ["a still life-5.mp4", "nobody asked-0.mp4"]
    assert ended.result.outputs["value"].value == score
    metrics = ended.message.metrics
    assert metrics.pop("vbench.seconds") > 0
    assert metrics == {
        "vbench": score, "vbench.mean_score": score, "vbench.official": 0, "vbench.temporal_flickering": score,
        "vbench.dimensions": 1, "vbench.videos": 3, "vbench.missing": 2, "vbench.extra": 2,
    }  # fmt: skip
    assert "2 videos are missing: 'a still life-2.mp4'" in ended.log
    assert "of 1 of 16 dimensions (partial, no total); 2 videos besides; not official: 15 of" in ended.result.message


SMALL = ["subject_consistency", "background_consistency", "aesthetic_quality", "imaging_quality", "appearance_style"]


def test_other_dimensions_run_on_weights_that_are_marked_as_synthetic(pod: WarmPod) -> None:
    ended = evaluate(pod, {"dimension_list": [*SMALL, "motion_smoothness"]})
    assert ended.code == 0, ended.log
    report = report_of(ended)
    assert list(report["dimensions"]) == [*SMALL, "motion_smoothness"]
    for name, each in report["dimensions"].items():
        assert each["labels"] == ["synthetic"], name
        assert (each["videos"], each["scored"], each["missing"]) == (2, 2, 3), name
        assert all(len(digest) == 64 for digest in each["weights"].values()), name
    assert 0 <= report["dimensions"]["subject_consistency"]["score"] <= 1
    assert ended.message.metrics["vbench.mean_score"] == pytest.approx(
        np.mean([each["score"] for each in report["dimensions"].values()])
    )
    weights, code = report["dimensions"]["motion_smoothness"]["licences"]
    assert weights == "AMT-S (amt_model/amt-s.pth): CC BY-NC 4.0: for non-commercial use only"
    assert code == "vbench.third_party.amt: CC BY-NC 4.0: for non-commercial use only"
    (licence,) = report["dimensions"]["imaging_quality"]["licences"]
    assert licence.startswith("pyiqa: PolyForm Noncommercial")
    assert "licence: motion_smoothness uses AMT-S" in ended.log
    assert "licence: imaging_quality uses pyiqa" in ended.log
    assert "synthetic: subject_consistency" in ended.result.message


def test_clip_that_is_not_the_published_one_is_synthetic_without_a_mark(pod: WarmPod) -> None:
    (pod.inputs / "weights" / "SYNTHETIC").unlink()
    ended = evaluate(pod, {"dimension_list": ["background_consistency"]})
    assert ended.code == 0, ended.log
    assert report_of(ended)["dimensions"]["background_consistency"]["labels"] == ["synthetic"]


def test_a_later_attempt_goes_on_after_the_dimensions_that_are_scored(pod: WarmPod) -> None:
    head = pod.inputs / "weights" / "aesthetic_model" / "emb_reader" / "sa_0_4_vit_l_14_linear.pth"
    good = head.read_bytes()
    head.write_bytes(b"cut off")
    extra = {"dimension_list": ["background_consistency", "aesthetic_quality"]}
    ended = evaluate(pod, extra)
    assert ended.code == 1, ended.log
    assert said(ended).startswith("VBench failed in aesthetic_quality: ")
    assert "background_consistency: 0.9" in ended.log
    head.write_bytes(good)
    ended = evaluate(pod, extra, attempt=2)
    assert ended.code == 0, ended.log
    assert "scored by an earlier attempt: background_consistency" in ended.log
    assert "background_consistency: 0.9" not in ended.log
    whole = evaluate(pod, extra, index=1)
    first, second = report_of(ended), report_of(whole)
    for report in (first, second):
        for each in report["dimensions"].values():
            each.pop("seconds")
    assert first == second
    assert [file.name for file in sorted(ended.output("report").iterdir())] == [
        file.name for file in sorted(whole.output("report").iterdir())
    ]


@pytest.mark.parametrize("folder", ["cache/vbench", "elsewhere"])
def test_weights_on_the_volume_are_found_and_count_among_what_was_read(pod: WarmPod, folder: str) -> None:
    shutil.move(pod.inputs / "weights", pod.root / folder)
    if folder == "elsewhere":
        pod.environ["VBENCH_CACHE_DIR"] = str(pod.root / folder)
    ended = evaluate(pod, {"dimension_list": ["background_consistency"], "weights_path": None}, cache_key="k")
    assert ended.code == 0, ended.log
    read = {name: digest for name, digest in ended.result.externals.items() if name.endswith("clip_model/ViT-B-32.pt")}
    assert len(read) == 1
    assert not {ABSENT, UNKNOWN} & set(read.values())


def test_pieces_are_merged_to_what_one_pod_makes(pod: WarmPod) -> None:
    extra = {"dimension_list": ["temporal_flickering", "background_consistency", "appearance_style"]}
    whole = evaluate(pod, extra, index=1)
    assert whole.code == 0, whole.log
    for piece in range(4):  # the last one has nothing to do
        ended = evaluate_piece(pod, extra, piece, shards=4, pieces="0-3")
        assert ended.code == 0, ended.log
    ended = evaluate(pod, extra, shards=4, task="merge")
    assert ended.code == 0, ended.log
    one, merged = report_of(whole), report_of(ended)
    for report in (one, merged):
        for each in report["dimensions"].values():
            each.pop("seconds")
    assert merged == one
    assert ended.result.outputs["value"].value == whole.result.outputs["value"].value
    names = {path.name for path in whole.output("report").iterdir()}
    assert {path.name for path in ended.output("report").iterdir()} == names


def evaluate_piece(pod: WarmPod, extra: dict[str, Any], piece: int, **more: Any) -> Ended:
    pod.environ["JOB_COMPLETION_INDEX"] = str(piece)
    try:
        return evaluate(pod, extra, **more)
    finally:
        del pod.environ["JOB_COMPLETION_INDEX"]


def test_videos_that_are_not_named_after_their_prompt_are_found_by_names_json(pod: WarmPod) -> None:
    (pod.inputs / "info.json").write_text(json.dumps([{"prompt_en": "a/b", "dimension": FLICKERING}]))
    write_clip(pod.inputs / "videos" / "a-b~0-0.mp4")
    (pod.inputs / "videos" / "names.json").write_text(json.dumps({"a-b~0-0.mp4": {"prompt": "a/b", "index": 0}}))
    ended = evaluate(pod, {"dimension_list": FLICKERING})
    assert ended.code == 0, ended.log
    assert report_of(ended)["dimensions"]["temporal_flickering"]["scored"] == 1


@pytest.mark.parametrize(("given", "own"), [("none", True), ("the same", True), ("shorter", False), ("custom", False)])
def test_prompts_are_vbenchs_own_by_what_they_say(pod: WarmPod, given: str, own: bool) -> None:
    info = of_vbench()
    first = next(entry["prompt_en"] for entry in info if FLICKERING[0] in entry["dimension"])
    write_clip(pod.inputs / "videos" / f"{first}-0.mp4")
    (pod.inputs / "own.json").write_text(json.dumps(info[: -1 if given == "shorter" else None], indent=1))
    more = {"mode": "custom_input"} if given == "custom" else {}
    file = "inputs/own.json" if given in ("the same", "shorter") else None
    ended = evaluate(pod, {"dimension_list": FLICKERING, "full_json_dir": file, **more})
    assert ended.code == 0, ended.log
    assert ("the prompts are not all of VBench's own" in report_of(ended)["why"]) is not own
    assert ended.message.metrics["vbench.official"] == 0


def test_with_custom_input_every_video_counts(pod: WarmPod) -> None:
    ended = evaluate(pod, {"dimension_list": FLICKERING, "mode": "custom_input", "full_json_dir": None})
    assert ended.code == 0, ended.log
    report = report_of(ended)
    assert (report["videos"], report["missing"], report["extra"]) == (2 * len(INFO), [], [])


def test_missing_weights_are_named_before_any_video_is_read(pod: WarmPod) -> None:
    for path in (pod.inputs / "weights").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (pod.inputs / "videos" / "a cat-0.mp4").write_bytes(b"no video")
    ended = evaluate(
        pod, {"dimension_list": ["subject_consistency", "scene", "imaging_quality", "temporal_flickering"]}
    )
    assert ended.code == 2, ended.log
    message = said(ended)
    assert message.startswith("extraConfigs.dimension_list: missing in inputs/weights: the package pyiqa (pip install")
    assert "dino_model/dino_vitbase16_pretrain.pth, for subject_consistency;" in message
    assert "and 4 more (see the log). Nothing is downloaded: put it there, or name another folder with" in message
    assert "missing in inputs/weights: caption_model/tag2text_swin_14m.pth, for scene\n" in ended.log


def test_nothing_is_downloaded(pod: WarmPod) -> None:
    """A DINO whose code asks for another file than VBench's, as a changed repository would."""
    hub = pod.inputs / "weights" / "dino_model" / "facebookresearch_dino_main" / "hubconf.py"
    hub.write_text(hub.read_text().replace("dino_vitbase16_pretrain.pth", "dino_newer.pth"))
    ended = evaluate(pod, {"dimension_list": ["subject_consistency"]})
    assert ended.code == 1, ended.log
    assert "VBench wants to download from https://dl.fbaipublicfiles.com/" in said(ended)
    assert "nothing is downloaded here" in said(ended)


def broken(path: Path) -> None:
    path.write_bytes(b"\x00" * 1000)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def one_frame(path: Path) -> None:
    write_clip(path, frames=1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (broken, "a still life-1.mp4 has no frame that can be read"),
        (cut_short, "a still life-1.mp4 has no frame that can be read"),
        (Path.touch, "a still life-1.mp4 has no frame that can be read"),
        (one_frame, "a still life-1.mp4 has one frame"),
    ],
)
def test_videos_that_can_not_be_scored_are_named(pod: WarmPod, spoil: Any, words: str) -> None:
    path = pod.inputs / "videos" / "a still life-1.mp4"
    path.unlink() if spoil is Path.touch else None
    spoil(path)
    ended = evaluate(pod, {"dimension_list": FLICKERING})
    assert ended.code == 1, ended.log
    assert said(ended) == f"videos_path: VBench can't score 1 of 2 videos: {words}"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"videos_path": "inputs/none"}, "extraConfigs.videos_path: there is no "),
        ({"videos_path": "inputs/weights"}, "extraConfigs.videos_path: inputs/weights holds no .mp4 file"),
        ({"full_json_dir": "inputs/no.json"}, "extraConfigs.full_json_dir: there is no file "),
        ({"full_json_dir": "inputs/weights/SYNTHETIC"}, "extraConfigs.full_json_dir: inputs/weights/SYNTHETIC can't be read as JSON"),
        ({"full_json_dir": None}, "extraConfigs.videos_path: inputs/videos has none of the 375 videos for temporal_flickering, e.g. 'In a still frame, a stop sign-0.mp4'"),
        ({"dimension_list": ["scene"]}, "extraConfigs.dimension_list: missing in inputs/weights: caption_model/tag2text_swin_14m.pth, for scene; bert-base-uncased/config.json, for scene;"),
        ({"dimension_list": ["color"], "detectron2": True}, "extraConfigs.dimension_list: missing in inputs/weights: the package detectron2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(pod: WarmPod, extra: dict[str, Any], words: str) -> None:
    ended = evaluate(pod, {"dimension_list": FLICKERING, **extra})
    assert ended.code == 2, ended.log
    assert said(ended).startswith(words)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own: VBench's modules remember the cache that they were imported with."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def test_the_image_can_be_checked() -> None:
    said = apart(check)
    assert "scored a video of 5 frames: temporal_flickering 1.0000; 11 dimensions can be computed on" in said
    assert "; without color, imaging_quality, multiple_objects, object_class, spatial_relationship" in said


def test_processes_of_their_own_do_the_same(tmp_path: Path) -> None:
    """Nothing is forked here: what a pod starts, it starts from nothing."""
    pod = HookPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    clip = write_clip(pod.inputs / "videos" / "a still life-0.mp4", "flickers")
    (pod.inputs / "info.json").write_text(json.dumps(INFO))
    ended = evaluate(pod, {"dimension_list": FLICKERING, "weights_path": None})
    assert ended.code == 0, ended.log
    assert ended.message.metrics["vbench"] == pytest.approx(flickering(clip), abs=1e-6)


def test_an_image_without_amt_takes_it_from_among_the_weights(tmp_path: Path, weights: Path) -> None:
    """As the image is built: VBench's wheel without what is for non-commercial use only."""
    whole = Path(vbench.__file__).parent
    shutil.copytree(whole, tmp_path / "image" / "vbench", ignore=shutil.ignore_patterns("amt", "grit_src"))
    path = os.pathsep.join(map(str, [*PATHS, tmp_path / "image"]))
    pod = HookPod(tmp_path, environ={"OMP_NUM_THREADS": "1", "PYTHONPATH": path})
    shutil.copytree(weights, pod.inputs / "weights")
    write_clip(pod.inputs / "videos" / "a cat-0.mp4")
    (pod.inputs / "info.json").write_text(json.dumps(INFO))
    ended = evaluate(pod, {"dimension_list": ["motion_smoothness"]})
    assert ended.code == 2, ended.log
    assert "the package vbench.third_party.amt (pip install --no-deps --target site-packages vbench" in said(ended)
    ended = evaluate(pod, {"dimension_list": ["color"], "detectron2": True})
    assert "the package detectron2 (the image is built with it, images/README.md), for color;" in said(ended)
    assert "the package vbench.third_party.grit_src (pip install" in said(ended)
    shutil.copytree(whole, pod.inputs / "weights" / "site-packages" / "vbench")
    ended = evaluate(pod, {"dimension_list": ["motion_smoothness"]})
    assert ended.code == 0, ended.log
    assert report_of(ended)["dimensions"]["motion_smoothness"]["scored"] == 1


@pytest.mark.parametrize("moving", [False, True])
def test_the_static_filter_leaves_out_what_raft_sees_move(pod: WarmPod, moving: bool) -> None:
    fixture_weights.save_raft(pod.inputs / "weights", step=float(moving))
    for prompt in ("a still life", "a cat"):
        (pod.inputs / "videos" / f"{prompt}-1.mp4").unlink()
        write_clip(pod.inputs / "videos" / f"{prompt}-0.mp4", frames=3, size=128)
    ended = evaluate(pod, {"dimension_list": ["dynamic_degree", "temporal_flickering"], "staticFilter": True})
    if moving:
        assert ended.code == 1, ended.log
        assert said(ended) == "staticFilter: VBench's filter finds none of the 1 videos for temporal_flickering static"
        assert "dynamic_degree: 1.0000 on 1 videos" in ended.log
        return
    assert ended.code == 0, ended.log
    dimensions = report_of(ended)["dimensions"]
    assert dimensions["dynamic_degree"]["score"] == 0
    found = dimensions["temporal_flickering"]
    assert (found["scored"], found["missing"], found["labels"]) == (1, 24, ["synthetic"])


@deep_only
@pytest.mark.parametrize("dimension", ["human_action", "temporal_style", "overall_consistency"])
def test_models_that_can_not_be_small(pod: WarmPod, dimension: str) -> None:
    save = fixture_weights.save_umt if dimension == "human_action" else fixture_weights.save_viclip
    apart(save, pod.inputs / "weights")
    for path in pod.inputs.glob("videos/*-1.mp4"):
        path.unlink()
    ended = evaluate(pod, {"dimension_list": [dimension]})
    assert ended.code == 0, ended.log
    (found,) = report_of(ended)["dimensions"].values()
    assert (found["videos"], found["scored"], found["labels"]) == (1, 1, ["synthetic"])
    assert -1 <= found["score"] <= 1


@deep_only
def test_tag2text_captions_a_frame(tmp_path: Path) -> None:
    """The whole of `scene` takes it 16 times as long."""
    assert set(apart(captioned, tmp_path).split()) == {"[UNK]"}, "random weights, but words of BERT's vocabulary"


def captioned(folder: Path) -> str:
    fixture_weights.save_tag2text(folder)
    os.chdir(folder)
    from vbench.scene import get_caption
    from vbench.third_party.tag2Text.tag2text import tag2text_caption

    weights = str(folder / "caption_model" / "tag2text_swin_14m.pth")
    model = tag2text_caption(pretrained=weights, image_size=384, vit="swin_b").eval()
    with torch.no_grad():
        (caption,) = get_caption(model, torch.rand(1, 3, 384, 384))
    return str(caption)
