# SPDX-License-Identifier: Apache-2.0
"""What a detector sees in samples, on disk: each process looks at its own share of the takes and writes one file.

Memory: the clips of one batch, and two more for each thread that decodes. It does not grow with their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..easyanimate.clips import BrokenClip
from .ahead import ahead
from .detector import Detector
from .frames import Size, frames_of
from .samples import Take

BATCH_BYTES = 1 << 28
"""Frames of a batch, unless one clip is larger."""


@dataclass
class Part:
    """What one process has found."""

    numbers: list[int] = field(default_factory=list)
    """Of the samples, in the order in which their features stand in the file."""
    weights: list[float] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    """Video, what is wrong with it."""
    read_seconds: float = 0.0
    """That were spent on waiting for frames."""
    detect_seconds: float = 0.0
    """That the detector took."""
    stopped: bool = False

    @property
    def broken_videos(self) -> set[int]:
        return {video for video, _ in self.broken}


@dataclass
class _Batch:
    takes: list[Take] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)

    @property
    def samples(self) -> int:
        return sum(map(len, self.frames))

    def takes_in(self, frames: NDArray[np.uint8], at_most: int) -> bool:
        """Whether these frames can be looked at with those that are there."""
        if not self.frames:
            return True
        size = sum(each.nbytes for each in self.frames) + frames.nbytes
        is_alike = self.frames[0].shape[1:] == frames.shape[1:]
        return is_alike and self.samples + len(frames) <= at_most and size <= BATCH_BYTES


def write_features(
    takes: Sequence[Take],
    detector: Detector,
    target: Path,
    *,
    is_clips: bool,
    sizes: Sequence[Size],
    batch_size: int,
    threads: int,
    most_broken: int,
    should_stop: Callable[[], bool],
    log: Callable[[int], None],
) -> Part:
    """Write the features of these takes, fp32, one sample after the other.

    is_clips: each take is one sample; else each of its frames is. sizes: that frames are resized to, one after the
    other. It ends early when more than `most_broken` videos can't be decoded. log: takes the number of samples so far.
    """
    part, batch = Part(), _Batch()
    with target.open("wb") as file:

        def look() -> None:
            began = time.monotonic()
            takes = [take for take, frames in zip(batch.takes, batch.frames, strict=True) for _ in frames]
            frames, names = np.concatenate(batch.frames), [take.path for take in takes]
            for start in range(0, len(frames), batch_size):
                stop = start + batch_size
                found = detector(frames[start:stop], names[start:stop])
                file.write(np.repeat(found, [take.copies for take in takes[start:stop]], axis=0).tobytes())
            for take, its in zip(batch.takes, batch.frames, strict=True):
                count = len(its) * take.copies
                part.numbers += range(take.first, take.first + count)
                part.weights += [take.weight] * count
            part.detect_seconds += time.monotonic() - began
            batch.takes.clear()
            batch.frames.clear()
            log(len(part.numbers))

        with closing(ahead(partial(frames_of, sizes=sizes), takes, threads)) as decoded:
            began = time.monotonic()
            for take, made in decoded:
                part.read_seconds += time.monotonic() - began
                part.stopped = should_stop()
                if part.stopped or len(part.broken_videos) > most_broken:
                    return part
                if isinstance(made, BrokenClip):
                    part.broken.append((take.video, str(made)))
                else:
                    frames = made[None] if is_clips else made
                    if not batch.takes_in(frames, batch_size):
                        look()
                    batch.takes.append(take)
                    batch.frames.append(frames)
                began = time.monotonic()
        if batch.takes:
            look()
    return part


class Features:
    """The features of one side, from the files of all processes."""

    def __init__(self, parts: Sequence[tuple[Path, Sequence[int], Sequence[float]]], dimension: int) -> None:
        """parts: file, numbers of its samples, their weights."""
        self.dimension = dimension
        self._files = [
            np.memmap(path, np.float32, "r", shape=(len(numbers), dimension)) for path, numbers, _ in parts if numbers
        ]
        self._numbers = [np.asarray(numbers) for _, numbers, _ in parts if numbers]
        self._weights = [np.asarray(weights) for _, numbers, weights in parts if numbers]

    def __len__(self) -> int:
        return sum(map(len, self._numbers))

    def blocks(self, rows: int = 4096) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
        """Features and weights, so many samples at a time."""
        for file, weights in zip(self._files, self._weights, strict=True):
            for start in range(0, len(weights), rows):
                yield np.array(file[start : start + rows]), weights[start : start + rows]

    def whole(self) -> NDArray[np.float32]:
        """All features, in the order of the samples' numbers."""
        order = np.argsort(np.concatenate(self._numbers))
        return np.concatenate([np.asarray(file) for file in self._files])[order]
