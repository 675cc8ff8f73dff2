# SPDX-License-Identifier: Apache-2.0
"""Two operators, one Lease: whatever happens to the one that works, the other goes on, and never do both write."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.conftest import Operators, Plane
from tests.api.inprocess import check, undisturbed
from tests.api.lab import Lab, outcome_of, probes, road
from tests.api.played import PLAYER, Behaviour, Gate, Pod, succeeds
from tests.api.replicas import LEASES, Replicas, SharedAPI
from tests.api.waiting import eventually
from tests.progress import DEEP

from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import Connection, connect
from sandbox_operator.kube.errors import NotFound
from sandbox_operator.kube.lease import LEASES as LEASE_RESOURCE

HOOKS = ("before", "refine", "process", "after")
PROMISED = 15.0
"""Seconds from a sudden death to the first write of the other one."""
STOPPED = 5.0
"""Seconds from SIGTERM to the end of the process."""


@pytest.fixture
async def shared() -> AsyncIterator[SharedAPI]:
    async with SharedAPI() as server:
        server.spared.add(PLAYER)
        yield server


@pytest.fixture
async def shared_lab(shared: SharedAPI) -> AsyncIterator[Lab]:
    async with Lab(Connection(shared.url), "lab", fake=True) as made:
        yield made


@pytest.fixture
async def pair(shared: SharedAPI, operators: Operators, tmp_path: Path) -> Replicas:
    """`a`, which works, and `b`, which stands by and has seen everything."""
    made = Replicas(shared, operators, tmp_path)
    await made.start("a")
    assert await made.leader() == "a"
    await made.start("b")
    await made.standing_by("b")
    return made


def slowly(pause: float) -> Behaviour:
    async def behave(pod: Pod) -> None:
        await asyncio.sleep(pause)
        await succeeds()(pod)

    return behave


async def writes_of(shared: SharedAPI, name: str, limit: float) -> None:
    await eventually(lambda: any(write.writer == name for write in shared.writes), limit=limit)


async def test_the_leader_is_killed_and_the_other_goes_on_within_15_seconds(
    shared: SharedAPI, shared_lab: Lab, pair: Replicas
) -> None:
    expected, _ = await undisturbed()
    gate = shared_lab.kubelet.table[("process",)] = Gate(succeeds())
    await shared_lab.apply("demo", road())
    await shared_lab.reached(gate, "the third hook runs")
    loop = asyncio.get_running_loop()
    pair.processes["a"].kill()
    killed = loop.time()
    gate.opened.set()
    await writes_of(shared, "b", PROMISED)
    print(f"killed to the other one's first write: {loop.time() - killed:.1f} s")
    await shared_lab.finished("demo")
    check(shared_lab, expected)
    shared.assert_only_the_holder_wrote()
    shared.assert_one_after_another("a", "b")
    assert shared.holders == ["a", "b"], "nobody gave it back"


@pytest.mark.timeout(3600 if DEEP else 300)
async def test_the_leader_is_killed_at_a_write_and_no_job_is_made_twice(operators: Operators, tmp_path: Path) -> None:
    """Before or after a write is carried out: the first and the last Job's, and a commit; in the deep run each, both."""
    expected, writes = await undisturbed()
    creates = [number for number, write in enumerate(writes, 1) if write == ("create", "jobs")]
    deaths = [(number, moment) for number in range(1, len(writes) + 1) for moment in ("before", "after")]
    if not DEEP:
        deaths = [(creates[0], "after"), (creates[1] + 1, "before"), (creates[-1], "after")]
    turn = asyncio.Semaphore(2)

    async def die(number: int, moment: str) -> None:
        folder = tmp_path / f"{number}-{moment}"
        folder.mkdir()
        async with turn, SharedAPI() as api:
            api.spared.add(PLAYER)
            async with Lab(Connection(api.url), "lab", fake=True) as lab:
                replicas = Replicas(api, operators, folder)
                await replicas.start("a")
                await replicas.leader()
                await replicas.start("b")
                await replicas.standing_by("b")
                left, dying, dead = number, asyncio.Event(), asyncio.Event()

                async def death(_: str, plural: str, now: str) -> bool:
                    nonlocal left
                    if plural == LEASES[1] or dead.is_set():
                        return False
                    left -= now == "before"
                    if left == 0 and now == moment:
                        dying.set()
                        await dead.wait()
                        return True
                    return False

                api.on_write = death
                await lab.apply("demo", road())
                await asyncio.wait_for(dying.wait(), 60)
                replicas.processes["a"].kill()
                dead.set()
                await lab.finished("demo", limit=60)
                check(lab, expected)
                api.assert_only_the_holder_wrote()
                api.assert_one_after_another("a", "b")
                replicas.processes["b"].end()

    async with asyncio.TaskGroup() as group:
        for death in deaths:
            group.create_task(die(*death))


@pytest.mark.parametrize("moment", ["waiting for an answer", "between two hooks"])
async def test_a_frozen_leader_that_wakes_up_after_its_time_writes_nothing(
    shared: SharedAPI, shared_lab: Lab, pair: Replicas, moment: str
) -> None:
    """It is stopped with SIGSTOP; an answer for it, or the end of its hook, waits for it when it wakes."""
    expected, _ = await undisturbed()
    gate = shared_lab.kubelet.table[("refine",)] = Gate(succeeds())
    answer, asked = asyncio.Event(), asyncio.Event()

    async def hold_a_commit(_: str, plural: str, now: str) -> bool:
        if gate.opened.is_set() and plural == "sandboxexperiments/status" and now == "after" and not asked.is_set():
            asked.set()
            await answer.wait()
        return False

    await shared_lab.apply("demo", road())
    await shared_lab.reached(gate, "the second hook runs")
    if moment == "waiting for an answer":  # its next step is to create a Job
        shared.on_write = hold_a_commit
        gate.opened.set()
        await asyncio.wait_for(asked.wait(), 20)
        pair.signal("a", signal.SIGSTOP)
        answer.set()
    else:
        pair.signal("a", signal.SIGSTOP)
        gate.opened.set()
    before = len([write for write in shared.writes if write.writer == "a"])
    assert await pair.leader("b") == "b"
    await shared_lab.finished("demo")
    pair.signal("a", signal.SIGCONT)
    await shared_lab.log_says(pair.processes["a"], "is ours no more")
    assert len([write for write in shared.writes if write.writer == "a"]) == before
    check(shared_lab, expected)
    shared.assert_only_the_holder_wrote()
    # And it is as good as new: when its turn comes again it takes it.
    pair.processes["b"].kill()
    await shared_lab.apply("again", road())
    await shared_lab.finished("again")
    assert outcome_of(shared_lab.status("again")) == expected
    shared.assert_one_after_another("a", "b", "a")


async def test_a_leader_that_can_not_renew_stops_writing_before_the_other_begins(
    shared: SharedAPI, shared_lab: Lab, pair: Replicas
) -> None:
    """Only its renewals fail; everything else would go through. Experiments keep both busy all the time."""
    expected, _ = await undisturbed()
    names = [f"demo-{number}" for number in range(6)]
    for hook in HOOKS:
        shared_lab.kubelet.table[(hook,)] = slowly(2)
    for name in names[:3]:
        await shared_lab.apply(name, road())
    await writes_of(shared, "a", 20)
    shared.shut.add("a")
    for name in names[3:]:
        await shared_lab.apply(name, road())
    await shared_lab.finished(*names, limit=90)
    check(shared_lab, expected, *names)
    shared.assert_only_the_holder_wrote()
    shared.assert_one_after_another("a", "b")
    assert "is ours no more" in pair.processes["a"].log
    assert pair.processes["a"].code is None, "it stands by"


async def test_an_upgrade_hands_over_at_once_and_loses_nothing(
    shared: SharedAPI, shared_lab: Lab, pair: Replicas
) -> None:
    """Two new ones beside the old ones, then the old ones end, as a rolling update does it."""
    expected, _ = await undisturbed()
    gates = {hook: Gate(succeeds()) for hook in HOOKS}
    shared_lab.kubelet.table |= {(hook,): gate for hook, gate in gates.items()}
    await shared_lab.apply("demo", road())
    await shared_lab.reached(gates["before"], "the first hook runs")
    for name in ("c", "d"):
        await pair.start(name)
        await pair.standing_by(name)
    for old in ("b", "a"):
        assert await asyncio.to_thread(pair.processes[old].stop) == 0
    for gate in gates.values():
        gate.opened.set()
    new = await pair.leader("c", "d")
    await shared_lab.finished("demo")
    check(shared_lab, expected)
    shared.assert_only_the_holder_wrote()
    shared.assert_one_after_another("a", new)
    assert shared.holders == ["a", "", new], "it was given back, so nobody waited for it to run out"
    assert "the lease tools/operator is given back" in pair.processes["a"].log


async def test_a_write_that_is_carried_out_long_after_its_sender_has_gone_does_no_harm(
    shared: SharedAPI, shared_lab: Lab, pair: Replicas
) -> None:
    """SIGTERM while the API server sits on a write: it ends all the same, and does not give back the Lease."""
    expected, _ = await undisturbed()
    gate = shared_lab.kubelet.table[("before",)] = Gate(succeeds())
    await shared_lab.apply("demo", road())
    await shared_lab.reached(gate, "the first hook runs")
    late = shared.hanging["a"] = asyncio.Event()
    count = len(shared.writes)
    gate.opened.set()
    await eventually(lambda: len(shared.writes) > count)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asyncio.to_thread(pair.processes["a"].stop) == 0
    took = loop.time() - began
    print(f"SIGTERM to the end, with a write that is not answered: {took:.1f} s")
    assert took < STOPPED
    assert "stopping in the middle" in pair.processes["a"].log
    await shared_lab.finished("demo")
    late.set()
    await shared_lab.apply("again", probes("a"))
    await shared_lab.finished("again")
    assert outcome_of(shared_lab.status("demo")) == expected
    shared_lab.assert_no_job_was_made_twice()
    shared_lab.assert_pods_ran_once()
    shared.assert_one_after_another("a", "b")
    assert shared.holders == ["a", "b"], "it ran out"


async def test_a_follower_whose_watches_are_behind_makes_no_job_again(
    shared: SharedAPI, shared_lab: Lab, pair: Replicas
) -> None:
    """It last heard that a Job is about to be made. Since then the hook has run, and its Job has been removed."""
    made, go_on = asyncio.Event(), asyncio.Event()

    async def hold_the_job(verb: str, plural: str, now: str) -> bool:
        if (verb, plural, now) == ("create", "jobs", "before"):
            made.set()
            await go_on.wait()
        return False

    shared.on_write = hold_the_job
    await shared_lab.make_claim("shared")
    await shared_lab.apply("demo", probes("a", claim_name="shared", ttlSecondsAfterFinished=1))
    await asyncio.wait_for(made.wait(), 20)
    await shared_lab.until(lambda: shared_lab.job("demo", "a").get("jobName"), "the status names the Job")
    await asyncio.sleep(0.5)  # for b to hear it; if it has not, it knows even less
    shared.behind.add("b")
    go_on.set()
    await shared_lab.finished("demo")
    await shared_lab.until(lambda: not shared_lab.jobs_of("demo"), "its Job is removed")
    pair.processes["a"].kill()
    await eventually(lambda: "working; 1 experiments" in pair.processes["b"].log, limit=30)
    await eventually(
        lambda: (
            "it has changed since it was seen last" in pair.processes["b"].log
            or any(len(uids) > 1 for uids in shared_lab.made.values())
        )
    )
    shared_lab.assert_no_job_was_made_twice()
    shared.behind.clear()
    shared.tell()
    await shared_lab.apply("again", probes("a"))
    await shared_lab.finished("again")
    shared_lab.assert_no_job_was_made_twice()
    shared_lab.assert_status_only_went_forward("demo")


async def test_without_the_right_to_the_lease_it_says_so_and_does_nothing(
    shared: SharedAPI, shared_lab: Lab, operators: Operators, tmp_path: Path
) -> None:
    for verb in ("get", "create", "patch"):
        shared.fail(verb, 403, plural=LEASES[1], times=3)
    replicas = Replicas(shared, operators, tmp_path)
    alone = await replicas.start("a")
    await shared_lab.apply("demo", probes("a"))
    await shared_lab.log_says(alone, "WARNING sandbox_operator.kube.lease: the lease tools/operator: ")
    assert not shared.writes
    await shared_lab.finished("demo")
    told = [line for line in alone.log.splitlines() if "the lease tools/operator: the API server answered 403" in line]
    assert [verb for line in told for verb in ("GET", "POST") if f"to {verb} " in line] == ["GET", "POST"], "once each"


async def test_on_a_real_api_server_the_leader_is_killed_and_frozen(
    lab: Lab, plane: Plane, operators: Operators
) -> None:
    settings = {"SANDBOX_NAMESPACES": lab.namespace, "SANDBOX_LEASE": f"{lab.namespace}/operator"}
    processes = {name: operators(plane.operator, SANDBOX_IDENTITY=name, **settings) for name in ("a", "b")}

    async def holder() -> str:
        async with Client(connect(kubeconfig=str(plane.admin)), field_manager=PLAYER) as client:
            try:
                lease = await client.get(LEASE_RESOURCE, "operator", lab.namespace)
            except NotFound:
                return ""
        return str(lease["spec"].get("holderIdentity") or "")

    async def held(*among: str) -> str:
        for _ in range(600):
            if (name := await holder()) in among:
                return name
            await asyncio.sleep(0.05)
        raise AssertionError(f"none of {among} gets the lease; it is held by {await holder()}")

    gates = {hook: Gate(succeeds()) for hook in HOOKS}
    lab.kubelet.table |= {(hook,): gate for hook, gate in gates.items()}
    first = await held("a", "b")
    second = "b" if first == "a" else "a"
    await lab.apply("demo", road())
    await lab.reached(gates["before"], "the first hook runs")
    processes[first].kill()
    gates["before"].opened.set()
    await lab.reached(gates["refine"], "the other one has started the second hook")
    assert await holder() == second
    processes[first].start()
    await lab.log_says(processes[first], "experiments are there")
    frozen = processes[second]._process
    assert frozen is not None
    os.kill(frozen.pid, signal.SIGSTOP)
    gates["refine"].opened.set()
    await lab.reached(gates["process"], "the first one is back and has started the third hook")
    os.kill(frozen.pid, signal.SIGCONT)
    await lab.log_says(processes[second], "is ours no more")
    assert await asyncio.to_thread(processes[first].stop) == 0
    await held(second)
    for gate in gates.values():
        gate.opened.set()
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded"
    assert [job["attempts"] for job in lab.status("demo")["jobs"]] == [1, 1, 1, 1]
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()
    lab.assert_status_only_went_forward("demo")
