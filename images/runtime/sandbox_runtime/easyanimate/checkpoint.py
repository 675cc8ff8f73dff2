# SPDX-License-Identifier: Apache-2.0
"""What a training is resumed from: the LoRA, the optimizer's moments, the step. Random draws need no state.

One safetensors file a checkpoint, written whole; the newest two are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..files import write_atomic

KEPT = 2
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """How far a training has come."""

    step: int = 0
    """Optimizer steps that are done."""
    losses: list[float] = field(default_factory=list)
    """Of the last steps."""
    heldout: list[tuple[int, float]] = field(default_factory=list)
    """Held-out losses by the number of steps that were done."""
    seconds: float = 0.0
    """That were spent on these steps."""
    compute_seconds: float = 0.0
    """Those of them that the first process's forward and backward passes took."""


def save_checkpoint(
    folder: Path, run: str, progress: Progress, parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """run: digest of what decides the training; only the same one is resumed."""
    tensors = {f"lora.{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for moment in MOMENTS:
            if progress.step:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    content = save(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"run": run, "progress": json.dumps(vars(progress))},
    )
    write_atomic(folder / f"step-{progress.step:09d}.safetensors", content)
    for old in _newest(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def load_checkpoint(
    folder: Path, run: str, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> Progress:
    """Put the newest checkpoint of this run back; the start where there is none."""
    for path in _newest(folder):
        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                if told.get("run") != run:
                    continue
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (SafetensorError, OSError) as error:
            print(f"{path} can't be read and is passed over: {error}", flush=True)
            continue
        return _restore(json.loads(told["progress"]), tensors, parameters, optimizer)
    return Progress()


def _restore(
    told: dict[str, Any],
    tensors: Mapping[str, torch.Tensor],
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> Progress:
    progress = Progress(**told)
    progress.heldout = [(int(step), float(loss)) for step, loss in progress.heldout]
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"lora.{name}"])
    if progress.step:
        state = {
            place: {
                "step": torch.tensor(float(progress.step)),
                **{moment: tensors[f"{moment}.{name}"] for moment in MOMENTS},
            }
            for place, name in enumerate(parameters)
        }
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def _newest(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)
