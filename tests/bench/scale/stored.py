# SPDX-License-Identifier: Apache-2.0
"""Many finished experiments that are only there: how long the operator takes to start, and how much it remembers."""

from __future__ import annotations

import asyncio
import json
from functools import partial

from sandbox_operator.reconcile.resources import EXPERIMENTS, JOBS

from .eyes import Count, Manifest, at_most, watching
from .loads import SETTLE, SUCCEEDED, WRITERS, Figures, Loader
from .plane import NAMESPACE, OperatorProcess
from .specs import four_hooks, one_hook


async def start_with_stored(on: Loader, count: int) -> Figures:
    """The operator runs one experiment of four hooks, `count` like it are stored, and the operator starts anew.

    One that nobody has looked at yet is stored too: its first Job tells when the operator is at work.
    """
    status = await model(on)
    await at_most(WRITERS, [partial(store, on, number, status) for number in range(1, count + 1)])
    await on.apply("new", one_hook(0))
    made = Count(1)
    async with (
        watching(on.client, JOBS, lambda kind, item: kind == "ADDED" and made.tell(item["metadata"]["name"])),
        OperatorProcess(on.plane) as operator,
    ):
        first = await made.full("new Jobs") - operator.began
        started = operator.cpu()
        await asyncio.sleep(SETTLE)
        return {
            "stored": count,
            "bytes of a status": len(json.dumps(status, separators=(",", ":"))),
            "ready after": operator.ready_after,
            "first Job after": first,
            "cpu": {"operator": started},
            "memory": operator.memory(),
        }


async def model(on: Loader) -> Manifest:
    """The status of an experiment that has been run."""
    done = Count(1)
    async with (
        watching(on.client, EXPERIMENTS, lambda _, item: done.tell(item["metadata"]["name"]), field_selector=SUCCEEDED),
        OperatorProcess(on.plane),
    ):
        await on.apply("stored-0", four_hooks(0))
        await done.full("experiments are done")
    status: Manifest = (await on.client.get(EXPERIMENTS, "stored-0", NAMESPACE))["status"]
    return status


async def store(on: Loader, number: int, status: Manifest) -> None:
    """One more as if the operator had run it; only names and the cache's keys are its own."""
    name = f"stored-{number}"
    text = json.dumps(status).replace("stored-0", name)
    for job in status["jobs"]:
        text = text.replace(job["result"]["cacheKey"], f"{number:08d}{job['result']['cacheKey'][8:]}")
    await on.apply(name, four_hooks(number))
    await on.client.patch(EXPERIMENTS, name, {"status": json.loads(text)}, NAMESPACE, subresource="status")
