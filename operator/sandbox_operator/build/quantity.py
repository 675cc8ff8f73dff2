# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities (`500m`, `4Gi`, `2`) as numbers. The models have checked their form."""

from __future__ import annotations

import re

_FORM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]+))?")
_FACTORS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": float(1024 ** (power + 1)) for power, letter in enumerate("KMGTPE")
}


def amount(quantity: int | str) -> float:
    """The number in a quantity. Raises ValueError when it is none."""
    match = _FORM.fullmatch(str(quantity).strip())
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity; write it like 500m, 2 or 4Gi")
    number, suffix, exponent = match.groups()
    return float(f"{number}e{exponent or 0}") * _FACTORS.get(suffix or "", 1.0)
