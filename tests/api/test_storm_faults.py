# SPDX-License-Identifier: Apache-2.0
"""An API server that refuses, forgets, breaks off, answers nonsense or nothing, ten thousand times, to the real process;
watches that die in silence, and everything else that an operator can't see.

With SANDBOX_DEEP=1 the full counts, resumable: see `progress.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

from tests.api.faults import Faults
from tests.api.journeys import Journeys
from tests.api.storm import Weather, assert_nothing_lost, storm, undisturbed
from tests.api.warm import Nursery
from tests.progress import DEEP, Say, in_pieces, long, summed, told


@long
async def test_faults_on_any_call(nursery: Nursery, tmp_path: Path, say: Say, counts: Say) -> None:
    """The process lives through all of them, and each experiment comes to the end that it has without them."""
    pieces, each = (40, 250) if DEEP else (2, 120)

    async def piece(seed: int) -> Counter[str]:
        async with storm(nursery, tmp_path) as it:
            food = Journeys(seed)
            faults = Faults(random.Random(seed), each, silences=2 if DEEP else int(seed == 0))
            it.deciders.append(faults)
            it.api.longest_watch = 1.0  # so that watches and lists are calls as frequent as others
            it.operator.start()
            while faults.counted["faults"] < each:
                while it.unfinished < 8:
                    await it.feed(food.next())
                await asyncio.sleep(0.05)
                it.assert_alive()
            await it.finished(limit=300)
            ends, found = it.ends(), summed([it.counted(), faults.counted])
        expected = await undisturbed(nursery, tmp_path, it.fed)
        assert {name: end for name, end in ends.items() if end != expected[name]} == {}
        return found

    found = await in_pieces("faults", range(pieces), piece, say=say, deep=DEEP, at_once=4)
    counts(f"faults: {told(found)}")
    assert found["faults"] >= pieces * each
    assert_nothing_lost(found)


@long
async def test_the_status_comes_back_late_while_pods_go_on(
    nursery: Nursery, tmp_path: Path, say: Say, counts: Say
) -> None:
    """Watches tell of our own status seconds after it was written, those of Jobs and pods at once; and kills between."""

    async def piece(seed: int) -> Counter[str]:
        chance = random.Random(seed)
        async with storm(nursery, tmp_path) as it:
            food = Journeys(seed)
            it.api.delay_echoes(chance.uniform(1, 4), plural="sandboxexperiments")
            it.operator.start()
            for _ in range(6):
                await it.feed(food.next())
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(chance.uniform(0.2, 1.5))
                it.operator.kill()
                it.operator.start()
            await it.finished()
            ends, found = it.ends(), it.counted()
        expected = await undisturbed(nursery, tmp_path, it.fed)
        assert {name: end for name, end in ends.items() if end != expected[name]} == {}
        return found

    found = await in_pieces("late echoes", range(50 if DEEP else 2), piece, say=say, deep=DEEP, at_once=4)
    counts(f"late echoes of the status: {told(found)}")
    assert_nothing_lost(found)


@long
async def test_bad_weather(nursery: Nursery, tmp_path: Path, say: Say, counts: Say) -> None:
    """Watches stall, break off and tell late, and history is forgotten, in any order."""

    async def piece(seed: int) -> Counter[str]:
        chance = random.Random(seed)
        async with storm(nursery, tmp_path) as it:
            food = Journeys(seed)
            it.operator.start()
            async with Weather(it.api, chance) as weather:
                for _ in range(12):
                    await it.feed(food.next())
                    await asyncio.sleep(chance.uniform(0, 1.0))
            await it.finished()
            ends, found = it.ends(), summed([it.counted(), weather.counted])
        expected = await undisturbed(nursery, tmp_path, it.fed)
        assert {name: end for name, end in ends.items() if end != expected[name]} == {}
        return found

    found = await in_pieces("bad weather", range(100 if DEEP else 1), piece, say=say, deep=DEEP, at_once=4)
    counts(f"bad weather: {told(found)}")
    assert_nothing_lost(found)
