# SPDX-License-Identifier: Apache-2.0
"""What progress costs those who wait: the hand-over of a chain of hooks while thousands of other pods run, with nobody
telling anything and with all of them telling how far they are, in turns on one plane. `make bench-progress`.

Two shapes: one experiment of so many pods, and so many experiments of one. The pods are kwok's and run for ever; what
they would tell comes from this process, with real tokens, at the interval that the operator's answers ask for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from sandbox_api.progress import PROGRESS_AUDIENCE
from sandbox_operator.build.names import ANNOTATION_JOB_ID, LABEL_ATTEMPT, LABEL_EXPERIMENT
from sandbox_operator.kube.client import Client
from sandbox_operator.kube.resources import Resource
from sandbox_operator.reconcile.budget import PAUSE
from sandbox_operator.reconcile.resources import EXPERIMENTS, HOOKS, PODS

from .__main__ import machine
from .eyes import at_most
from .idle import experiments_one_by_one, spread
from .loads import Figures, Loader
from .plane import CLAIM, NAMESPACE, REPOSITORY, OperatorProcess, Rates, raised
from .specs import a_spec, configs, four_hooks

Manifest = dict[str, Any]
FOLDER = REPOSITORY / "build/bench-progress"
HAND_OVER = "pod's end to next Job"
MOST = 1.10
"""The hand-over's p99 with progress, as a share of that without."""
PIECES = 1000
"""Of one job: an experiment of more pods has several."""
LONGEST = 900.0
TOKENS = Resource("", "v1", "serviceaccounts/default/token", "TokenRequest")
RATES: Rates = "raised"


def one_experiment(pods: int) -> list[tuple[str, Manifest]]:
    """One experiment with jobs of many pieces beside each other."""
    sizes = [min(PIECES, pods - start) for start in range(0, pods, PIECES)]
    jobs = [
        {"hook": "workers", "metaName": f"w{n}", "shards": size, "extraConfigs": {}, "dependsOn": []}
        for n, size in enumerate(sizes)
    ]
    return [("busy", held(executionJobConfigs=jobs))]


def many_experiments(pods: int) -> list[tuple[str, Manifest]]:
    """As many experiments as pods."""
    jobs = [{"hook": "ProbeViaAnalyzerHook", "djConfigs": configs(-1 - n)} for n in range(pods)]
    return [(f"busy-{n}", held(probeJobConfigs=[job])) for n, job in enumerate(jobs)]


def held(**lists: Any) -> Manifest:
    """A spec whose pods run for ever (`kwok.yaml`)."""
    spec = a_spec(cache="Never", **lists)
    requests = {"cpu": "10m", "memory": "16Mi"}
    spec["pods"] = {"default": {"resources": {"requests": requests}, "patch": {"dnsPolicy": "Default"}}}
    return spec


SHAPES = {"one experiment": one_experiment, "one pod each": many_experiments}


@dataclass
class Crowd:
    """All pods that run, and what they tell while `talking`."""

    url: str
    tokens: dict[str, str]
    """By the pod's uid."""
    who: dict[str, Manifest]
    answers: Counter[int] = field(default_factory=Counter)
    interval: float = 0.0
    """Seconds between two words of a pod, as the operator's answers ask for it; 0 until one has answered."""
    _step: int = 0

    async def begin(self) -> None:
        """Each tells once: who begins has not heard yet how seldom it is to tell."""
        begin = time.monotonic()
        async with self._talking_within(5.0):
            while self.answers[200] < len(self.tokens):
                if time.monotonic() > begin + LONGEST:
                    raise RuntimeError(f"not all pods were heard: {self.answers}")
                await asyncio.sleep(0.5)

    def talking(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Each anywhere in its interval, so that a half of a round is like any other time."""
        return self._talking_within(self.interval)

    @contextlib.asynccontextmanager
    async def _talking_within(self, seconds: float) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=100)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._talk(session, uid, random.uniform(0, seconds))) for uid in self.tokens]
            yield
            for task in tasks:
                task.cancel()

    async def _talk(self, session: aiohttp.ClientSession, uid: str, begin: float) -> None:
        await asyncio.sleep(begin)
        while True:
            self._step += 1
            body = {**self.who[uid], "step": self._step, "total": 10**7, "metrics": {"loss": 1 / self._step, "lr": 0.1}}
            headers = {"Authorization": f"Bearer {self.tokens[uid]}"}
            async with session.post(self.url, json=body, headers=headers) as answer:
                self.answers[answer.status] += 1
                interval = 10.0
                if answer.status == 200:
                    interval = self.interval = float((await answer.json())["interval"])
            await asyncio.sleep(interval * random.uniform(0.95, 1.05))


async def crowd_of(client: Client, url: str, count: int) -> Crowd:
    """Wait until all held pods run, and get a token for each."""
    begin, pods = time.monotonic(), list[Manifest]()
    while len(pods) < count:
        if time.monotonic() > begin + LONGEST:
            raise RuntimeError(f"{len(pods)} of {count} pods run after {LONGEST:.0f} s")
        await asyncio.sleep(2)
        found = (await client.list(PODS, NAMESPACE, field_selector="status.phase=Running")).items
        pods = [pod for pod in found if pod["metadata"]["labels"].get(LABEL_EXPERIMENT, "").startswith("busy")]
    crowd = Crowd(url, {}, {})

    async def take(pod: Manifest) -> None:
        meta = pod["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        spec = {"audiences": [PROGRESS_AUDIENCE], "expirationSeconds": 7200, "boundObjectRef": bound}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        crowd.tokens[meta["uid"]] = (await client.create(TOKENS, body, NAMESPACE))["status"]["token"]
        who = {"pod": meta["uid"], "job": meta["annotations"][ANNOTATION_JOB_ID]}
        crowd.who[meta["uid"]] = {**who, "attempt": int(meta["labels"][LABEL_ATTEMPT]), "tellers": 1}

    await at_most(16, [partial(take, pod) for pod in pods])
    return crowd


async def measured(on: Loader, operator: OperatorProcess, crowd: Crowd, chains: int, rounds: int) -> Figures:
    """The same chains in turns without and with progress, the order of a pair changing, so that a drift of the machine
    meets both."""
    took: dict[str, list[float]] = {"quiet": [], "progress": []}
    cpu: dict[str, Counter[str]] = {"quiet": Counter(), "progress": Counter()}
    seconds: Counter[str] = Counter()
    wrote = Counter[str]()
    await crowd.begin()
    for number in range(rounds):
        for kind in ("quiet", "progress") if number % 2 == 0 else ("progress", "quiet"):
            async with crowd.talking() if kind == "progress" else contextlib.nullcontext():
                if kind == "quiet":
                    await _all_is_written(on)
                gc.collect()
                gc.freeze()  # thousands of senders are no garbage; what measures must not stop to look at them
                begin, live, samples = time.monotonic(), await _live_writes(on), dict[str, list[float]]()
                spec, name = four_hooks_from(number), f"{kind}-{number}"
                found = await experiments_one_by_one(on, operator, chains, 4, spec, name, samples)
                seconds[kind] += time.monotonic() - begin
                wrote[kind] += await _live_writes(on) - live
            took[kind] += samples[HAND_OVER]
            cpu[kind] += Counter(found["cpu"])
            longest = " ".join(f"{ms:.0f}" for ms in sorted(samples[HAND_OVER])[-4:])
            print(f"  {datetime.now():%H:%M:%S} {kind}: the longest {longest} ms", file=sys.stderr, flush=True)
    figures: Figures = {
        "pods": len(crowd.tokens),
        "hand-overs of each": len(took["quiet"]),
        "interval": crowd.interval,
        "answers": dict(crowd.answers),
        "memory": operator.memory(),
    }
    for kind, all_ms in took.items():
        figures[kind] = {
            "ms": spread(all_ms),
            "cpu a second": {part: round(spent / seconds[kind], 3) for part, spent in cpu[kind].most_common()},
            "progress writes a second": round(wrote[kind] / seconds[kind], 2),
        }
    figures["p99 share"] = figures["progress"]["ms"]["p99"] / figures["quiet"]["ms"]["p99"]
    figures["p99 share, 95 %"] = shares(took["progress"], took["quiet"])
    figures["p50 share"] = figures["progress"]["ms"]["p50"] / figures["quiet"]["ms"]["p50"]
    return figures


def shares(more: list[float], less: list[float], draws: int = 1000) -> list[float]:
    """Between which two the share of the p99s lies in 95 of 100 draws from what was measured (bootstrap)."""
    draw = random.Random(0)
    found = sorted(
        spread(draw.choices(more, k=len(more)))["p99"] / spread(draw.choices(less, k=len(less)))["p99"]
        for _ in range(draws)
    )
    return [found[round(draws * 0.025)], found[round(draws * 0.975) - 1]]


def four_hooks_from(number: int) -> Any:
    """Four hooks that no earlier round had."""
    return lambda n: four_hooks(10_000 * (number + 1) + n)


async def _live_writes(on: Loader) -> int:
    """Statuses that were written for progress so far."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{on.plane.port + 8}/metrics") as answer,
    ):
        text = await answer.text()
    name = 'sandbox_operator_status_writes_total{kind="live"} '
    return int(float(next(line for line in text.splitlines() if line.startswith(name)).removeprefix(name)))


async def _all_is_written(on: Loader) -> None:
    """Until nothing is left of what was told before: longer than an experiment rests between two writes."""
    before = -1
    while (now := await _live_writes(on)) != before:
        before = now
        await asyncio.sleep(PAUSE + 2)


async def shape(name: str, options: argparse.Namespace) -> Figures:
    folder = options.output.absolute().parent / "plane"
    url = f"http://127.0.0.1:{options.port + 9}"
    told = {"SANDBOX_PROGRESS_PORT": str(options.port + 9), "SANDBOX_PROGRESS_URL": url}
    async with raised(folder, options.port, RATES) as plane, Client(plane.admin, field_manager="load") as client:
        on = Loader(plane, client)
        await on.prepare()
        spec = {"imageName": "data", "outputs": ["dataset"]}
        hook = {"apiVersion": HOOKS.api_version, "kind": HOOKS.kind, "metadata": {"name": "workers"}, "spec": spec}
        await client.create(HOOKS, hook, NAMESPACE)
        async with OperatorProcess(plane, **told) as operator:
            await at_most(8, [partial(on.apply, *each) for each in SHAPES[name](options.pods)])
            crowd = await crowd_of(client, f"{url}/v1/progress", options.pods)
            await _all_running(client)
            return await measured(on, operator, crowd, options.chains, options.rounds)


async def _all_running(client: Client) -> None:
    """Until the statuses say so too, and the operator has nothing left to do."""
    begin = time.monotonic()
    while time.monotonic() < begin + LONGEST:
        items = (await client.list(EXPERIMENTS, NAMESPACE)).items
        jobs = [job for item in items for job in (item.get("status") or {}).get("jobs") or ({},)]
        if all(job.get("state") == "Running" for job in jobs):
            await asyncio.sleep(5)
            return
        await asyncio.sleep(2)
    raise RuntimeError("not all jobs are told to run")


def table(result: Figures) -> str:
    lines = [
        f"{'':<18}{'':>10}{'quiet p50':>11}{'p99':>8}{'progress p50':>14}{'p99':>8}{'p99 share':>11}{'95 %':>14}{'writes/s':>10}"
    ]
    for name, found in result["shapes"].items():
        quiet, busy = found["quiet"]["ms"], found["progress"]["ms"]
        between = "{:.2f} to {:.2f}".format(*found["p99 share, 95 %"])
        missed = "" if found["p99 share"] <= MOST else f"  more than {MOST}"
        lines.append(
            f"{name:<18}{found['pods']:>5} pods{quiet['p50']:>8.1f} ms{quiet['p99']:>8.1f}{busy['p50']:>11.1f} ms"
            f"{busy['p99']:>8.1f}{found['p99 share']:>11.2f}{between:>14}{found['progress']['progress writes a second']:>10.1f}{missed}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.scale.progress", description=__doc__)
    parser.add_argument(
        "--pods", type=int, default=2000, help="that run and tell; of the one experiment, or each its own"
    )
    parser.add_argument(
        "--chains", type=int, default=30, help="of four hooks, in each half of a round; 3 hand-overs each"
    )
    parser.add_argument("--rounds", type=int, default=8, help="each without and with progress")
    parser.add_argument("--only", choices=SHAPES, help="one of the shapes")
    parser.add_argument("--port", type=int, default=17200, help="of the API server; the nine after it are taken too")
    parser.add_argument("--output", type=Path, default=FOLDER / "result.json")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result: Figures = {"machine": machine(), "claim": CLAIM, "shapes": {}}
    for name in SHAPES:
        if options.only in (None, name):
            print(f"{datetime.now():%H:%M:%S} {name}", file=sys.stderr, flush=True)
            result["shapes"][name] = asyncio.run(shape(name, options))
            options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    print(f"\nwritten to {options.output}")


if __name__ == "__main__":
    main()
