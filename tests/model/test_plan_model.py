# SPDX-License-Identifier: Apache-2.0
"""Any order of events, duplicates, crashes and restarts ends in the same place.

A small model of a cluster (Jobs, pods, results) is driven by Hypothesis while the planner looks at it: late, twice, or
after a crash between any two of its own writes. What the model knows and the planner does not is which attempts live
and what each hook returned; the invariants are about that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.builders import (
    DEFAULTS,
    NOW,
    a_claim,
    a_message,
    a_spec,
    an_experiment,
    job_fact,
    pod_fact,
    probe,
    process,
    refine,
    written,
)

from sandbox_api.result import EXIT_CODES, ResultError, encode_message
from sandbox_api.status import FINISHED_STATES, Failures, JobStatus
from sandbox_operator.plan.actions import CreateClaim, CreateJob, DeleteJob, Plan
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import ContainerFact, JobFact, PodFact, Snapshot

DEEP = bool(os.environ.get("SANDBOX_DEEP"))
RETRY = {"user": 2, "infra": 3, "preempted": 6, "backoff": "10s", "maxBackoff": "1m"}
SPEC = a_spec(
    probes=[probe(metaName="a")],
    refines=[refine(metaName="a", output=["refined"])],
    executions=[process(input={"djConfigs": "-1.refined"})],
    retry=RETRY,
    timeouts={"pending": "10m", "result": "2m"},
)
COMPILED = compile_spec(SPEC)
CLASSES = sorted(EXIT_CODES)
BUDGETS = {
    "UserError": ("user", 3), "OutOfMemory": ("user", 3), "Timeout": ("user", 3),
    "InfraError": ("infra", 4), "ResultsLost": ("infra", 4), "Preempted": ("preempted", 7),
}  # fmt: skip
"""The budget behind a reason, and the failure that is one too many."""
FORWARD = {"Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2, "Skipped": 2}


@dataclass
class Kube:
    """What is true in the cluster, told to the planner only by `snapshot`."""

    stored: Snapshot = field(default_factory=lambda: an_experiment(SPEC))
    jobs: dict[str, JobFact] = field(default_factory=dict)
    pods: dict[str, PodFact] = field(default_factory=dict)
    """By the name of their Job, which has one pod."""
    made: list[JobFact] = field(default_factory=list)
    """Every Job that was ever made."""
    podded: set[str] = field(default_factory=set)
    """Uids of Jobs that have had their pod: none gets a second one (backoffLimit 0)."""
    succeeded: set[str] = field(default_factory=set)
    """Uids of pods whose hooks really have succeeded."""
    has_claim: bool = False
    now: Any = NOW

    def snapshot(self) -> Snapshot:
        return replace(
            self.stored,
            jobs=tuple(self.jobs.values()),
            pods=tuple(self.pods.values()),
            claims={"demo-workspace": a_claim()} if self.has_claim else {},
        )

    def act(self, action: object) -> None:
        match action:
            case CreateClaim():
                self.has_claim = True
            case CreateJob():
                fact = job_fact(action, uid=f"job-{len(self.made)}")
                if fact.name in self.jobs:  # 409: adopted when all of its identity is ours
                    known = self.jobs[fact.name]
                    assert (known.owner_uid, known.job_id, known.attempt, known.contract) == (
                        fact.owner_uid, fact.job_id, fact.attempt, fact.contract,
                    )  # fmt: skip
                else:
                    assert fact.job_id not in self.live, "an attempt starts only when the one before is over"
                    self.jobs[fact.name] = fact
                    self.made.append(fact)
            case DeleteJob():
                self.jobs.pop(action.name, None)
                self.pods.pop(action.name, None)

    def job_of(self, name: str) -> JobFact:
        """The Job of a pod, even if it has gone."""
        return next(job for job in reversed(self.made) if job.name == name)

    @property
    def live(self) -> list[str]:
        """The job id of every pod whose process may still write."""
        return [self.job_of(name).job_id for name, pod in self.pods.items() if not pod.is_over]


class ExperimentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.kube = Kube()
        self.committed: dict[str, JobStatus] = {}
        self.last: Snapshot | None = None

    # What the operator does

    def plan(self, snapshot: Snapshot) -> Plan:
        return plan_experiment(snapshot, COMPILED, DEFAULTS, self.kube.now)

    def write(self, seen: Snapshot, step: Plan) -> bool:
        """Write the status as the API server takes it: only on the version it was computed from."""
        if seen.resource_version != self.kube.stored.resource_version:
            return False
        if step.status != seen.status:
            self.moved_on(self.kube.stored.status.jobs, step.status.jobs)
            version = str(int(seen.resource_version) + 1)
            self.kube.stored = replace(self.kube.stored, status=step.status, resource_version=version)
        return True

    def moved_on(self, before: list[JobStatus], after: list[JobStatus]) -> None:
        """A status only moves forward, but for an attempt that failed and is tried again."""
        for old, new in zip(before, after, strict=False):
            assert new.attempts >= old.attempts, "attempt numbers rise for ever"
            tried_again = new.retry_at is not None or new.attempts > old.attempts
            assert FORWARD[new.state] >= FORWARD[old.state] or tried_again, (old, new)
            assert FORWARD[old.state] < 2 or new == old, "what has ended stays as it was"

    def reconcile(self, crash_after: int | None = None) -> None:
        """One round; with `crash_after` the operator stops after that many of its writes."""
        seen = self.kube.snapshot()
        step = self.plan(seen)
        assert step == self.plan(seen), "the same facts give the same plan"
        self.last = seen
        if crash_after == 0 or not self.write(seen, step):
            return
        for action in step.actions[: None if crash_after is None else crash_after - 1]:
            self.kube.act(action)

    @rule(crash_after=st.sampled_from([None, 0, 1, 2, 3]))
    def the_operator_looks(self, crash_after: int | None) -> None:
        self.reconcile(crash_after)

    @precondition(lambda self: self.last is not None)
    @rule()
    def the_operator_acts_on_what_it_saw_before(self) -> None:
        """A worker that slept between observing and writing: its version is old, or nothing was written since."""
        assert self.last is not None
        step = self.plan(self.last)
        if self.write(self.last, step):
            for action in step.actions:
                self.kube.act(action)

    @rule(seconds=st.sampled_from([1, 15, 80, 130]), looks=st.booleans())
    def time_passes(self, seconds: int, looks: bool) -> None:
        self.kube.now += timedelta(seconds=seconds)
        if looks:
            self.reconcile()

    # What the cluster does

    @precondition(lambda self: any(self.possible.values()))
    @rule(data=st.data(), looks=st.sampled_from([True, True, True, False]))
    def something_happens(self, data: st.DataObject, looks: bool) -> None:
        """Mostly seen at once, sometimes only with the next thing that happens."""
        events = {event: names for event, names in self.possible.items() if names}
        event = data.draw(st.sampled_from(sorted(events)), label="event")
        name = data.draw(st.sampled_from(events[event]), label="about")
        getattr(self, event)(name, data)
        if looks:
            self.reconcile()

    @property
    def possible(self) -> dict[str, list[str]]:
        """What may happen next, and to which Jobs or pods (by their Job's name)."""
        jobs, pods = self.kube.jobs, self.kube.pods
        open_jobs = sorted(name for name, job in jobs.items() if not (job.failed or job.complete))
        live = sorted(name for name, pod in pods.items() if not pod.is_over)
        return {
            "pod_is_made": [name for name in open_jobs if jobs[name].uid not in self.kube.podded],
            "hook_starts": [name for name in live if pods[name].hook.running_since is None],
            "hook_succeeds": live,
            "hook_fails": live,
            "hook_ends_without_a_word": live,
            "job_says_how_it_ended": self.to_be_told,
            "pod_is_deleted": sorted(pods),
            "job_is_deleted": sorted(jobs),
            "deadline_passes": open_jobs,
        }

    @property
    def to_be_told(self) -> list[str]:
        """Jobs whose pod has ended or gone, and that do not say so yet."""
        return [
            name
            for name, job in sorted(self.kube.jobs.items())
            if not (job.failed or job.complete)
            and job.uid in self.kube.podded
            and (name not in self.kube.pods or self.kube.pods[name].is_over)
        ]

    def pod_is_made(self, name: str, _: st.DataObject | None = None) -> None:
        job = self.kube.jobs[name]
        self.kube.podded.add(job.uid)
        self.kube.pods[name] = pod_fact(job, uid=f"pod-of-{job.uid}")

    def hook_starts(self, name: str, _: st.DataObject) -> None:
        hook = ContainerFact(running_since=written(self.kube.now))
        self.kube.pods[name] = replace(self.kube.pods[name], phase="Running", hook=hook)

    def end(self, name: str, code: int, message: str = "", **pod: Any) -> None:
        hook = ContainerFact(
            running_since=written(self.kube.now),
            exit_code=code,
            exit_reason="Completed" if code == 0 else "Error",
            termination_message=message,
            finished_at=written(self.kube.now),
        )
        phase = "Failed" if code else "Succeeded"
        self.kube.pods[name] = replace(self.kube.pods[name], phase=phase, hook=hook, **pod)

    def message(self, name: str, error: str | None = None) -> str:
        told = error and ResultError(class_=error, type="E", message="it broke")  # type: ignore[arg-type]
        pod = self.kube.pods[name]
        return encode_message(a_message(self.kube.job_of(name), pod, error=told or None, outputs={"of": pod.uid}))

    def hook_succeeds(self, name: str, _: st.DataObject | None = None) -> None:
        self.kube.succeeded.add(self.kube.pods[name].uid)
        self.end(name, 0, self.message(name))

    def hook_fails(self, name: str, data: st.DataObject) -> None:
        error = data.draw(st.sampled_from(CLASSES), label="class")
        said = data.draw(st.sampled_from(["", error, None]), label="said")  # None: killed after it wrote a success
        deleting = data.draw(st.booleans(), label="deleting")
        self.end(name, EXIT_CODES[error], said if said == "" else self.message(name, said), deleting=deleting)

    def hook_ends_without_a_word(self, name: str, data: st.DataObject) -> None:
        """Or with the words of another pod."""
        words = data.draw(st.sampled_from(["", "another pod", "another attempt"]), label="words")
        job, pod = self.kube.job_of(name), self.kube.pods[name]
        about = {"another pod": {"pod_uid": "other"}, "another attempt": {"attempt": job.attempt + 1}}.get(words)
        self.end(name, 0, encode_message(a_message(job, pod, **about, outputs={"of": "other"})) if about else "")

    def job_says_how_it_ended(self, name: str, _: st.DataObject | None = None) -> None:
        if name in self.kube.pods and self.kube.pods[name].hook.exit_code == 0:
            self.kube.jobs[name] = replace(self.kube.jobs[name], complete=True)
        else:
            self.kube.jobs[name] = replace(self.kube.jobs[name], failed="BackoffLimitExceeded")

    def pod_is_deleted(self, name: str, data: st.DataObject) -> None:
        """A live one fails its Job, which says so at once or a moment later."""
        was_over = self.kube.pods.pop(name).is_over
        job = self.kube.jobs.get(name)
        at_once = data.draw(st.booleans(), label="at once")
        if job is not None and not job.complete and (was_over or at_once):
            self.kube.jobs[name] = replace(job, failed=job.failed or "BackoffLimitExceeded")

    def job_is_deleted(self, name: str, data: st.DataObject) -> None:
        del self.kube.jobs[name]
        self.tell_to_go(name, data)

    def deadline_passes(self, name: str, data: st.DataObject) -> None:
        self.kube.jobs[name] = replace(self.kube.jobs[name], failed="DeadlineExceeded")
        self.tell_to_go(name, data)

    def tell_to_go(self, name: str, data: st.DataObject) -> None:
        """A pod may take a while to go, and may still write meanwhile."""
        if name in self.kube.pods and data.draw(st.booleans(), label="pod stays"):
            self.kube.pods[name] = replace(self.kube.pods[name], deleting=True)
        else:
            self.kube.pods.pop(name, None)

    # What must always hold

    @invariant()
    def never_two_live_attempts_of_a_job(self) -> None:
        assert len(self.kube.live) == len(set(self.kube.live))

    @invariant()
    def never_two_jobs_for_one_attempt(self) -> None:
        attempts = [(job.job_id, job.attempt) for job in self.kube.jobs.values()]
        assert len(attempts) == len(set(attempts))

    @invariant()
    def one_job_runs_at_a_time_and_in_order(self) -> None:
        assert len(self.kube.live) <= 1
        states = [job.state for job in self.kube.stored.status.jobs]
        begun = [job.attempts > 0 for job in self.kube.stored.status.jobs]
        for number in range(1, len(states)):
            assert not begun[number] or states[number - 1] == "Succeeded"

    @invariant()
    def committed_results_never_change(self) -> None:
        for job in self.kube.stored.status.jobs:
            if job.id in self.committed:
                assert job == self.committed[job.id]
            elif job.state == "Succeeded":
                assert job.result is not None
                assert (job.outputs or {})["of"] in self.kube.succeeded, "nobody else's word counts"
                self.committed[job.id] = job

    @invariant()
    def every_job_that_was_made_is_named_in_the_status(self) -> None:
        attempts = {job.id: job.attempts for job in self.kube.stored.status.jobs}
        assert all(attempts[job.job_id] >= job.attempt for job in self.kube.made)

    @invariant()
    def every_attempt_but_the_first_is_due_to_a_failure_and_budgets_hold(self) -> None:
        for job in self.kube.stored.status.jobs:
            if job.failures is not None and job.state != "Failed":
                assert job.failures.user <= 2
                assert job.failures.infra <= 3
                assert job.failures.preempted <= 6
            f = job.failures or Failures()
            counted = f.user + f.infra + f.preempted
            assert counted in (job.attempts, job.attempts - 1) or (counted, job.attempts) == (0, 0)
            if job.state == "Failed" and job.reason in BUDGETS:
                budget, last = BUDGETS[job.reason]
                assert getattr(f, budget) == last, "nothing is given up before its budget is used up"

    @invariant()
    def the_summary_says_what_the_jobs_say(self) -> None:
        status = self.kube.stored.status
        if not status.jobs:
            return
        states = {job.state for job in status.jobs}
        assert (status.completion_time is not None) == (states <= set(FINISHED_STATES))
        ended = "Failed" if "Failed" in states else "Succeeded"
        assert status.outcome == (ended if status.completion_time else "Running")
        if any(job.attempts for job in status.jobs):
            assert status.start_time is not None

    def teardown(self) -> None:
        """However it went so far: left in peace, it ends, and what was not given up by then succeeds."""
        self.reconcile()
        given_up = [job.id for job in self.kube.stored.status.jobs if job.state == "Failed"]
        for _ in range(400):
            if self.kube.stored.status.completion_time is not None:
                break
            self.kube.now += timedelta(seconds=61)
            for name in [name for name, pod in self.kube.pods.items() if pod.deleting]:
                del self.kube.pods[name]
            for name in self.possible["pod_is_made"]:
                self.pod_is_made(name)
            for name in self.possible["hook_succeeds"]:
                self.hook_succeeds(name)
            for name in self.to_be_told:
                self.job_says_how_it_ended(name)
            self.reconcile()
            for check in (
                self.never_two_live_attempts_of_a_job,
                self.committed_results_never_change,
                self.every_attempt_but_the_first_is_due_to_a_failure_and_budgets_hold,
            ):
                check()
        status = self.kube.stored.status
        assert status.completion_time is not None, "it always ends"
        ended = [job for job in status.jobs if job.state == "Failed" and job.id not in given_up]
        for job in ended:  # by a failure that was there already and had no budget left, or by waiting too long
            assert job.failures is not None or job.reason == "PendingTimeout"
        if not given_up and not ended:
            assert [job.state for job in status.jobs] == ["Succeeded"] * 3, "the end is that of an undisturbed run"
        final = self.plan(self.kube.snapshot())
        assert final.status == status
        assert not final.actions

    @initialize()
    def begin(self) -> None:
        self.kube = Kube()


ExperimentMachine.TestCase.settings = settings(
    max_examples=20_000 if DEEP else 300,
    stateful_step_count=80 if DEEP else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestExperiment = ExperimentMachine.TestCase
