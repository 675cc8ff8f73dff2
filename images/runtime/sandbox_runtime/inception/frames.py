# SPDX-License-Identifier: Apache-2.0
"""Frames of samples: decoded and resized. PyAV and numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..easyanimate.clips import BrokenClip, frames_at
from .samples import Take

Size = tuple[int, int]
"""Height and width."""


def frames_of(take: Take, sizes: Sequence[Size]) -> NDArray[np.uint8] | BrokenClip:
    """RGB of shape (frames, height, width, 3), resized to each of the sizes in turn; what is wrong where a frame can't
    be decoded."""

    def taken(frame: Any) -> NDArray[np.uint8]:
        made: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
        for size in sizes:
            made = resized(made, size)
        return made

    try:
        return np.stack(frames_at(take.path, take.times, taken))
    except BrokenClip as error:
        return error


def resized(frame: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Bilinearly and without smoothing, pixels taken as areas, as OpenCV and PyTorch do by default.

    frame: shape (height, width, 3).
    """
    if frame.shape[:2] == size:
        return frame
    top, bottom, down = _between(size[0], frame.shape[0])
    left, right, across = _between(size[1], frame.shape[1])
    rows = [frame[row] for row in (top, bottom)]
    upper, lower = (row[:, left] + (row[:, right].astype(np.float32) - row[:, left]) * across[:, None] for row in rows)
    made: NDArray[np.uint8] = (upper + (lower - upper) * down[:, None, None]).round().astype(np.uint8)
    return made


@lru_cache(maxsize=64)
def _between(count: int, available: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `count` places over `available` pixels: the pixels before and after it, the share of the latter."""
    places = np.clip((np.arange(count) + 0.5) * (available / count) - 0.5, 0.0, available - 1.0)
    before = places.astype(np.intp)
    return before, np.minimum(before + 1, available - 1), (places - before).astype(np.float32)
