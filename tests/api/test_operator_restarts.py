# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of the real process on a real API server, at every stage and at any moment, changes nothing in the result."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.api.conftest import Operators, Plane
from tests.api.lab import Lab, OperatorProcess, outcome_of, probes, road
from tests.api.played import Behaviour, Gate, Pod, fails, succeeds
from tests.progress import DEEP

HOOKS = ("before", "refine", "process", "after")


async def undisturbed(lab: Lab) -> dict[str, object]:
    """The end of the same experiment when nobody interferes."""
    await lab.apply("undisturbed", road(claim_name="shared"))
    await lab.finished("undisturbed")
    return outcome_of(lab.status("undisturbed"))


async def test_killed_in_each_stage_before_and_while_its_hook_runs(
    lab: Lab, plane: Plane, operators: Operators
) -> None:
    await lab.make_claim("shared")
    operator = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    expected = await undisturbed(lab)
    waiting = {name: Gate(Gate(succeeds()), running=False) for name in HOOKS}
    lab.kubelet.table |= {("demo", name): gate for name, gate in waiting.items()}
    await lab.apply("demo", road(claim_name="shared"))
    for name in HOOKS:
        await lab.reached(waiting[name], f"the pod of {name} is there")
        operator.kill()
        operator.start()
        waiting[name].opened.set()
        running = waiting[name].behaviour
        assert isinstance(running, Gate)
        await lab.reached(running, f"{name} runs")
        operator.kill()
        operator.start()
        running.opened.set()
    await lab.finished("demo", limit=90)
    assert outcome_of(lab.status("demo")) == expected, lab.told()
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()


async def test_a_hook_that_ends_while_nobody_looks_is_committed_afterwards(
    lab: Lab, plane: Plane, operators: Operators
) -> None:
    """A success, a failure, and a failure whose next attempt has been due for a while."""
    operator = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    ends: dict[str, Behaviour] = {
        "good": succeeds(),
        "bad": fails("User", "ValueError", "row 17"),
        "again": fails("Infra", "OSError", "stale file handle"),
    }
    gates = {name: Gate(behaviour) for name, behaviour in ends.items()}
    await lab.make_claim("shared")
    for name, gate in gates.items():
        lab.kubelet.table[(name, "a", 1)] = gate
        await lab.apply(name, probes("a", "b", claim_name="shared"))
    for name, gate in gates.items():
        await lab.reached(gate, f"the hook of {name} runs")
    operator.kill()
    for gate in gates.values():
        gate.opened.set()
    ended = ("Succeeded", "Failed")
    await lab.until(
        lambda: len([p for p in lab.pods.store.values() if p["status"].get("phase") in ended]) == 3, "the pods end"
    )
    operator.start()
    await lab.finished(*gates)
    found = {name: (lab.status(name)["outcome"], lab.job(name, "a")["attempts"]) for name in gates}
    assert found == {"good": ("Succeeded", 1), "bad": ("Failed", 1), "again": ("Succeeded", 2)}
    assert "row 17" in lab.job("bad", "a")["message"]
    lab.assert_no_job_was_made_twice()


async def test_two_quick_restarts_make_no_second_job(lab: Lab, plane: Plane, operators: Operators) -> None:
    operator = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    gate = lab.kubelet.table[("a",)] = Gate(succeeds())
    await lab.apply("demo", probes("a", "b"))
    await lab.reached(gate, "the first hook runs")
    before = len(plane.requests(lab.namespace))
    for _ in range(2):
        operator.stop()
        operator.start()
        await lab.until(lambda: operator.log.rstrip().endswith("experiments to look at"), "it has looked at everything")
    writes = [entry for entry in plane.requests(lab.namespace)[before:] if entry[0] not in ("list", "watch", "get")]
    assert set(writes) <= {("update", "sandboxexperiments/status")}, "a restart writes nothing but that the hook runs"
    gate.opened.set()
    await lab.finished("demo")
    assert [job["attempts"] for job in lab.status("demo")["jobs"]] == [1, 1]
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()


def slowly(pause: float) -> Behaviour:
    """A success whose pod takes its time to come up and to run."""

    async def behave(pod: Pod) -> None:
        await asyncio.sleep(pause)
        await pod.runs()
        await asyncio.sleep(pause)
        await succeeds()(pod)

    return behave


async def killed_at_random(lab: Lab, operator: OperatorProcess, seed: int, experiments: int, kills: int) -> None:
    """Experiments that run beside each other while their operator is killed again and again."""
    chance = random.Random(seed)
    names = [f"demo-{seed}-{number}" for number in range(experiments)]
    for name in names:
        for hook in HOOKS:
            lab.kubelet.table[(name, hook)] = slowly(chance.uniform(0, 0.4))
    for name in names:
        await lab.apply(name, road(claim_name="shared"))
    for _ in range(kills):
        # Not waiting for luck: the moment is what is drawn, around the time that it needs to start and to work.
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        operator.kill()
        operator.start()
    await lab.finished(*names, limit=120)


@pytest.mark.timeout(3600 if DEEP else 300)
async def test_killed_at_random_moments(lab: Lab, plane: Plane, operators: Operators) -> None:
    seed, rounds, kills = (random.randrange(10**6), 10, 30) if DEEP else (20, 1, 12)
    print(f"seed {seed}")
    operator = operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)
    await lab.make_claim("shared")
    expected = await undisturbed(lab)
    for number in range(rounds):
        await killed_at_random(lab, operator, seed + number, experiments=8, kills=kills)
    for (_, name), item in lab.experiments.store.items():
        assert outcome_of(item["status"]) == expected, f"{name}\n{lab.told()}"
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()
    made = {identity for identity in lab.made if identity[2] > 1}
    assert not made, f"attempts beyond the first: {made}"
