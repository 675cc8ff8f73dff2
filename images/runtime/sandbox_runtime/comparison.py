# SPDX-License-Identifier: Apache-2.0
"""The whole table before and after, which the later job of a pair writes beside its result.

The status holds at most 50 rows of figures that were not cut from the results; here are all of them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from sandbox_api.noise import change
from sandbox_api.result import Result

NAME = "comparison.csv"


def write_comparison(before: Result, figures: Mapping[str, float], folder: Path) -> Path | None:
    """A row for each figure (named without metaName) that both results have: before, after, difference, relative.

    Relative is a share of before, and empty where that is near 0. Returns the file, or None where there is no row.
    """
    earlier = {name.removeprefix(f"{before.meta_name}."): value for name, value in before.metrics.items()}
    common = [name for name in earlier if name in figures]
    if not common:
        return None
    path = folder / NAME
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "before", "after", "difference", "relative"])
        for name in common:
            found = change([earlier[name]], [figures[name]])
            relative = "" if found.relative is None else found.relative
            writer.writerow([name, earlier[name], figures[name], found.difference, relative])
    return path
