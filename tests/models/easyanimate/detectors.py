# SPDX-License-Identifier: Apache-2.0
"""Toy detectors in TorchScript, and videos for them to look at, made in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sandbox_api.inception import DetectorConfig
from sandbox_runtime.easyanimate.video import write_video

SIZE = 32


class Clips(torch.nn.Module):
    """Clips of bytes, BCTHW, to numbers that are linear in coarse means of their pixels."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(0)
        self.register_buffer("weights", torch.randn(96, dimension, generator=drawn) * 0.3)

    def forward(
        self,
        x: torch.Tensor,
        rescale: bool = False,
        resize: bool = False,  # noqa: ARG002  # as I3D is called
        return_features: bool = False,
    ) -> torch.Tensor:
        pixels = x.float()
        if rescale:
            pixels = pixels * (2.0 / 255.0) - 1.0
        pooled = torch.nn.functional.adaptive_avg_pool3d(pixels, [2, 4, 4]).flatten(1)
        found = pooled @ self.weights
        return found if return_features else found.softmax(1)


class Frames(torch.nn.Module):
    """Single frames of bytes, BCHW: features, or probabilities of classes."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(1)
        self.register_buffer("weights", torch.randn(48, dimension, generator=drawn) * 0.3)

    def forward(
        self,
        x: torch.Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,  # noqa: ARG002  # as Inception is called
    ) -> torch.Tensor:
        pooled = torch.nn.functional.adaptive_avg_pool2d(x.float() * (2.0 / 255.0) - 1.0, [4, 4]).flatten(1)
        found = pooled @ self.weights
        return found if return_features else found.softmax(1)


class NotFinite(torch.nn.Module):
    """Finds nothing in videos that are dark."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x.float().flatten(1).mean(1, keepdim=True)
        return (bright / (bright > 30.0).float()).expand(-1, 4)


def save(module: torch.nn.Module, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.script(module).save(str(path))
    return path


def clips_of(dimension: int, **more: Any) -> DetectorConfig:
    settings = {"layout": "BCTHW", "arguments": {"rescale": True, "return_features": True}, "output": "features"}
    return DetectorConfig.model_validate({**settings, "dimension": dimension, **more})


def frames_of(dimension: int, **more: Any) -> DetectorConfig:
    settings = {"layout": "BCHW", "arguments": {"return_features": True}, "output": "features"}
    return DetectorConfig.model_validate({**settings, "dimension": dimension, **more})


def moving(seed: int, frames: int = 20, size: int = SIZE, brightness: float = 1.0) -> NDArray[np.uint8]:
    """A clip of a drawn pattern that moves and changes; no two seeds give the same one."""
    chance = np.random.default_rng(seed)
    coarse = chance.uniform(0, 255, (4, 4, 3)).repeat(size // 4, 0).repeat(size // 4, 1)
    speed = chance.integers(1, 4)
    clip = np.stack(
        [np.roll(coarse, frame * speed, 1) * (0.6 + 0.4 * np.sin(frame / 3 + seed)) for frame in range(frames)]
    )
    return (clip * brightness).clip(0, 255).astype(np.uint8)


def write_videos(folder: Path, seeds: range, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        write_video(folder / f"{seed:03d}.mp4", moving(seed, **more), 24)
    return folder
