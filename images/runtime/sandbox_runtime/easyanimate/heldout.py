# SPDX-License-Identifier: Apache-2.0
"""The loss of a model on clips that it was not trained on, clip by clip. Noise and levels are those of a training's own
held-out loss, so that the two are one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from sandbox_api.heldout import HeldoutLossConfig

from . import lora, models
from .loss import clip_losses
from .noised import NoisedClips, attention, autocast
from .results import Sample


def losses(
    config: HeldoutLossConfig,
    samples: Sequence[Sample],
    cache: Path,
    device: torch.device,
    should_stop: Callable[[], bool],
    log: Callable[[int], None],
) -> list[list[float]]:
    """The loss of each clip at each level, mean over the draws. log: takes the number of clips so far."""
    base = Path(config.base_model).absolute()
    transformer = models.load_transformer(base, config.precision, device)
    if config.lora_path is not None:
        lora.load_lora(transformer, Path(config.lora_path).absolute(), config.lora_scale)
    transformer.eval()
    clips, dtype, found = NoisedClips(base, cache), models.DTYPES[config.precision], []
    with torch.no_grad(), attention(device), autocast(dtype, device):
        for sample in samples:
            if should_stop():
                break
            at_levels = []
            for level in config.levels:
                drawn = [
                    clip_losses(
                        transformer, clips.stacked([clips.heldout(sample, level, draw)]).to(device), dtype
                    ).item()
                    for draw in range(config.draws)
                ]
                at_levels.append(math.fsum(drawn) / len(drawn))
            found.append(at_levels)
            log(len(found))
    return found
