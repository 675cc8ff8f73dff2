# SPDX-License-Identifier: Apache-2.0
"""An API server that refuses, forgets, drops answers and tells late, and deaths at each write: always the same end.

The operator runs in the test's process here: what is killed is its tasks and its connection, with all that it knew.
That is as dead as after kill -9 for the API server, and a hundred times faster. A few deaths are real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Operators, kubeconfig
from tests.api.fakeapi import FakeAPI
from tests.api.lab import MISTAKES, Lab, outcome_of, probes, road
from tests.api.played import PLAYER, Gate, Table, lacks_image, succeeds
from tests.api.waiting import eventually

from sandbox_operator.build.defaults import Defaults
from sandbox_operator.build.names import LABEL_MANAGED, MANAGED_BY
from sandbox_operator.kube.config import Connection
from sandbox_operator.reconcile.process import Operator
from sandbox_operator.reconcile.settings import Settings

DEEP = bool(os.environ.get("SANDBOX_DEEP"))
SETTINGS = Settings(metrics_port=0, defaults=Defaults(images={"data": "registry.example/data:1"}))
EXPERIMENTS = ("sandbox.datajuicer.io", "sandboxexperiments")
HOOKS = ("before", "refine", "process", "after")


@pytest.fixture(autouse=True)
def no_mistakes(caplog: pytest.LogCaptureFixture) -> Any:
    """What the operator's log must not say, whatever the API server does."""
    caplog.set_level("INFO")
    yield
    told = [record.getMessage() for record in caplog.records if any(word in record.getMessage() for word in MISTAKES)]
    assert not told, told


@contextlib.asynccontextmanager
async def running(api: FakeAPI) -> AsyncIterator[asyncio.Task[None]]:
    """An operator, killed at the end of the block."""
    async with Operator(Connection(api.url), SETTINGS) as operator:
        task = asyncio.create_task(operator.run())
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def fresh(table: Table | None = None) -> AsyncIterator[tuple[FakeAPI, Lab]]:
    """An API server and a namespace of their own, for tests that need many."""
    async with FakeAPI() as api:
        api.spared.add(PLAYER)
        async with Lab(Connection(api.url), "lab", table, fake=True) as lab:
            yield api, lab


def check(lab: Lab, expected: object, *names: str) -> None:
    for name in names or ("demo",):
        assert outcome_of(lab.status(name)) == expected, lab.told()
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()
    beyond = {identity for identity in lab.made if identity[2] > 1}
    assert not beyond, f"attempts beyond the first: {beyond}\n{lab.told()}\n{lab.steps(*names or ('demo',))}"


async def undisturbed() -> tuple[object, list[tuple[str, str]]]:
    """The end of the road without faults, and the writes on it, in order."""
    writes: list[tuple[str, str]] = []

    async def note(verb: str, plural: str, moment: str) -> bool:
        if moment == "before":
            writes.append((verb, plural))
        return False

    async with fresh() as (api, lab):
        api.on_write = note
        async with running(api):
            await lab.apply("demo", road())
            await lab.finished("demo")
            await lab.until(lambda: ("create", "events") in writes, "the closing Event")
        return outcome_of(lab.status("demo")), writes


class Death:
    """Kills whoever makes the n-th write, before or after it is carried out; nobody hears an answer."""

    def __init__(self, number: int, moment: str) -> None:
        self.dying = asyncio.Event()
        self.dead = asyncio.Event()
        self._left, self._moment = number, moment

    async def __call__(self, _: str, __: str, moment: str) -> bool:
        if moment == "before":
            self._left -= 1
        if self._left == 0 and moment == self._moment and not self.dying.is_set():
            self.dying.set()
        if self.dying.is_set():
            await self.dead.wait()
            return True
        return False


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


async def several(jobs: list[Callable[[], Awaitable[tuple[str, object]]]], at_once: int = 4) -> dict[str, object]:
    """The results of many runs, a few of them beside each other."""
    turn = asyncio.Semaphore(at_once)

    async def one(job: Callable[[], Awaitable[tuple[str, object]]]) -> tuple[str, object]:
        async with turn:
            return await job()

    return dict(await asyncio.gather(*(one(job) for job in jobs)))


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


async def test_the_real_process_killed_at_a_write(tmp_path: Path, operators: Operators) -> None:
    """Kill -9 for true: at the first and the last Job's creation and at the first status write, or at each write."""
    expected, writes = await undisturbed()
    creates = [number for number, write in enumerate(writes, 1) if write == ("create", "jobs")]
    chosen = range(1, len(writes) + 1) if DEEP else (1, creates[0], creates[-1])
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


FAULTS: dict[str, Callable[[FakeAPI], None]] = {
    "turned away": lambda api: [api.fail(verb, 429, times=3, retry_after=0.05) for verb in ("create", "patch")],
    "create fails a little": lambda api: api.fail("create", 500, plural="jobs", times=3),
    "create fails for long": lambda api: api.fail("create", 503, plural="jobs", times=12),
    "status fails for long": lambda api: api.fail("patch", 500, plural="sandboxexperiments", times=12),
    "conflicts": lambda api: api.fail("patch", 409, plural="sandboxexperiments", times=4),
    "answers to creates are lost": lambda api: api.cut("create", times=4),
    "answers to commits are lost": lambda api: api.cut("patch", plural="sandboxexperiments", times=5),
    "everything is lost once": lambda api: [api.cut(verb, times=2) for verb in ("list", "get", "create", "patch")],
    "lists fail": lambda api: api.fail("list", 500, times=7),
    "watches fail": lambda api: api.fail("watch", 500, times=12),
    "watches break off": lambda api: api.break_after(2),
    "slow echoes": lambda api: api.delay_echoes(0.3),
    "very slow echoes": lambda api: api.delay_echoes(0.8),
    "the claim is refused for long": lambda api: api.fail("create", 500, plural="persistentvolumeclaims", times=7),
    "a quota for a while": lambda api: api.fail("create", 403, plural="jobs", times=3),
    "events can't be written": lambda api: api.fail("create", 403, plural="events", times=1000),
}  # type: ignore[dict-item]


async def test_whatever_the_api_server_does_the_end_is_the_same() -> None:
    expected, _ = await undisturbed()

    async def run(name: str) -> tuple[str, object]:
        async with fresh() as (api, lab):
            FAULTS[name](api)
            async with running(api):
                await lab.apply("demo", road())
                await lab.finished("demo", limit=90)
            check(lab, outcome_of(lab.status("demo")))
            return name, outcome_of(lab.status("demo"))

    ends = await several([lambda name=name: run(name) for name in FAULTS], at_once=8)  # type: ignore[misc]
    assert {name: end for name, end in ends.items() if end != expected} == {}


async def test_any_mixture_of_faults() -> None:
    """Each write meets a fate that is drawn: carried out, lost before, lost after; and the watches have fits."""
    expected, _ = await undisturbed()

    async def run(seed: int) -> tuple[str, object]:
        chance = random.Random(seed)

        async def fate(*_: str) -> bool:
            return chance.random() < 0.15

        async with fresh() as (api, lab):
            api.on_write = fate
            api.delay_echoes(chance.choice([0.0, 0.02, 0.2]))
            async with running(api):
                await lab.apply("demo", road())
                over = asyncio.create_task(lab.finished("demo", limit=90))
                while not over.done():
                    match chance.randrange(4):
                        case 0:
                            api.forget_history()
                        case 1:
                            api.break_after(chance.randrange(1, 5))
                        case 2:
                            api.break_after(None)
                        case 3:
                            api.stall(True)
                            await asyncio.wait([over], timeout=0.2)
                            api.stall(False)
                    await asyncio.wait([over], timeout=chance.uniform(0.05, 0.3))
                await over
            check(lab, outcome_of(lab.status("demo")))
            return f"seed {seed}", outcome_of(lab.status("demo"))

    seeds = range(200) if DEEP else range(12)
    ends = await several([lambda seed=seed: run(seed) for seed in seeds])  # type: ignore[misc]
    assert {name: end for name, end in ends.items() if end != expected} == {}


async def test_history_that_is_gone_is_listed_again(api: FakeAPI, fake_lab: Lab) -> None:
    expected, _ = await undisturbed()
    gates = {name: Gate(succeeds()) for name in HOOKS}
    fake_lab.kubelet.table |= {(name,): gate for name, gate in gates.items()}
    async with running(api):
        await fake_lab.apply("demo", road())
        for name, gate in gates.items():
            await fake_lab.reached(gate, f"{name} runs")
            api.stall()
            gate.opened.set()
            await fake_lab.until(
                lambda: all(pod.get("status", {}).get("phase") == "Succeeded" for pod in fake_lab.pods.store.values()),
                f"{name} ends",
            )
            api.forget_history()
            api.stall(False)
        await fake_lab.finished("demo")
    check(fake_lab, expected)


async def test_a_job_that_vanished_unseen_is_found_missing_by_the_next_list(api: FakeAPI, fake_lab: Lab) -> None:
    gate = fake_lab.kubelet.table[("a", 1)] = Gate(succeeds())
    async with running(api):
        await fake_lab.apply("demo", probes("a"))
        await fake_lab.reached(gate, "the hook runs")
        await fake_lab.until(lambda: fake_lab.job("demo", "a")["state"] == "Running", "and the status says so")
        (job,), (pod,) = fake_lab.jobs_of("demo"), fake_lab.pods_of("demo")
        api.vanish("", "pods", "lab", pod["metadata"]["name"])
        api.vanish("batch", "jobs", "lab", job["metadata"]["name"])
        await fake_lab.finished("demo")
    told = fake_lab.job("demo", "a")
    assert (told["state"], told["attempts"], told["failures"]["preempted"]) == ("Succeeded", 2, 1)


async def test_a_job_that_is_over_before_its_pod_is_heard_of_is_no_lost_result(api: FakeAPI, fake_lab: Lab) -> None:
    """The watch of pods is late, that of Jobs is not: the hook must not run a second time."""
    async with running(api):
        api.stall(plural="pods")
        await fake_lab.apply("demo", probes("a", timeouts={"result": "1s"}))
        await fake_lab.finished("demo")
    check(fake_lab, outcome_of(fake_lab.status("demo")))
    assert "failures" not in fake_lab.job("demo", "a")


async def test_a_running_hook_whose_job_is_not_heard_of_is_no_preemption(api: FakeAPI, fake_lab: Lab) -> None:
    """The answer to its create was lost, the watch of Jobs is late, and its pod is out of sight for a moment."""
    api.cut("create", plural="jobs")
    gate = fake_lab.kubelet.table[("a",)] = Gate(succeeds())
    async with running(api):
        api.stall(plural="jobs")
        await fake_lab.apply("demo", probes("a"))
        await fake_lab.until(lambda: fake_lab.job("demo", "a").get("state") == "Running", "the status says it runs")
        (pod,) = fake_lab.pods_of("demo")
        look = ("get", "jobs", "lab", fake_lab.job("demo", "a")["jobName"])
        looks = api.requests.count(look)

        async def label(value: str | None) -> None:
            body = {"metadata": {"labels": {LABEL_MANAGED: value}}}
            await fake_lab.client.patch(fake_lab.pods.resource, pod["metadata"]["name"], body, "lab")

        await label(None)
        await eventually(lambda: api.requests.count(look) > looks)
        await label(MANAGED_BY)
        gate.opened.set()
        await fake_lab.finished("demo")
    check(fake_lab, outcome_of(fake_lab.status("demo")))


async def test_an_experiment_that_vanished_unseen_is_forgotten(api: FakeAPI, fake_lab: Lab) -> None:
    gate = fake_lab.kubelet.table[("gone", "a")] = Gate(succeeds())
    async with running(api) as operator:
        await fake_lab.apply("gone", probes("a", "b"))
        await fake_lab.reached(gate, "the hook runs")
        api.vanish(*EXPERIMENTS, "lab", "gone")
        gate.opened.set()
        await fake_lab.apply("other", probes("a"))
        await fake_lab.finished("other")
        assert not operator.done()
    assert not [identity for identity in fake_lab.made if identity[:2] == ("gone", "anonymous/1/probe/1")]


async def test_a_change_of_retention_is_made_in_the_end_though_it_fails_at_first(api: FakeAPI, fake_lab: Lab) -> None:
    """Of a finished experiment, whose status already says that the change was seen."""
    async with running(api):
        await fake_lab.apply("demo", probes("a"))
        await fake_lab.finished("demo")
        api.fail("patch", 500, plural="persistentvolumeclaims", times=7)
        await fake_lab.change("demo", {"workspace": {"retention": "Delete"}})
        claims = api.kind_of("", "persistentvolumeclaims")
        await fake_lab.until(
            lambda: claims["lab", "demo-workspace"]["metadata"].get("ownerReferences"), "the claim has its owner"
        )
    assert fake_lab.status("demo")["observedGeneration"] == 2


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


async def test_another_spec_is_asked_for_anew_after_a_refusal(api: FakeAPI, fake_lab: Lab) -> None:
    """Deleted and applied under the same name while no watch told: the first one's refusal is not the second's."""
    async with running(api):
        api.fail("create", 422, plural="persistentvolumeclaims", times=1)
        await fake_lab.apply("demo", probes("a"))
        await fake_lab.reason("demo", "ClaimRefused")
        api.stall()
        await fake_lab.delete("demo")
        await fake_lab.apply("demo", probes("a"))
        api.forget_history()
        api.stall(False)
        await fake_lab.finished("demo")
    assert fake_lab.status("demo")["outcome"] == "Succeeded"


async def test_a_claim_made_by_somebody_else_at_the_same_moment_is_not_used(api: FakeAPI, fake_lab: Lab) -> None:
    """It appears after the operator looked and before it creates its own."""

    async def make_claim_first(verb: str, plural: str, moment: str) -> bool:
        if (verb, plural, moment) == ("create", "persistentvolumeclaims", "before"):
            name = {"namespace": "lab", "name": "demo-workspace"}
            if ("lab", "demo-workspace") not in api.kind_of("", plural):
                api.put("", plural, {"metadata": name, "spec": {"accessModes": ["ReadWriteOnce"]}})
        return False

    api.on_write = make_claim_first
    async with running(api):
        await fake_lab.apply("demo", probes("a"))
        await fake_lab.reason("demo", "ClaimNotOurs")
    assert not fake_lab.made


async def test_a_job_that_is_deleted_while_it_is_adopted_is_made_again(api: FakeAPI, fake_lab: Lab) -> None:
    """The create finds it there (its own answer was lost), the look at it finds it gone."""
    api.cut("create", plural="jobs")
    api.fail("get", 404, plural="jobs", times=1)
    async with running(api):
        await fake_lab.apply("demo", probes("a"))
        await fake_lab.finished("demo")
    assert fake_lab.status("demo")["outcome"] == "Succeeded"


async def test_a_contract_of_somebody_else_in_our_name_is_a_loud_failure(api: FakeAPI, fake_lab: Lab) -> None:
    noise = [random.Random(n).randbytes(9).hex() for n in range(9000)]
    spec = probes("a")
    spec["probeJobConfigs"][0]["djConfigs"]["process"] = [{"flagged_words_filter": {"lang": word}} for word in noise]

    async def plant(verb: str, plural: str, moment: str) -> bool:
        if (verb, plural, moment) == ("create", "configmaps", "before"):
            name = fake_lab.job("demo", "a")["jobName"]
            api.put("", plural, {"metadata": {"namespace": "lab", "name": name}, "data": {"contract": "AAAA"}})
        return False

    api.on_write = plant
    async with running(api):
        await fake_lab.apply("demo", spec)
        await fake_lab.finished("demo")
    assert fake_lab.job("demo", "a")["reason"] == "NameTaken"
    assert "ConfigMap" in fake_lab.job("demo", "a")["message"]
    assert not fake_lab.made
