# SPDX-License-Identifier: Apache-2.0
"""What must always hold, asserted from the fake API server's own history: each change is looked at as it is stored.

It asks nobody what the operator thinks. What it knows of hooks it reads where the operator does, in pods' termination
messages, with the one decoder of the contract; who lives and who has ended it knows from the pods alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.api.fakestore import Change, FakeStore, Manifest

from sandbox_api.contract import CONTAINER, CONTRACT_ENV, CONTRACT_FILE_ENV, InputRef, JobContract, decode_contract
from sandbox_api.result import Message, decode_message
from sandbox_api.status import DONE_STATES, FINISHED_STATES
from sandbox_operator.build.names import ANNOTATION_JOB_ID, LABEL_ATTEMPT, LABEL_TASK, LABEL_UID
from sandbox_operator.reconcile.resources import EXPERIMENTS, JOBS, PODS

Hook = tuple[str, str]
"""(experiment's uid, job id)"""
Attempt = tuple[str, str, int]
"""(experiment's uid, job id, attempt)"""


@dataclass
class Live:
    """A Job of an attempt, as long as a pod of it may still write."""

    hook: Hook
    attempt: int
    generation: int
    pods: set[str] = field(default_factory=set)
    had_pod: bool = False
    job_is_there: bool = True

    @property
    def is_over(self) -> bool:
        """With `backoffLimit: 0` a Job has one pod; without a Job none is made."""
        return not self.pods and (self.had_pod or not self.job_is_there)


class Witness:
    """`Witness(store)` listens from then on; `violations` holds a sentence for each rule that was broken.

    * A Job is named in the status before it is made, and reads exactly what is committed. There are never two for an
      attempt (unless the first one vanished by somebody else's doing), none while a pod of another attempt may write,
      and none for a hook that has succeeded in this generation.
    * A status only moves forward. What is committed was really given by a pod that succeeded; it stays, or goes to the
      history when a newer generation or iteration takes its place.
    * No Job is deleted with a result that is not committed, unless a person wanted an end at once (then the volume has
      it, and the next attempt finds it there).
    """

    def __init__(self, store: FakeStore) -> None:
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.made: dict[Attempt, str] = {}
        self.live: dict[str, Live] = {}
        """By the uid of the Job."""
        self.succeeded: dict[tuple[Hook, int], Message] = {}
        """What really has succeeded, by hook and generation."""
        self.strangers: set[str] = set()
        """Names of Jobs that a test has put there: nobody's business."""
        self.trusts_hooks = True
        """Whether what a pod says of its own success is true: else only Jobs and attempts are looked at."""
        self._store = store
        self._over: set[str] = set()
        self._vanished: set[str] = set()
        self._seen: dict[str, Manifest] = {}
        """The newest status by the uid of the experiment."""
        self._there: dict[str, str] = {}
        """Names of the experiments that are there, by uid."""
        self._given: set[str] = set()
        """Digests of all results that pods really gave."""
        store.witnesses.append(self)

    def __call__(self, change: Change) -> None:
        gone = change.type in ("DELETED", "VANISHED")
        name = change.object["metadata"]["name"]
        if name in self.strangers or name.rpartition("-")[0] in self.strangers:
            return
        match change.kind:
            case (EXPERIMENTS.group, EXPERIMENTS.plural):
                self._experiment(change.object, gone)
            case (JOBS.group, JOBS.plural) if _is_hooks(change.object):
                self._job(change.object, change.type)
            case (PODS.group, PODS.plural) if _is_hooks(change.object):
                self._pod(change.object, gone, unseen=change.type == "VANISHED" or self._lost_its_job(change.object))
            case (PODS.group, PODS.plural) if (message := _success_of(change.object)) is not None:
                self.counts["words of readers"] += not gone
                self._given.add(message.sha256)

    def _broken(self, words: str) -> None:
        self.violations.append(words)

    # Jobs

    def _job(self, job: Manifest, what: str) -> None:
        meta = job["metadata"]
        if what == "ADDED":
            self._made(job)
        elif what in ("DELETED", "VANISHED") and meta["uid"] in self.live:
            if what == "VANISHED":
                self._vanished.add(meta["uid"])
            else:
                self._deleted(self.live[meta["uid"]], meta["name"])
            self.live[meta["uid"]].job_is_there = False
            self._tidy(meta["uid"])

    def _deleted(self, live: Live, name: str) -> None:
        """A Job goes, and its pods' words with it."""
        message = self.succeeded.get((live.hook, live.generation))
        if message is None or message.attempt != live.attempt or self._is_kept(live.hook[0], message):
            return
        if live.hook[0] in self._there:
            self.counts["lost"] += 1
            self._broken(
                f"{name}: deleted before its result was committed: {self._entries(live.hook[0])[live.hook[1]]}"
            )
        del self.succeeded[live.hook, live.generation]

    def _made(self, job: Manifest) -> None:
        meta = job["metadata"]
        contract = self._contract(job)
        hook: Hook = (meta["labels"][LABEL_UID], meta["annotations"][ANNOTATION_JOB_ID])
        if hook[0] not in self._there:
            self.counts["Jobs of experiments that had gone"] += 1
            return
        attempt = int(meta["labels"][LABEL_ATTEMPT])
        told = f"{meta['name']} ({contract.experiment.name} {hook[1]})"
        self.counts["Jobs"] += 1
        if self.made.get((*hook, attempt)) in self._vanished:
            self.counts["Jobs made again because they vanished"] += 1
        elif (*hook, attempt) in self.made:
            self.counts["duplicates"] += 1
            self._broken(f"{told}: a second Job for attempt {attempt}")
        self.made[(*hook, attempt)] = meta["uid"]
        alive = [live for live in self.live.values() if live.hook == hook and not live.is_over]
        if alive:
            self._broken(f"{told}: attempt {alive[0].attempt} of the same job may still write")
        self.live[meta["uid"]] = Live(hook, attempt, contract.generation)
        if (hook, contract.generation) in self.succeeded:
            self.counts["run again"] += 1
            self._broken(f"{told}: the hook has succeeded already in generation {contract.generation}")
        entries = self._entries(hook[0])
        if entries.get(hook[1], {}).get("jobName") != meta["name"]:
            self._broken(f"{told}: no status named this Job before it was made: {entries.get(hook[1])}")
        for target, given in contract.inputs.items():
            for ref in given if isinstance(given, list) else [given]:
                self._input(f"{told}: its input {target}", ref, hook[0])

    def _input(self, told: str, ref: InputRef, uid: str) -> None:
        entry = self._entries(uid).get(ref.job)
        if entry is None:  # of the iteration before
            results = [e["result"] for e in self._status_of(uid).get("history") or () if e["id"] == ref.job][-1:]
        else:
            results = [entry["result"]] if entry["state"] in DONE_STATES else []
        if [(result["path"], result["sha256"]) for result in results] != [(ref.result_path, ref.sha256)]:
            self._broken(f"{told} is not the committed result of {ref.job}: {entry} {results}")

    def _contract(self, job: Manifest) -> JobContract:
        (hook,) = [c for c in job["spec"]["template"]["spec"]["containers"] if c["name"] == CONTAINER]
        environment = {variable["name"]: variable.get("value") for variable in hook["env"]}
        if CONTRACT_FILE_ENV not in environment:
            return decode_contract(str(environment[CONTRACT_ENV]))
        key = (job["metadata"]["namespace"], job["metadata"]["name"])
        return decode_contract(self._store.kind_of("", "configmaps")[key]["data"]["contract"])

    # Pods

    def _pod(self, pod: Manifest, gone: bool, unseen: bool) -> None:
        meta, uid = pod["metadata"], pod["metadata"]["uid"]
        owner = meta["ownerReferences"][0]["uid"]
        live = self.live.get(owner)
        if live is not None and not live.had_pod:
            self.counts["pods"] += 1
            live.had_pod = True
            live.pods.add(uid)
        elif live is not None and uid not in live.pods and uid not in self._over:
            self._broken(f"{meta['name']}: a second pod for {live.hook[1]} attempt {live.attempt}")
        if uid not in self._over and (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self._over.add(uid)
            self._ended(pod, live)
        if unseen:
            self._gone_with_its_result(uid)
        if live is not None and (gone or uid in self._over):
            live.pods.discard(uid)
            self._tidy(owner)

    def _ended(self, pod: Manifest, live: Live | None) -> None:
        message = _success_of(pod) if self.trusts_hooks else None
        if message is None or not live:
            self.counts["attempts without a result"] += 1
            return
        self.counts["results"] += 1
        self._given.add(message.sha256)
        entry = self._entries(live.hook[0]).get(live.hook[1], {})
        if _is_under_way(entry, live.attempt, live.generation):
            self.succeeded[live.hook, live.generation] = message
        else:
            self.counts["results of attempts that had been ended"] += 1

    def _lost_its_job(self, pod: Manifest) -> bool:
        """Whether the garbage collector takes it because its Job vanished: that may be as unseen as the Job's end was."""
        return pod["metadata"]["ownerReferences"][0]["uid"] in self._vanished

    def _gone_with_its_result(self, uid: str) -> None:
        """A pod that nobody could look at any more took its words with it; only a committed result outlives it."""
        for (hook, generation), message in list(self.succeeded.items()):
            if message.pod_uid == uid and not self._is_kept(hook[0], message):
                self.counts["results that nobody could see"] += 1
                del self.succeeded[hook, generation]

    def _tidy(self, job_uid: str) -> None:
        if self.live[job_uid].is_over and not self.live[job_uid].job_is_there:
            del self.live[job_uid]

    # Statuses

    def _status_of(self, uid: str) -> Manifest:
        return self._seen.get(uid, {})

    def _entries(self, uid: str) -> dict[str, Manifest]:
        return {entry["id"]: entry for entry in self._status_of(uid).get("jobs") or ()}

    def _is_kept(self, uid: str, message: Message) -> bool:
        """Whether a result stands in the status, as the newest or in the history."""
        status = self._status_of(uid)
        every = [*(status.get("jobs") or ()), *(status.get("history") or ())]
        return any((entry.get("result") or {}).get("sha256") == message.sha256 for entry in every)

    def _experiment(self, item: Manifest, gone: bool) -> None:
        uid, name = item["metadata"]["uid"], item["metadata"]["name"]
        if gone:
            self._there.pop(uid, None)
            self._seen.pop(uid, None)
            return
        self._there[uid] = name
        old, new = self._status_of(uid), item.get("status") or {}
        if old == new:
            return
        self._seen[uid] = new
        self.counts["status writes"] += 1
        if (old.get("observedGeneration") or 0) > (new.get("observedGeneration") or 0):
            self._broken(f"{name}: observedGeneration fell from {old['observedGeneration']}")
        if old.get("startTime") not in (None, new.get("startTime")):
            self._broken(f"{name}: startTime changed from {old['startTime']} to {new.get('startTime')}")
        entries = {entry["id"]: entry for entry in new.get("jobs") or ()}
        for entry in entries.values():
            sha256 = (entry.get("result") or {}).get("sha256")
            if sha256 is not None and sha256 not in self._given and self.trusts_hooks:
                self._broken(f"{name} {entry['id']}: a result that no pod has given: {entry}")
        kept = {result["result"]["sha256"] for result in new.get("history") or ()}
        for before in old.get("jobs") or ():
            self._entry(uid, f"{name} {before['id']}", before, entries.get(before["id"]), kept)

    def _entry(self, uid: str, told: str, before: Manifest, after: Manifest | None, kept: set[str]) -> None:
        """`kept`: digests of the results in the history."""
        result = before.get("result") or {}
        newer = (after or {}).get("result") or {}
        if result and newer.get("sha256") != result["sha256"]:
            again = not newer or newer["generation"] > result["generation"]
            if not again or result["sha256"] not in kept:
                self.counts["lost"] += 1
                self._broken(f"{told}: its committed result is lost: {before} became {after}")
        if after is None:
            return
        self._ended_by_a_person((uid, before["id"]), before, after)
        for number in ("attempts", "generation"):
            if (after.get(number) or 0) < (before.get(number) or 0):
                self._broken(f"{told}: {number} fell from {before[number]} to {after.get(number)}")
        again = (after.get("generation") or 1) > (before.get("generation") or 1) or after.get("reason") == "Removed"
        if before["state"] in FINISHED_STATES and not again:
            fixed = ("state", "reason", "outputs", "metrics", "result", "completionTime", "jobName")
            changed = [key for key in fixed if before.get(key) != after.get(key)]
            if changed:
                self._broken(f"{told}: it was over, and {', '.join(changed)} changed: {before} became {after}")

    def _ended_by_a_person(self, hook: Hook, before: Manifest, after: Manifest) -> None:
        """Suspended at once, stopped or to be run again: what the hook gave in that very moment is not waited for."""
        generation = before.get("generation") or 1
        message = self.succeeded.get((hook, generation))
        if (
            message is not None
            and _is_under_way(before, message.attempt, generation)
            and after.get("reason") in ("Suspended", "Stopped", "Rerun", "InputRemade", "Removed")
            and not self._is_kept(hook[0], message)
        ):
            self.counts["results of attempts that had been ended"] += 1
            del self.succeeded[hook, generation]

    # The end

    def check(self) -> None:
        """No rule was broken, and every hook that really has succeeded stands in the status of its experiment."""
        for (hook, generation), message in self.succeeded.items():
            if hook[0] in self._there and not self._is_kept(hook[0], message):
                self.counts["lost"] += 1
                entry = self._entries(hook[0]).get(hook[1])
                told = f"{self._there[hook[0]]} {hook[1]}: its result of generation {generation} is nowhere"
                self._broken(f"{told}: {entry} in {self._status_of(hook[0])}")
        assert not self.violations, f"{len(self.violations)} rules broken:\n" + "\n".join(self.violations[:20])


def _is_under_way(entry: Manifest, attempt: int, generation: int) -> bool:
    """Whether a job's status waits for what this attempt gives."""
    return (
        entry.get("state") not in FINISHED_STATES
        and entry.get("retryAt") is None
        and (entry.get("attempts"), entry.get("generation") or 1) == (attempt, generation)
    )


def _success_of(pod: Manifest) -> Message | None:
    """The result that a pod tells of, if it is one of its own success."""
    entries = [c for c in (pod.get("status") or {}).get("containerStatuses") or () if c["name"] == CONTAINER]
    ended = entries[0]["state"].get("terminated") if entries else None
    message = decode_message(ended["message"]) if ended and ended["exitCode"] == 0 else None
    return message if message and (message.outcome, message.pod_uid) == ("Succeeded", pod["metadata"]["uid"]) else None


def _is_hooks(item: Manifest) -> bool:
    """Whether a Job or a pod is of a hook's attempt: those that read or check results are no attempts."""
    labels = item["metadata"].get("labels") or {}
    return LABEL_UID in labels and labels.get(LABEL_TASK) == "run"
