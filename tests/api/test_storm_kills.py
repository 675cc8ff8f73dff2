# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of the operator's real process: at every call to the API server in turn, and at random, a thousand times.

With SANDBOX_DEEP=1 the full counts, resumable: see `progress.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.api.fakestore import Manifest
from tests.api.fates import Moment
from tests.api.faults import Faults
from tests.api.journeys import Journey, Journeys, Kind, bulky, fanned, mute, parallel, rough, smooth, with_a_claim
from tests.api.storm import KillAtCall, Storm, Weather, assert_nothing_lost, storm, undisturbed
from tests.api.warm import Nursery
from tests.progress import DEEP, Say, in_pieces, long, summed, told

KINDS = (smooth, rough, with_a_claim, bulky, parallel, fanned, mute)
COALESCED = ("update", "sandboxexperiments/status")
"""How often this is called while nothing is decided hangs on the clock; nothing else does."""
MOMENTS: tuple[Moment, ...] = ("before", "after")


@dataclass(frozen=True)
class Point:
    """Where a life ends: at the n-th call of a kind, before or after it is carried out."""

    call: tuple[str, str]
    number: int
    moment: Moment


async def points_of(nursery: Nursery, folder: Path, journey: Journey) -> list[Point]:
    """Every call that the operator makes for one experiment, its own start, reads and watches included."""
    async with storm(nursery, folder) as it:
        await it.feed(journey)
        it.operator.start()
        await it.lab.until(lambda: it.has_said_the_end(journey), "the last Event is sent")
        calls = Counter(request[:2] for request in it.api.requests)
    # In an order that is the same each time, and what is not always as often last: finished points are remembered.
    return [
        Point(call, calls_so_far, moment)
        for call in sorted(calls, key=lambda call: (call == COALESCED, call))
        for calls_so_far in range(1, calls[call] + 1)
        for moment in MOMENTS
    ]


async def killed_at(nursery: Nursery, folder: Path, journey: Journey, point: Point, expected: Manifest) -> Counter[str]:
    """One life that ends at a point, and a second one that brings the experiment to the right end."""
    async with storm(nursery, folder) as it:
        await it.feed(journey)
        death = KillAtCall(it.operator, point.number, point.moment, point.call)
        it.deciders.append(death)
        it.operator.start()
        await it.lab.until(lambda: death.died_at or it.has_said_the_end(journey), "it is killed, or over")
        if death.died_at is not None:
            it.operator.start()
        await it.finished()
        assert it.ends() == {journey.name: expected}, it.lab.told()
        return summed([it.counted(), Counter(struck=death.died_at is not None)])


@long
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_killed_at_each_call_before_the_server_hears_of_it_and_after_it_did_it(
    nursery: Nursery, tmp_path: Path, say: Say, counts: Say, kind: Kind
) -> None:
    """Reads and watches are calls like any other. In the sample every third point of the smooth road, some of the others."""
    journey = kind("demo", random.Random(1))
    points = await points_of(nursery, tmp_path, journey)
    chosen = range(0, len(points), 1 if DEEP else 3 if kind is smooth else 11)
    expected = (await undisturbed(nursery, tmp_path, [journey]))["demo"]
    missed: list[Point] = []

    async def piece(seed: int) -> Counter[str]:
        for _ in range(3):
            found = await killed_at(nursery, tmp_path, journey, points[seed], expected)
            if found["struck"]:
                return found
        missed.append(points[seed])
        return found

    name = f"kills at calls of {kind.__name__}"
    found = await in_pieces(name, chosen, piece, say=say, deep=DEEP, at_once=6)
    counts(
        f"kills at calls ({kind.__name__}): {len(points) // 2} points x 2, {found['struck']} of {len(chosen)} struck:"
        f" {told(found)}"
    )
    assert {point.call for point in missed} <= {COALESCED}
    assert found["struck"] >= 0.9 * len(chosen)
    assert_nothing_lost(found)


@dataclass
class Kills:
    """Kills one operator after another, at random, while there is work."""

    it: Storm
    chance: random.Random
    food: Journeys
    counted: Counter[str] = field(default_factory=lambda: Counter({"kills": 0, "at a call": 0, "overlapping": 0}))

    async def once(self) -> None:
        """Let the operator live for a while, and kill it."""
        while self.it.unfinished < 3:
            await self.it.feed(self.food.next())
        if self.chance.random() < 0.4:
            await asyncio.sleep(self.chance.expovariate(3))
        elif await self._at_a_call():
            self.counted.update({"kills": 1, "at a call": 1})
            self.it.operator.start()
            return
        self.it.assert_alive()
        if self.chance.random() < 0.1:  # the new pod is there before the old one has gone
            self.it.operators[1].start()
            await asyncio.sleep(self.chance.uniform(0, 0.3))
            self.it.operator.kill()
            self.it.operators.reverse()
            self.counted["overlapping"] += 1
        else:
            self.it.operator.kill()
            self.it.operator.start()
        self.counted["kills"] += 1

    async def _at_a_call(self) -> bool:
        death = KillAtCall(self.it.operator, self.chance.randint(1, 40), self.chance.choice(MOMENTS))
        self.it.deciders.append(death)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(death.dead.wait(), 2)
        self.it.deciders.remove(death)
        return death.died_at is not None


@long
async def test_killed_at_random(nursery: Nursery, tmp_path: Path, say: Say, counts: Say) -> None:
    """Several experiments at once, some that fail and retry; successors that come before the old one has gone; every
    second time with faults besides, every second time in bad weather."""

    async def piece(seed: int) -> Counter[str]:
        chance = random.Random(seed)
        async with storm(nursery, tmp_path) as it, contextlib.AsyncExitStack() as troubles:
            kills, faults = Kills(it, chance, Journeys(seed)), Faults(chance, 1000, rate=0.1)
            if seed % 4 in (1, 3):
                it.deciders.append(faults)
            if seed % 4 in (2, 3):
                await troubles.enter_async_context(Weather(it.api, chance))
            it.operator.start()
            for _ in range(25 if DEEP else 13):
                await kills.once()
            await it.finished()
            ends, found = it.ends(), summed([it.counted(), kills.counted, Counter(faults=faults.counted["faults"])])
        expected = await undisturbed(nursery, tmp_path, it.fed)
        assert {name: end for name, end in ends.items() if end != expected[name]} == {}
        return found

    found = await in_pieces("kills at random", range(40 if DEEP else 2), piece, say=say, deep=DEEP, at_once=4)
    counts(f"kills at random: {told(found)}")
    assert found["kills"] >= (1000 if DEEP else 26)
    assert_nothing_lost(found)
