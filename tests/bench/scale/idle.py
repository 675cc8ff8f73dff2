# SPDX-License-Identifier: Apache-2.0
"""One chain of Jobs at a time, on a plane that has nothing else to do: how long each step takes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

from sandbox_operator.reconcile.projections import LABEL_POD_JOB
from sandbox_operator.reconcile.resources import EXPERIMENTS, JOBS, PODS

from .eyes import Count, Manifest, watching
from .loads import Figures, Loader, rated
from .plane import OperatorProcess
from .specs import BareJobs, Spec

PAUSE = 0.3
"""Seconds of rest between two chains."""


class Course:
    """One chain of Jobs as it happens: when its Jobs and pods were made, and when its pods were seen to have ended.

    What an earlier chain's Jobs and pods still tell is not its own: names begin with the chain's.
    """

    def __init__(self, name: str, length: int) -> None:
        self.name = name
        self.begin = time.monotonic()
        self.jobs, self.pods, self.ends, self.over = Count(length), Count(length), Count(length), Count(1)

    def job(self, kind: str, item: Manifest) -> None:
        if kind == "ADDED" and self._is_mine(item):
            self.jobs.tell(item["metadata"]["name"])

    def pod(self, kind: str, item: Manifest) -> str | None:
        """The name of the Job whose pod has ended, the first time that is seen."""
        meta = item["metadata"]
        if not self._is_mine(item):
            return None
        if kind == "ADDED":
            self.pods.tell(meta["name"])
        states = (item.get("status") or {}).get("containerStatuses") or ()
        is_over = any(state.get("state", {}).get("terminated") for state in states)
        return meta["labels"][LABEL_POD_JOB] if is_over and self.ends.tell(meta["name"]) else None

    def experiment(self, _: str, item: Manifest) -> None:
        if item["metadata"]["name"] == self.name and (item.get("status") or {}).get("outcome") == "Succeeded":
            self.over.tell(self.name)

    def _is_mine(self, item: Manifest) -> bool:
        return str(item["metadata"]["name"]).startswith(f"{self.name}-")

    def milliseconds(self) -> dict[str, list[float]]:
        jobs, pods, ends, over = (
            sorted(count.times.values()) for count in (self.jobs, self.pods, self.ends, self.over)
        )
        spans = {
            "apply to first Job": [(self.begin, jobs[0])],
            "apply to first pod": [(self.begin, pods[0])],
            "pod's end to next Job": zip(ends, jobs[1:], strict=False),
            "pod's end to next pod": zip(ends, pods[1:], strict=False),
            "last pod's end to Succeeded": zip(ends[-1:], over, strict=False),
            "a chain": [(self.begin, over[0] if over else ends[-1])],
        }
        return {name: [(end - begin) * 1000 for begin, end in pairs] for name, pairs in spans.items()}


async def bare_chains(on: Loader, count: int, length: int) -> Figures:
    """The floor: a loop that makes the next Job when it sees the pod of the last one end."""
    bare = BareJobs()
    figures: Figures = {"jobs": count * length, "chains": count}
    courses = [Course("none", length)]
    async with asyncio.TaskGroup() as following:

        def pod(kind: str, item: Manifest) -> None:
            if (name := courses[-1].pod(kind, item)) is not None:
                chain, step = name.rsplit("-", 1)
                if int(step) < length:
                    following.create_task(on.job(bare(f"{chain}-{int(step) + 1}")))

        async with (
            watching(on.client, JOBS, lambda kind, item: courses[-1].job(kind, item)),
            watching(on.client, PODS, pod),
            on.metered(None, figures),
        ):
            for number in range(count):
                courses.append(Course(f"bare-{number}", length))
                await on.job(bare(f"bare-{number}-1"))
                await courses[-1].ends.full("pods have ended")
                await asyncio.sleep(PAUSE)
    return told(figures, courses[1:])


async def experiments_one_by_one(
    on: Loader,
    operator: OperatorProcess,
    count: int,
    length: int,
    spec: Spec,
    name: str = "load",
    samples: dict[str, list[float]] | None = None,
) -> Figures:
    """`samples`: gets each single time in ms by what it was."""
    figures: Figures = {"jobs": count * length, "chains": count}
    courses = [Course("none", length)]
    async with (
        watching(on.client, JOBS, lambda kind, item: courses[-1].job(kind, item)),
        watching(on.client, PODS, lambda kind, item: courses[-1].pod(kind, item)),
        watching(on.client, EXPERIMENTS, lambda kind, item: courses[-1].experiment(kind, item)),
        on.metered(operator, figures),
    ):
        for number in range(count):
            courses.append(Course(f"{name}-{number}", length))
            await on.apply(courses[-1].name, spec(number))
            await courses[-1].over.full("experiments are done")
            await asyncio.sleep(PAUSE)
    for course in courses[1:]:
        for what, found in course.milliseconds().items():
            if samples is not None:
                samples.setdefault(what, []).extend(found)
    return told(figures, courses[1:])


def told(figures: Figures, courses: list[Course]) -> Figures:
    spans: dict[str, list[float]] = defaultdict(list)
    for course in courses:
        for what, found in course.milliseconds().items():
            spans[what] += found
    figures["ms"] = {what: spread(found) for what, found in spans.items() if found}
    figures["seconds"] = sum(spans["a chain"]) / 1000
    return rated(figures)


def spread(values: list[float]) -> dict[str, float]:
    """By the nearest rank: a p99 of fewer than a hundred values is the largest."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": at(0.5), "p99": at(0.99), "least": ordered[0], "most": ordered[-1], "count": len(ordered)}
