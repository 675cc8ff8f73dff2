# SPDX-License-Identifier: Apache-2.0
"""Intervals against worked values, and that they hold what they promise."""

import random

import pytest

from sandbox_api import noise


def test_repeats_of_equal_number_are_compared_one_by_one() -> None:
    found = noise.change([1.0, 2.0, 3.0], [1.5, 2.4, 3.6])
    error = 0.1 / 3**0.5  # of the differences 0.5, 0.4, 0.6
    assert found.difference == pytest.approx(0.5)
    assert found.relative == pytest.approx(0.25)
    assert found.interval == pytest.approx((0.5 - 4.303 * error, 0.5 + 4.303 * error))
    assert found.is_noise is False


def test_repeats_of_other_numbers_are_compared_as_two_samples() -> None:
    """Welch: 1/2 and 1/3 of a variance of 2 and 1; (1 + 1/3)^2 / (1^2/1 + (1/3)^2/2) = 1.68 degrees of freedom."""
    found = noise.change([0.0, 2.0], [1.0, 2.0, 3.0])
    error = (1 + 1 / 3) ** 0.5
    assert found.interval == pytest.approx((1 - 12.706 * error, 1 + 12.706 * error))


def test_a_single_figure_has_no_noise_of_its_own() -> None:
    assert noise.change([1.0], [2.0]).interval is None
    assert noise.change([1.0], [2.0]).is_noise is None
    low, high = noise.change([1.0], [1.9, 2.1]).interval or (0, 0)
    assert (low, high) == pytest.approx((1 - 12.706 * 0.1, 1 + 12.706 * 0.1))


def test_equal_differences_say_nothing_of_their_spread() -> None:
    assert noise.change([0.5, 0.5], [0.6, 0.6]).interval is None
    assert noise.change([1.0], [2.0, 2.0]).is_noise is None
    assert noise.change([2.0, 2.0], [2.0, 2.0]).is_noise is True


def test_a_share_of_next_to_nothing_is_not_told() -> None:
    assert noise.change([0.0], [1.0]).relative is None
    assert noise.change([1e-9], [1.0]).relative is None
    assert noise.change([-2.0], [-1.0]).relative == 0.5
    assert noise.change([2.0], [2.0]).relative == 0.0


@pytest.mark.parametrize(("first", "second"), [(5, 5), (3, 3), (4, 6)])
def test_equal_ones_are_seldom_told_apart(first: int, second: int) -> None:
    """A 95 % interval misses in about 50 of 1 000 draws."""
    chance = random.Random(3)
    draws = [[[chance.gauss(1, 0.1) for _ in range(number)] for number in (first, second)] for _ in range(1000)]
    missed = sum(noise.change(before, after).is_noise is False for before, after in draws)
    assert 30 <= missed <= 70
