# SPDX-License-Identifier: Apache-2.0
"""An API server that refuses, forgets, drops answers and tells late: always the same end, and no hook run twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from tests.api.fakeapi import FakeAPI
from tests.api.inprocess import check, fresh, running, several, undisturbed
from tests.api.lab import Lab, outcome_of, probes, road
from tests.api.played import Gate, fails, succeeds
from tests.api.waiting import eventually
from tests.progress import DEEP

from sandbox_operator.build.names import LABEL_MANAGED, MANAGED_BY

pytestmark = pytest.mark.usefixtures("no_mistakes")
EXPERIMENTS = ("sandbox.datajuicer.io", "sandboxexperiments")
HOOKS = ("before", "refine", "process", "after")


FAULTS: dict[str, Callable[[FakeAPI], None]] = {
    "turned away": lambda api: [api.fail(verb, 429, times=3, retry_after=0.05) for verb in ("create", "update")],
    "create fails a little": lambda api: api.fail("create", 500, plural="jobs", times=3),
    "create fails for long": lambda api: api.fail("create", 503, plural="jobs", times=12),
    "status fails for long": lambda api: api.fail("update", 500, plural="sandboxexperiments", times=12),
    "conflicts": lambda api: api.fail("update", 409, plural="sandboxexperiments", times=4),
    "answers to creates are lost": lambda api: api.cut("create", times=4),
    "answers to commits are lost": lambda api: api.cut("update", plural="sandboxexperiments", times=5),
    "everything is lost once": lambda api: [api.cut(verb, times=2) for verb in ("list", "get", "create", "update")],
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


@pytest.mark.timeout(1800 if DEEP else 300)
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


@pytest.mark.parametrize("echo", [0.0, 0.3])
async def test_two_operators_at_the_same_time_do_no_harm(api: FakeAPI, fake_lab: Lab, echo: float) -> None:
    """An old pod that has not quite gone: what one has written the other never takes back."""
    expected, _ = await undisturbed()
    api.delay_echoes(echo)
    names = [f"demo-{number}" for number in range(4)]
    async with running(api), running(api):
        for name in names:
            await fake_lab.apply(name, road())
        await fake_lab.finished(*names, limit=90)
    check(fake_lab, expected, *names)


async def test_what_was_computed_from_an_old_status_is_not_written(api: FakeAPI, fake_lab: Lab) -> None:
    """Another operator has committed meanwhile; this one has not heard of it, and sees something else happen."""
    gate = fake_lab.kubelet.table[("a",)] = Gate(fails("User", "ValueError", "row 17"))
    async with running(api):
        await fake_lab.apply("demo", probes("a"))
        await fake_lab.reached(gate, "the hook runs")
        await fake_lab.until(lambda: fake_lab.job("demo", "a").get("state") == "Running", "the status says so")
        api.stall(plural="sandboxexperiments")
        done = {**fake_lab.job("demo", "a"), "state": "Succeeded", "reason": "Completed"}
        body = {"status": {"jobs": [done]}}
        await fake_lab.client.patch(fake_lab.experiments.resource, "demo", body, "lab", subresource="status")
        write = ("update", "sandboxexperiments/status", "lab", "demo")
        writes = api.requests.count(write)
        gate.opened.set()
        await eventually(lambda: api.requests.count(write) > writes)
        api.stall(False)
        await fake_lab.finished("demo")
    assert fake_lab.status("demo")["outcome"] == "Succeeded"
    fake_lab.assert_status_only_went_forward("demo")


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


async def test_a_foreign_job_that_goes_while_it_is_looked_at_is_no_obstacle(api: FakeAPI, fake_lab: Lab) -> None:
    """Its name is taken when ours is created, and there is nothing of that name when we look whose it is."""
    creates = 0

    async def in_the_way(verb: str, plural: str, moment: str) -> bool:
        nonlocal creates
        if (verb, plural, moment) == ("create", "jobs", "before"):
            creates += 1
            name = fake_lab.job("demo", "a")["jobName"]
            if creates == 1:
                api.put("batch", "jobs", {"metadata": {"namespace": "lab", "name": name}, "spec": {}})
            elif creates == 2:
                api.remove("batch", "jobs", "lab", name)
        return False

    api.on_write = in_the_way
    api.fail("get", 404, plural="jobs")
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
