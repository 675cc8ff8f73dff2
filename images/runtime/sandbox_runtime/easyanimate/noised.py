# SPDX-License-Identifier: Apache-2.0
"""Clips from the cache, mixed with noise: what a transformer is given where it is trained and where it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import draws, models
from .cache import Cache
from .loss import Batch
from .results import Sample

ATTENTION = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""On a GPU, the best first. The model calls PyTorch's attention itself, so it is chosen around it."""


@dataclass(frozen=True)
class Clip:
    """A clip as a step computes with it; latents and noise of one shape, fp32."""

    latents: torch.Tensor
    noise: torch.Tensor
    text: torch.Tensor
    level: int


class NoisedClips:
    """Clips and captions of a cache, at the noise levels of a base model."""

    def __init__(self, base: Path, cache: Path) -> None:
        self.levels = models.noise_levels(base)
        self._scaling = models.latent_scale(base)
        self._cache = Cache(cache)

    def clip(self, clip: str, text: str, level: int, name: tuple[str | int, ...]) -> Clip:
        """A clip with its caption, by their keys, at a level; every random number is named by `name`."""
        mean, spread = self._cache.read(clip).float().chunk(2)
        drawn = draws.noise(tuple(mean.shape), "latent", *name)
        latents = (mean + (spread.clamp(-30.0, 20.0) * 0.5).exp() * drawn) * self._scaling
        return Clip(latents, draws.noise(tuple(mean.shape), "noise", *name), self._cache.read(text), level)

    def heldout(self, sample: Sample, part: float, draw: int = 0) -> Clip:
        """A clip as held-out ones are measured: its noise is always the same. part: where in the list of levels."""
        name = ("heldout", sample.clip, repr(part), *([draw] if draw else []))
        return self.clip(sample.clip, sample.text, self.levels.at(part), name)

    def stacked(self, clips: Sequence[Clip]) -> Batch:
        levels = [clip.level for clip in clips]
        return Batch(
            torch.stack([clip.latents for clip in clips]),
            torch.stack([clip.noise for clip in clips]),
            torch.stack([clip.text for clip in clips]),
            self.levels.sigmas[levels],
            self.levels.timesteps[levels],
        )


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[Any]:
    """The arithmetic that goes with weights of that type."""
    return torch.autocast(device.type, torch.bfloat16) if dtype is torch.bfloat16 else nullcontext()


def attention(device: torch.device) -> AbstractContextManager[Any]:
    """The best kernel there is."""
    return sdpa_kernel(ATTENTION, set_priority=True) if device.type == "cuda" else nullcontext()
