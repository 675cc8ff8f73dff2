# SPDX-License-Identifier: Apache-2.0
"""What goes from one phase to the next, and what comes out: plain values, which JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    """A clip and its caption, by their keys in the cache."""

    clip: str
    text: str
    bucket: int


@dataclass(frozen=True)
class Prepared:
    """A data set whose latents and text embeddings stand in the cache."""

    samples: tuple[Sample, ...]
    heldout: tuple[Sample, ...]
    """Clips that are not trained on."""
    no_text: str
    """Key of the empty caption."""
    data: str
    """Digest of all clips, as they are cut, and captions, in order."""
    rows: int
    broken: tuple[str, ...]
    """Clips that were left out, and why."""
    encoded: int
    """Clips that were not in the cache before."""
    seconds: float
    numbers: tuple[int, ...] = ()
    """Positions of the rows whose clips these are, held-out ones included, in order."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Prepared:
        lists = {name: tuple(Sample(**each) for each in told[name]) for name in ("samples", "heldout")}
        return cls(**{**told, **lists, "broken": tuple(told["broken"]), "numbers": tuple(told["numbers"])})


@dataclass(frozen=True)
class TrainResult:
    """A trained LoRA."""

    path: Path
    """The last checkpoint: safetensors with provenance."""
    checkpoints: tuple[Path, ...]
    """All of them, the last one included, in order."""
    steps: int
    finished: bool
    """False when it was told to stop; the state is kept, and there may be no checkpoint of this step to use."""
    loss: float
    """Mean over the last steps, at most 50."""
    heldout_loss: float | None
    """After the last step; None without held-out clips."""
    heldout_before: float | None
    """Before the first step."""
    learning_rate: float
    """Of the last step."""
    step_seconds: float
    """Mean of all steps."""
    compute_seconds: float
    """Mean of all steps: forward and backward pass. The rest of a step is waiting for clips and other processes, and
    the optimizer."""
    seconds: float
    """Of this call."""
    resumed_from: int
    """The step that an earlier attempt had come to."""

    def metrics(self) -> dict[str, float]:
        """As TrainModelHook tells them."""
        found = {
            "loss": self.loss,
            "heldout_loss": self.heldout_loss,
            "lr": self.learning_rate,
            "steps": self.steps,
            "step_seconds": self.step_seconds,
            "compute_seconds": self.compute_seconds,
            "heldout_loss_before": self.heldout_before,
        }
        return {name: float(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class InferResult:
    """A folder of videos."""

    folder: Path
    rows: tuple[dict[str, Any], ...]
    """Of each video, in the order of prompts and indices: `videos` (its path, in a list), `text` (the prompt), `index`,
    `seed`."""
    made: int
    """Videos that no earlier attempt had made."""
    finished: bool
    """False when it was told to stop."""
    seconds: float
    notes: tuple[str, ...] = ()
    """What the user should know about names and weights."""
    problem: str = ""
    """Why videos are missing, where one could not be made."""
