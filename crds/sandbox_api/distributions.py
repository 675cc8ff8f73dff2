# SPDX-License-Identifier: Apache-2.0
"""W&B's distributions as a definition names them: their keys, bounds, and whether a grid can count their values.

What value a coordinate stands for is the search's business, and needs its libraries; what is wrong with a definition
is told with these alone, in a hook's pod too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

CONSTANT, CATEGORICAL, WEIGHTED, INTEGER = "constant", "categorical", "categorical_w_probabilities", "int_uniform"
LARGEST = 2**53
"""Beyond it, integers are not exact as JSON numbers."""
EDGE = 2**-53
"""Nearest that a coordinate comes to 0 and 1 where it is clipped."""
_REACH = -NormalDist().inv_cdf(EDGE)
"""Standard deviations from the middle of a normal distribution to its edge."""
_FUZZ = 1e-9
"""By how much, in parts of itself, a bound may miss a multiple that it was meant to be."""
_LIMITS, _NORMAL = ("min", "max"), ("mu", "sigma")


@dataclass(frozen=True)
class Shape:
    """A continuous distribution: which keys it takes, and the bounds that their values mean."""

    keys: tuple[str, str]
    bounds: Callable[[float, float], tuple[float, float]]
    ends: Callable[[float, float], tuple[float, float]]
    """The least and the greatest value that a search takes: the bounds, where there are any."""
    is_countable: bool = False
    """Whether its multiples of a quantum are as many as a grid can have."""
    clipped: bool = False
    """Whether coordinates keep off 0 and 1, where the inverse has no value, or none that scipy finds."""


def _same(low: float, high: float) -> tuple[float, float]:
    return low, high


def _exponents(low: float, high: float) -> tuple[float, float]:
    greatest = _power(high)  # too large is told before too small
    return _power(low), greatest


def _inverses(low: float, high: float) -> tuple[float, float]:
    return _exponents(-high, -low)


def _power(exponent: float) -> float:
    """e to it, which has a logarithm: where a float would be 0 or infinite, it raises an ArithmeticError."""
    value = math.exp(exponent)
    if value == 0:
        raise FloatingPointError(f"e to the power of {exponent:g} is too near to 0")
    return value


def _edges(mu: float, sigma: float) -> tuple[float, float]:
    return mu - _REACH * sigma, mu + _REACH * sigma


def _log_edges(mu: float, sigma: float) -> tuple[float, float]:
    return _exponents(*_edges(mu, sigma))


def _share(_a: float, _b: float) -> tuple[float, float]:
    return 0.0, 1.0


SHAPES = {
    "uniform": Shape(_LIMITS, _same, _same, is_countable=True),
    "log_uniform": Shape(_LIMITS, _exponents, _exponents, is_countable=True),
    "log_uniform_values": Shape(_LIMITS, _same, _same, is_countable=True),
    "inv_log_uniform": Shape(_LIMITS, _inverses, _inverses),
    "inv_log_uniform_values": Shape(_LIMITS, _same, _same),
    "normal": Shape(_NORMAL, lambda _mu, _sigma: (-math.inf, math.inf), _edges, clipped=True),
    "log_normal": Shape(_NORMAL, lambda _mu, _sigma: (0.0, math.inf), _log_edges, clipped=True),
    "beta": Shape(("a", "b"), _share, _share, clipped=True),
}
QUANTISED = ("uniform", "log_uniform", "log_uniform_values", "normal", "log_normal", "beta")
"""Shapes that also come as `q_<shape>`."""
DISTRIBUTIONS = (CONSTANT, CATEGORICAL, WEIGHTED, INTEGER, *SHAPES, *(f"q_{name}" for name in QUANTISED))


def shape_of(distribution: str) -> Shape | None:
    """The shape of a continuous or quantised distribution; None of the others."""
    return SHAPES.get(distribution.removeprefix("q_"))


@dataclass(frozen=True)
class DefinedParameter:
    """A parameter by its flat name. `choices` are JSON values; `first` and `second`: of the distribution's two keys."""

    name: str
    distribution: str
    choices: tuple[Any, ...] = ()
    probabilities: tuple[float, ...] = ()
    first: float = 0.0
    second: float = 0.0
    quantum: float | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it takes no part in the search."""
        return self.distribution == CONSTANT

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest that a numeric value may be, before the quantum. Raises as `extremes` does."""
        shape = shape_of(self.distribution)
        return (self.first, self.second) if shape is None else shape.bounds(self.first, self.second)

    def extremes(self) -> tuple[float, float]:
        """The least and the greatest value of a search.

        Raises OverflowError where one is too large to be a number, FloatingPointError where it can't be told from 0.
        """
        shape = shape_of(self.distribution)
        return (self.first, self.second) if shape is None else shape.ends(self.first, self.second)

    def multiples(self) -> tuple[int | None, int | None]:
        """The least and the greatest multiple of the quantum within the bounds; None where there is no bound."""
        assert self.quantum is not None
        low, high = (bound / self.quantum for bound in self.bounds)
        return (
            math.ceil(low - _FUZZ * abs(low)) if math.isfinite(low) else None,
            math.floor(high + _FUZZ * abs(high)) if math.isfinite(high) else None,
        )

    @property
    def integers(self) -> int:
        """How many there are from the first to the second, both counted."""
        return int(self.second) - int(self.first) + 1

    @property
    def grid_size(self) -> int | None:
        """How many values a grid takes; None where they can't be counted, or are not all as likely."""
        if self.distribution in (CONSTANT, CATEGORICAL):
            return len(self.choices)
        if self.distribution == INTEGER:
            return self.integers
        shape = shape_of(self.distribution)
        if self.quantum is None or shape is None or not shape.is_countable:
            return None
        low, high = self.multiples()
        assert low is not None
        assert high is not None
        return high - low + 1
