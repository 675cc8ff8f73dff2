# SPDX-License-Identifier: Apache-2.0
"""Every random number of a training or an inference, as a function of what it is for.

A draw is named by words and numbers, (seed, step, sample) among them; its digest seeds a generator of its own, on the
CPU. So a draw depends on no other one, neither on how many processes there are, nor on which step a run was resumed
from, nor on the device.
"""

from __future__ import annotations

import hashlib

import torch

SEEDS = 1 << 63


def generator(*name: str | int) -> torch.Generator:
    """A generator for one draw."""
    digest = hashlib.sha256("\0".join(map(repr, name)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") % SEEDS)


def noise(shape: tuple[int, ...], *name: str | int) -> torch.Tensor:
    """Normal fp32 numbers of that shape, on the CPU."""
    return torch.randn(shape, generator=generator(*name))


def uniform(*name: str | int) -> float:
    """One number in [0, 1)."""
    return torch.rand((), generator=generator(*name), dtype=torch.float64).item()


def normal(*name: str | int) -> float:
    """One normal number."""
    return torch.randn((), generator=generator(*name), dtype=torch.float64).item()


def permutation(count: int, *name: str | int) -> list[int]:
    """Numbers below `count` in random order."""
    return torch.randperm(count, generator=generator(*name)).tolist()
