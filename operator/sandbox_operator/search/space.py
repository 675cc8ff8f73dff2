# SPDX-License-Identifier: Apache-2.0
"""The space of a search: its parameters by flat names, searched as the unit cube."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sandbox_api.sweep_parameters import DefinedSpace, grid_problems, read_space

from .distributions import Parameter

Point = tuple[float, ...]
"""A place in the unit cube: a coordinate in [0, 1] for each parameter that is searched, in the order of their names."""
WHERE = "spec.parameters"


@dataclass(frozen=True)
class Space:
    """Parameters, sorted by flat name. Constants have a value but no dimension."""

    parameters: tuple[Parameter, ...]
    notes: tuple[str, ...] = ()
    """What is allowed, but perhaps not as it was meant."""

    @cached_property
    def searched(self) -> tuple[Parameter, ...]:
        """The parameters that have a dimension."""
        return tuple(each for each in self.parameters if not each.is_constant)

    @property
    def dimensions(self) -> int:
        """Of the cube; 0 where all is constant."""
        return len(self.searched)

    def values(self, point: Sequence[float]) -> dict[str, Any]:
        """All values at a point by flat name, constants too. Raises ValueError where the point does not fit."""
        if len(point) != self.dimensions or not all(0 <= x <= 1 for x in point):
            raise ValueError(f"point: must be {self.dimensions} numbers in [0, 1], not {list(point)}")
        at = dict(zip((each.name for each in self.searched), point, strict=True))
        return {each.name: each.value(at.get(each.name, 0.0)) for each in self.parameters}

    @cached_property
    def grid_size(self) -> int | None:
        """Points of the grid; None where a parameter has no countable values."""
        sizes = [each.grid_size for each in self.searched]
        return math.prod(size for size in sizes if size is not None) if None not in sizes else None

    def grid_point(self, number: int) -> Point:
        """The number-th point of the grid: the last parameter by name goes fastest, as in W&B's library.

        Raises IndexError at its end, ValueError where the space has no grid.
        """
        if self.grid_size is None:
            raise ValueError("; ".join(self.grid_problems()))
        if not 0 <= number < self.grid_size:
            raise IndexError(f"the grid has {self.grid_size} points, so there is none with the number {number}")
        point: list[float] = []
        for each in reversed(self.searched):
            number, index = divmod(number, each.grid_size or 1)
            point.append(each.grid_coordinate(index))
        return tuple(reversed(point))

    def grid_problems(self) -> tuple[str, ...]:
        """Why there is no grid: a sentence for each parameter whose values can't be counted."""
        return grid_problems(self.searched, WHERE)


def space_of(defined: DefinedSpace) -> Space:
    """The space to search, of a definition in which nothing is wrong."""
    return Space(tuple(Parameter(**vars(each)) for each in defined.parameters), defined.notes)


def parse_space(raw: Mapping[str, Any]) -> tuple[Space | None, tuple[str, ...]]:
    """The space of W&B's `parameters`, or None and a sentence for each mistake in them."""
    defined = read_space(raw, WHERE)
    return (None, defined.problems) if defined.problems else (space_of(defined), ())
