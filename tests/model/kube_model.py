# SPDX-License-Identifier: Apache-2.0
"""A small model of a cluster: Jobs, their pods, and what hooks really returned. The planner sees it only late."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.unit.builders import NOW, a_claim, a_message, an_experiment, contract_of, job_fact, pod_fact, written

from sandbox_api.ranges import ranges_of
from sandbox_api.result import ErrorClass, ResultError, encode_message
from sandbox_operator.build.names import LABEL_TASK
from sandbox_operator.plan.actions import CreateClaim, CreateJob, DeleteFinishedJobs, DeleteJob, Plan, made_by
from sandbox_operator.plan.clock import moment
from sandbox_operator.plan.doubt import to_ask_for, to_ask_for_pods, to_rule_out, with_all_pods
from sandbox_operator.plan.facts import CacheEntry, ClaimFact, ContainerFact, JobFact, PodFact, Refusal, Snapshot
from sandbox_operator.plan.shards import done_pieces

LIST_OUTPUT = ["experiments/x/a", "experiments/x/b", "experiments/x/c"]
CLAIM = "demo-workspace"
NODE_LOST = timedelta(minutes=2)
"""`timeouts.nodeLost` of every spec here."""


def job_name_in(key: str) -> str:
    """Of a pod."""
    return key.partition("/")[0]


def keys_of(job: JobFact) -> list[str]:
    """Of all pods that a Job ever has."""
    return [job.name] if job.size == 1 else [f"{job.name}/{index}" for index in range(job.size)]


def pod_uid(job: JobFact, key: str) -> str:
    _, several, index = key.partition("/")
    return f"pod-of-{job.uid}{f'-{index}' if several else ''}"


@dataclass
class View:
    """What the informers have heard: every object as it was at some time."""

    jobs: dict[str, JobFact] = field(default_factory=dict)
    pods: dict[str, PodFact] = field(default_factory=dict)


@dataclass
class Kube:
    """What is true in the cluster, told to the planner only by `observed`."""

    stored: Snapshot
    access_mode: str = "ReadWriteMany"
    names: str = "job"
    """What the uids of its Jobs begin with."""
    jobs: dict[str, JobFact] = field(default_factory=dict)
    pods: dict[str, PodFact] = field(default_factory=dict)
    """By `<Job>`, or `<Job>/<index>` where the Job has several."""
    view: View = field(default_factory=View)
    made: list[JobFact] = field(default_factory=list)
    """Every hook's Job that was ever made."""
    made_all: list[JobFact] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)
    """By name: run, read, check or merge."""
    divided: set[str] = field(default_factory=set)
    """Names of Jobs whose pods are independent pieces."""
    shards: dict[str, int] = field(default_factory=dict)
    """By job id: how many pieces it has."""
    spanning: set[str] = field(default_factory=set)
    """Ids of jobs whose pods work as one."""
    known_done: dict[str, set[int]] = field(default_factory=dict)
    """By the name of a Job in pieces: those that the status said were done when it was made."""
    podded: set[str] = field(default_factory=set)
    """Uids of pods that Jobs have had: none gets a second one (backoffLimit 0)."""
    counted: dict[str, str] = field(default_factory=dict)
    """How the pods of Jobs with several have ended, by uid: done or failed."""
    pieces: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """Pieces whose results are on the volume, by job id and contract."""
    whole: set[str] = field(default_factory=set)
    """Uids of pods that have found all pieces of a job."""
    too_late: dict[str, tuple[JobFact, datetime]] = field(default_factory=dict)
    """Jobs that were deleted before they had all pods, and when: the Job controller may make them all the same, at
    once."""
    made_late: set[str] = field(default_factory=set)
    """The names of such Jobs, once it has."""
    vanished: set[str] = field(default_factory=set)
    """Uids of Jobs that others have deleted."""
    silent: set[str] = field(default_factory=set)
    """Uids of pods whose nodes have gone silent."""
    succeeded: set[str] = field(default_factory=set)
    """Uids of pods whose hooks really have succeeded."""
    ended_well: set[str] = field(default_factory=set)
    """Uids of pods that have ended with exit code 0, whatever they said."""
    confirmed: set[str] = field(default_factory=set)
    """Ids of jobs for which a pod has looked whether a cached result is as it was, and it is."""
    claim: ClaimFact | None = None
    on_volume: set[str] = field(default_factory=set)
    """Uids of pods whose results lie on the volume, as long as there is one."""
    gone_keys: set[str] = field(default_factory=set)
    """Keys of what others have done whose files went with their volume; their statuses name them all the same."""
    now: datetime = NOW
    latest: datetime = NOW
    """The latest time that it has been: the operator's clock may have jumped back since."""
    cached: dict[str, CacheEntry] = field(default_factory=dict)
    """What other experiments on the claim have done, by cache key, and what they are working at."""
    running_keys: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, tuple[int, Refusal]] = field(default_factory=dict)
    """What the operator remembers of refused Jobs, with the generation that it was said to."""

    @classmethod
    def of(cls, spec: dict[str, Any], **more: Any) -> Kube:
        return cls(an_experiment(spec), **more)

    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.latest = max(self.latest, self.now)

    # What the operator sees and does

    def relist(self) -> None:
        """The watch has caught up."""
        self.view = View(dict(self.jobs), dict(self.pods))

    def hear_of(self, key: str, *, job: bool = True, pod: bool = True) -> None:
        """One object's newest state arrives, whatever is still on its way: the watches of Jobs and pods are two.

        A Job's name stands for all of its pods as well.
        """
        name = job_name_in(key)
        keys = {other for other in (*self.pods, *self.view.pods) if key in (other, job_name_in(other))}
        wanted: list[tuple[Any, Any, str]] = [(self.view.jobs, self.jobs, name)] if job else []
        wanted += [(self.view.pods, self.pods, other) for other in sorted(keys)] if pod else []
        for seen, true, about in wanted:
            if about in true:
                seen[about] = true[about]
            else:
                seen.pop(about, None)

    def observed(self) -> Snapshot:
        """The snapshot of one reconcile: the caches, and what is asked for because it is in doubt."""
        status, view = self.stored.status, self.view
        seen = replace(self.stored, pods=tuple(view.pods.values()))
        for name in [*to_ask_for_pods(status, view.jobs, with_all_pods(seen))]:
            view.pods.update({key: pod for key, pod in self.pods.items() if job_name_in(key) == name})
        seen = replace(self.stored, pods=tuple(view.pods.values()))
        for name in [*to_ask_for(status, view.jobs, with_all_pods(seen))]:
            if name in self.jobs:
                view.jobs[name] = self.jobs[name]
        return replace(
            self.stored,
            jobs=tuple(view.jobs.values()),
            pods=tuple(view.pods.values()),
            claims={CLAIM: self.claim} if self.claim is not None else {},
            cached=dict(self.cached),
            running_keys=dict(self.running_keys),
            refusals={
                n: told for n, (generation, told) in self.refusals.items() if generation == self.stored.generation
            },
        )

    def has_left(self, seen: Snapshot, step: Plan) -> bool:
        """Whether an attempt that is to follow, or to be made again, has left something that was not seen: now it is."""
        found, pods = False, {pod.uid for pod in seen.pods}
        for name in to_rule_out(seen.status, step.status, made_by(step.actions), with_all_pods(seen)):
            known = any(job.name == name for job in seen.jobs)
            unseen = any(job_name_in(key) == name and pod.uid not in pods for key, pod in self.pods.items())
            if unseen or (not known and name in self.jobs):
                self.hear_of(name)
                found = True
        return found

    def act(self, action: object) -> None:
        match action:
            case CreateClaim():
                self.make_claim()
            case CreateJob():
                self._create(action)
            case DeleteJob():
                job = self.jobs.pop(action.name, None)
                if job is not None and not (job.failed or job.complete) and self.unpodded(job):
                    self.too_late[action.name] = job, self.now
                self.view.jobs.pop(action.name, None)
                for key in self.pods_of(action.name):
                    self._tell_to_go(key)
            case DeleteFinishedJobs():
                self.jobs.clear()
                self.pods.clear()
                self.relist()

    def refuse(self, action: CreateJob, refusal: Refusal) -> None:
        """403 or 422: the operator knows it until it is started anew, or the spec is another one."""
        self.refusals[action.manifest["metadata"]["name"]] = self.stored.generation, refusal

    def _create(self, action: CreateJob) -> None:
        fact = job_fact(action, uid=f"{self.names}-{len(self.made_all)}")
        task = action.manifest["metadata"]["labels"][LABEL_TASK]
        if fact.name in self.jobs:  # 409: adopted when all of its identity is ours
            known = self.jobs[fact.name]
            assert (known.owner_uid, known.job_id, known.attempt, known.contract) == (
                fact.owner_uid, fact.job_id, fact.attempt, fact.contract,
            )  # fmt: skip
            return
        if task == "run":
            assert fact.job_id not in self.live, "an attempt starts only when the one before is over"
            self.made.append(fact)
        contract = contract_of(action)
        self.shards[fact.job_id] = contract.shards
        if contract.nodes > 1:
            self.spanning.add(fact.job_id)
        if contract.pieces:
            self.divided.add(fact.name)
            entry = next(job for job in self.stored.status.jobs if job.id == fact.job_id)
            self.known_done[fact.name] = set(done_pieces(entry))
        self.refusals.pop(fact.name, None)
        self.made_all.append(fact)
        self.tasks[fact.name] = task
        self.jobs[fact.name] = self.view.jobs[fact.name] = fact

    # What the cluster does

    def make_claim(self) -> None:
        """Where there is one, 409 is the answer."""
        if self.claim is None:
            self.claim = a_claim(CLAIM, access_mode=self.access_mode, created=written(self.latest))

    def delete_claim(self) -> None:
        """By hand. It stays as long as a pod uses it: one that the kubelet has begun, until that has gone."""
        assert self.claim is not None
        self.claim = replace(self.claim, deleting=True)

    @property
    def claim_may_go(self) -> bool:
        used = any(pod.is_over or pod.hook.running_since is not None for pod in self.pods.values())
        return self.claim is not None and self.claim.deleting and not (used or self.running_keys)

    def lose_claim(self) -> None:
        """With all files on it."""
        self.claim = None
        self.on_volume.clear()
        self.pieces.clear()
        self.gone_keys |= set(self.cached)

    @property
    def can_begin(self) -> bool:
        """Whether a pod may: the scheduler and the kubelet leave one alone whose claim is going or has gone."""
        return self.claim is not None and not self.claim.deleting

    def job_of(self, key: str) -> JobFact:
        """The Job of a pod, even if it has gone."""
        return next(job for job in reversed(self.made_all) if job.name == job_name_in(key))

    def pods_of(self, name: str) -> list[str]:
        return [key for key in self.pods if job_name_in(key) == name]

    def unpodded(self, job: JobFact) -> list[str]:
        """Keys of the pods that a Job has not had yet."""
        return [key for key in keys_of(job) if pod_uid(job, key) not in self.podded]

    def task_of(self, key: str) -> str:
        return self.tasks[job_name_in(key)]

    @property
    def at_work(self) -> list[str]:
        """Names of the hooks' Jobs with a pod whose process may still write, and of those that will yet have one."""
        ahead = [name for name in self.open_jobs if self.unpodded(self.jobs[name])]
        alive = [job_name_in(key) for key, pod in self.pods.items() if not (pod.is_over or self.is_lost(pod))]
        return [name for name in dict.fromkeys((*alive, *ahead)) if self.tasks[name] == "run"]

    @property
    def live(self) -> list[str]:
        """Their job ids."""
        return [self.job_of(name).job_id for name in self.at_work]

    def is_lost(self, pod: PodFact) -> bool:
        """Whether a pod has been told to go for so long that its node can't be there; another one has the volume too."""
        if self.access_mode != "ReadWriteMany" or pod.deleting_since is None:
            return False
        return self.latest - moment(pod.deleting_since) >= NODE_LOST

    @property
    def expected(self) -> list[str]:
        """Those that the operator could know of: not a pod made for a Job that had gone, and not a Job whose making was
        answered by nobody, when that attempt has been ended since."""
        asked = {entry.job_name for entry in self.stored.status.jobs if entry.retry_at is None}
        heard = asked | set(self.view.jobs) | set(map(job_name_in, self.view.pods))
        names = [name for name in self.at_work if name in heard and name not in self.made_late]
        return [self.job_of(name).job_id for name in names]

    @property
    def open_jobs(self) -> list[str]:
        return sorted(name for name, job in self.jobs.items() if not (job.failed or job.complete))

    @property
    def podless(self) -> list[str]:
        late = [
            key
            for name, (job, when) in self.too_late.items()
            if when == self.now and name not in self.jobs
            for key in self.unpodded(job)
        ]
        return [key for name in self.open_jobs for key in self.unpodded(self.jobs[name])] + late

    @property
    def live_pods(self) -> list[str]:
        """Those that something may happen in: what runs on a silent node is not heard of."""
        begun = [name for name, pod in self.pods.items() if self.can_begin or pod.hook.running_since is not None]
        return sorted(name for name in begun if not (self.pods[name].is_over or self.pods[name].uid in self.silent))

    @property
    def to_be_told(self) -> list[str]:
        """Jobs whose pods have ended or gone, and that do not say so yet; of pods that work as one, one is enough."""
        return [name for name in self.open_jobs if self._is_to_be_told(self.jobs[name])]

    def _is_to_be_told(self, job: JobFact) -> bool:
        left = self.unpodded(job)
        over = [key for key in keys_of(job) if key not in left and (key not in self.pods or self.pods[key].is_over)]
        if job.size > 1 and not self.is_in_pieces(job) and any(not self.has_ended_well(job, key) for key in over):
            return True
        return not left and len(over) == job.size

    def is_in_pieces(self, job: JobFact) -> bool:
        return job.size > 1 and job.name in self.divided

    def has_ended_well(self, job: JobFact, key: str) -> bool:
        pod = self.pods.get(key)
        return self.counted.get(pod_uid(job, key)) == "done" or (pod is not None and pod.hook.exit_code == 0)

    def make_pod(self, key: str) -> None:
        """By a controller that may not know yet that the Job has gone; then its pod is told to go as well."""
        name = job_name_in(key)
        job = self.jobs.get(name)
        if job is None:
            job, _ = self.too_late[name]
            self.made_late.add(name)
        uid = pod_uid(job, key)
        self.podded.add(uid)
        self.pods[key] = pod_fact(job, name=f"{name}-{uid}", uid=uid, index=keys_of(job).index(key))
        if name not in self.jobs:
            self._tell_to_go(key)
            if not self.unpodded(job):
                del self.too_late[name]

    def begin(self, name: str) -> None:
        hook = ContainerFact(running_since=written(self.now))
        self.pods[name] = replace(self.pods[name], phase="Running", hook=hook)

    def end(self, name: str, code: int, message: str = "", **pod: Any) -> None:
        hook = ContainerFact(
            running_since=written(self.now),
            exit_code=code,
            exit_reason="Completed" if code == 0 else "Error",
            termination_message=message,
            finished_at=written(self.now),
        )
        if code == 0:
            self.ended_well.add(self.pods[name].uid)
        phase = "Failed" if code else "Succeeded"
        self.pods[name] = replace(self.pods[name], phase=phase, hook=hook, **pod)

    def outputs_of(self, job: JobFact, pod_uid: str) -> dict[str, Any]:
        """What a hook gives: its own, and the list that a forEach is spread out by."""
        return {"of": pod_uid, "paths": LIST_OUTPUT, "score": 0.5, "dataset": f"{job.job_id}/d", "recipe": "r"}

    def message(self, name: str, error: ErrorClass | None = None, lost: str | None = None, **more: Any) -> str:
        told = error and ResultError(class_=error, type="E", message="it broke", job=lost)
        pod, job = self.pods[name], self.job_of(name)
        given = {
            "error": told or None,
            "outputs": self.outputs_of(job, pod.uid),
            "metrics": {"p.rows_out": 0.5},
            "content": f"content of {job.job_id}",
        } | more
        return encode_message(a_message(job, pod, **given), limit=100_000)

    def succeed(self, name: str, **more: Any) -> None:
        self.has_succeeded(name)
        self.end(name, 0, self.message(name, **more))

    def has_succeeded(self, key: str) -> None:
        """What lies on the volume then."""
        pod, job = self.pods[key], self.job_of(key)
        self.succeeded.add(pod.uid)
        self.on_volume.add(pod.uid)
        if self.is_in_pieces(job):
            self.pieces.setdefault((job.job_id, job.contract), set()).add(pod.number)

    def merge(self, key: str) -> None:
        """One result is made of all pieces that are there; else it says that they are not."""
        job = self.job_of(key)
        there = self.pieces.get((job.job_id, job.contract), set())
        if len(there) == self.shards[job.job_id]:
            self.whole.add(self.pods[key].uid)
            self.succeed(key)
        else:
            self.end(key, 3, self.message(key, "Input", job.job_id))

    def confirm(self, name: str) -> None:
        """What a cached result was made of is as it was, if it is there at all."""
        job_id = self.job_of(name).job_id
        keys = {job.cache_key for job in self.stored.status.jobs if job.id == job_id}
        if keys & self.gone_keys:
            self.end(name, 3, self.message(name, "Input"))
        else:
            self.confirmed.add(job_id)
            self.end(name, 0, self.message(name))

    def tell_how_it_ended(self, name: str) -> None:
        job = self.jobs[name]
        if all(self.has_ended_well(job, key) for key in keys_of(job)):
            job = replace(job, complete=True)
        else:
            job = replace(job, failed=job.failed or "BackoffLimitExceeded")
            for key in self.pods_of(name):  # those that work as one end with it
                if not self.pods[key].is_over:
                    self._tell_to_go(key)
        self.jobs[name] = job
        self.count(name)

    def count(self, name: str) -> None:
        """A Job with several pods counts those that have ended, and keeps its count when they go."""
        job = self.jobs.get(name)
        if job is None or job.size == 1:
            return
        indexes: dict[str, list[int]] = {"done": [], "failed": []}
        for index, key in enumerate(keys_of(job)):
            uid, pod = pod_uid(job, key), self.pods.get(key)
            if uid in self.podded and uid not in self.counted and (pod is None or pod.is_over):
                self.counted[uid] = "done" if pod is not None and pod.hook.exit_code == 0 else "failed"
            if uid in self.counted:
                indexes[self.counted[uid]].append(index)
        failed = ranges_of(indexes["failed"]) if self.is_in_pieces(job) else ""
        self.jobs[name] = replace(job, done_indexes=ranges_of(indexes["done"]), failed_indexes=failed)

    def tell_to_go(self, name: str, *, stays: bool) -> None:
        """The pods of a Job may take a while to go, and may still write meanwhile."""
        for key in self.pods_of(name):
            if stays:
                self._tell_to_go(key)
            else:
                self.pods.pop(key, None)

    def _tell_to_go(self, key: str) -> None:
        pod = self.pods.get(key)
        if pod is not None and not pod.deleting:
            self.pods[key] = replace(pod, deleting=True, deleting_since=written(self.now))

    def lose_node(self, name: str) -> None:
        """Its pod is told to go and says nothing more, until the node comes back."""
        self.silent.add(self.pods[name].uid)
        self._tell_to_go(name)

    def go_well(self) -> None:
        """A minute in which everything goes well."""
        self.pass_time(61)
        self.running_keys.clear()
        for name in [name for name, pod in self.pods.items() if pod.deleting]:
            del self.pods[name]
        for key in [key for name in self.open_jobs for key in self.unpodded(self.jobs[name])]:
            self.make_pod(key)
        for name in self.live_pods:
            match self.task_of(name):
                case "run":
                    self.succeed(name)
                case "check":
                    self.confirm(name)
                case "merge":
                    self.merge(name)
                case _:
                    self.end(name, 4, self.message(name, "Infra"))
        for name in self.to_be_told:
            self.tell_how_it_ended(name)
        if self.claim_may_go:
            self.lose_claim()
        self.relist()
