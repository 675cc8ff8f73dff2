# SPDX-License-Identifier: Apache-2.0
"""Distances between two sets of feature vectors, and the inception score of one.

All but the kernel distance, which is torchmetrics', is written here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BLOCK = 1024
"""Samples whose distances to all others are held at a time."""

Blocks = Callable[[], Iterable[tuple[NDArray[np.float32], NDArray[np.float64]]]]
"""Gives features and weights of samples in blocks, each time from the start."""


@dataclass(frozen=True)
class Gaussian:
    """fp64."""

    mean: torch.Tensor
    covariance: torch.Tensor


def gaussian(blocks: Blocks, dimension: int, device: torch.device, *, of_population: bool = False) -> Gaussian:
    """Mean and covariance, in two passes; memory: one block and the covariance.

    The covariance is the sample's (divided by n - 1), or the population's, in which samples count by their weights.
    """
    options = {"dtype": torch.float64, "device": device}
    mean = torch.zeros(dimension, **options)
    scatter = torch.zeros(dimension, dimension, **options)
    total = 0.0
    for features, weights in blocks():
        weight = torch.as_tensor(weights if of_population else np.ones(len(weights)), **options)
        mean += weight @ torch.as_tensor(features, **options)
        total += float(weight.sum())
    mean /= total
    for features, weights in blocks():
        weight = torch.as_tensor(weights if of_population else np.ones(len(weights)), **options)
        centred = torch.as_tensor(features, **options) - mean
        scatter += (centred * weight[:, None]).T @ centred
    return Gaussian(mean.cpu(), (scatter / (total if of_population else max(1.0, total - 1.0))).cpu())


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """|m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^1/2), the squared 2-Wasserstein distance of two Gaussians.

    The last trace is the sum of the singular values of S1^1/2 S2^1/2: exact also where a covariance is singular, where
    the eigenvalues of S1 S2 lose half of their digits.
    """
    with _one_thread():
        roots = [_root(each.covariance) for each in (one, other)]
        shared = torch.linalg.svdvals(roots[0].T @ roots[1]).sum()
    apart = (one.mean - other.mean).square().sum()
    found = apart + one.covariance.trace() + other.covariance.trace() - 2.0 * shared
    return max(0.0, float(found))  # below it only by rounding


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads of a matrix decomposition wait for each other at every column: where others use the processors too, two
    of them take hundreds of times as long as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _root(covariance: torch.Tensor) -> torch.Tensor:
    """A matrix R with R R^T = covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    rounding = torch.finfo(values.dtype).eps * len(values) * values.abs().max()
    return vectors * torch.where(values > rounding, values, 0.0).sqrt()  # the root of a rounding error is none


def kernel_distance(
    real: NDArray[np.float32],
    fake: NDArray[np.float32],
    *,
    subsets: int,
    subset_size: int,
    seed: int,
    device: torch.device,
) -> float:
    """The unbiased estimate of MMD^2 with the kernel (x.y / dimension + 1)^3, mean over random subsets.

    Of fewer samples than a subset should have, on either side, as many as there are. Memory: twice the features.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = _quiet(
        KernelInceptionDistance,
        feature=_AsTheyAre(real.shape[1]),
        subsets=subsets,
        subset_size=min(subset_size, len(real), len(fake)),
    ).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        metric.update(torch.from_numpy(real).to(device), real=True)
        metric.update(torch.from_numpy(fake).to(device), real=False)
        return float(metric.compute()[0])


def inception_score(
    logits: NDArray[np.float32], *, splits: int, seed: int, device: torch.device
) -> tuple[float, float]:
    """exp of the mean divergence between a sample's classes and those of all: mean and spread over random parts.

    Parts differ by one sample at the most, or are as many as there are samples. torchmetrics' cuts 12 samples for 10
    parts into 6, and 101 into nine of 11 and one of 2, which counts as much; where parts are equal it is the same.
    """
    drawn = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    scores = []
    for part in torch.from_numpy(logits)[drawn].to(device).tensor_split(min(splits, len(logits))):
        chances, logarithms = part.softmax(dim=1), part.log_softmax(dim=1)
        divergence = chances * (logarithms - chances.mean(dim=0, keepdim=True).log())
        scores.append(divergence.sum(dim=1).mean().exp())
    found = torch.stack(scores)
    return float(found.mean()), float(found.std())


def logits_of(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits whose softmax they are; no probability is zero then, whose logarithm would be none."""
    return np.log(np.maximum(probabilities, np.float32(1e-30)))


def precision_and_recall(
    real: NDArray[np.float32], fake: NDArray[np.float32], *, neighbour: int, device: torch.device, half: bool = False
) -> tuple[float, float]:
    """Share of the generated samples that lie in the surroundings of a real one, and the other way round.

    The surroundings of a sample reach to its `neighbour`-th nearest one of its own side. half: distances are rounded to
    fp16 first. Raises ValueError with fewer samples. Memory: the features, and distances of 1024 samples to all.
    """
    if min(len(real), len(fake)) <= neighbour:
        raise ValueError(f"{min(len(real), len(fake))} samples have no {neighbour} neighbours each")
    centre = real.mean(axis=0, dtype=np.float64).astype(np.float32)  # far from the origin, differences lose digits
    ours, theirs = (torch.from_numpy(side - centre).to(device) for side in (fake, real))
    precision = _covered(ours, theirs, _radii(theirs, neighbour, half), half)
    return precision, _covered(theirs, ours, _radii(ours, neighbour, half), half)


def _radii(side: torch.Tensor, neighbour: int, half: bool) -> torch.Tensor:
    found = []
    for start in range(0, len(side), BLOCK):
        apart = _distances(side[start : start + BLOCK], side, half)
        rows = torch.arange(len(apart), device=apart.device)
        apart[rows, rows + start] = 0.0  # a sample to itself
        found.append(apart.kthvalue(neighbour + 1, dim=1).values)
    return torch.cat(found)


def _covered(of: torch.Tensor, by: torch.Tensor, radii: torch.Tensor, half: bool) -> float:
    inside = 0
    for start in range(0, len(of), BLOCK):
        inside += int((_distances(of[start : start + BLOCK], by, half) <= radii).any(dim=1).sum())
    return inside / len(of)


def _distances(some: torch.Tensor, all_: torch.Tensor, half: bool) -> torch.Tensor:
    found = torch.cdist(some, all_)
    return found.half().float() if half else found


class _AsTheyAre(torch.nn.Module):
    """In the place of a detector, for features that are there already."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def _quiet(metric: Callable[..., Any], **settings: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features, as said above
        return metric(**settings)
