# SPDX-License-Identifier: Apache-2.0
"""Frames of a clip: which ones are taken, and how they are decoded, resized and cropped. PyAV and numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from sandbox_api.easyanimate import Bucket

MIDDLE = (0.1, 0.9)
"""Part of a clip that is used, as in EasyAnimate: cuts and titles stand at the ends."""


class BrokenClip(Exception):
    """A clip that can't be used, in words that follow its name."""


@dataclass(frozen=True)
class Cut:
    """Which frames of a clip are taken: `first`, `first + stride`, ... and the bucket that they fill."""

    bucket: int
    first: int
    stride: int


@dataclass(frozen=True)
class Probe:
    """What a file says of its video before anything is decoded."""

    times: tuple[int, ...]
    """Presentation time of each frame in the stream's unit, ascending."""
    height: int
    width: int


def choose_cut(frames: int, height: int, width: int, buckets: Sequence[Bucket], stride: int) -> Cut | None:
    """The frames to take of a clip of that many frames and that size; None when it is too short for any bucket.

    Of the buckets that the middle of the clip fills, at the stride or a smaller one, the longest counts, of those the
    one whose shape is nearest, then whose area is nearest. The frames lie in the middle.
    """
    begin, end = math.floor(frames * MIDDLE[0]), math.ceil(frames * MIDDLE[1])
    available = end - begin
    fitting = []
    for number, bucket in enumerate(buckets):
        step = min(stride, (available - 1) // (bucket.frames - 1)) if bucket.frames > 1 else 1
        if available >= 1 and step >= 1:
            shape = abs(math.log(bucket.width / bucket.height) - math.log(width / height))
            area = abs(math.log(bucket.width * bucket.height) - math.log(width * height))
            fitting.append((-bucket.frames, shape, area, number, step))
    if not fitting:
        return None
    *_, number, step = min(fitting)
    span = (buckets[number].frames - 1) * step + 1
    return Cut(number, begin + (available - span) // 2, step)


def probe(path: str) -> Probe:
    """Count the frames of a video without decoding them. Raises BrokenClip."""
    with _reading(path) as container:
        stream = container.streams.video[0]
        height, width = stream.codec_context.height, stream.codec_context.width
        packets = [packet.pts for packet in container.demux(stream) if packet.size]
    times = sorted(time for time in packets if time is not None)
    if not packets or not height or not width:
        raise BrokenClip("has no frames")
    if len(set(times)) < len(packets):
        raise BrokenClip("has frames without a time of their own")
    return Probe(tuple(times), height, width)


def read_frames(path: str, found: Probe, cut: Cut, bucket: Bucket) -> NDArray[np.uint8]:
    """The frames of a cut, resized to cover the bucket and cropped in the middle.

    Returns: RGB, shape (frames, height, width, 3). Raises BrokenClip when one can't be decoded.
    """
    wanted = [found.times[cut.first + number * cut.stride] for number in range(bucket.frames)]
    scale = max(bucket.height / found.height, bucket.width / found.width)
    height, width = max(bucket.height, round(found.height * scale)), max(bucket.width, round(found.width * scale))
    top, left = (height - bucket.height) // 2, (width - bucket.width) // 2

    def cropped(frame: Any) -> NDArray[np.uint8]:
        whole = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
        return whole[top : top + bucket.height, left : left + bucket.width]

    return np.stack(frames_at(path, wanted, cropped))


def frames_at(path: str, times: Sequence[int], taken: Callable[[Any], NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """What `taken` makes of the frames of a video at these times, ascending. Raises BrokenClip when one can't be
    decoded."""
    frames: dict[int, NDArray[np.uint8]] = {}
    with _reading(path) as container:
        stream = container.streams.video[0]
        container.seek(times[0], stream=stream)  # the key frame before it
        pending = set(times)
        for frame in container.decode(stream):
            if frame.pts in pending:
                frames[frame.pts] = taken(frame)
                pending.remove(frame.pts)
            if not pending:
                break
    if len(frames) < len(times):
        raise BrokenClip(f"ends early: {len(frames)} of {len(times)} frames can be decoded")
    return [frames[time] for time in times]


class _reading:
    """An open container; what PyAV says of a broken file becomes BrokenClip."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._container: Any = None

    def __enter__(self) -> Any:
        try:
            self._container = av.open(self._path)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise BrokenClip(f"can't be opened: {_said(error)}") from error
        if not self._container.streams.video:
            self._container.close()
            raise BrokenClip("has no video stream")
        return self._container

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        self._container.close()
        if isinstance(error, (av.FFmpegError, ValueError)):
            raise BrokenClip(f"can't be decoded: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
