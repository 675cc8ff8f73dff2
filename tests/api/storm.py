# SPDX-License-Identifier: Apache-2.0
"""A place where the operator's real process is killed and lied to for as long as one likes: a fake API server of its own,
who plays the cluster, a witness, and operators that start in milliseconds.

What is run there are journeys (`journeys.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4

from tests.api.conftest import kubeconfig
from tests.api.fakeapi import FakeAPI, OnCall
from tests.api.fakestore import Manifest
from tests.api.fates import RESET, Call, Fate, Moment
from tests.api.journeys import LISTER, SHARED, Journey
from tests.api.lab import Lab
from tests.api.played import PLAYER
from tests.api.warm import Nursery, WarmOperator
from tests.api.witness import Witness

from sandbox_operator.kube.config import Connection
from sandbox_operator.reconcile.resources import HOOKS

LIMIT = 120.0
NEVER = ("duplicates", "lost", "run again")
"""What the witness must not have seen, whatever happened."""
ENDED, UNSEEN, AGAIN = EXCUSES = (
    "results of attempts that had been ended", "results that nobody could see", "Jobs made again because they vanished",
)  # fmt: skip
"""What it lets pass: only where people end attempts, or objects vanish, may there be any of it."""


def assert_nothing_lost(found: Counter[str], *, excused: Collection[str] = ()) -> None:
    assert {name: found[name] for name in (*NEVER, *EXCUSES) if found[name] and name not in excused} == {}


@dataclass
class Storm:
    """`async with storm(nursery, folder) as it`. `operators` may be more than one: the old one, and its successor."""

    api: FakeAPI
    lab: Lab
    witness: Witness
    operators: list[WarmOperator]
    fed: list[Journey] = field(default_factory=list)
    deciders: list[OnCall] = field(default_factory=list)
    """Asked in turn for the fate of each call."""

    def decide(self, call: Call, moment: Moment) -> Fate | None:
        fates = [decider(call, moment) for decider in self.deciders]
        return next((fate for fate in fates if fate is not None), None)

    @property
    def operator(self) -> WarmOperator:
        return self.operators[0]

    def assert_alive(self) -> None:
        """That the operator has not ended by itself."""
        assert self.operator.code is None, f"it ended with {self.operator.code}:\n{self.operator.log[-4000:]}"

    async def feed(self, journey: Journey) -> None:
        self.lab.kubelet.table |= {(journey.name, *key): behaviour for key, behaviour in journey.table.items()}
        self.fed.append(journey)
        await self.lab.apply(journey.name, journey.spec)

    @property
    def unfinished(self) -> int:
        return sum(not self.lab.status(journey.name).get("completionTime") for journey in self.fed)

    async def finished(self, limit: float = LIMIT) -> None:
        await self.lab.finished(*(journey.name for journey in self.fed), limit=limit)

    def is_settled(self, name: str) -> bool:
        """Whether everything that its spec asks for by now is done."""
        item = self.lab.experiments.store.get((self.lab.namespace, name))
        if item is None:
            return False
        status, rerun = item.get("status") or {}, item["spec"].get("rerun") or {}
        return (
            bool(status.get("completionTime"))
            and status.get("observedGeneration") == item["metadata"]["generation"]
            and rerun.get("token") in (None, status.get("rerunToken"))
        )

    async def settled(self, limit: float = LIMIT) -> None:
        names = [journey.name for journey in self.fed]
        await self.lab.until(lambda: all(self.is_settled(name) for name in names), "all is done", limit)

    def has_said_the_end(self, journey: Journey) -> bool:
        """Whether the Event about its end has been sent, the last thing that an operator does for an experiment."""
        events = self.api.kind_of("", "events").values()
        ready = self.lab.condition(journey.name, "Ready").get("message")
        over = self.lab.status(journey.name).get("completionTime")
        return over and any(
            event["involvedObject"]["name"] == journey.name and event["message"] == ready for event in events
        )

    def ends(self) -> dict[str, Manifest]:
        """What came of each journey."""
        return {journey.name: journey.end_of(self.lab.status(journey.name)) for journey in self.fed}

    def counted(self) -> Counter[str]:
        """What the witness saw, with zeros."""
        names = ("Jobs", "results", *NEVER, *EXCUSES)
        return Counter({name: self.witness.counts[name] for name in names} | {"experiments": len(self.fed)})


@contextlib.asynccontextmanager
async def storm(nursery: Nursery, folder: Path) -> AsyncIterator[Storm]:
    """When it is over, all operators are dead, their logs tell of no mistake, and no rule was broken."""
    async with FakeAPI() as api:
        api.spared.add(PLAYER)
        api.collects_orphans = api.pods_end_gracefully = True
        config = kubeconfig(api, folder)
        operators = [WarmOperator(nursery, config, folder / f"{uuid4().hex}.log") for _ in range(2)]
        with contextlib.ExitStack() as killed:
            for operator in operators:
                killed.callback(operator.kill)
            async with Lab(Connection(api.url), "lab", fake=True) as lab:
                await lab.make_claim(SHARED)
                await lab.client.create(HOOKS, LISTER, lab.namespace)
                it = Storm(api, lab, Witness(api), operators)
                api.on_call = it.decide
                try:
                    yield it
                except BaseException:
                    print("rules broken:", *it.witness.violations[:20], sep="\n")
                    print("\n".join(f"{operator.log[-4000:]}" for operator in operators))
                    raise
                it.witness.check()
        for operator in operators:
            operator.end()
            operator.log_path.unlink(missing_ok=True)


class KillAtCall:
    """Kills the operator at the n-th call from now: before the server hears of it, or after it did what was asked.

    With `only` (a verb and a plural) the n-th of those: calls that are sent at once come in any order.
    """

    def __init__(
        self, operator: WarmOperator, number: int, moment: Moment, only: tuple[str, str] | None = None
    ) -> None:
        self.died_at: Call | None = None
        self.dead = asyncio.Event()
        self._operator, self._left, self._moment, self._only = operator, number, moment, only
        self._chosen: Call | None = None

    def __call__(self, call: Call, moment: Moment) -> Fate | None:
        if moment == "before" and self._only in (None, (call.verb, call.plural)):
            self._left -= 1
            if self._left == 0:
                self._chosen = call
        if call != self._chosen or moment != self._moment:
            return None
        self._operator.kill()
        self.died_at = call
        self.dead.set()
        return RESET


@dataclass
class Weather:
    """What an operator sees of the cluster gets worse and better, at random, while its block is open.

    Watches of one kind or of all fall silent for a while, break off in the middle of a word, tell late; the server
    forgets its history, so that what happened meanwhile is in no watch.
    """

    api: FakeAPI
    chance: random.Random
    counted: Counter[str] = field(default_factory=Counter)

    async def __aenter__(self) -> Self:
        self.api.longest_watch = 2.0
        self._task = asyncio.create_task(self._blow())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._clear()

    def _clear(self) -> None:
        self.api.stall(False)
        self.api.break_after(None)
        self.api.echo_seconds.clear()

    async def _blow(self) -> None:
        kinds = [None, "sandboxexperiments", "jobs", "pods", "persistentvolumeclaims"]
        while True:
            what = self.chance.choice(["calm", "stall", "break", "late", "forget", "forget in the dark"])
            self.counted[f"x {what}"] += 1
            match what:
                case "stall":
                    self.api.stall(plural=self.chance.choice(kinds))
                case "break":
                    self.api.break_after(self.chance.randint(1, 5))
                case "late":
                    self.api.delay_echoes(self.chance.uniform(0.1, 3.0), plural=self.chance.choice(kinds))
                case "forget":
                    self.api.forget_history()
                case "forget in the dark":
                    self.api.stall()
            await asyncio.sleep(self.chance.uniform(0.05, 0.6))
            if what == "forget in the dark":
                self.api.forget_history()
            self._clear()


async def undisturbed(nursery: Nursery, folder: Path, fed: list[Journey]) -> dict[str, Manifest]:
    """The ends of the same journeys when nobody interferes, not even one with the other's name."""
    async with storm(nursery, folder) as it:
        it.operator.start()
        for journey in fed:
            await it.feed(journey)
        await it.finished()
        return it.ends()
