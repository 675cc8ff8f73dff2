# SPDX-License-Identifier: Apache-2.0
"""The flow-matching loss: the model predicts the direction from a clip to noise, at a point between them.

Source: Esser et al. 2024 (rectified flow, logit-normal timesteps), as EasyAnimate V5.1 trains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

OUTLIER = 50.0
"""Elements that are off by more don't count, as in EasyAnimate."""


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels that a model is trained at, from its scheduler; both fp32, shape (levels,), falling."""

    sigmas: torch.Tensor
    timesteps: torch.Tensor

    def place(self, normal: float) -> int:
        """A level from a normal number: logit-normal, most often in the middle."""
        return self.at(1.0 / (1.0 + math.exp(-normal)))

    def at(self, part: float) -> int:
        """The level that far down the list, 0 to 1."""
        return min(int(part * len(self.sigmas)), len(self.sigmas) - 1)


@dataclass(frozen=True)
class Batch:
    """Clips that are computed together.

    latents, noise: fp32, shape (clips, channels, frames, height, width). text: shape (clips, tokens, features).
    sigmas, timesteps: fp32, shape (clips,).
    """

    latents: torch.Tensor
    noise: torch.Tensor
    text: torch.Tensor
    sigmas: torch.Tensor
    timesteps: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        moved = (part.to(device, non_blocking=True) for part in vars(self).values())
        return Batch(*moved)


def clip_losses(transformer: torch.nn.Module, batch: Batch, dtype: torch.dtype) -> torch.Tensor:
    """The loss of each clip: mean square error over its elements. Shape (clips,), fp32.

    dtype: of what the transformer is given.
    """
    sigmas = batch.sigmas.view(-1, 1, 1, 1, 1)
    noisy = (1.0 - sigmas) * batch.latents + sigmas * batch.noise
    prediction = transformer(
        noisy.to(dtype), batch.timesteps, encoder_hidden_states=batch.text.to(dtype), return_dict=False
    )[0]
    channels = batch.latents.shape[1]
    error = prediction[:, :channels].float() - (batch.noise - batch.latents)
    return (error.square() * (error.abs() <= OUTLIER)).flatten(1).mean(1)
