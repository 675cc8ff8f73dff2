# SPDX-License-Identifier: Apache-2.0
"""Short videos: one that stands still, one that moves, one that flickers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

FRAMES, SIZE = 5, 64


def pictures(kind: str, seed: int = 0, size: int = SIZE, frames: int = FRAMES) -> np.ndarray:
    """(frames, size, size, 3), uint8."""
    chance = np.random.default_rng(seed)
    still = np.kron(chance.integers(0, 256, (8, 8, 3)), np.ones((size // 8, size // 8, 1))).astype(np.uint8)
    if kind == "moves":
        return np.stack([np.roll(still, 2 * number, axis=1) for number in range(frames)])
    if kind == "flickers":
        light = 0.6 + 0.4 * (np.arange(frames) % 2)
        return (still[None] * light[:, None, None, None]).astype(np.uint8)
    return np.stack([still] * frames)


def write_clip(path: Path, kind: str = "stands", seed: int = 0, *, frames: int = FRAMES, size: int = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 8.0, (size, size))
    assert writer.isOpened()
    for picture in pictures(kind, seed, size, frames):
        writer.write(picture)
    writer.release()
    return path
