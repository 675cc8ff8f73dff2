# SPDX-License-Identifier: Apache-2.0
"""Runs that take long, in pieces: which have been done is remembered, how far it is is shown, what it came to is told.

With SANDBOX_DEEP=1 every finished piece (a seed) and its counts are written to `build/deep/<name>.json`. A run that was
broken off goes on there; a change to the operator, the language or these tests begins anew, because what was proved was
proved of other code. To begin anew by hand: `rm -r build/deep`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DEEP = bool(os.environ.get("SANDBOX_DEEP"))
"""Whether the full counts are wanted (`make test-deep`), not a sample."""
deep_only = pytest.mark.skipif(not DEEP, reason="make test-deep")
HOURS = 6
long = pytest.mark.timeout(HOURS * 3600 if DEEP else 300)
"""For tests whose full count takes long."""
Say = Callable[[str], None]
Piece = Callable[[int], Awaitable[Counter[str]]]
FOLDER = REPOSITORY / "build" / "deep"
CODE = ("crds/sandbox_api", "operator/sandbox_operator", "tests/unit/builders.py")


@cache
def fingerprint(tests: str) -> str:
    """Of everything that the outcome of a piece of these tests depends on."""
    digest = hashlib.sha256()
    for part in (*CODE, tests):
        root = REPOSITORY / part
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            digest.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    return digest.hexdigest()


async def in_pieces(
    name: str, seeds: Iterable[int], piece: Piece, *, say: Say, deep: bool, at_once: int = 2, tests: str = "tests/api"
) -> Counter[str]:
    """Run `piece` for each seed, a few at once; the sum of what they counted. `tests` is the folder that they are of.

    The first piece that fails ends it, with its seed said; the others' work is kept.
    """
    path = FOLDER / f"{name.replace(' ', '-')}.json"
    known = _read(path, fingerprint(tests)) if deep else {}
    wanted = list(seeds)
    left = [seed for seed in wanted if seed not in known]
    if deep and len(left) < len(wanted):
        say(f"{name}: {len(wanted) - len(left)} of {len(wanted)} done before ({path})")
    turn, began = asyncio.Semaphore(at_once), time.monotonic()

    async def one(seed: int) -> None:
        async with turn:
            try:
                known[seed] = await piece(seed)
            except BaseException:
                say(f"{name}: seed {seed} failed")
                raise
            if deep:
                _write(path, known, fingerprint(tests))
                done = sum(other in known for other in wanted)
                total = summed(known[other] for other in wanted if other in known)
                say(f"{name}: {done}/{len(wanted)} after {time.monotonic() - began:.0f} s: {told(total)}")

    async with asyncio.TaskGroup() as group:
        for seed in left:
            group.create_task(one(seed))
    return summed(known[seed] for seed in wanted)


def summed(counts: Iterable[Counter[str]]) -> Counter[str]:
    """Added up, with zeros kept: that nothing was found is worth saying."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{f'{number:,}'.replace(',', ' ')} {what}" for what, number in sorted(counts.items()))


def _read(path: Path, code: str) -> dict[int, Counter[str]]:
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    if found["code"] != code:
        return {}
    return {int(seed): Counter(counts) for seed, counts in found["done"].items()}


def _write(path: Path, known: dict[int, Counter[str]], code: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"code": code, "done": known}))
    new.rename(path)
