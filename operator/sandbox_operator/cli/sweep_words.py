# SPDX-License-Identifier: Apache-2.0
"""Values and distributions of a search, as people read them."""

from __future__ import annotations

import json

from ..search.distributions import Parameter

_PAIRS = {"normal": ("mu", "sigma"), "log_normal": ("mu", "sigma"), "beta": ("a", "b")}


def shown(value: object) -> str:
    """A parameter's value or a figure."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def range_of(parameter: Parameter) -> str:
    """What a parameter may be, without its distribution's name."""
    if parameter.choices:
        return ", ".join(map(shown, parameter.choices))
    pair = _PAIRS.get(parameter.distribution.removeprefix("q_"))
    first, second = shown(parameter.first), shown(parameter.second)
    text = f"{pair[0]} {first}, {pair[1]} {second}" if pair else f"{first} to {second}"
    return f"{text}, multiples of {shown(parameter.quantum)}" if parameter.quantum is not None else text
