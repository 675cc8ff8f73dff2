# SPDX-License-Identifier: Apache-2.0
"""video_inception_evaluator through the runtime's process, with toy detectors, on videos made here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectors import Clips, Frames, NotFinite, clips_of, frames_of, moving, save, write_videos
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.models.warm_pod import WarmPod

from sandbox_api.result import ABSENT, UNKNOWN
from sandbox_runtime.easyanimate.clips import probe
from sandbox_runtime.easyanimate.video import write_video

D = 6


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    """Thirty real videos, twenty generated ones that are darker, and two detectors."""
    pod = WarmPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    write_videos(pod.inputs / "real", range(30))
    write_videos(pod.inputs / "fake", range(100, 120), brightness=0.7)
    save(Clips(D), pod.inputs / "clips.pt")
    save(Frames(D), pod.inputs / "frames.pt")
    return pod


def described(detector: Any) -> dict[str, Any]:
    return detector.model_dump(mode="json")


CLIPS = {
    "fake_mm_dir": "inputs/fake",
    "real_mm_dir": "inputs/real",
    "detector_path": "inputs/clips.pt",
    "detector": described(clips_of(D)),
}
FRAMES = {**CLIPS, "detector_path": "inputs/frames.pt", "detector": described(frames_of(D))}


def evaluate(pod: HookPod, metric: str = "fvd2048_16f", cache_key: str = "", **extra: Any) -> Ended:
    settings = {**CLIPS, "metric": metric, **extra}
    contract = job_contract(
        "EvaluateDataHook",
        stage="evaluation",
        meta_name="judge",
        type="video_inception_evaluator",
        extra={key: value for key, value in settings.items() if value is not None},
        outputs=["value", "report"],
        cache_key=cache_key,
    )
    return pod.run(contract)


def figures(ended: Ended) -> dict[str, float]:
    assert ended.code == 0, ended.log
    return {name.removeprefix("judge").removeprefix("."): value for name, value in ended.message.metrics.items()}


def lines(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.output("report").read_text().splitlines()]


def said(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def test_fvd_tells_its_number_its_samples_and_upstreams_report(pod: HookPod) -> None:
    ended = evaluate(pod, result_path="outputs/results.jsonl")
    found = figures(ended)
    assert found[""] == found["fvd2048_16f"] > 0.1
    assert (found["samples.real"], found["samples.fake"], found["valid"], found["broken"]) == (30, 20, 1, 0)
    assert ended.result.outputs["value"].value == found[""]
    (line,) = lines(ended)
    assert line["results"] == {"fvd2048_16f": found[""]}
    assert {"metric", "total_time", "total_time_str", "world_size", "num_runs"} < line.keys()
    assert (line["fake_data_path"], line["real_data_path"]) == ("inputs/fake", "inputs/real")
    assert (pod.experiment / "outputs/results.jsonl").read_text() == ended.output("report").read_text()


def test_every_metric_has_upstreams_names(pod: HookPod) -> None:
    names = {
        "kvd2048_16f": ["kvd2048_16f"],
        "prv2048_3n_16f": ["prv2048_3n_16f_precision", "prv2048_3n_16f_recall"],
        "isv2048_ucf": ["isv2048_ucf_mean", "isv2048_ucf_std"],
        "fid50k": ["fid50k"],
        "kid50k": ["kid50k"],
        "is50k": ["is50k_mean", "is50k_std"],
        "pr50k_3n": ["pr50k_3n_precision", "pr50k_3n_recall"],
    }
    for metric, expected in names.items():
        extra = dict(CLIPS if "2048" in metric else FRAMES)
        if metric.startswith("is"):
            extra |= {"real_mm_dir": None, "detector": {**extra["detector"], "output": "logits"}}
        ended = evaluate(pod, metric, **extra)
        found = figures(ended)
        assert list(lines(ended)[0]["results"]) == expected
        assert found[""] == found[expected[0]]
        assert found["samples.fake"] == (20 if "2048" in metric else 20 * 16)
        assert ("samples.real" in found) == (not metric.startswith("is"))


def test_long_clips_need_long_videos(pod: HookPod) -> None:
    """128 frames, every one of them or every eighth: the eighth ones are those of the video."""
    write_videos(pod.inputs / "long", range(8), frames=130)
    both = {"fake_mm_dir": "inputs/long", "real_mm_dir": "inputs/long"}
    for metric in ("fvd2048_128f", "fvd2048_128f_subsample8f"):
        found = figures(evaluate(pod, metric, **both))
        assert (found["samples.fake"], found["valid"]) == (8, 1)
        assert 0 <= found[metric] < 1e-3
        short = evaluate(pod, metric, fake_mm_dir="inputs/long")
        assert short.code == 1, short.log
        assert "extraConfigs.real_mm_dir: 30 of 30 videos can't be used, and broken_limit allows 0: " in said(short)
        assert "is too short: it has 20 frames, a clip takes 128" in said(short)


def test_the_figure_is_that_of_numpy_on_the_same_frames(pod: HookPod) -> None:
    """Videos of just 16 frames leave no choice of frames; read, laid out and compared by other means here."""
    import av

    sides = {}
    for side, seeds, brightness in (("a", range(20), 1.0), ("b", range(50, 75), 0.8)):
        folder = write_videos(pod.inputs / side, seeds, frames=16, brightness=brightness)
        clips = []
        for path in sorted(folder.iterdir()):
            with av.open(str(path)) as container:
                clips.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
        pixels = np.stack(clips).astype(np.float64) * (2.0 / 255.0) - 1.0
        pooled = pixels.reshape(len(clips), 2, 8, 4, 8, 4, 8, 3).mean((2, 4, 6)).transpose(0, 4, 1, 2, 3)
        sides[side] = pooled.reshape(len(clips), 96) @ Clips(D).weights.numpy()
    real, fake = sides["a"], sides["b"]
    shared = np.linalg.eigvals(np.cov(real, rowvar=False) @ np.cov(fake, rowvar=False))
    traces = sum(np.trace(np.cov(side, rowvar=False)) for side in sides.values())
    direct = ((real.mean(0) - fake.mean(0)) ** 2).sum() + traces - 2 * np.sqrt(np.maximum(shared.real, 0)).sum()
    found = figures(evaluate(pod, real_mm_dir="inputs/a", fake_mm_dir="inputs/b"))
    assert found["fvd2048_16f"] == pytest.approx(direct, rel=1e-4)


def test_neither_the_order_of_rows_nor_processes_nor_batches_matter(pod: HookPod) -> None:
    """Names in rows are looked for in the folder; a row has several videos; real ones stand in rows, too."""
    names = [f"{seed:03d}.mp4" for seed in range(100, 120)]
    write_jsonl(pod.inputs / "rows.jsonl", [{"videos": names[at : at + 2]} for at in range(0, 20, 2)])
    write_jsonl(pod.inputs / "mixed.jsonl", [{"videos": [name]} for name in reversed(names)])
    found = [
        figures(evaluate(pod, metric, **extra, **more))
        for metric, extra in (("fvd2048_16f", CLIPS), ("prv2048_3n_16f", CLIPS), ("fid50k", FRAMES))
        for more in (
            {},
            {"fake_data_path": "inputs/rows.jsonl", "batch_size": 3},
            {"fake_data_path": "inputs/mixed.jsonl", "processes": 2},
        )
    ]
    for first, *others in (found[at : at + 3] for at in range(0, 9, 3)):
        for other in others:
            assert other[""] == pytest.approx(first[""], rel=1e-5)
            assert other["samples.fake"] == first["samples.fake"]


def test_a_set_is_at_no_distance_from_itself(pod: HookPod) -> None:
    same = {"fake_mm_dir": "inputs/real"}
    assert 0 <= figures(evaluate(pod, **same))["fvd2048_16f"] < 1e-3
    assert 0 <= figures(evaluate(pod, "fid50k", **FRAMES | same))["fid50k"] < 1e-3
    found = figures(evaluate(pod, "prv2048_3n_16f", **same))
    assert (found["prv2048_3n_16f_precision"], found["prv2048_3n_16f_recall"]) == (1, 1)


def test_several_runs_draw_anew_and_lines_are_appended(pod: HookPod) -> None:
    ended = evaluate(pod, num_runs=3, result_path="outputs/results.jsonl")
    found = figures(ended)
    runs = [found[f"fvd2048_16f_run0{number}"] for number in (1, 2, 3)]
    assert len(set(runs)) == 3
    assert found[""] == found["fvd2048_16f_mean"] == pytest.approx(np.mean(runs))
    assert found["fvd2048_16f_std"] == pytest.approx(np.std(runs))
    one = figures(evaluate(pod))
    assert one["fvd2048_16f"] == runs[0], "the first run is the only one of a single one"
    other = evaluate(pod, seed=7, result_path="outputs/results.jsonl")
    appended = lines(other)
    assert [line["num_runs"] for line in appended] == [3, 1]
    assert appended[1]["results"]["fvd2048_16f"] not in runs
    assert (pod.experiment / "outputs/results.jsonl").read_text() == other.output("report").read_text()


def test_too_few_samples_for_a_covariance_are_marked(pod: HookPod) -> None:
    save(Clips(20), pod.inputs / "wide.pt")
    wide = {"detector_path": "inputs/wide.pt", "detector": described(clips_of(20))}
    ended = evaluate(pod, **wide)
    assert figures(ended)["valid"] == 0, "20 samples are one too few for 20 dimensions"
    assert "NOT VALID: 20 samples are fewer than the detector's 20 dimensions + 1" in ended.result.message
    assert lines(ended)[0]["not_valid_because"] == "20 samples are fewer than the detector's 20 dimensions + 1"
    assert figures(evaluate(pod, "kvd2048_16f", **wide))["valid"] == 1, "it has no covariance"


def test_upstreams_protocol_uses_videos_again_and_all_frames(pod: HookPod) -> None:
    compat = {"protocol": "dj-compat", "fake_mm_dir": "inputs/few", "real_mm_dir": "inputs/few"}
    write_videos(pod.inputs / "few", range(3), frames=18)
    found = figures(evaluate(pod, **compat))
    assert (found["samples.fake"], found["videos.fake"]) == (2048, 3)
    found = figures(evaluate(pod, "fid50k", **FRAMES | compat))
    assert (found["samples.fake"], found["videos.fake"]) == (3 * 18, 3)
    both = {"fake_mm_dir": "inputs/few", "real_mm_dir": "inputs/real", "height": 32, "width": 32}
    plain = figures(evaluate(pod, "kid50k", **FRAMES | both))
    upstream = figures(evaluate(pod, "kid50k", **FRAMES | both, protocol="dj-compat"))
    assert 100 < upstream["kid50k"] / plain["kid50k"] < 10000, "times 1000, of other frames"


def test_frames_are_resized_for_the_detector_and_videos_of_all_sizes_go_together(pod: HookPod) -> None:
    write_videos(pod.inputs / "fake", range(200, 206), size=64, brightness=0.7)
    mixed = figures(evaluate(pod))
    assert mixed["samples.fake"] == 26
    sized = figures(evaluate(pod, detector=described(clips_of(D, size=(32, 32)))))
    assert sized[""] == pytest.approx(mixed[""], rel=0.02), "its own means are the same but for rounding"
    assert figures(evaluate(pod, height=16, width=16))[""] == pytest.approx(mixed[""], rel=0.2)
    fp32 = described(clips_of(D, range=(-1.0, 1.0), arguments={"return_features": True}))
    assert figures(evaluate(pod, detector=fp32))[""] == pytest.approx(mixed[""], rel=1e-4)
    ended = evaluate(pod, detector={**described(clips_of(D)), "layout": "BTCHW"})
    assert "extraConfigs.detector_path: clips.pt fails on torch.uint8 of shape (" in said(ended), "time, not colours"


def test_broken_videos_are_named_and_nothing_else_is_lost(pod: HookPod) -> None:
    fakes = pod.inputs / "fake"
    whole = (fakes / "100.mp4").read_bytes()
    (fakes / "torn.mp4").write_bytes(whole[: len(whole) // 3])
    (fakes / "text.mp4").write_text("no video at all")
    (fakes / "empty.mp4").write_bytes(b"")
    write_video(fakes / "short.mp4", moving(1, frames=15), 24)
    names = ["torn.mp4", "text.mp4", "empty.mp4", "short.mp4"]
    ended = evaluate(pod)
    assert ended.code == 1, ended.log
    assert "extraConfigs.fake_mm_dir: 4 of 24 videos can't be used, and broken_limit allows 0: " in said(ended)
    assert sum(name in said(ended) for name in names) == 3
    assert said(ended).endswith("; and 1 more")
    allowed = evaluate(pod, broken_limit=0.2)
    found = figures(allowed)
    assert (found["samples.fake"], found["broken"]) == (20, 4)
    told = lines(allowed)[0]["broken"]
    assert sorted(sentence.split(" ")[0] for sentence in told) == sorted(names)
    assert all(f"left out: {sentence}" in allowed.log for sentence in told)
    for path in (fakes / name for name in names):
        path.unlink()
    assert figures(evaluate(pod))[""] == pytest.approx(found[""], rel=1e-6), "the others' samples are the same"


def test_a_video_that_ends_early_is_found_when_it_is_decoded(pod: HookPod) -> None:
    """Its index lists all frames; three quarters of their bytes are lost."""
    path = pod.inputs / "fake" / "100.mp4"
    content = bytearray(path.read_bytes())
    begin, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    torn = begin + (end - begin) // 4
    content[torn:end] = b"\xff" * (end - torn)
    path.write_bytes(bytes(content))
    assert len(probe(str(path)).times) == 20
    ended = evaluate(pod)
    assert ended.code == 1, ended.log
    assert "1 of 20 videos can't be used, and broken_limit allows 0: 100.mp4 " in said(ended)
    found = figures(evaluate(pod, broken_limit=0.05))
    assert (found["samples.fake"], found["broken"]) == (19, 1)


def test_a_row_without_a_video_is_named(pod: HookPod) -> None:
    rows = [{"videos": ["100.mp4"]}, {"text": "x"}, {"videos": ["gone.mp4"]}]
    write_jsonl(pod.inputs / "rows.jsonl", rows)
    ended = evaluate(pod, fake_data_path="inputs/rows.jsonl")
    assert "extraConfigs.fake_data_path: 2 of 3 videos can't be used" in said(ended)
    assert "row 2 names no video" in said(ended)
    assert "gone.mp4 is not there" in said(ended)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"detector_path": "inputs/real"}, "extraConfigs.detector_path: there is no file inputs/real/i3d_torchscript.pt; fvd2048_16f needs i3d_torchscript.pt"),
        ({"detector_path": None}, "extraConfigs.detector_path: fvd2048_16f needs i3d_torchscript.pt (I3D (Kinetics-400), the 400 logits before softmax, TorchScript), and there is no "),
        ({"fake_mm_dir": "inputs/none"}, "extraConfigs.fake_mm_dir: there is no file or folder inputs/none"),
        ({"fake_mm_dir": "inputs/text.pt"}, "extraConfigs.fake_mm_dir: there is no folder inputs/text.pt"),
        ({"fake_mm_dir": "inputs/empty"}, "extraConfigs.fake_mm_dir: inputs/empty holds no video (a file that ends in .avi, "),
        ({"fake_data_path": "inputs/empty.jsonl"}, "extraConfigs.fake_data_path: inputs/empty.jsonl holds no rows"),
        ({"real_mm_dir": None}, "extraConfigs.real_data_path: name the real videos, a data set or a folder, or fill one with input"),
        ({"detector_path": "inputs/text.pt"}, "extraConfigs.detector_path: text.pt can't be loaded as TorchScript: "),
        ({"detector": described(clips_of(D + 1))}, f"extraConfigs.detector_path: clips.pt gives shape (16, {D}) where (16, {D + 1}) is expected: 16 samples, and {D + 1} features of each"),
        ({"detector": described(clips_of(D, arguments={"scale": 1}))}, "extraConfigs.detector_path: clips.pt fails on torch.uint8 of shape (16, 3, 16, 32, 32) (BCTHW): Unknown keyword argument 'scale'"),
        ({"detector": described(clips_of(D, output="probabilities"))}, "extraConfigs.detector.output: what clips.pt gives are no probabilities"),
        ({"detector": described(frames_of(D))}, "extraConfigs: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(pod: HookPod, extra: dict[str, Any], words: str) -> None:
    (pod.inputs / "empty").mkdir()
    (pod.inputs / "empty.jsonl").touch()
    (pod.inputs / "text.pt").write_text("no script")
    ended = evaluate(pod, **extra)
    assert ended.code == 2, ended.log
    assert said(ended).startswith(words)


def test_a_missing_detector_is_told_before_any_video_is_read(pod: HookPod) -> None:
    (pod.inputs / "fake" / "text.mp4").write_text("no video")
    shelf = pod.root / "cache" / "detectors" / "i3d_torchscript.pt"
    assert str(shelf) in said(evaluate(pod, detector_path=None))
    (pod.inputs / "fake" / "text.mp4").unlink()
    save(Clips(400), shelf)
    ended = evaluate(pod, cache_key="k", detector_path=None, detector=None)
    assert figures(ended)["valid"] == 0, "called as I3D is: rescale, resize, return_features"
    found = {Path(name).name: digest for name, digest in ended.result.externals.items()}
    assert found.keys() == {"i3d_torchscript.pt", "fake", "real"}, "what a later use must find unchanged"
    assert not {ABSENT, UNKNOWN} & set(found.values())
    save(Clips(400), pod.inputs / "folder" / "i3d_torchscript.pt")
    again = evaluate(pod, detector_path="inputs/folder", detector=None)
    assert figures(again)[""] == figures(ended)[""], "a folder that has it under its own name"


def test_features_that_are_not_finite_are_named(pod: HookPod) -> None:
    save(NotFinite(), pod.inputs / "nan.pt")
    write_video(pod.inputs / "fake" / "110.mp4", moving(5, brightness=0.02), 24)
    detector = described(clips_of(4, arguments={}))
    ended = evaluate(pod, detector_path="inputs/nan.pt", detector=detector)
    assert ended.code == 1, ended.log
    assert "the detector nan.pt gives values that are not finite for " in said(ended)
    assert said(ended).endswith("fake/110.mp4")
