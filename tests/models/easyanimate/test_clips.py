# SPDX-License-Identifier: Apache-2.0
"""Which frames of a clip are taken, how they are read, what is broken, and how videos are written and named."""

from pathlib import Path

import av
import numpy as np
import pytest
from trainings import real_videos

from sandbox_api.easyanimate import Bucket
from sandbox_runtime.easyanimate.clips import BrokenClip, Cut, choose_cut, probe, read_frames
from sandbox_runtime.easyanimate.names import LONGEST_NAME, is_plain, video_name
from sandbox_runtime.easyanimate.tiny import moving_square
from sandbox_runtime.easyanimate.video import write_video

SQUARE = Bucket(frames=9, height=32, width=32)
LONG = Bucket(frames=17, height=32, width=32)
WIDE = Bucket(frames=9, height=32, width=64)
LARGE = Bucket(frames=9, height=64, width=64)


@pytest.mark.parametrize(
    ("frames", "size", "buckets", "stride", "expected"),
    [
        (100, (40, 40), [SQUARE], 3, Cut(0, 37, 3)),  # 25 frames in the middle of 10..90
        (100, (40, 40), [SQUARE, LONG], 3, Cut(1, 25, 3)),  # the longer one
        (30, (40, 40), [SQUARE, LONG], 3, Cut(1, 6, 1)),  # the longer one at a smaller stride
        (20, (40, 40), [SQUARE, LONG], 3, Cut(0, 5, 1)),  # too short for the longer one
        (100, (40, 90), [SQUARE, WIDE], 1, Cut(1, 45, 1)),  # the nearer shape
        (100, (300, 300), [SQUARE, LARGE], 1, Cut(1, 45, 1)),  # of one shape the nearer area
        (100, (20, 20), [SQUARE, LARGE], 1, Cut(0, 45, 1)),
        (9, (40, 40), [SQUARE], 3, Cut(0, 0, 1)),  # its middle is rounded outward
        (8, (40, 40), [SQUARE], 3, None),
        (1, (40, 40), [Bucket(frames=1, height=32, width=32)], 3, Cut(0, 0, 1)),
        (0, (40, 40), [Bucket(frames=1, height=32, width=32)], 3, None),
    ],
)
def test_the_longest_bucket_in_the_middle_of_a_clip_is_taken(frames, size, buckets, stride, expected) -> None:
    assert choose_cut(frames, *size, buckets, stride) == expected


def test_frames_of_a_real_video_are_the_ones_that_were_asked_for() -> None:
    path = str(real_videos() / "bikes.mp4")
    found = probe(path)
    bucket = Bucket(frames=5, height=48, width=64)

    frames = read_frames(path, found, Cut(0, 30, 3), bucket)

    with av.open(path) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(found.times) == len(every)
    assert (found.height, found.width) == every[0].shape[:2]
    assert frames.shape == (5, 48, 64, 3)
    # each frame is nearest to the one that it was made from, among its neighbours
    small = {
        number: read_frames(path, found, Cut(0, number, 1), Bucket(frames=1, height=48, width=64))[0].astype(int)
        for number in range(28, 46)
    }
    for place, frame in enumerate(frames):
        distances = {number: np.abs(frame - other).mean() for number, other in small.items()}
        assert min(distances, key=distances.__getitem__) == 30 + 3 * place


def test_what_does_not_fit_a_bucket_is_cropped_in_the_middle(tmp_path: Path) -> None:
    clip = np.zeros((5, 32, 96, 3), np.uint8)
    clip[:, :, 32:64] = 255  # the middle third
    write_video(tmp_path / "a.mp4", clip, 8)
    path = str(tmp_path / "a.mp4")

    frames = read_frames(path, probe(path), Cut(0, 0, 1), Bucket(frames=5, height=32, width=32))

    assert frames[:, :, 4:28].min() > 200


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "opened"), (b"no video at all" * 100, "opened"), (None, "opened"), (b"torn", "opened")]
)
def test_a_file_that_is_no_video_is_a_broken_clip(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "a.mp4"
    if content == b"torn":
        write_video(path, moving_square(0), 8)
        content = path.read_bytes()[: path.stat().st_size // 2]  # the index stands at the end
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(BrokenClip, match=told):
        probe(str(path))


def test_a_video_whose_data_is_damaged_is_a_broken_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), np.uint8), 8)
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 4
    content[begin : begin + 40_000] = bytes(40_000)
    path.write_bytes(content)

    with pytest.raises(BrokenClip):
        read_frames(str(path), probe(str(path)), Cut(0, 2, 1), Bucket(frames=9, height=64, width=64))


def test_equal_frames_give_equal_files(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, moving_square(3), 8)

    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.frames) == ("h264", 8, 24)


PLAIN = ["a dog", "Ein Hund läuft", "a cat, 3 years", "-", "a-0", "狗" * 70]
OTHERS = ["a/b", "..", ".hidden", " a", "a ", "x" * 300, "狗" * 90, "a\nb", "a\0b", "a\\b", "foo~0123456789abcdef"]


@pytest.mark.parametrize("prompt", PLAIN)
def test_a_video_is_named_as_vbench_looks_for_it(prompt: str) -> None:
    assert is_plain(prompt)
    assert video_name(prompt, 4) == f"{prompt}-4.mp4"


@pytest.mark.parametrize("prompt", OTHERS)
def test_a_prompt_that_is_no_name_of_a_file_gets_one(prompt: str, tmp_path: Path) -> None:
    name = video_name(prompt, 4)

    assert not is_plain(prompt)
    assert len(name.encode()) <= LONGEST_NAME
    (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_two_videos_have_the_same_name() -> None:
    names = [video_name(prompt, index) for prompt in [*PLAIN, *OTHERS, "a"] for index in range(12)]

    assert len(set(names)) == len(names)
