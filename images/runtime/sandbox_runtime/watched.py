# SPDX-License-Identifier: Apache-2.0
"""What is in a result that somebody watches, by key: nothing of it is dropped without a word."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PAIR = ("all", "best")
"""Names of the two that the sandbox's own evaluators return: `([each data set's figures], the best)`."""


@dataclass
class Found:
    """What is in a result, by key."""

    figures: dict[str, float] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Keys of what is not finite."""

    @property
    def keys(self) -> list[str]:
        """Of all that a line names."""
        return [*self.figures, *self.values, *self.tables, *self.left_out]

    def tell(self, name: str) -> None:
        """Say in the job's log what is left out of a result of this name."""
        if self.left_out:
            print(f"watch({name!r}): left out, not finite: {', '.join(self.left_out)}", flush=True)

    def take(self, result: Any, key: str) -> None:
        if isinstance(result, Mapping):
            for name, value in result.items():
                self.take(value, f"{key}.{name}" if key else str(name))
        elif hasattr(result, "to_csv"):
            self.tables[key] = result
        elif isinstance(result, (bool, str)) or result is None:
            self.values[key] = result
        elif (number := _number(result)) is not None:
            if math.isfinite(number):
                self.figures[key] = number
            else:
                self.left_out.append(key)
        elif _is_sequence(result):
            for name, value in _named(result):
                self.take(value, f"{key}.{name}" if key else name)
        else:
            self.values[key] = str(result)[:10_000]


def _number(value: Any) -> float | None:
    """A number, numpy's and torch's single ones included."""
    if isinstance(value, (int, float)):
        return float(value)
    if not hasattr(value, "__float__") or getattr(value, "ndim", 0):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_sequence(value: Any) -> bool:
    return (isinstance(value, Sequence) or hasattr(value, "tolist")) and not isinstance(value, (str, bytes))


def _named(values: Any) -> Iterator[tuple[str, Any]]:
    items = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(items, Sequence):
        items = [items]
    is_pair = isinstance(values, tuple) and len(items) == 2 and isinstance(items[0], (list, tuple))
    return zip(PAIR, items, strict=True) if is_pair else ((str(number), item) for number, item in enumerate(items))
