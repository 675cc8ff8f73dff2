# SPDX-License-Identifier: Apache-2.0
"""An operator that dies at every write of a sweep, before and after it is carried out: no trial lost, none made twice,
each suggestion what its record says; and of searches that do not look back the same trials as undisturbed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.api.inprocess import Death, running, several
from tests.api.played import JOBS
from tests.api.sweep_lab import a_sweep, fake_sweep_lab, outcome_of_sweep
from tests.progress import DEEP

pytestmark = pytest.mark.usefixtures("no_mistakes")
TRIM_JOBS = "app.kubernetes.io/name=sandbox-trim"
OF_SWEEPS = {
    ("update", "sandboxsweeps/status"), ("create", "sandboxexperiments"), ("patch", "sandboxexperiments"),
    ("create", "persistentvolumeclaims"),
}  # fmt: skip


class SweepDeath(Death):
    """Counts only what is written for a sweep."""

    async def __call__(self, verb: str, plural: str, moment: str) -> bool:
        if (verb, plural) in OF_SWEEPS or self.dying.is_set():
            return await super().__call__(verb, plural, moment)
        return False


def small(method: str) -> dict[str, Any]:
    return a_sweep(method=method, maxTrials=4, parallelism=2)


async def undisturbed(spec: dict[str, Any]) -> tuple[object, int]:
    """The end of a sweep without faults, and how many writes were made for it."""
    writes = 0

    async def note(verb: str, plural: str, moment: str) -> bool:
        nonlocal writes
        writes += moment == "before" and (verb, plural) in OF_SWEEPS
        return False

    async with fake_sweep_lab() as (api, lab):
        api.on_write = note
        async with running(api):
            await lab.apply_sweep("demo", spec)
            await lab.sweep_ends("demo")
        return outcome_of_sweep(lab, "demo"), writes


async def die_once(spec: dict[str, Any], number: int, moment: str) -> tuple[str, object]:
    async with fake_sweep_lab() as (api, lab):
        death = api.on_write = SweepDeath(number, moment)
        async with running(api):
            await lab.apply_sweep("demo", spec)
            over = asyncio.create_task(lab.sweep_ends("demo", limit=60))
            dying = asyncio.create_task(death.dying.wait())
            await asyncio.wait([dying, over], return_when=asyncio.FIRST_COMPLETED)
            for task in (dying, over):
                task.cancel()
        api.on_write = None
        death.dead.set()
        async with running(api):
            await lab.sweep_ends("demo", limit=60)
        lab.assert_none_lost_none_twice("demo", spec["maxTrials"])
        lab.assert_never_more_at_a_time("demo", spec["parallelism"])
        lab.assert_no_job_was_made_twice()
        assert lab.verified("demo") == ()
        return f"{moment} write {number}", outcome_of_sweep(lab, "demo")


@pytest.mark.parametrize("method", ["random", "bayes"])
async def test_killed_at_each_write_in_turn_before_and_after_it_is_carried_out(method: str) -> None:
    """Four trials of bayes are still drawn at random, so they end the same too; what they saw may differ."""
    spec = small(method)
    expected, writes = await undisturbed(spec)
    assert writes >= 8
    deaths = [(number, moment) for number in range(1, writes + 1) for moment in ("before", "after")]
    if not DEEP:  # every write is met, by one of both methods at one of both moments
        deaths = deaths[3 * (method == "bayes") :: 4]
    ends = await several([lambda death=death: die_once(spec, *death) for death in deaths])  # type: ignore[misc]
    assert len(ends) == len(deaths)
    assert {name: end for name, end in ends.items() if end != expected} == {}


async def test_an_operator_that_lives_for_one_write_each_time_gets_there() -> None:
    spec = a_sweep(method="bayes", maxTrials=3, parallelism=2)
    lives = 0
    async with fake_sweep_lab() as (api, lab):
        await lab.apply_sweep("demo", spec)
        while not lab.sweep("demo").get("completionTime"):
            lives += 1
            assert lives < 100, lab.told()
            death = api.on_write = Death(1, "after")
            async with running(api):
                over = asyncio.create_task(lab.sweep_ends("demo"))
                dying = asyncio.create_task(death.dying.wait())
                await asyncio.wait([dying, over], return_when=asyncio.FIRST_COMPLETED)
                for task in (dying, over):
                    task.cancel()
            death.dead.set()
        lab.assert_none_lost_none_twice("demo", 3)
        assert lab.verified("demo") == ()
    assert lives > 6


async def test_files_are_removed_once_by_operators_that_live_for_one_write_each() -> None:
    """From the moment the search is over; the Job ends between two of them."""
    spec = a_sweep(maxTrials=4, parallelism=4, keep={"bestTrials": 1})
    async with fake_sweep_lab() as (api, lab):
        await lab.apply_sweep("demo", spec)
        async with running(api):
            await lab.sweep_ends("demo")
        lives, names = 0, set[str]()
        while lab.sweep_condition("demo", "Trimmed").get("status") != "True":
            lives += 1
            assert lives < 100, lab.told()
            death = api.on_write = Death(1, "after")
            async with running(api):
                ended = asyncio.create_task(lab.sweep_reason("demo", "Trimmed", kind="Trimmed"))
                dying = asyncio.create_task(death.dying.wait())
                await asyncio.wait([dying, ended], return_when=asyncio.FIRST_COMPLETED)
                for task in (dying, ended):
                    task.cancel()
            death.dead.set()
            for job in (await lab.client.list(JOBS, lab.namespace, label_selector=TRIM_JOBS)).items:
                names.add(job["metadata"]["uid"])
                done = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
                await lab.client.patch(JOBS, job["metadata"]["name"], done, lab.namespace, subresource="status")
        best = lab.sweep("demo")["best"]["trial"]
        said = {n: (lab.status(f"demo-{n:04d}").get("trial") or {}).get("artifacts") for n in range(4)}
        assert said == {n: None if n == best else "Removed" for n in range(4)}
        assert lab.sweep("demo")["trimmed"] == 3
        marked = {n: [job["result"].get("removed") for job in lab.status(f"demo-{n:04d}")["jobs"]] for n in range(4)}
        assert marked == {n: [None if n == best else True] for n in range(4)}
        assert lab.verified("demo") == ()
    assert lives > 6
    assert 1 <= len(names) <= 3


class LateTrial:
    """Keeps the making of one trial on its way until another operator has decided on that trial."""

    def __init__(self, number: int) -> None:
        self.is_on_its_way, self.has_landed = asyncio.Event(), asyncio.Event()
        self.another_lives = False
        self._is_decided = asyncio.Event()
        self._number, self._asked = number, 0

    async def __call__(self, verb: str, plural: str, moment: str) -> bool:
        if (verb, plural) == ("create", "sandboxexperiments"):
            self._asked += moment == "before"
            if self._asked == self._number + 1 and not self.has_landed.is_set():
                if moment == "after":
                    self.has_landed.set()
                else:
                    self.is_on_its_way.set()
                    await self._is_decided.wait()
        elif (verb, plural, moment) == ("update", "sandboxsweeps/status", "after") and self.another_lives:
            self._is_decided.set()
            await self.has_landed.wait()
        return False


async def test_a_trial_that_lands_after_its_maker_died_is_what_the_next_ones_see() -> None:
    """It was not there when the next operator looked, which has suggested it anew: from more that had ended."""
    spec = a_sweep(method="bayes", maxTrials=14, parallelism=2)
    async with fake_sweep_lab() as (api, lab):
        late = api.on_write = LateTrial(11)
        async with running(api):
            await lab.apply_sweep("demo", spec)
            await late.is_on_its_way.wait()
            await lab.until(lambda: not lab.running("demo"), "all that were made have ended")
        named = {row["number"]: row["parameters"] for row in lab.sweep("demo")["trials"]}
        late.another_lives = True
        async with running(api):
            await lab.sweep_ends("demo")
        assert late.has_landed.is_set()
        assert lab.trials("demo")[11]["spec"]["trial"]["parameters"] == named[11]
        lab.assert_none_lost_none_twice("demo", 14)
        assert lab.verified("demo") == ()
