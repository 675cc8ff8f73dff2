# SPDX-License-Identifier: Apache-2.0
"""Faults drawn at random for any call: what an API server, and what is between it and us, can do to a request."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.api.fates import CUT, RESET, SILENCE, Call, Fate, Moment, page, refused, slow

Draw = Callable[[random.Random], Fate]
BEFORE: dict[str, tuple[int, Draw]] = {
    # name: weight, fate. What was asked for is not done.
    "404": (2, lambda _: refused(404)),
    "409": (6, lambda _: refused(409)),
    "410": (4, lambda _: refused(410)),
    "429": (6, lambda chance: refused(429, retry_after=chance.choice([None, 0.05, 0.3, 1.0]))),
    "500": (6, lambda _: refused(500)),
    "503": (6, lambda _: refused(503)),
    "504": (3, lambda _: refused(504)),
    "reset": (6, lambda _: RESET),
    "a proxy's page": (2, lambda chance: page(chance.choice([200, 502]))),
}
AFTER: dict[str, tuple[int, Draw]] = {
    # It is done, and who asked can't know.
    "500 after it was done": (6, lambda _: refused(500)),
    "503 after it was done": (4, lambda _: refused(503)),
    "504 after it was done": (4, lambda _: refused(504)),
    "reset after it was done": (8, lambda _: RESET),
    "cut answer": (6, lambda _: CUT),
    "a proxy's page after it was done": (2, lambda chance: page(chance.choice([200, 502]))),
    "late answer": (4, lambda chance: slow(chance.uniform(0.05, 1.0))),
}


@dataclass
class Faults:
    """Strikes calls at random until there were `number`; no call is safe."""

    chance: random.Random
    number: int
    rate: float = 0.3
    silences: int = 0
    """How many of them are silence: each takes a caller the 30 s after which it gives up."""
    counted: Counter[str] = field(default_factory=lambda: Counter({"faults": 0}))
    later: dict[int, str] = field(default_factory=dict)

    def __call__(self, call: Call, moment: Moment) -> Fate | None:
        if moment == "after":
            name = self.later.pop(call.number, None)
            return self._count(name, call, AFTER[name][1](self.chance)) if name is not None else None
        if self.counted["faults"] >= self.number or self.chance.random() > self.rate:
            return None
        if self.counted["x silence"] < self.silences and self.chance.random() < 0.05:
            return self._count("silence", call, SILENCE)
        every = {**BEFORE, **AFTER}
        (name,) = self.chance.choices([*every], [weight for weight, _ in every.values()])
        if name in BEFORE:
            return self._count(name, call, BEFORE[name][1](self.chance))
        self.later[call.number] = name
        return None

    def _count(self, name: str, call: Call, fate: Fate) -> Fate:
        self.counted.update({"faults": 1, f"x {name}": 1, f"on {call.verb}": 1})
        return fate
