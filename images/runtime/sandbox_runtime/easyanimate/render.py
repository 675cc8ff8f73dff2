# SPDX-License-Identifier: Apache-2.0
"""Videos from prompts, one process's share of them. A video is decided by its prompt, its index, the seed and the
model; what is there already is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sandbox_api.easyanimate import EasyAnimateInferConfig

from ..errors import UserError
from . import draws, lora, models
from .names import video_name
from .prompts import Video
from .video import write_video

REMEMBERED_PROMPTS = 64


class Renderer:
    """The pipeline of one process, with a LoRA in it."""

    def __init__(self, config: EasyAnimateInferConfig, device: torch.device) -> None:
        self._pipeline = models.load_pipeline(Path(config.base_model).absolute(), config.precision, device)
        self.turn_to(config)
        # one at a time: a prompt has several videos, and the negative one belongs to all of them
        self._encode = lru_cache(maxsize=REMEMBERED_PROMPTS)(
            lambda text: models.encode_text(self._pipeline, text, device)
        )

    def turn_to(self, config: EasyAnimateInferConfig) -> None:
        """Go on with the LoRA of another configuration, of the same base model and precision."""
        self._config = config
        lora.remove_lora(self._pipeline.transformer)
        if config.lora_path is not None:
            lora.load_lora(self._pipeline.transformer, Path(config.lora_path).absolute(), config.lora_scale)

    def frames(self, videos: Sequence[Video]) -> NDArray[np.uint8]:
        """RGB of shape (videos, frames, height, width, 3)."""
        config = self._config
        states, masks = self._texts([video.prompt for video in videos])
        guidance = {}
        if config.guidance_scale > 1:
            unwanted, unwanted_masks = self._texts([config.negative_prompt] * len(videos))
            guidance = {"negative_prompt_embeds": unwanted, "negative_prompt_attention_mask": unwanted_masks}
        made = self._pipeline(
            prompt_embeds=states,
            prompt_attention_mask=masks,
            **guidance,
            num_frames=config.frames,
            height=config.height,
            width=config.width,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
            generator=[draws.generator("video", config.seed, video.prompt, video.index) for video in videos],
            output_type="np",
        ).frames
        expected = (len(videos), config.frames, config.height, config.width, 3)
        if made.shape != expected:
            raise UserError(f"the model made videos of shape {made.shape}, not {expected}")
        if not np.isfinite(made).all():
            raise UserError(
                f"the model made values that are not finite for {videos[0].prompt[:80]!r}; try precision: fp32"
            )
        return (np.asarray(made) * 255.0).round().clip(0, 255).astype(np.uint8)

    def _texts(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        states, masks = zip(*(self._encode(text) for text in texts), strict=True)
        return torch.cat(states), torch.cat(masks)


class Turns:
    """One pipeline in which LoRAs take turns; it is loaded when the first video is to be made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._renderer: Renderer | None = None

    def of(self, config: EasyAnimateInferConfig) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(config, self._device)
        else:
            self._renderer.turn_to(config)
        return self._renderer


@dataclass(frozen=True)
class Rendered:
    made: int
    finished: bool
    """Whether all are there now."""
    problem: str = ""
    """Why one could not be made; the LoRAs after this one are not concerned."""


def render(
    config: EasyAnimateInferConfig,
    batches: Sequence[tuple[Video, ...]],
    folder: Path,
    turns: Turns,
    should_stop: Callable[[], bool],
    log: Callable[[int], None],
) -> Rendered:
    """Make the videos of these batches that are not in the folder yet.

    log: takes the number of videos that were made so far.
    """
    renderer: Renderer | None = None
    made = 0
    for batch in batches:
        missing = [video for video in batch if not (folder / video_name(video.prompt, video.index)).exists()]
        if not missing:
            continue
        if should_stop():
            return Rendered(made, finished=False)
        renderer = renderer or turns.of(config)
        try:
            frames_of_each = renderer.frames(batch)
        except UserError as error:
            return Rendered(made, finished=False, problem=str(error))
        for video, frames in zip(batch, frames_of_each, strict=True):
            if video in missing:
                write_video(folder / video_name(video.prompt, video.index), frames, config.fps)
                made += 1
        log(made)
    return Rendered(made, finished=True)
