# SPDX-License-Identifier: Apache-2.0
"""Commands of users at random moments, to the real process: suspend, resume, stop, rerun, delete and apply again; with
kills, faults and bad weather between.

With SANDBOX_DEEP=1 the full counts, resumable: see `progress.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.api.fakestore import Manifest
from tests.api.faults import Faults
from tests.api.journeys import Journey, Journeys
from tests.api.storm import ENDED, Storm, Weather, assert_nothing_lost, storm, undisturbed
from tests.api.warm import Nursery
from tests.progress import DEEP, Say, in_pieces, long, summed, told

WEIGHTS = {"suspend": 4, "suspend at once": 4, "resume": 6, "rerun": 4, "rerun from": 3, "ttl": 2, "stop": 1, "stop at once": 1, "apply again": 1}  # fmt: skip
ENDING = ("suspend at once", "stop at once", "rerun", "rerun from")
"""Those after which what a hook gives in that very moment is not waited for."""


@dataclass
class Commander:
    """What impatient users do."""

    it: Storm
    chance: random.Random
    stopped: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    tokens: int = 0

    async def once(self) -> None:
        (command,) = self.chance.choices([*WEIGHTS], [*WEIGHTS.values()])
        journey = self.chance.choice(self.it.fed)
        self.counted[f"x {command}"] += 1
        if command == "apply again":
            await self.it.lab.delete(journey.name)
            await self.it.lab.apply(journey.name, journey.spec)
            self.stopped.discard(journey.name)
            return
        if command.startswith("stop"):
            self.stopped.add(journey.name)
        await self.it.lab.change(journey.name, self._change(command, journey))

    def _change(self, command: str, journey: Journey) -> dict[str, Any]:
        self.tokens += 1
        rerun: dict[str, Any] = {"token": str(self.tokens), "from": None}
        match command:
            case "suspend":
                return {"suspend": True, "suspendPolicy": "Boundary"}
            case "suspend at once":
                return {"suspend": True, "suspendPolicy": "Now"}
            case "resume":
                return {"suspend": False}
            case "rerun":
                return {"rerun": rerun}
            case "rerun from":
                names = sorted({str(key[0]) for key in journey.table})
                return {"rerun": {**rerun, "from": self.chance.choice(names)}}
            case "ttl":
                return {"ttlSecondsAfterFinished": self.chance.choice([0, 1, None])}
        return {"stop": "Now" if command == "stop at once" else "AfterEvaluation"}

    async def enough(self) -> None:
        """They all want to see the end now."""
        for journey in self.it.fed:
            await self.it.lab.change(journey.name, {"suspend": False})


def came_to(end: Manifest) -> Manifest:
    """How it ended and with which figures, however often it was begun."""
    jobs = {job["id"]: (job["state"], job["metrics"]) for job in end.get("jobs") or ()}
    return {"outcome": end["outcome"], "jobs": jobs}


def failures_of(end: Manifest) -> Counter[str]:
    """By class, of all jobs."""
    several = [job["failures"] for job in end.get("jobs") or ()] + (end.get("failures") or [])
    return sum((Counter(one) for one in several if one), Counter())


@long
async def test_commands_at_any_moment(nursery: Nursery, tmp_path: Path, say: Say, counts: Say) -> None:
    """What is not stopped comes to the end that it has without commands, only with more attempts: those that were ended
    by a command count as no failure, and nobody else ends one."""

    async def piece(seed: int) -> Counter[str]:
        chance = random.Random(seed)
        async with storm(nursery, tmp_path) as it, contextlib.AsyncExitStack() as troubles:
            it.lab.kubelet.dying_seconds = chance.choice([0.0, 0.1, 0.5])
            commander, food = Commander(it, chance), Journeys(seed)
            if seed % 4 in (1, 3):
                it.deciders.append(Faults(chance, 1000, rate=0.08))
            if seed % 4 in (2, 3):
                await troubles.enter_async_context(Weather(it.api, chance))
            it.operator.start()
            for _ in range(5):
                await it.feed(food.next())
            for _ in range(30):
                await asyncio.sleep(chance.expovariate(5))
                await commander.once()
                if chance.random() < 0.15:
                    it.operator.kill()
                    it.operator.start()
            await commander.enough()
            it.deciders.clear()
            await troubles.aclose()
            await it.settled()
            ends, found = it.ends(), summed([it.counted(), commander.counted])
        expected = await undisturbed(nursery, tmp_path, it.fed)
        for name, end in ends.items():
            if name in commander.stopped:
                assert end["outcome"] in ("Stopped", expected[name]["outcome"]), (name, end)
            else:
                assert came_to(end) == came_to(expected[name]), name
            assert failures_of(end) <= failures_of(expected[name]), (name, end)
        return found

    found = await in_pieces("commands", range(200) if DEEP else (2, 3), piece, say=say, deep=DEEP, at_once=4)
    counts(f"commands: {told(found)}")
    assert_nothing_lost(found, excused=[ENDED])
    assert found[ENDED] <= sum(found[f"x {command}"] for command in ENDING)
