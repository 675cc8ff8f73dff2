# SPDX-License-Identifier: Apache-2.0
"""A small model of a cluster: Jobs, their pods, and what hooks really returned. The planner sees it only late."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.unit.builders import NOW, a_claim, a_message, an_experiment, job_fact, pod_fact, written

from sandbox_api.result import ErrorClass, ResultError, encode_message
from sandbox_operator.build.names import LABEL_TASK
from sandbox_operator.plan.actions import CreateClaim, CreateJob, DeleteFinishedJobs, DeleteJob, Plan, made_by
from sandbox_operator.plan.clock import moment
from sandbox_operator.plan.doubt import to_ask_for, to_ask_for_pods, to_rule_out
from sandbox_operator.plan.facts import CacheEntry, ContainerFact, JobFact, PodFact, Refusal, Snapshot

LIST_OUTPUT = ["experiments/x/a", "experiments/x/b", "experiments/x/c"]
NODE_LOST = timedelta(minutes=2)
"""`timeouts.nodeLost` of every spec here."""


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
    """By the name of their Job, which has one pod."""
    view: View = field(default_factory=View)
    made: list[JobFact] = field(default_factory=list)
    """Every hook's Job that was ever made."""
    made_all: list[JobFact] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)
    """By name: run, read or check."""
    podded: set[str] = field(default_factory=set)
    """Uids of Jobs that have had their pod: none gets a second one (backoffLimit 0)."""
    too_late: dict[str, tuple[JobFact, datetime]] = field(default_factory=dict)
    """Jobs that were deleted before they had a pod, and when: the Job controller may make it all the same, at once."""
    made_late: set[str] = field(default_factory=set)
    """The names of such Jobs, once it has."""
    vanished: set[str] = field(default_factory=set)
    """Uids of Jobs that others have deleted."""
    silent: set[str] = field(default_factory=set)
    """Uids of pods whose nodes have gone silent."""
    succeeded: set[str] = field(default_factory=set)
    """Uids of pods whose hooks really have succeeded."""
    confirmed: set[str] = field(default_factory=set)
    """Ids of jobs for which a pod has looked whether a cached result is as it was, and it is."""
    has_claim: bool = False
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

    def hear_of(self, name: str, *, job: bool = True, pod: bool = True) -> None:
        """One object's newest state arrives, whatever is still on its way: the watches of Jobs and pods are two."""
        for wanted, seen, true in ((job, self.view.jobs, self.jobs), (pod, self.view.pods, self.pods)):
            if wanted and name in true:
                seen[name] = true[name]  # type: ignore[assignment]
            elif wanted:
                seen.pop(name, None)

    def observed(self) -> Snapshot:
        """The snapshot of one reconcile: the caches, and what is asked for because it is in doubt."""
        status, view = self.stored.status, self.view
        for name in [*to_ask_for_pods(status, view.jobs, set(view.pods))]:
            if name in self.pods:
                view.pods[name] = self.pods[name]
        for name in [*to_ask_for(status, view.jobs, set(view.pods))]:
            if name in self.jobs:
                view.jobs[name] = self.jobs[name]
        return replace(
            self.stored,
            jobs=tuple(view.jobs.values()),
            pods=tuple(view.pods.values()),
            claims={"demo-workspace": a_claim(access_mode=self.access_mode)} if self.has_claim else {},
            cached=dict(self.cached),
            running_keys=dict(self.running_keys),
            refusals={
                n: told for n, (generation, told) in self.refusals.items() if generation == self.stored.generation
            },
        )

    def has_left(self, seen: Snapshot, step: Plan) -> bool:
        """Whether an attempt that is to follow, or to be made again, has left something that was not seen: now it is."""
        found = False
        for name in to_rule_out(seen.status, step.status, made_by(step.actions), {pod.job_name for pod in seen.pods}):
            known = any(job.name == name for job in seen.jobs)
            if name in self.pods or (not known and name in self.jobs):
                self.hear_of(name)
                found = True
        return found

    def act(self, action: object) -> None:
        match action:
            case CreateClaim():
                self.has_claim = True
            case CreateJob():
                self._create(action)
            case DeleteJob():
                job = self.jobs.pop(action.name, None)
                if job is not None and job.uid not in self.podded:
                    self.too_late[action.name] = job, self.now
                self.view.jobs.pop(action.name, None)
                self._tell_to_go(action.name)
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
        self.refusals.pop(fact.name, None)
        self.made_all.append(fact)
        self.tasks[fact.name] = task
        self.jobs[fact.name] = self.view.jobs[fact.name] = fact

    # What the cluster does

    def job_of(self, name: str) -> JobFact:
        """The Job of a pod, even if it has gone."""
        return next(job for job in reversed(self.made_all) if job.name == name)

    @property
    def at_work(self) -> list[str]:
        """Names of the hooks' Jobs with a pod whose process may still write, and of those that will yet have one."""
        ahead = [name for name in self.open_jobs if self.jobs[name].uid not in self.podded]
        names = [*(name for name, pod in self.pods.items() if not (pod.is_over or self.is_lost(pod))), *ahead]
        return [name for name in names if self.tasks[name] == "run"]

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
        heard = asked | set(self.view.jobs) | set(self.view.pods)
        names = [name for name in self.at_work if name in heard and name not in self.made_late]
        return [self.job_of(name).job_id for name in names]

    @property
    def open_jobs(self) -> list[str]:
        return sorted(name for name, job in self.jobs.items() if not (job.failed or job.complete))

    @property
    def podless(self) -> list[str]:
        late = [name for name, (_, when) in self.too_late.items() if when == self.now and name not in self.jobs]
        return [name for name in self.open_jobs if self.jobs[name].uid not in self.podded] + late

    @property
    def live_pods(self) -> list[str]:
        """Those that something may happen in: what runs on a silent node is not heard of."""
        return sorted(name for name, pod in self.pods.items() if not (pod.is_over or pod.uid in self.silent))

    @property
    def to_be_told(self) -> list[str]:
        """Jobs whose pod has ended or gone, and that do not say so yet."""
        return [
            name
            for name in self.open_jobs
            if self.jobs[name].uid in self.podded and (name not in self.pods or self.pods[name].is_over)
        ]

    def make_pod(self, name: str) -> None:
        """By a controller that may not know yet that the Job has gone; then its pod is told to go as well."""
        job = self.jobs.get(name)
        if job is None:
            job, _ = self.too_late.pop(name)
            self.made_late.add(name)
        self.podded.add(job.uid)
        self.pods[name] = pod_fact(job, name=f"{name}-{job.uid}", uid=f"pod-of-{job.uid}")
        if name not in self.jobs:
            self._tell_to_go(name)

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
        self.succeeded.add(self.pods[name].uid)
        self.end(name, 0, self.message(name, **more))

    def confirm(self, name: str) -> None:
        self.confirmed.add(self.job_of(name).job_id)
        self.end(name, 0, self.message(name))

    def tell_how_it_ended(self, name: str) -> None:
        if name in self.pods and self.pods[name].hook.exit_code == 0:
            self.jobs[name] = replace(self.jobs[name], complete=True)
        else:
            self.jobs[name] = replace(self.jobs[name], failed="BackoffLimitExceeded")

    def tell_to_go(self, name: str, *, stays: bool) -> None:
        """A pod may take a while to go, and may still write meanwhile."""
        if stays:
            self._tell_to_go(name)
        else:
            self.pods.pop(name, None)

    def _tell_to_go(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is not None and not pod.deleting:
            self.pods[name] = replace(pod, deleting=True, deleting_since=written(self.now))

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
        for name in [name for name in self.open_jobs if self.jobs[name].uid not in self.podded]:
            self.make_pod(name)
        for name in self.live_pods:
            match self.tasks[name]:
                case "run":
                    self.succeed(name)
                case "check":
                    self.confirm(name)
                case _:
                    self.end(name, 4, self.message(name, "Infra"))
        for name in self.to_be_told:
            self.tell_how_it_ended(name)
        self.relist()
