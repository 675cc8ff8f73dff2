# SPDX-License-Identifier: Apache-2.0
"""The figures behind FVD, FID and their kin: against closed forms, direct numpy and torchmetrics."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from sandbox_runtime.inception.distances import (
    Gaussian,
    _AsTheyAre,
    frechet_distance,
    gaussian,
    inception_score,
    kernel_distance,
    logits_of,
    precision_and_recall,
)

CPU = torch.device("cpu")
Array = NDArray[np.float32]


def drawn(seed: int, count: int, dimension: int, mean: float = 0.0, spread: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(mean, spread, (count, dimension)).astype(np.float32)


def in_blocks(features: Array, rows: int = 50, weights: Array | None = None) -> Callable[[], Iterable[tuple[Any, Any]]]:
    weighed = np.ones(len(features)) if weights is None else weights
    return lambda: [(features[at : at + rows], weighed[at : at + rows]) for at in range(0, len(features), rows)]


def fid(one: Array, other: Array, **more: Any) -> float:
    dimension = one.shape[1]
    return frechet_distance(
        gaussian(in_blocks(one), dimension, CPU, **more), gaussian(in_blocks(other), dimension, CPU, **more)
    )


def test_gaussians_have_the_distance_of_the_closed_form() -> None:
    """Of covariances that commute: |m1 - m2|^2 + sum (s1 - s2)^2, in any rotation."""
    chance = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(chance.normal(size=(12, 12)))
    means, spreads = chance.normal(size=(2, 12)), chance.uniform(0, 3, (2, 12))
    spreads[1, :4] = 0.0  # singular
    both = [
        Gaussian(torch.from_numpy(mean), torch.from_numpy(rotation @ np.diag(spread**2) @ rotation.T))
        for mean, spread in zip(means, spreads, strict=True)
    ]
    expected = ((means[0] - means[1]) ** 2).sum() + ((spreads[0] - spreads[1]) ** 2).sum()
    assert frechet_distance(*both) == pytest.approx(expected, rel=1e-9)


def test_it_is_that_of_numpy_and_of_torchmetrics() -> None:
    one, other = drawn(1, 300, 16), drawn(2, 260, 16, 0.4, 1.5)
    covariances = [np.cov(side.astype(np.float64), rowvar=False) for side in (one, other)]
    shared = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    apart = ((one.mean(0, np.float64) - other.mean(0, np.float64)) ** 2).sum()
    direct = apart + np.trace(covariances[0] + covariances[1] - 2 * np.real(shared))
    assert fid(one, other) == pytest.approx(direct, rel=1e-9)
    metric = FrechetInceptionDistance(_AsTheyAre(16))
    metric.update(torch.from_numpy(one), real=True)
    metric.update(torch.from_numpy(other), real=False)
    assert fid(one, other) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_the_covariance_of_the_population_weighs_its_samples() -> None:
    features, weights = drawn(3, 90, 5), np.random.default_rng(4).integers(1, 4, 90)
    found = gaussian(in_blocks(features, 7, weights.astype(float)), 5, CPU, of_population=True)
    repeated = np.repeat(features, weights, axis=0).astype(np.float64)
    assert np.allclose(found.mean, repeated.mean(0))
    assert np.allclose(found.covariance, np.cov(repeated, rowvar=False, bias=True))
    plain = gaussian(in_blocks(features, 7, weights.astype(float)), 5, CPU)
    assert np.allclose(plain.covariance, np.cov(features.astype(np.float64), rowvar=False)), "n - 1, all alike"


@pytest.mark.parametrize("count", [2, 20, 400])
def test_a_set_is_at_no_distance_from_itself(count: int) -> None:
    """Also where there are fewer samples than dimensions, and the covariance is singular; never below zero."""
    for seed, scale in itertools.product(range(5), (1.0, 1000.0)):
        features = drawn(seed, count, 64, 3.0) * np.float32(scale)
        assert 0.0 <= fid(features, features) < 1e-3
        assert 0.0 <= fid(features, features[::-1].copy()) < 1e-3


def test_unbiased_kernel_distance_of_equal_distributions_is_zero_in_the_mean() -> None:
    found = [
        kernel_distance(
            drawn(2 * seed, 120, 8), drawn(2 * seed + 1, 120, 8), subsets=5, subset_size=60, seed=seed, device=CPU
        )
        for seed in range(60)
    ]
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert min(found) < 0.0 < max(found), "an unbiased estimate is below zero half of the time"


def test_kernel_distance_is_that_of_direct_numpy() -> None:
    """With subsets of all samples there is one subset."""
    real, fake = drawn(1, 70, 6), drawn(2, 70, 6, 0.5)

    def kernel(x: Array, y: Array) -> NDArray[np.float64]:
        return (x.astype(np.float64) @ y.T.astype(np.float64) / 6 + 1) ** 3

    pairs = 70 * 69
    inside = sum((kernel(side, side).sum() - np.trace(kernel(side, side))) / pairs for side in (real, fake))
    direct = inside - 2 * kernel(real, fake).mean()
    found = kernel_distance(real, fake, subsets=2, subset_size=1000, seed=0, device=CPU)
    assert found == pytest.approx(direct, rel=1e-4)


def test_the_seed_alone_decides_which_subsets_there_are() -> None:
    real, fake = drawn(1, 90, 4), drawn(2, 90, 4, 0.2)

    def with_seed(seed: int) -> float:
        return kernel_distance(real, fake, subsets=3, subset_size=40, seed=seed, device=CPU)

    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert with_seed(1) == with_seed(1) != with_seed(2)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's draws change"


def test_the_inception_score_has_its_bounds_and_the_value_of_direct_numpy() -> None:
    """Sure of classes that are equally frequent: as many as there are; unsure of all: 1."""
    sure = np.eye(5, dtype=np.float32)[np.arange(500) % 5]
    assert inception_score(logits_of(sure), splits=1, seed=0, device=CPU)[0] == pytest.approx(5.0, rel=1e-5)
    unsure = np.full((500, 5), 0.2, np.float32)
    assert inception_score(logits_of(unsure), splits=10, seed=0, device=CPU) == pytest.approx((1.0, 0.0), abs=1e-5)
    chance = np.random.default_rng(0).dirichlet(np.ones(7), 300).astype(np.float32)
    direct = math.exp(np.mean((chance * (np.log(chance) - np.log(chance.mean(0)))).sum(1)))
    assert inception_score(logits_of(chance), splits=1, seed=0, device=CPU)[0] == pytest.approx(direct, rel=1e-5)


def test_the_inception_score_is_torchmetrics_where_parts_are_equal() -> None:
    logits = drawn(3, 120, 7)
    torch.manual_seed(4)
    metric = InceptionScore(_AsTheyAre(7), splits=10)
    metric.update(torch.from_numpy(logits))
    expected = [float(each) for each in metric.compute()]
    assert inception_score(logits, splits=10, seed=4, device=CPU) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("count", "sizes"), [(12, {1, 2}), (101, {10, 11}), (7, {1})])
def test_the_inception_score_is_over_as_many_even_parts_as_asked_for(count: int, sizes: set[int]) -> None:
    """A part of k samples that are each sure of a class of their own scores k."""
    sure = logits_of(np.eye(count, dtype=np.float32))
    mean, spread = inception_score(sure, splits=10, seed=0, device=CPU)
    parts = [len(part) for part in np.array_split(np.arange(count), min(10, count))]
    assert set(parts) == sizes
    assert (mean, spread) == pytest.approx((np.mean(parts), np.std(parts, ddof=1)), rel=1e-5)


def direct_precision(of: Array, by: Array, neighbour: int) -> float:
    """Sample by sample, without matrices."""
    radii = [np.sort(np.linalg.norm(by - each, axis=1))[neighbour] for each in by]
    inside = [bool((np.linalg.norm(by - each, axis=1) <= radii).any()) for each in of]
    return float(np.mean(inside))


def test_precision_and_recall_are_those_of_their_definition() -> None:
    real, fake = drawn(1, 150, 5), drawn(2, 130, 5, 0.8, 0.7)
    precision, recall = precision_and_recall(real, fake, neighbour=3, device=CPU)
    assert precision == pytest.approx(direct_precision(fake, real, 3), abs=0.008)
    assert recall == pytest.approx(direct_precision(real, fake, 3), abs=0.008)
    assert 0.0 < recall < precision < 1.0
    assert precision_and_recall(real, real, neighbour=3, device=CPU) == (1.0, 1.0)
    assert precision_and_recall(real, real + np.float32(100), neighbour=3, device=CPU) == (0.0, 0.0)
    with pytest.raises(ValueError, match="3 samples have no 3 neighbours each"):
        precision_and_recall(real[:3], fake, neighbour=3, device=CPU)


def test_no_figure_depends_on_the_order_of_samples() -> None:
    real, fake = drawn(1, 140, 6), drawn(2, 120, 6, 0.4)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation
        mixed = real[order(len(real))], fake[order(len(fake))]
        assert fid(*mixed) == pytest.approx(fid(real, fake), rel=1e-9)
        found = [precision_and_recall(*sides, neighbour=3, device=CPU) for sides in (mixed, (real, fake))]
        assert found[0] == pytest.approx(found[1], abs=0.008), "but for ties of one sample"
