# SPDX-License-Identifier: Apache-2.0
"""Trainings inside of a test's own process, or of one of several: made, interrupted, resumed, compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from sandbox_api.easyanimate import EasyAnimateTrainConfig
from sandbox_runtime.easyanimate.loop import Run, Training
from sandbox_runtime.easyanimate.parallel import World
from sandbox_runtime.easyanimate.results import Prepared

ALONE = World(0, 1, torch.device("cpu"))


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
