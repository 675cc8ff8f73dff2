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
from tests.api.conftest import DEEP, Say
from tests.api.fates import Moment
from tests.api.progress import in_pieces, summed, told
from tests.api.storm import (
    Journey,
    Journeys,
    KillAtCall,
    Kind,
    Storm,
    bulky,
    rough,
    smooth,
    storm,
    undisturbed,
    with_a_claim,
)
from tests.api.warm import Nursery

KINDS = (smooth, rough, with_a_claim, bulky)
MOMENTS: tuple[Moment, ...] = ("before", "after")


async def calls_of(nursery: Nursery, folder: Path, journey: Journey) -> list[tuple[str, str]]:
    """(verb, plural) of every call that the operator makes for one experiment, its own start included."""
    async with storm(nursery, folder) as it:
        await it.feed(journey)
        it.operator.start()
        await it.finished()
        await it.lab.until(lambda: ("create", "events") in [call[:2] for call in it.api.requests], "the last Event")
        return [call[:2] for call in it.api.requests]


async def killed_at(
    nursery: Nursery, folder: Path, journey: Journey, number: int, moment: Moment, expected: object
) -> Counter[str]:
    """One life that ends at its n-th call, and a second one that brings the experiment to the right end."""
    async with storm(nursery, folder) as it:
        await it.feed(journey)
        death = it.api.on_call = KillAtCall(it.operator, number, moment)
        it.operator.start()
        over = asyncio.create_task(it.finished())
        dead = asyncio.create_task(death.dead.wait())
        await asyncio.wait([over, dead], return_when=asyncio.FIRST_COMPLETED)
        it.api.on_call = None
        if death.died_at is not None:
            it.operator.start()
        dead.cancel()
        await over
        assert it.ends() == {journey.name: expected}, it.lab.told()
        points = Counter({"points": 1, f"{death.died_at.verb} {death.died_at.plural}": 1} if death.died_at else {})
        return summed([it.counted(), points])


@pytest.mark.timeout(3600 if DEEP else 300)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_killed_at_each_call_before_the_server_hears_of_it_and_after_it_did_it(
    nursery: Nursery, tmp_path: Path, say: Say, counts: Say, kind: Kind
) -> None:
    """Reads and watches are calls like any other. The calls of a killed run are numbered anew in each, and two that
    are sent at once may change places: so each kind of call must have been struck, and as many as there are."""
    journey = kind("demo", random.Random(1))
    calls = await calls_of(nursery, tmp_path, journey)
    expected = (await undisturbed(nursery, tmp_path, [journey]))["demo"]
    points = [(number, moment) for number in range(1, len(calls) + 1) for moment in MOMENTS]

    async def piece(seed: int) -> Counter[str]:
        number, moment = points[seed]
        for _ in range(5):  # a late word of the cluster can save a call
            found = await killed_at(nursery, tmp_path, journey, number, moment, expected)
            if found["points"]:
                return found
        return found

    name = f"kills at calls of {kind.__name__}"
    found = await in_pieces(name, range(len(points)), piece, say=say, deep=DEEP, at_once=6)
    counts(
        f"kills at calls ({kind.__name__}): {len(calls)} calls x {len(MOMENTS)} moments, {found['points']} points struck,"
        f" {found['Jobs']} Jobs, duplicates {found['duplicates']}, lost {found['lost']}, run again {found['run again']}"
    )
    assert found["points"] == len(points)
    struck = {call: found[" ".join(call)] for call in set(calls)}
    assert all(struck.values()), struck
    assert found["duplicates"] == found["lost"] == found["run again"] == 0


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
        if self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.expovariate(6))
        else:
            moment: Moment = self.chance.choice(MOMENTS)
            death = self.it.api.on_call = KillAtCall(self.it.operator, self.chance.randint(1, 40), moment)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(death.dead.wait(), 2)
            self.it.api.on_call = None
            if death.died_at is not None:
                self.counted["at a call"] += 1
        overlapping = self.it.operator.code is None and self.chance.random() < 0.1
        if overlapping:  # the new pod is there before the old one has gone
            self.it.operators[1].start()
            await asyncio.sleep(self.chance.uniform(0, 0.3))
            self.counted["overlapping"] += 1
        if self.it.operator.code is None:
            self.it.operator.kill()
        self.counted["kills"] += 1
        if overlapping:
            self.it.operators.reverse()
        else:
            self.it.operator.start()


@pytest.mark.timeout(7200 if DEEP else 300)
async def test_killed_at_random(nursery: Nursery, tmp_path: Path, say: Say, counts: Say) -> None:
    """Several experiments at once, successors that come before the old one has gone, experiments that fail and retry."""

    async def piece(seed: int) -> Counter[str]:
        async with storm(nursery, tmp_path) as it:
            kills = Kills(it, random.Random(seed), Journeys(seed))
            it.operator.start()
            for _ in range(25):
                await kills.once()
            await it.finished()
            ends, found = it.ends(), summed([it.counted(), kills.counted])
        expected = await undisturbed(nursery, tmp_path, it.fed)
        assert {name: end for name, end in ends.items() if end != expected[name]} == {}
        return found

    found = await in_pieces("kills at random", range(40 if DEEP else 4), piece, say=say, deep=DEEP, at_once=4)
    counts(f"kills at random: {told(found)}")
    assert found["kills"] >= (1000 if DEEP else 100)
    assert found["duplicates"] == found["lost"] == found["run again"] == 0
