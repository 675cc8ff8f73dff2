# SPDX-License-Identifier: Apache-2.0
"""One parameter of a search: its distribution, as a map from [0, 1] to values.

The maps are those of W&B's own library (`sweeps` 0.3.0), with three differences on purpose. A value never leaves the
parameter's bounds: theirs rounds to multiples of `q` beyond them. Multiples of a whole `q` are integers, also where the
file says 1.0, because `kubectl` turns that into 1. And multiples of a fraction are the decimals that one would write
(0.3, not 0.30000000000000004).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Any

from scipy.special import betaincinv, ndtri

CONSTANT, CATEGORICAL, WEIGHTED, INTEGER = "constant", "categorical", "categorical_w_probabilities", "int_uniform"
LARGEST = 2**53
"""Beyond it, integers are not exact as JSON numbers."""
_EDGE = 2**-53
"""Nearest that a coordinate comes to 0 and 1 where it is clipped."""
_FUZZ = 1e-9


@dataclass(frozen=True)
class Shape:
    """A continuous distribution: which keys it takes, its bounds, and the inverse of its CDF."""

    keys: tuple[str, str]
    bounds: Callable[[float, float], tuple[float, float]]
    inverse: Callable[[float, float, float], float]
    """From a coordinate and the values of the two keys."""
    coordinate: Callable[[float, float, float], float] | None = None
    """The CDF, where the values between the bounds can be counted."""
    clipped: bool = False
    """Whether coordinates keep off 0 and 1, where the inverse has no value, or none that scipy finds."""


def _between(x: float, low: float, high: float) -> float:
    return low + x * (high - low)


def _part(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


_LIMITS = ("min", "max")
SHAPES = {
    "uniform": Shape(_LIMITS, lambda low, high: (low, high), _between, _part),
    "log_uniform": Shape(
        _LIMITS,
        lambda low, high: (math.exp(low), math.exp(high)),
        lambda x, low, high: math.exp(_between(x, low, high)),
        lambda value, low, high: _part(math.log(value), low, high),
    ),
    "log_uniform_values": Shape(
        _LIMITS,
        lambda low, high: (low, high),
        lambda x, low, high: math.exp(_between(x, math.log(low), math.log(high))),
        lambda value, low, high: _part(math.log(value), math.log(low), math.log(high)),
    ),
    "inv_log_uniform": Shape(
        _LIMITS,
        lambda low, high: (math.exp(-high), math.exp(-low)),
        lambda x, low, high: math.exp(-_between(1 - x, low, high)),
    ),
    "inv_log_uniform_values": Shape(
        _LIMITS,
        lambda low, high: (low, high),
        lambda x, low, high: math.exp(-_between(1 - x, -math.log(high), -math.log(low))),
    ),
    "normal": Shape(
        ("mu", "sigma"),
        lambda _mu, _sigma: (-math.inf, math.inf),
        lambda x, mu, sigma: mu + sigma * float(ndtri(x)),
        clipped=True,
    ),
    "log_normal": Shape(
        ("mu", "sigma"),
        lambda _mu, _sigma: (0.0, math.inf),
        lambda x, mu, sigma: math.exp(mu + sigma * float(ndtri(x))),
        clipped=True,
    ),
    "beta": Shape(("a", "b"), lambda _a, _b: (0.0, 1.0), lambda x, a, b: float(betaincinv(a, b, x)), clipped=True),
}
QUANTISED = ("uniform", "log_uniform", "log_uniform_values", "normal", "log_normal", "beta")
"""Shapes that also come as `q_<shape>`."""
DISTRIBUTIONS = (CONSTANT, CATEGORICAL, WEIGHTED, INTEGER, *SHAPES, *(f"q_{name}" for name in QUANTISED))


def shape_of(distribution: str) -> Shape | None:
    """The shape of a continuous or quantised distribution; None of the others."""
    return SHAPES.get(distribution.removeprefix("q_"))


@dataclass(frozen=True)
class Parameter:
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
        """The least and the greatest that a numeric value may be, before the quantum."""
        shape = shape_of(self.distribution)
        return (self.first, self.second) if shape is None else shape.bounds(self.first, self.second)

    def value(self, x: float) -> Any:
        """The value at a coordinate in [0, 1]: plain Python, fit for JSON."""
        match self.distribution:
            case "constant":
                return self.choices[0]
            case "categorical":
                return self.choices[_slot(x, len(self.choices))]
            case "categorical_w_probabilities":
                return self.choices[self._weighted(x)]
            case "int_uniform":
                return int(self.first) + _slot(x, self._integers)
        return self._on_quantum(self._inverse(x))

    def _weighted(self, x: float) -> int:
        possible = [i for i, share in enumerate(self.probabilities) if share > 0]
        sums = list(accumulate(self.probabilities))
        return next((i for i in possible if x < sums[i]), possible[-1])

    @property
    def _integers(self) -> int:
        return int(self.second) - int(self.first) + 1

    def _inverse(self, x: float) -> float:
        shape = SHAPES[self.distribution.removeprefix("q_")]
        if shape.clipped:
            x = min(max(x, _EDGE), 1 - _EDGE)
        low, high = self.bounds
        return min(max(shape.inverse(x, self.first, self.second), low), high)

    def multiples(self) -> tuple[int | None, int | None]:
        """The least and the greatest multiple of the quantum within the bounds; None where there is no bound."""
        assert self.quantum is not None
        low, high = (bound / self.quantum for bound in self.bounds)
        return (
            math.ceil(low - _FUZZ * max(1, abs(low))) if math.isfinite(low) else None,
            math.floor(high + _FUZZ * max(1, abs(high))) if math.isfinite(high) else None,
        )

    def _on_quantum(self, value: float) -> float | int:
        if self.quantum is None:
            return value
        count = round(value / self.quantum)
        low, high = self.multiples()
        count = count if low is None else max(low, count)
        count = count if high is None else min(high, count)
        return self._multiple(count)

    def _multiple(self, count: int) -> float | int:
        assert self.quantum is not None
        if float(self.quantum).is_integer():
            return count * int(self.quantum)
        return float(Decimal(repr(float(self.quantum))) * count)

    def extremes(self) -> tuple[float, float]:
        """The values at both ends of [0, 1]. Raises OverflowError where one is too large to be a number."""
        return self._inverse(0.0), self._inverse(1.0)

    @property
    def grid_size(self) -> int | None:
        """How many values a grid takes; None where they can't be counted, or are not all as likely."""
        if self.distribution in (CONSTANT, CATEGORICAL):
            return len(self.choices)
        if self.distribution == INTEGER:
            return self._integers
        shape = shape_of(self.distribution)
        if self.quantum is None or shape is None or shape.coordinate is None:
            return None
        low, high = self.multiples()
        assert low is not None
        assert high is not None
        return high - low + 1

    def grid_coordinate(self, index: int) -> float:
        """A coordinate in [0, 1] whose value is the index-th of the grid, in the order of the values."""
        shape = shape_of(self.distribution)
        size = self.grid_size
        assert size is not None
        if shape is None or shape.coordinate is None:
            return (index + 0.5) / size
        least, _ = self.multiples()
        assert least is not None
        low, high = self.bounds
        value = min(max(float(self._multiple(least + index)), low), high)
        return min(max(shape.coordinate(value, self.first, self.second), 0.0), 1.0)


def _slot(x: float, count: int) -> int:
    """Which of `count` equal parts of [0, 1] a coordinate lies in; a border belongs to the part below, as in scipy."""
    slot = min(max(math.ceil(x * count) - 1, 0), count - 1)
    return slot - 1 if slot > 0 and slot / count >= x else slot
