# SPDX-License-Identifier: Apache-2.0
"""What the operator's real process can't see: objects that vanished while it did not look, watches that died without a
word, Jobs of others under the names of ours."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.fakestore import Manifest
from tests.api.fates import RESET, Call, Fate, Moment
from tests.api.inprocess import SETTINGS
from tests.api.journeys import SHARED, Journey, smooth
from tests.api.lab import probes
from tests.api.played import Gate, succeeds, waits
from tests.api.storm import AGAIN, UNSEEN, Storm, assert_nothing_lost, storm, undisturbed
from tests.api.warm import Nursery
from tests.progress import DEEP, Say, in_pieces, long, summed, told

from sandbox_operator.build.names import ANNOTATION_CONTRACT, ANNOTATION_JOB_ID, LABEL_ATTEMPT
from sandbox_operator.kube.config import Connection
from sandbox_operator.reconcile.process import Operator


class Vanisher:
    """Takes objects out of the server's store, so that only the next list can tell that they have gone."""

    def __init__(self, it: Storm, chance: random.Random) -> None:
        self.counted: Counter[str] = Counter()
        self._it, self._chance = it, chance

    def once(self) -> None:
        what = self._chance.choice(["pod", "Job with its pod", "finished Job", "experiment", "Event"])
        found = getattr(self, f"_{what.split()[0].lower()}_gone")(what)
        self.counted[f"{what} gone"] += found

    def _pod_gone(self, _: str) -> bool:
        """Its Job's controller notices, sooner or later; the one that is played here can't, so it is done for it."""
        before = {name: pod for (_, name), pod in self._it.api.kind_of("", "pods").items()}
        if not self._vanish("", "pods", lambda _: True):
            return False
        (name,) = before.keys() - {name for _, name in self._it.api.kind_of("", "pods")}
        owner = before[name]["metadata"]["ownerReferences"][0]
        job = self._it.api.kind_of("batch", "jobs").get(("lab", owner["name"]))
        if (
            job is not None
            and job["metadata"]["uid"] == owner["uid"]
            and not (job.get("status") or {}).get("conditions")
        ):
            condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
            self._it.api.put("batch", "jobs", {**job, "status": {"conditions": [condition]}})
        return True

    def _job_gone(self, _: str) -> bool:
        names = {pod["metadata"]["ownerReferences"][0]["name"] for pod in self._it.api.kind_of("", "pods").values()}
        found = self._vanish("batch", "jobs", lambda job: job["metadata"]["name"] in names)
        self._collect_pods()
        return found

    def _finished_gone(self, _: str) -> bool:
        found = self._vanish("batch", "jobs", lambda job: bool((job.get("status") or {}).get("conditions")))
        self._collect_pods()
        return found

    def _collect_pods(self) -> None:
        """What the garbage collector does."""
        jobs = {name for _, name in self._it.api.kind_of("batch", "jobs")}
        pods = [pod["metadata"] for pod in self._it.api.kind_of("", "pods").values()]
        for name in [pod["name"] for pod in pods if pod["ownerReferences"][0]["name"] not in jobs]:
            self._it.api.vanish("", "pods", "lab", name)

    def _experiment_gone(self, _: str) -> bool:
        """Deleted and applied again, with all that it owned, while nobody looked."""
        running = [j for j in self._it.fed if not self._it.lab.status(j.name).get("completionTime")]
        if not running:
            return False
        journey = self._chance.choice(running)
        store = self._it.api.kind_of("sandbox.datajuicer.io", "sandboxexperiments")
        owner = store["lab", journey.name]["metadata"]["uid"]
        for group, plural in (("batch", "jobs"), ("", "pods"), ("", "configmaps"), ("", "persistentvolumeclaims")):
            for _, name in list(self._it.api.kind_of(group, plural)):
                labels = self._it.api.kind_of(group, plural)["lab", name]["metadata"].get("labels") or {}
                if labels.get("sandbox.datajuicer.io/experiment-uid") == owner:
                    self._it.api.vanish(group, plural, "lab", name)
        old = store["lab", journey.name]
        self._it.api.vanish("sandbox.datajuicer.io", "sandboxexperiments", "lab", journey.name)
        meta = {"name": journey.name, "namespace": "lab"}
        fresh = {key: old[key] for key in ("apiVersion", "kind", "spec")}
        self._it.api.put("sandbox.datajuicer.io", "sandboxexperiments", {**fresh, "metadata": meta})
        return True

    def _event_gone(self, _: str) -> bool:
        return self._vanish("", "events", lambda _: True)

    def _vanish(self, group: str, plural: str, which: Callable[[Manifest], bool]) -> bool:
        names = [name for (_, name), item in self._it.api.kind_of(group, plural).items() if which(item)]
        if names:
            self._it.api.vanish(group, plural, "lab", self._chance.choice(sorted(names)))
        return bool(names)


TAKES_RESULTS = ("pod", "Job with its pod", "finished Job")
"""Of what may vanish, that which may have a result with it that nobody has seen."""


def without_attempts(end: Manifest) -> Manifest:
    kept = ("id", "state", "metrics")
    return {**end, "jobs": [{key: job[key] for key in kept} for job in end["jobs"]]}


@long
async def test_what_vanished_unseen_is_found_missing(nursery: Nursery, tmp_path: Path, say: Say, counts: Say) -> None:
    """Each time all watches are silent, something vanishes, history is forgotten, and the next list is the only news.

    An attempt may be lost with its pod, one for each that vanished; what is committed is not, and every experiment comes to
    the end that it has when nothing vanishes, only with more attempts.
    """

    async def piece(seed: int) -> Counter[str]:
        chance = random.Random(seed)
        async with storm(nursery, tmp_path) as it:
            vanisher = Vanisher(it, chance)
            it.operator.start()
            for number in range(6):
                await it.feed(smooth(f"smooth-{number}", random.Random(f"{seed}/{number}")))
            for _ in range(12):
                it.api.stall()
                await asyncio.sleep(chance.uniform(0.02, 0.3))
                vanisher.once()
                it.api.stall(False)
                await asyncio.sleep(chance.uniform(0.02, 0.3))
            await it.finished()
            ends, found = it.ends(), summed([it.counted(), vanisher.counted])
        expected = (await undisturbed(nursery, tmp_path, [smooth("smooth", random.Random(seed))]))["smooth"]
        for name, end in ends.items():
            assert without_attempts(end) == without_attempts(expected), name
        again = sum(job["attempts"] - 1 for end in ends.values() for job in end["jobs"])
        taken = sum(found[f"{what} gone"] for what in TAKES_RESULTS)
        assert again <= taken, f"{again} further attempts, and {taken} pods and Jobs that vanished: {ends}"
        assert found[AGAIN] <= taken
        assert found[UNSEEN] <= taken + found["experiment gone"], "one that vanishes takes the pod at work with it"
        return summed([found, Counter({"further attempts": again})])

    found = await in_pieces("vanished", range(60 if DEEP else 4), piece, say=say, deep=DEEP, at_once=4)
    counts(f"vanished unseen: {told(found)}")
    assert_nothing_lost(found, excused=[UNSEEN, AGAIN])
    assert all(found[f"{what} gone"] for what in ("pod", "Job with its pod", "finished Job", "experiment"))


@long
async def test_watches_that_die_without_a_word_are_found_dead(nursery: Nursery, tmp_path: Path, counts: Say) -> None:
    """They stay open and say nothing more, as when a firewall forgets a connection. The real process needs the 100 s
    after which silence counts as death (330 s for Events), so the sample has an operator that is less patient."""
    async with storm(nursery, tmp_path) as it, contextlib.AsyncExitStack() as stack:
        if DEEP:
            it.operator.start()
        else:
            operator = await stack.enter_async_context(Operator(Connection(it.api.url), SETTINGS))
            for informer in operator._cache.informers:
                informer.idle_seconds = 1.0
            stack.callback(asyncio.create_task(operator.run()).cancel)
        deaths = 0
        for number, kinds in enumerate([(), ("pods",), ("jobs",), ("sandboxexperiments",), ("pods", "jobs")]):
            gates = [Gate(succeeds()) for _ in range(3)]
            names = [f"smooth-{number}-{each}" for each in range(3)]
            for name, gate in zip(names, gates, strict=True):
                await it.feed(dataclasses.replace(smooth(name, random.Random(name)), table={("refine",): gate}))
            for gate in gates:  # what is new may be seen only when the next silence has been found to be death
                await asyncio.wait_for(gate.arrived.wait(), 400)
            dead = set(it.api.deaf)
            it.api.deafen(*kinds)
            deaths += len(it.api.deaf - dead)
            for gate in gates:
                gate.opened.set()
            await it.finished(limit=400)
        expected = await undisturbed(nursery, tmp_path, [smooth("smooth", random.Random(1))])
        assert {name: end for name, end in it.ends().items() if end != expected["smooth"]} == {}
    counts(f"watches that died in silence: {deaths}, with {told(it.counted())}")
    assert_nothing_lost(it.counted())


async def test_a_hook_that_has_begun_unseen_is_not_given_up_for_waiting_too_long(
    nursery: Nursery, tmp_path: Path
) -> None:
    """The watch of pods is silent for longer than `timeouts.pending`; what really waits that long is given up."""
    async with storm(nursery, tmp_path) as it:
        runs = Gate(succeeds())
        spec = probes("a", claim_name=SHARED, timeouts={"pending": "2s"})
        it.operator.start()
        it.api.stall(plural="pods")
        await it.feed(Journey("begun", spec, {("a",): runs}))
        await it.feed(Journey("waits", spec, {("a",): waits("ImagePullBackOff", "pull access denied")}))
        await it.lab.reached(runs, "the hook runs")
        await it.lab.until(lambda: it.lab.job("waits", "a").get("reason") == "PendingTimeout", "the other is given up")
        await it.lab.until(lambda: it.lab.job("begun", "a").get("state") == "Running", "it is seen to run")
        runs.opened.set()
        it.api.stall(False)
        await it.finished()
        assert it.lab.status("begun")["outcome"] == "Succeeded", it.lab.told()


STRANGERS: dict[str, Callable[[Manifest], None]] = {
    "owner": lambda job: job["metadata"]["ownerReferences"][0].update(uid="another", name="another"),
    "no-owner": lambda job: job["metadata"].pop("ownerReferences"),
    "job-id": lambda job: job["metadata"]["annotations"].update({ANNOTATION_JOB_ID: "anonymous/1/probe/1"}),
    "attempt": lambda job: job["metadata"]["labels"].update({LABEL_ATTEMPT: "7"}),
    "contract": lambda job: job["metadata"]["annotations"].update({ANNOTATION_CONTRACT: "0" * 64}),
    "nothing-of-ours": lambda job: job["metadata"].update(labels={}, annotations={}, ownerReferences=[]),
}


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
async def test_a_job_of_somebody_else_in_our_name_is_never_taken_for_ours(
    nursery: Nursery, tmp_path: Path, counts: Say, killed: bool
) -> None:
    """All but one thing is as we would have made it, and it is there a moment before ours. Its experiment says so and
    ends, the stranger is left as it was, and the other experiments go on; also when the operator dies at that moment,
    and knows nothing of it when it comes back."""
    kinds = {name: change for name, change in STRANGERS.items() if not (killed and name == "contract")}
    async with storm(nursery, tmp_path) as it:
        it.api.collects_orphans = False
        planted: dict[str, Manifest] = {}

        def plant(call: Call, moment: Moment) -> Fate | None:
            if (call.verb, call.plural, moment) != ("create", "jobs", "before"):
                return None
            name = call.body["metadata"]["ownerReferences"][0]["name"]
            if name not in kinds or name in planted:
                return None
            stranger = copy.deepcopy(call.body)
            kinds[name](stranger)
            it.witness.strangers.add(stranger["metadata"]["name"])
            planted[name] = it.api.put("batch", "jobs", stranger)
            if not killed:
                return None
            it.operator.kill()
            it.operator.start()
            return RESET

        it.deciders.append(plant)
        names = ["unharmed", *kinds]
        it.operator.start()
        for name in names:
            await it.feed(smooth(name, random.Random(name)))
        await it.finished()
        ends = {name: (it.lab.status(name)["outcome"], it.lab.job(name, "before")["reason"]) for name in names}
        told = dict.fromkeys(kinds, ("Failed", "NameTaken"))
        assert ends == {"unharmed": ("Succeeded", "Completed"), **told}, it.lab.told()
        for name, job in planted.items():
            left = it.api.kind_of("batch", "jobs")["lab", job["metadata"]["name"]]
            assert left["spec"] == job["spec"], f"{name} was touched"
            assert left["metadata"] | {"resourceVersion": ""} == job["metadata"] | {"resourceVersion": ""}, name
    counts(f"Jobs of others in our name: {len(planted)} kinds, all told and left alone{', killed each time' * killed}")
