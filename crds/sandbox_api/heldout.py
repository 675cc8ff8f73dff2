# SPDX-License-Identifier: Apache-2.0
"""Settings of `heldout_flow_loss`: how well a text-to-video model predicts clips that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from .easyanimate import Bucket, EasyAnimateTrainConfig, Precision
from .extra import ComponentConfig, too_many

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where in the list of noise levels clips are measured, 0 the noisiest, as in a training's own held-out loss."""
FIGURES = ("loss", "loss.*", "std", "standard_error", "clips", "broken")
Level = Annotated[float, Field(ge=0, lt=1)]


class HeldoutLossConfig(ComponentConfig):
    """The flow-matching loss of EasyAnimate V5.1, with or without a LoRA, on clips that it was not trained on."""

    base_model: Annotated[str, Field(min_length=1)]
    """Folder of the base model as diffusers lays it out."""
    lora_path: str | None = None
    """LoRA that TrainModelHook has made; without it the base model itself is measured."""
    lora_scale: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the LoRA: 1 is what was trained, 0 the base model."""
    dataset_path: str | None = None
    """The held-out clips: rows with `videos` and `text`."""
    video_root: str = ""
    """Where relative names of videos begin; empty: beside the data set."""
    export_path: str | None = None
    """Where the losses of the clips are published."""

    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1)] = (Bucket(frames=49, height=512, width=512),)
    """Shapes that clips are cut to; those of the training whose models are compared."""
    frame_stride: Annotated[int, Field(ge=1)] = 3
    """Every how many frames one is taken."""
    broken_limit: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the clips that may be unreadable; they are named and left out. With more of them the job fails."""
    levels: Annotated[tuple[Level, ...], Field(min_length=1, max_length=100)] = LEVELS
    """Where in the model's list of noise levels each clip is measured, from 0 (all noise)."""
    draws: Annotated[int, Field(ge=1, le=100)] = 1
    """Noises for each clip and level, always the same ones; more of them make the loss less a matter of chance."""

    precision: Precision = "bf16"
    """Of the weights and of the arithmetic."""
    processes: Annotated[int, Field(ge=1)] | None = None
    """Processes, one a GPU; by default as many as the job has GPUs, and one without."""

    NEEDED: ClassVar = {("dataset_path",): "name the held-out clips, or fill it with input"}

    @field_validator("levels")
    @classmethod
    def _differ(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError("two of them are the same")
        return value

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002
        yield from too_many(self.processes, gpus)

    def of_training(self) -> EasyAnimateTrainConfig:
        """Settings with which a training encodes the same clips."""
        return EasyAnimateTrainConfig(
            base_model=self.base_model,
            buckets=self.buckets,
            frame_stride=self.frame_stride,
            broken_limit=self.broken_limit,
            precision=self.precision,
            heldout=0,
        )
