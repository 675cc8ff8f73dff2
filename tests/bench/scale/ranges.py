# SPDX-License-Identifier: Apache-2.0
"""Compares a run with what earlier runs of this repository gave, so that a change that costs something is seen.

A range is what five runs showed, widened: counts and ratios within one run by a fifth, for they hold on another machine
of the same kind; times and rates three times over, for they hardly do, and the machine itself varies by a third.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from .report import Row, rows

RANGES = Path(__file__).parents[1] / "ranges.yaml"
CLOSE, WIDE = 1.2, 3.0
HOLDS = ("share of the floor", "writes", "reads", "beside 4 hooks", "memory", "a 1000 hooks")
"""What the name or the unit of a figure holds that hangs little on the machine; all others are times and rates."""


def room(row: Row) -> float:
    """By how much a figure may differ."""
    return CLOSE if any(word in f"{row.name} {row.unit}" for word in HOLDS) else WIDE


def figures(path: Path) -> dict[str, Row]:
    if not path.is_file():
        sys.exit(f"{path} is not there; run `make bench-scale` first")
    return {row.name.strip(): row for row in rows(json.loads(path.read_text())["loads"])}


def check(paths: list[Path]) -> int:
    """Print every figure that has a range, with its range; 1 when one lies outside or was not measured."""
    if not RANGES.exists():
        sys.exit(
            "there are no ranges yet: make them from five runs with `python -m tests.bench.scale calibrate FILE...`"
        )
    ranges: dict[str, dict[str, float]] = yaml.safe_load(RANGES.read_text())["ranges"]
    wrong = 0
    for path in paths:
        found = figures(path)
        for name, between in ranges.items():
            value = found[name].value if name in found else None
            inside = value is not None and between["least"] <= value <= between["most"]
            wrong += not inside
            said = "not measured" if value is None else f"{value:.3g}"
            print(
                f"{'' if inside else 'OUTSIDE':<8}{name:<46}{said:>12}  {between['least']:.3g} to {between['most']:.3g}"
            )
    print(f"{wrong} outside their range" if wrong else "all within their ranges")
    return 1 if wrong else 0


def calibrate(paths: list[Path]) -> None:
    """Write the ranges that these runs show."""
    runs = [figures(path) for path in paths]
    if len(runs) < 5:
        sys.exit(f"a range comes from at least five runs; {len(runs)} were named")
    names = [name for name in runs[0] if all(name in run for run in runs)]
    ranges: dict[str, Any] = {}
    for name in names:
        found = [run[name].value for run in runs]
        by = room(runs[0][name])
        ranges[name] = {"least": round(min(found) / by, 4), "most": round(max(found) * by, 4)}
    head = (
        "# SPDX-License-Identifier: Apache-2.0\n"
        "# What `make bench-scale` gave in five runs on two cores, widened (times and rates three times over);\n"
        "# `make bench-check` compares.\n"
        "# Written by `python -m tests.bench.scale calibrate RESULT...`.\n"
    )
    RANGES.write_text(head + yaml.safe_dump({"runs": len(runs), "ranges": ranges}, sort_keys=False))
