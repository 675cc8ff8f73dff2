# SPDX-License-Identifier: Apache-2.0
"""Sets of small numbers as text, the way Kubernetes writes a Job's `completedIndexes`: `0,2-5`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

MOST = 1024
"""Pods of a job."""
_FORM = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def ranges_of(numbers: Iterable[int]) -> str:
    """`0,2-5` for 0, 2, 3, 4 and 5, in any order."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


@lru_cache(maxsize=512)
def numbers_in(text: str) -> tuple[int, ...]:
    """The numbers in `ranges_of`'s text, rising. Raises ValueError when it is none, or has more than `MOST`."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        match = _FORM.fullmatch(part)
        if match is None:
            raise ValueError(f"{text[:80]!r} is not a set of numbers such as 0,2-5")
        first, last = int(match[1]), int(match[2] or match[1])
        found.update(range(first, last + 1))
    if len(found) > MOST:
        raise ValueError(f"{text[:80]!r} has {len(found)} numbers; at most {MOST} pods may work on a job")
    return tuple(sorted(found))
