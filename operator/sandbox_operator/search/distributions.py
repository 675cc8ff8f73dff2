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

from sandbox_api.distributions import EDGE, SHAPES, DefinedParameter, shape_of


def _between(x: float, low: float, high: float) -> float:
    return low + x * (high - low)


def _part(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


INVERSES: dict[str, Callable[[float, float, float], float]] = {
    "uniform": _between,
    "log_uniform": lambda x, low, high: math.exp(_between(x, low, high)),
    "log_uniform_values": lambda x, low, high: math.exp(_between(x, math.log(low), math.log(high))),
    "inv_log_uniform": lambda x, low, high: math.exp(-_between(1 - x, low, high)),
    "inv_log_uniform_values": lambda x, low, high: math.exp(-_between(1 - x, -math.log(high), -math.log(low))),
    "normal": lambda x, mu, sigma: mu + sigma * float(ndtri(x)),
    "log_normal": lambda x, mu, sigma: math.exp(mu + sigma * float(ndtri(x))),
    "beta": lambda x, a, b: float(betaincinv(a, b, x)),
}
"""The inverse of each shape's CDF: from a coordinate and the values of its two keys."""
COORDINATES: dict[str, Callable[[float, float, float], float]] = {
    "uniform": _part,
    "log_uniform": lambda value, low, high: _part(math.log(value), low, high),
    "log_uniform_values": lambda value, low, high: _part(math.log(value), math.log(low), math.log(high)),
}
"""The CDF of each shape whose values a grid can count."""


@dataclass(frozen=True)
class Parameter(DefinedParameter):
    """A parameter of a definition, with the values that coordinates stand for."""

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
                return int(self.first) + _slot(x, self.integers)
        return self._on_quantum(self._inverse(x))

    def _weighted(self, x: float) -> int:
        possible = [i for i, share in enumerate(self.probabilities) if share > 0]
        sums = list(accumulate(self.probabilities))
        return next((i for i in possible if x < sums[i]), possible[-1])

    @property
    def _shape(self) -> str:
        return self.distribution.removeprefix("q_")

    def _inverse(self, x: float) -> float:
        if SHAPES[self._shape].clipped:
            x = min(max(x, EDGE), 1 - EDGE)
        low, high = self.bounds
        return min(max(INVERSES[self._shape](x, self.first, self.second), low), high)

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

    def grid_coordinate(self, index: int) -> float:
        """A coordinate in [0, 1] whose value is the index-th of the grid, in the order of the values."""
        shape = shape_of(self.distribution)
        size = self.grid_size
        assert size is not None
        if shape is None or not shape.is_countable:
            return (index + 0.5) / size
        least, _ = self.multiples()
        assert least is not None
        low, high = self.bounds
        value = min(max(float(self._multiple(least + index)), low), high)
        return min(max(COORDINATES[self._shape](value, self.first, self.second), 0.0), 1.0)


def _slot(x: float, count: int) -> int:
    """Which of `count` equal parts of [0, 1] a coordinate lies in; a border belongs to the part below, as in scipy."""
    slot = min(max(math.ceil(x * count) - 1, 0), count - 1)
    return slot - 1 if slot > 0 and slot / count >= x else slot
