# SPDX-License-Identifier: Apache-2.0
"""Experiments for storms. Their hooks do the same each time, so that one end is right and all others are wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.api.fakestore import Manifest
from tests.api.lab import FILTER, outcome_of, probes, road
from tests.api.played import Behaviour, Pod, Table, disrupted, fails, succeeds

from sandbox_api.base import API_VERSION
from sandbox_api.hook_resource import KIND as HOOK_KIND
from sandbox_api.result import (
    EXIT_CODES,
    Message,
    Output,
    ResultError,
    decode_message,
    encode_message,
    encode_piece,
)

SHARED = "shared"
"""The claim that all of them use, but those that have one made."""
HOOKS = ("before", "refine", "process", "after")


@dataclass(frozen=True)
class Journey:
    """An experiment, and what its hooks do, by (metaName, attempt) or (metaName,)."""

    name: str
    spec: Manifest
    table: Table = field(default_factory=dict)
    hangs_on_others: bool = False
    """Whether another experiment may have done its work already: only how it ends is certain, not by what."""

    def end_of(self, status: Manifest) -> Manifest:
        """What must be the same however it went."""
        end = outcome_of(status)
        if not self.hangs_on_others:
            return end
        failures = [job["failures"] for job in end["jobs"] if job["failures"]]
        return {"outcome": end["outcome"], "progress": end["progress"], "failures": failures}


LISTER: Manifest = {
    "apiVersion": API_VERSION,
    "kind": HOOK_KIND,
    "metadata": {"name": "lister"},
    "spec": {"imageName": "data", "outputs": ["paths"], "figures": ["rows_in"], "cacheable": True},
}
"""A hook that makes a list; none of the catalogue does."""
Kind = Callable[[str, random.Random], Journey]


def slowly(pause: float, behaviour: Behaviour | None = None) -> Behaviour:
    """A hook whose pod takes its time to come up, and to run."""

    async def behave(pod: Pod) -> None:
        await asyncio.sleep(pause)
        await pod.runs()
        await asyncio.sleep(pause)
        await (behaviour or succeeds())(pod)

    return behave


def gives(outputs: Callable[[Pod], dict[str, Any]], figures: Callable[[Pod], dict[str, float]]) -> Behaviour:
    """A success with outputs that are values or lists, and figures that the pod's contract decides."""

    async def behave(pod: Pod) -> None:
        await pod.runs()
        given = {
            name: Output(kind="list" if isinstance(value, list) else "value", value=value)
            for name, value in outputs(pod).items()
        }
        paths = {name: Output(kind="path", path=f"{pod.folder}/out/{name}") for name in pod.contract.outputs}
        told = {f"{pod.contract.job.meta_name}.{name}": value for name, value in figures(pod).items()}
        await pod.ends(0, pod.message(outcome="Succeeded", message="done", outputs={**paths, **given}, metrics=told))

    return behave


def smooth(name: str, chance: random.Random) -> Journey:
    """The road of four hooks, each done at its first attempt."""
    return Journey(name, road(claim_name=SHARED), {(hook,): slowly(chance.uniform(0, 0.15)) for hook in HOOKS})


def rough(name: str, chance: random.Random) -> Journey:
    """The road of four hooks, two of which need more than one attempt."""
    table: Table = {(hook,): slowly(chance.uniform(0, 0.1)) for hook in HOOKS}
    first, second = chance.sample(HOOKS, 2)
    table[first, 1] = slowly(0.02, fails("Infra", "OSError", "stale file handle"))
    table[second, 1] = slowly(0.02, disrupted())
    if chance.random() < 0.5:
        table[second, 2] = slowly(0.02, fails("User", "ValueError", "flaky"))
    return Journey(name, road(claim_name=SHARED, retry={"backoff": "1s", "user": 1}), table)


def doomed(name: str, chance: random.Random) -> Journey:
    """One whose third hook fails for good: the fourth is skipped."""
    table: Table = {(hook,): slowly(chance.uniform(0, 0.1)) for hook in HOOKS}
    table["process",] = fails("User", "ValueError", "row 17")
    return Journey(name, road(claim_name=SHARED), table)


def tolerant(name: str, chance: random.Random) -> Journey:
    """One of three failures of whose evaluation others are not hurt by."""
    spec = probes("a", claim_name=SHARED, onFailure={"evaluation": "Continue"})
    job = spec["probeJobConfigs"][0]
    spec["evaluationJobConfigs"] = [{**job, "metaName": other} for other in ("b", "c", "d")]
    table: Table = {(hook,): slowly(chance.uniform(0, 0.1)) for hook in "abcd"}
    table[chance.choice("bcd"),] = fails("User", "ValueError", "row 17")
    return Journey(name, spec, table)


def bulky(name: str, chance: random.Random) -> Journey:
    """Contracts that are too long for an environment variable: a ConfigMap is made before each Job."""
    spec = probes("a", "b", claim_name=SHARED)
    noise = chance.randbytes(52_000).hex()
    for job in spec["probeJobConfigs"]:
        job["djConfigs"]["process"] = [{"flagged_words_filter": {"lang": noise}}]
    return Journey(name, spec, {(hook,): slowly(chance.uniform(0, 0.2)) for hook in "ab"})


def with_a_claim(name: str, chance: random.Random) -> Journey:
    """One that has its claim made, and handed over to it."""
    spec = probes("a", "b", workspace={"claim": {"size": "1Gi"}, "retention": "Delete"})
    return Journey(name, spec, {(hook,): slowly(chance.uniform(0, 0.1)) for hook in "ab"})


def parallel(name: str, chance: random.Random) -> Journey:
    """Five jobs of one list that run side by side, one that comes after two of them, and one after all."""
    spec = road(claim_name=SHARED)
    names = [f"p{number}" for number in range(5)]
    job = {"hook": "ProcessDataHook", "djConfigs": {"dataset_path": "data/demo.jsonl", "process": FILTER}}
    lone = [{**job, "metaName": each, "dependsOn": []} for each in names]
    two = {**job, "metaName": "two", "dependsOn": ["p0", "p3"]}
    spec["executionJobConfigs"] = [*lone, two]
    spec["evaluationJobConfigs"][0]["input"] = {"djConfigs.dataset_path": "anonymous.two.dataset"}
    table: Table = {(each,): slowly(chance.uniform(0, 0.3)) for each in (*names, "two", *HOOKS)}
    table["p1", 1] = fails("Infra", "OSError", "stale file handle")
    return Journey(name, spec, table)


def fanned(name: str, chance: random.Random) -> Journey:
    """A list that a job makes, a pipeline for each of its items, and a job that reads what all of them gave."""
    items = chance.randint(1, 4)
    job = {"hook": "ProcessDataHook", "djConfigs": {"process": FILTER}}
    each = {
        "name": "exps",
        "forEach": {"item": "pool", "in": "split.pools.paths", "maxParallel": 2},
        "executionJobConfigs": [
            {**job, "metaName": "one", "input": {"djConfigs.dataset_path": "item.pool"}, "output": ["made"]},
            {**job, "metaName": "other", "input": {"djConfigs.dataset_path": "exps.one.made"}},
        ],
    }
    first = {"hook": LISTER["metadata"]["name"], "metaName": "pools"}
    last = {**job, "metaName": "all", "input": {"djConfigs.dataset.configs": "exps.one.made"}}
    spec = {
        **{key: value for key, value in probes(claim_name=SHARED).items() if key != "probeJobConfigs"},
        "pipelines": [
            {"name": "split", "executionJobConfigs": [first]},
            each,
            {"name": "end", "executionJobConfigs": [last]},
        ],
    }
    lists = gives(
        lambda pod: {"paths": [f"{pod.folder}/out/{n}.jsonl" for n in range(items)]}, lambda _: {"rows_in": 1.0}
    )
    table: Table = {(hook,): slowly(chance.uniform(0, 0.1)) for hook in ("one", "other", "all")}
    return Journey(name, spec, {**table, ("pools",): slowly(chance.uniform(0, 0.1), lists)})


def iterated(name: str, chance: random.Random) -> Journey:
    """The road, again and again until a figure is high enough, each time with the recipe of the time before."""
    spec = road(
        claim_name=SHARED,
        maxIterNum=4,
        iterTargets=["anonymous.after.rows >= 250"],
        iterUpdater={"anonymous.refine.refined_recipe": "anonymous.before.djConfigs"},
    )
    figures = gives(lambda _: {}, lambda pod: {"rows": 100.0 * pod.contract.job.iteration, "text_len.mean": 2.5})
    return Journey(name, spec, {(hook,): slowly(chance.uniform(0, 0.1), figures) for hook in HOOKS})


def robbed(name: str, chance: random.Random) -> Journey:
    """A result that has gone from the volume: who reads it says so, it is made again, and what depends on it too."""

    async def misses_its_recipe(pod: Pod) -> None:
        await pod.runs()
        told = ResultError(class_="Input", type="InputError", message="gone", job="anonymous/1/refine/0")  # type: ignore[call-arg]
        await pod.ends(EXIT_CODES["Input"], pod.message(outcome="Failed", error=told))

    table: Table = {(hook,): slowly(chance.uniform(0, 0.15)) for hook in HOOKS}
    return Journey(name, road(claim_name=SHARED), {**table, ("process", 1): slowly(0.02, misses_its_recipe)})


class Volume:
    """What hooks leave there, and who reads it later."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, str, int], Message] = {}

    def leaves(self, behaviour: Callable[[Pod], str], *, says: bool) -> Behaviour:
        """A hook that writes its result; when it does not also say it, its pod's word is lost."""

        async def behave(pod: Pod) -> None:
            await pod.runs()
            text = behaviour(pod)
            message = decode_message(text)
            assert message is not None
            self._left[self._key(pod)] = message
            await pod.ends(0, text if says else "")

        return behave

    def reads(self, whole: Callable[[Pod], dict[str, Any]] | None = None) -> Behaviour:
        """A pod that finds the result of an attempt, or gives a piece of `whole`, what it needs of it."""

        async def behave(pod: Pod) -> None:
            await pod.runs()
            message = self._left[self._key(pod)].model_copy(update={"pod_uid": pod.uid})
            needs = pod.contract.needs
            if pod.piece:
                assert whole is not None
                message = message.model_copy(update={"outputs": whole(pod)})
                await pod.ends(0, encode_piece(message, pod.piece, needs=needs))
            else:
                await pod.ends(0, encode_message(message, needs=needs))

        return behave

    @staticmethod
    def _key(pod: Pod) -> tuple[str, str, int]:
        return pod.contract.experiment.uid, pod.contract.job.id, pod.contract.attempt


def mute(name: str, chance: random.Random) -> Journey:
    """A hook whose pod's word is lost: a reader finds its result on the volume, and it is not run again."""
    volume = Volume()
    quiet = volume.leaves(lambda pod: pod.message(outcome="Succeeded", message="100 rows"), says=False)
    table: Table = {(hook,): slowly(chance.uniform(0, 0.1)) for hook in HOOKS}
    table |= {("before",): quiet, ("before", "read"): volume.reads()}
    return Journey(name, road(claim_name=SHARED, timeouts={"result": "1s"}), table)


def long_listed(name: str, chance: random.Random) -> Journey:
    """A list that is too long for a message: it is read in pieces, and each item is gone through."""
    items = [chance.randbytes(400).hex() for _ in range(9)]
    volume = Volume()

    def listed(pod: Pod) -> str:
        return pod.message(outcome="Succeeded", message="9 items", outputs={"paths": Output(kind="list", value=items)})

    spec = probes("list", claim_name=SHARED)
    spec["probeJobConfigs"] = [{"hook": LISTER["metadata"]["name"], "metaName": "list"}]
    job = {"hook": "ProcessDataHook", "metaName": "each", "djConfigs": {"process": FILTER}}
    over = {"forEach": {"item": "x", "in": "anonymous.list.paths"}, "input": {"djConfigs.dataset_path": "item.x"}}
    spec["executionJobConfigs"] = [{**job, **over}]
    table: Table = {
        ("list",): volume.leaves(listed, says=True),
        ("list", "read"): volume.reads(lambda _: {"paths": items}),
        ("each",): slowly(chance.uniform(0, 0.2)),
    }
    return Journey(name, spec, table)


def twin(name: str, chance: random.Random) -> Journey:
    """One of several that ask for the same: what one of them has done the others take."""
    spec = road(claim_name=SHARED, cache="Auto", projectName=f"twins-{chance.randrange(3)}")
    return Journey(name, spec, {(hook,): slowly(0.05) for hook in HOOKS}, hangs_on_others=True)


def checked(name: str, chance: random.Random) -> Journey:
    """A twin whose hooks read files that no job made: a pod looks at them before a result is taken, and finds no change."""
    spec = road(claim_name=SHARED, cache="Auto", projectName=f"checked-{chance.randrange(3)}")

    async def reads_a_file(pod: Pod) -> None:
        await pod.runs()
        files = {"inputs/raw/demo.jsonl": "0" * 64}
        message = pod.message(outcome="Succeeded", message="100 rows", externals=files, content=pod.contract.job.id)
        await pod.ends(0, message)

    async def finds_it_unchanged(pod: Pod) -> None:
        await pod.runs()
        await pod.ends(0, pod.message(outcome="Succeeded", message="unchanged"))

    table: Table = {(hook,): slowly(0.05, reads_a_file) for hook in HOOKS}
    checks: Table = {(hook, "check"): finds_it_unchanged for hook in HOOKS}
    return Journey(name, spec, {**table, **checks}, hangs_on_others=True)


EVERY: tuple[Kind, ...] = (
    smooth, rough, doomed, tolerant, bulky, with_a_claim, parallel, fanned, iterated, robbed, mute, long_listed, twin, checked,
)  # fmt: skip


class Journeys:
    """An endless list: the n-th of a seed is always the same."""

    def __init__(self, seed: int, kinds: tuple[Kind, ...] = EVERY) -> None:
        self._seed, self._kinds, self._number = seed, kinds, 0

    def next(self) -> Journey:
        self._number += 1
        chance = random.Random(f"{self._seed}/{self._number}")
        kind = chance.choice(self._kinds)
        return kind(f"{kind.__name__.replace('_', '-')}-{self._number}", chance)
