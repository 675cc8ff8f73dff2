# SPDX-License-Identifier: Apache-2.0
"""The loads, each with its floor: what the same plane does when a loop makes bare Jobs and no operator is there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sandbox_operator.kube.client import Client
from sandbox_operator.reconcile.projections import LABEL_POD_JOB
from sandbox_operator.reconcile.resources import CONFIG_MAPS, EXPERIMENTS, JOBS, PODS

from .eyes import Count, Manifest, Stuck, at_most, watching
from .plane import NAMESPACE, OperatorProcess, Plane
from .specs import BareJobs, Spec, experiment

WRITERS = 16
"""Requests that a load has under way at the same time."""
SETTLE = 3.0
"""Seconds after a load's end that still count as its cost: a Job's Complete comes a second late, Events follow."""
ENDED = "status.phase=Succeeded"
SUCCEEDED = "status.outcome=Succeeded"

Figures = dict[str, Any]


@dataclass(frozen=True)
class Loader:
    """A plane and a connection to load it with."""

    plane: Plane
    client: Client

    async def prepare(self) -> None:
        raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "raw"}, "data": {"demo.jsonl": "{}"}}
        await self.client.create(CONFIG_MAPS, raw, NAMESPACE)

    async def job(self, body: Manifest) -> None:
        await self.client.create(JOBS, body, NAMESPACE)

    async def apply(self, name: str, spec: Manifest) -> None:
        await self.client.create(EXPERIMENTS, experiment(name, spec), NAMESPACE)

    async def unfinished(self) -> str:
        """What an experiment that is not done says of itself."""
        found = await self.client.list(EXPERIMENTS, NAMESPACE, field_selector="status.outcome!=Succeeded")
        for item in found.items:
            conditions = (item.get("status") or {}).get("conditions") or [{"message": "no status yet"}]
            return f"{item['metadata']['name']}: {conditions[0]['message']}"
        return "nothing"

    @contextlib.asynccontextmanager
    async def metered(self, operator: OperatorProcess | None, figures: Figures) -> AsyncIterator[None]:
        """Adds to `figures` what the block has used: CPU of each part, the operator's memory and requests."""
        cpu, requests = self.plane.cpu(), self.plane.requests()
        own = operator.cpu() if operator is not None else 0.0
        yield
        await asyncio.sleep(SETTLE)
        spent = self.plane.cpu() - cpu
        if operator is not None:
            operator.alive()
            spent["operator"] = operator.cpu() - own
            figures["memory"] = operator.memory()
            figures["requests"] = dict(sorted((self.plane.requests() - requests).items()))
        figures["cpu"] = {part: round(seconds, 2) for part, seconds in spent.most_common()}


async def bare_jobs_at_once(on: Loader, chains: int, length: int) -> Figures:
    """`chains` at once, each of `length` Jobs one after another: the next is made when the pod of the last has ended."""
    bare, ended = BareJobs(), Count(chains * length)
    figures: Figures = {"jobs": chains * length, "chains": chains}
    async with asyncio.TaskGroup() as following:

        def seen(_: str, pod: Manifest) -> None:
            name = pod["metadata"]["labels"][LABEL_POD_JOB]
            if ended.tell(name):
                chain, step = name.rsplit("-", 1)
                if int(step) < length:
                    following.create_task(on.job(bare(f"{chain}-{int(step) + 1}")))

        async with watching(on.client, PODS, seen, field_selector=ENDED), on.metered(None, figures):
            begin = time.monotonic()
            await at_most(WRITERS, [partial(on.job, bare(f"bare-{n}-1")) for n in range(chains)])
            figures["seconds"] = await ended.full("Jobs have ended") - begin
    return rated(figures)


async def experiments_at_once(
    on: Loader, operator: OperatorProcess, count: int, hooks: int, spec: Spec, name: str = "load"
) -> Figures:
    done = Count(count)
    figures: Figures = {"jobs": count * hooks, "chains": count}

    def seen(_: str, item: Manifest) -> None:
        done.tell(item["metadata"]["name"])

    async with (
        watching(on.client, EXPERIMENTS, seen, field_selector=SUCCEEDED),
        on.metered(operator, figures),
    ):
        begin = time.monotonic()
        await at_most(WRITERS, [partial(on.apply, f"{name}-{n}", spec(n)) for n in range(count)])
        try:
            figures["seconds"] = await done.full("experiments are done") - begin
        except Stuck as error:
            raise Stuck(f"{error}; one says: {await on.unfinished()}") from error
    return rated(figures)


def rated(figures: Figures) -> Figures:
    """With what is told by the minute and by the thousand."""
    minutes, jobs = figures["seconds"] / 60, figures["jobs"]
    figures["jobs a minute"] = jobs / minutes
    figures["chains a minute"] = figures["chains"] / minutes
    figures["cpu ms a job"] = {part: seconds / jobs * 1000 for part, seconds in figures["cpu"].items()}
    if "requests" in figures:
        requests = Counter(figures["requests"])
        reads = sum(n for what, n in requests.items() if what.split()[0] in ("get", "list"))
        watches = sum(n for what, n in requests.items() if what.split()[0] == "watch")
        writes = requests.total() - reads - watches
        figures["writes"], figures["reads"], figures["watches"] = writes, reads, watches
        figures["operator s a 1000 hooks"] = figures["cpu"]["operator"] / jobs * 1000
    return figures
