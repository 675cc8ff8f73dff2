# SPDX-License-Identifier: Apache-2.0
"""Which frames are taken of which videos, how they are resized, and how much memory that takes."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from detectors import Clips, Frames, clips_of, frames_of, save, write_videos

from sandbox_api.inception import METRICS
from sandbox_runtime.easyanimate.clips import BrokenClip, Probe
from sandbox_runtime.inception.ahead import ahead
from sandbox_runtime.inception.detector import Detector
from sandbox_runtime.inception.features import Features, write_features
from sandbox_runtime.inception.frames import resized
from sandbox_runtime.inception.samples import (
    Samples,
    compatible_samples,
    look_at,
    standard_samples,
    videos_in,
    videos_of,
)

CPU = torch.device("cpu")
FVD, SUBSAMPLED, FID = METRICS["fvd2048_16f"], METRICS["fvd2048_128f_subsample8f"], METRICS["fid50k"]


def looked(path: str) -> Probe | BrokenClip:
    """Videos by the number in their name: so many frames, ten units apart; none is no video."""
    frames = int(Path(path).stem)
    return Probe(tuple(range(0, 10 * frames, 10)), 8, 8) if frames else BrokenClip("has no frames")


def videos(*frames: int) -> list[dict[str, list[str]]]:
    return [{"videos": [f"{count}.mp4"]} for count in frames]


def taken(samples: Samples) -> set[tuple[str, tuple[int, ...]]]:
    return {(take.path, take.times) for take in samples.takes}


def test_a_clip_is_consecutive_frames_at_a_drawn_place() -> None:
    rows = videos_of(videos(16, 40, 40, 15, 0), [Path()])
    samples = standard_samples(FVD, rows, looked, 42, 0)
    assert (samples.count, samples.videos, samples.looked) == (3, 3, 5)
    assert sorted(samples.broken) == ["0.mp4 has no frames", "15.mp4 is too short: it has 15 frames, a clip takes 16"]
    for take in samples.takes:
        assert np.diff(take.times).tolist() == [10] * 15
    by_path = {(take.path, rows[take.video].ordinal): take.times for take in samples.takes}
    assert by_path["16.mp4", 0][0] == 0, "there is no other place"
    assert by_path["40.mp4", 0] != by_path["40.mp4", 1], "the same video again is another sample"
    (long,) = standard_samples(SUBSAMPLED, videos_of(videos(130), [Path()]), looked, 42, 0).takes
    assert np.diff(long.times).tolist() == [80] * 15


def test_places_are_drawn_evenly_and_anew_in_each_run() -> None:
    rows = videos_of([{"videos": [f"{number:03d}/25.mp4"]} for number in range(2000)], [Path()])
    firsts = [take.times[0] // 10 for take in standard_samples(FVD, rows, looked, 42, 0).takes]
    counts = np.bincount(firsts, minlength=10)
    assert len(counts) == 10, "25 frames have 10 places for 16"
    assert (abs(counts - 200) < 5 * np.sqrt(200)).all()
    runs = [taken(standard_samples(FVD, rows, looked, seed, run)) for seed, run in ((42, 0), (42, 0), (42, 1), (43, 0))]
    assert runs[0] == runs[1]
    assert len(runs[0] & runs[2]) < 300 > len(runs[0] & runs[3])


def test_neither_order_nor_other_videos_change_what_is_taken() -> None:
    rows = videos(*range(16, 60))
    for metric in (FVD, FID):
        all_ = taken(standard_samples(metric, videos_of(rows, [Path()]), looked, 42, 0))
        assert taken(standard_samples(metric, videos_of(rows[::-1], [Path()]), looked, 42, 0)) == all_
        assert taken(standard_samples(metric, videos_of(rows[5:20], [Path()]), looked, 42, 0)) < all_


def test_no_more_samples_are_taken_than_the_metric_has() -> None:
    rows = videos_of([{"videos": [f"{number}/20.mp4"]} for number in range(4000)], [Path()])
    clips, frames = (standard_samples(metric, rows, looked, 42, 0) for metric in (FVD, FID))
    assert (clips.count, clips.videos, clips.looked) == (2048, 2048, 2048)
    assert (frames.count, frames.videos) == (50_000, 3125)
    again = standard_samples(FVD, rows[::-1], looked, 42, 0)
    assert {take.path for take in again.takes} == {take.path for take in clips.takes}, "whichever way they are listed"


@pytest.mark.parametrize("frames", [1, 5, 16, 17, 31, 200])
def test_single_frames_are_one_of_each_part_of_the_video(frames: int) -> None:
    for run in range(20):
        (take,) = standard_samples(FID, videos_of(videos(frames), [Path()]), looked, 42, run).takes
        numbers = [time // 10 for time in take.times]
        assert len(set(numbers)) == len(numbers) == min(16, frames)
        parts = np.arange(17) * frames // 16 if frames >= 16 else np.arange(frames + 1)
        assert all(begin <= number < end for number, begin, end in zip(numbers, parts, parts[1:], strict=False))


def test_upstreams_way_uses_videos_again_until_there_are_enough_clips() -> None:
    rows = videos_of(videos(20, 16, 300), [Path()])
    samples = compatible_samples(FVD, rows, looked, 42, 0)
    assert samples.count == sum(take.copies for take in samples.takes) == 2048
    assert samples.videos == 3
    per_video = [sum(take.copies for take in samples.takes if take.video == video) for video in range(3)]
    assert sorted(per_video) == [682, 683, 683]
    assert [sum(take.video == video for take in samples.takes) for video in (0, 1)] == [5, 1], "all places there are"
    firsts = [take.first for take in samples.takes]
    assert firsts == np.cumsum([0, *(take.copies for take in samples.takes)])[:-1].tolist()


def test_upstreams_way_takes_every_frame_and_all_videos_weigh_the_same() -> None:
    samples = compatible_samples(FID, videos_of(videos(5, 100, 33), [Path()]), looked, 42, 0)
    assert samples.count == 138
    for video, frames in enumerate((5, 100, 33)):
        its = [take for take in samples.takes if take.video == video]
        assert sorted(time for take in its for time in take.times) == list(range(0, 10 * frames, 10))
        assert sum(take.weight * len(take.times) for take in its) == pytest.approx(1.0)
        assert max(len(take.times) for take in its) <= 32, "that are in memory together"


def test_work_that_is_done_ahead_comes_in_order_and_is_bounded() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number * number

    coming = ahead(work, range(100), 2)
    assert [next(coming) for _ in range(3)] == [(0, 0), (1, 1), (2, 4)]
    coming.close()
    assert len(begun) <= 8
    assert list(ahead(work, range(5), 3)) == [(number, number * number) for number in range(5)]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 // number, [1, 0, 1], 2))


@pytest.mark.parametrize("size", [(31, 17), (64, 96), (240, 320), (7, 300), (48, 64)])
def test_frames_are_resized_as_pytorch_does_it(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(frame).movedim(-1, 0)[None].float(), size=size, mode="bilinear", align_corners=False
    )[0].movedim(0, -1)
    ours = resized(frame, size)
    assert ours.shape == (*size, 3)
    assert np.abs(ours - theirs.numpy()).max() <= 0.5 + 1e-3


def features_of(folder: Path, work: Path, *, is_clips: bool, dimension: int = 8) -> Features:
    """By a toy detector; the file stands below `work`."""
    script = save(Clips(dimension) if is_clips else Frames(dimension), work / "toy.pt")
    config = clips_of(dimension) if is_clips else frames_of(dimension)
    samples = standard_samples(FVD if is_clips else FID, videos_in(folder), look_at, 42, 0)
    part = write_features(
        samples.takes,
        Detector(script, config, CPU),
        work / "found.f32",
        is_clips=is_clips,
        sizes=[],
        batch_size=4,
        threads=1,
        most_broken=0,
        should_stop=lambda: False,
        log=lambda samples: None,  # noqa: ARG005
    )
    assert len(part.numbers) == samples.count
    return Features([(work / "found.f32", part.numbers, part.weights)], dimension)


@pytest.mark.parametrize("is_clips", [True, False])
def test_memory_does_not_grow_with_the_videos(tmp_path: Path, is_clips: bool) -> None:
    """Of forty videos no more frames are held than ten have: a batch of them, and those that are decoded ahead."""
    count, size = 40, 64
    folder = write_videos(tmp_path / "videos", range(count), frames=16, size=size)
    features_of(folder, tmp_path / "warm", is_clips=is_clips)
    tracemalloc.start()
    found = features_of(folder, tmp_path / "measured", is_clips=is_clips)
    rows = sum(len(features) for features, _ in found.blocks(rows=16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == len(found) == count * (1 if is_clips else 16)
    one_video = 16 * size * size * 3
    assert one_video < peak < 10 * one_video
