# SPDX-License-Identifier: Apache-2.0
"""Deaths at every single write of an experiment, before and after it is carried out: the same end, one Job an attempt."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from tests.api.conftest import Operators, kubeconfig
from tests.api.fakeapi import FakeAPI
from tests.api.inprocess import Death, check, fresh, running, several, undisturbed
from tests.api.lab import Lab, outcome_of, probes, road
from tests.api.played import lacks_image
from tests.api.waiting import eventually
from tests.progress import DEEP

pytestmark = pytest.mark.usefixtures("no_mistakes")


async def die_once(number: int, moment: str) -> tuple[str, object]:
    async with fresh() as (api, lab):
        death = api.on_write = Death(number, moment)
        async with running(api):
            await lab.apply("demo", road())
            await asyncio.wait_for(death.dying.wait(), 60)
        api.on_write = None
        death.dead.set()
        async with running(api):
            await lab.finished("demo", limit=60)
        check(lab, outcome_of(lab.status("demo")))
        return f"{moment} write {number}", outcome_of(lab.status("demo"))


async def test_killed_at_each_write_in_turn_before_and_after_it_is_carried_out() -> None:
    expected, writes = await undisturbed()
    assert Counter(writes)["create", "jobs"] == 4, writes
    deaths = [(number, moment) for number in range(1, len(writes) + 1) for moment in ("before", "after")]
    ends = await several([lambda death=death: die_once(*death) for death in deaths])  # type: ignore[misc]
    assert len(ends) == len(deaths)
    assert {name: end for name, end in ends.items() if end != expected} == {}


async def test_an_operator_that_lives_for_one_write_each_time_gets_there() -> None:
    expected, writes = await undisturbed()
    lives = 0
    async with fresh() as (api, lab):
        await lab.apply("demo", road())
        while not lab.status("demo").get("completionTime"):
            lives += 1
            assert lives < 5 * len(writes), lab.told()
            death = api.on_write = Death(1, "after")
            async with running(api):
                over = asyncio.create_task(lab.finished("demo"))
                await asyncio.wait([asyncio.create_task(death.dying.wait()), over], return_when=asyncio.FIRST_COMPLETED)
                over.cancel()
            death.dead.set()
        check(lab, expected)
    assert lives > 4 * 2


@pytest.mark.timeout(1800 if DEEP else 300)
async def test_the_real_process_killed_at_a_write(tmp_path: Path, operators: Operators) -> None:
    """Kill -9 for true: at the first and the last Job's creation; in the deep run at each write."""
    expected, writes = await undisturbed()
    creates = [number for number, write in enumerate(writes, 1) if write == ("create", "jobs")]
    chosen = range(1, len(writes) + 1) if DEEP else (creates[0], creates[-1])
    for number in chosen:
        async with fresh() as (api, lab):
            death = api.on_write = Death(number, "after")
            operator = operators(kubeconfig(api, tmp_path))
            await lab.apply("demo", road())
            await asyncio.wait_for(death.dying.wait(), 60)
            operator.kill()
            api.on_write = None
            death.dead.set()
            operator.start()
            await lab.finished("demo", limit=60)
            operator.end()
            check(lab, expected)


async def test_a_change_of_retention_survives_a_death_in_the_middle(api: FakeAPI, fake_lab: Lab) -> None:
    async with running(api):
        await fake_lab.apply("demo", probes("a"))
        await fake_lab.finished("demo")
        death = api.on_write = Death(1, "after")  # the status is written, the claim is not yet
        await fake_lab.change("demo", {"workspace": {"retention": "Delete"}})
        await asyncio.wait_for(death.dying.wait(), 30)
    api.on_write = None
    death.dead.set()
    claims = api.kind_of("", "persistentvolumeclaims")
    assert not claims["lab", "demo-workspace"]["metadata"].get("ownerReferences")
    async with running(api):
        await fake_lab.until(
            lambda: claims["lab", "demo-workspace"]["metadata"].get("ownerReferences"), "the claim has its owner"
        )


@pytest.mark.parametrize("trouble", ["death", "errors"])
async def test_a_job_given_up_never_starts_later(api: FakeAPI, fake_lab: Lab, trouble: str) -> None:
    """Its status says that it waited too long; then the operator dies, or its delete fails, before the Job is gone."""
    fake_lab.kubelet.table[("a",)] = lacks_image()
    death: Death | None = None
    if trouble == "errors":
        api.fail("delete", 500, plural="jobs", times=12)

    async def watch_for_the_end(verb: str, plural: str, moment: str) -> bool:
        nonlocal death
        if trouble == "death" and (verb, plural, moment) == ("delete", "jobs", "before"):
            death = api.on_write = Death(1, "before")
            return await death(verb, plural, moment)
        return False

    api.on_write = watch_for_the_end
    async with running(api):
        await fake_lab.apply("demo", probes("a", timeouts={"pending": "1s"}))
        await fake_lab.finished("demo")
        if trouble == "death":
            await eventually(lambda: death is not None and death.dying.is_set())
            assert fake_lab.jobs_of("demo")
        else:
            await fake_lab.until(lambda: not fake_lab.jobs_of("demo"), "its Job is removed", limit=60)
    if death is not None:
        api.on_write = None
        death.dead.set()
        async with running(api):
            await fake_lab.until(lambda: not fake_lab.jobs_of("demo"), "its Job is removed")
    assert fake_lab.job("demo", "a")["reason"] == "PendingTimeout"
