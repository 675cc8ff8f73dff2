# SPDX-License-Identifier: Apache-2.0
"""Progress written as fast as anybody can, a thousand times the pace of a cluster: nothing else may notice.

In the test's process, on the fake API server; operators that die in the middle of it as in `test_storm_kills.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.api.fakeapi import FakeAPI
from tests.api.inprocess import SETTINGS, Death, check, fresh, undisturbed
from tests.api.lab import Lab, road
from tests.api.played import Behaviour, Pod, succeeds
from tests.ports import free_ports
from tests.progress import DEEP, long

from sandbox_api.progress import ProgressReport
from sandbox_operator.kube.config import Connection
from sandbox_operator.reconcile.budget import Budget
from sandbox_operator.reconcile.process import Operator
from sandbox_operator.reconcile.tokens import PodIdentity

NAMES = ("demo", "second", "third")
DEATHS = [(number, moment) for number in range(1, 41) for moment in ("before", "after")] if DEEP else [(14, "after")]
"""At which write the operator dies."""


@contextlib.asynccontextmanager
async def talking(api: FakeAPI, pods: dict[str, Pod]) -> AsyncIterator[Operator]:
    """An operator to which all pods talk without pause, killed at the end of the block."""
    defaults = replace(SETTINGS.defaults, progress_url="http://nowhere/v1/progress")
    settings = replace(SETTINGS, defaults=defaults, progress_port=free_ports(), listen="127.0.0.1")
    async with Operator(Connection(api.url), settings, budget=lambda: Budget(rate=20_000, pause=0.0)) as operator:
        tasks = [asyncio.create_task(operator.run()), asyncio.create_task(_talk(operator, pods))]
        try:
            yield operator
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(outcome, asyncio.CancelledError), outcome


async def _talk(operator: Operator, pods: dict[str, Pod]) -> None:
    step = 0
    while True:
        for pod in [*pods.values()]:
            step += 1
            teller = operator._cache.teller(PodIdentity(pod.key[0], pod.key[1], pod.uid))
            if teller is not None and operator._progress is not None:
                who = {"pod": pod.uid, "job": pod.contract.job.id, "attempt": pod.contract.attempt}
                report = ProgressReport.model_validate({**who, "step": step, "metrics": {"loss": 1 / step}})
                operator._progress.reports.take(teller, report, datetime.now(UTC))
        await asyncio.sleep(0.001)


def talks(pods: dict[str, Pod], lab: list[Lab]) -> Behaviour:
    """A hook that runs until its status has told of it at least three times."""

    async def behave(pod: Pod) -> None:
        await pod.runs()
        pods[pod.uid] = pod
        name, job = pod.contract.experiment.name, pod.contract.job.id

        def told() -> int:
            entries = [j for status in lab[0].history[name] for j in status["jobs"] if j["id"] == job]
            return len({entry["progress"]["step"] for entry in entries if "progress" in entry})

        await lab[0].until(lambda: told() >= 3, f"{name}: {job} is told of")
        await succeeds()(pod)

    return behave


@pytest.mark.usefixtures("no_mistakes")
@long
@pytest.mark.parametrize("deaths", [(), *DEATHS])
async def test_whatever_pods_tell_experiments_go_their_way(deaths: tuple[int, str] | tuple[()]) -> None:
    """With SANDBOX_DEEP=1 it dies at each of the first forty writes, before or after it is carried out."""
    expected, _ = await undisturbed()
    pods: dict[str, Pod] = {}
    where: list[Lab] = []
    hook = talks(pods, where)
    async with fresh({(meta,): hook for meta in ("before", "refine", "process", "after")}) as (api, lab):
        where.append(lab)
        for name in NAMES:
            await lab.apply(name, road())
        if deaths:
            api.on_write = death = Death(*deaths)
            async with talking(api, pods):
                await asyncio.wait_for(death.dying.wait(), 60)
            api.on_write = None
            death.dead.set()
        async with talking(api, pods) as operator:
            await lab.finished(*NAMES, limit=120)
        check(lab, expected, *NAMES)
        for name in NAMES:
            ended = [
                j for s in lab.history[name] for j in s["jobs"] if j["state"] in ("Succeeded", "Failed", "Pending")
            ]
            assert not [job for job in ended if "progress" in job], "only of what runs"
            assert "live" not in lab.status(name)
        if not deaths:
            conflicts = operator._metrics.reconciles.labels("conflict")._value.get()
            assert conflicts == 0, "no worker met a write of progress"
