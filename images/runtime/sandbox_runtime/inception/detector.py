# SPDX-License-Identifier: Apache-2.0
"""A TorchScript detector, called as its specification says, and held to what that says of its output."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sandbox_api.inception import DetectorConfig

from ..errors import ConfigError, UserError

SUM_TOLERANCE = 1e-2
"""How far the sum of a sample's probabilities may be from 1, as in half precision."""


class Detector:
    """Frames, of the size that it takes, to features."""

    def __init__(self, path: Path, config: DetectorConfig, device: torch.device) -> None:
        """Raises ConfigError when the file is no TorchScript."""
        self._name, self._config, self._device = path.name, config, device
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the detectors that there are, are TorchScript
                self._script: Any = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(
                f"extraConfigs.detector_path: {path.name} can't be loaded as TorchScript: {_first(error)}"
            ) from error

    def __call__(self, frames: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float32]:
        """What it gives for samples, shape (samples, dimension).

        frames: RGB; clips of shape (samples, frames, height, width, 3), single frames without the second dimension.
        names: of each sample, for messages. Raises ConfigError when it can't take them, or gives what it should not;
        UserError when that is not finite.
        """
        given = self._laid_out(frames)
        try:
            with torch.no_grad():
                found = self._script(given, **self._config.arguments)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError, torch.jit.Error) as error:
            if "out of memory" in str(error):  # TorchScript tells it in words of its own
                raise torch.OutOfMemoryError(_first(error)) from error
            raise ConfigError(
                f"extraConfigs.detector_path: {self._name} fails on {given.dtype} of shape {tuple(given.shape)}"
                f" ({self._config.layout}): {_first(error)}; is it the one that detector describes?"
            ) from error
        return self._checked(found, names)

    def _laid_out(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        config = self._config
        pixels = torch.from_numpy(frames).to(self._device)
        pixels = pixels.movedim(-1, -3)  # (samples, frames, 3, height, width), or without frames
        if config.range != "uint8":
            low, high = config.range
            pixels = pixels.float() * ((high - low) / 255.0) + low
        return (pixels.movedim(1, 2) if config.layout == "BCTHW" else pixels).contiguous()

    def _checked(self, found: Any, names: Sequence[str]) -> NDArray[np.float32]:
        config, expected = self._config, (len(names), self._config.dimension)
        if not isinstance(found, torch.Tensor) or tuple(found.shape) != expected:
            given = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
            raise ConfigError(
                f"extraConfigs.detector_path: {self._name} gives {given} where {expected} is expected:"
                f" {len(names)} samples, and {config.dimension} {config.output} of each (detector.dimension)"
            )
        values: NDArray[np.float32] = found.float().cpu().numpy()
        wrong = ~np.isfinite(values).all(axis=1)
        if wrong.any():
            raise UserError(f"the detector {self._name} gives values that are not finite for {_listed(names, wrong)}")
        if config.output == "probabilities":
            wrong = (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1.0) > SUM_TOLERANCE)
            if wrong.any():
                raise ConfigError(
                    f"extraConfigs.detector.output: what {self._name} gives are no probabilities: they are"
                    f" negative or do not sum to 1 for {_listed(names, wrong)}; are they logits?"
                )
        return values


def _listed(names: Sequence[str], wrong: NDArray[np.bool_]) -> str:
    found = list(dict.fromkeys(name for name, is_wrong in zip(names, wrong, strict=True) if is_wrong))
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _first(error: BaseException) -> str:
    """The line of a TorchScript's complaint that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("RuntimeError", "TypeError", "ValueError"))]
    return (telling or lines or [type(error).__name__])[-1 if telling else 0][:300]
