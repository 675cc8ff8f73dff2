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
from sandbox_api.status import FINISHED_STATES, JobStatus
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
    timeouts={"pending": "1h", "result": "2m"},
)
COMPILED = compile_spec(SPEC)
CLASSES = sorted(EXIT_CODES)
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
                fact = job_fact(action)
                if fact.name in self.jobs:  # 409: adopted when all of its identity is ours
                    known = self.jobs[fact.name]
                    assert (known.owner_uid, known.job_id, known.attempt, known.contract) == (
                        fact.owner_uid, fact.job_id, fact.attempt, fact.contract,
                    )  # fmt: skip
                else:
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
        self.last: tuple[Snapshot, Plan] | None = None

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

    @rule(crash_after=st.one_of(st.none(), st.integers(0, 3)))
    def reconcile(self, crash_after: int | None) -> None:
        """One round; with `crash_after` the operator stops after that many of its writes."""
        seen = self.kube.snapshot()
        step = self.plan(seen)
        assert step == self.plan(seen), "the same facts give the same plan"
        self.last = (seen, step)
        if crash_after == 0 or not self.write(seen, step):
            return
        for action in step.actions[: None if crash_after is None else crash_after - 1]:
            self.kube.act(action)

    @precondition(lambda self: self.last is not None)
    @rule()
    def reconcile_with_what_was_seen_before(self) -> None:
        """A worker that slept between observing and writing: its version is old, or nothing has happened since."""
        assert self.last is not None
        seen, _ = self.last
        step = self.plan(seen)
        if self.write(seen, step):
            for action in step.actions:
                self.kube.act(action)

    @rule(seconds=st.sampled_from([1, 5, 15, 60, 125]))
    def time_passes(self, seconds: int) -> None:
        self.kube.now += timedelta(seconds=seconds)

    # What the cluster does

    def choose(self, data: st.DataObject, *, over: bool) -> str:
        return data.draw(st.sampled_from([name for name, pod in sorted(self.kube.pods.items()) if pod.is_over is over]))

    @property
    def has_bare_job(self) -> bool:
        return any(n not in self.kube.pods and not j.failed and not j.complete for n, j in self.kube.jobs.items())

    @property
    def has_live_pod(self) -> bool:
        return any(not pod.is_over for pod in self.kube.pods.values())

    @property
    def has_dead_pod(self) -> bool:
        return any(pod.is_over for pod in self.kube.pods.values())

    @precondition(lambda self: self.has_bare_job)
    @rule(data=st.data())
    def a_pod_is_made(self, data: st.DataObject) -> None:
        bare = [
            n for n, j in sorted(self.kube.jobs.items()) if n not in self.kube.pods and not (j.failed or j.complete)
        ]
        name = data.draw(st.sampled_from(bare))
        self.kube.pods[name] = pod_fact(self.kube.jobs[name], uid=f"pod-{len(self.kube.made)}-{name}")

    @precondition(lambda self: self.has_live_pod)
    @rule(data=st.data())
    def a_hook_starts(self, data: st.DataObject) -> None:
        name = self.choose(data, over=False)
        hook = ContainerFact(running_since=written(self.kube.now))
        self.kube.pods[name] = replace(self.kube.pods[name], phase="Running", hook=hook)

    def end(self, name: str, code: int, message: str, **pod: Any) -> None:
        hook = ContainerFact(
            running_since=written(self.kube.now),
            exit_code=code,
            exit_reason="Completed" if code == 0 else "Error",
            termination_message=message,
            finished_at=written(self.kube.now),
        )
        phase = "Failed" if code else "Succeeded"
        self.kube.pods[name] = replace(self.kube.pods[name], phase=phase, hook=hook, **pod)

    @precondition(lambda self: self.has_live_pod)
    @rule(data=st.data())
    def a_hook_succeeds(self, data: st.DataObject) -> None:
        name = self.choose(data, over=False)
        job, pod = self.kube.job_of(name), self.kube.pods[name]
        self.end(name, 0, encode_message(a_message(job, pod, outputs={"of": pod.uid})))

    @precondition(lambda self: self.has_live_pod)
    @rule(data=st.data(), error=st.sampled_from(CLASSES), is_told=st.booleans(), deleting=st.booleans())
    def a_hook_fails(self, data: st.DataObject, error: str, is_told: bool, deleting: bool) -> None:
        name = self.choose(data, over=False)
        told = ResultError(class_=error, type="E", message="it broke")  # type: ignore[arg-type]
        message = encode_message(a_message(self.kube.job_of(name), self.kube.pods[name], error=told)) if is_told else ""
        self.end(name, EXIT_CODES[error], message, deleting=deleting)

    @precondition(lambda self: self.has_live_pod)
    @rule(data=st.data())
    def a_hook_ends_without_a_word(self, data: st.DataObject) -> None:
        self.end(self.choose(data, over=False), 0, "")

    @precondition(lambda self: self.has_dead_pod)
    @rule(data=st.data())
    def the_job_says_how_it_ended(self, data: st.DataObject) -> None:
        name = self.choose(data, over=True)
        if name not in self.kube.jobs or self.kube.jobs[name].failed:
            return
        succeeded = self.kube.pods[name].hook.exit_code == 0
        verdict = {"complete": True} if succeeded else {"failed": "BackoffLimitExceeded"}
        self.kube.jobs[name] = replace(self.kube.jobs[name], **verdict)  # type: ignore[arg-type]

    @precondition(lambda self: bool(self.kube.pods))
    @rule(data=st.data(), is_told=st.booleans())
    def a_pod_is_deleted_by_others(self, data: st.DataObject, is_told: bool) -> None:
        """Its Job fails because of that, at once or later."""
        name = data.draw(st.sampled_from(sorted(self.kube.pods)))
        was_over = self.kube.pods.pop(name).is_over
        job = self.kube.jobs.get(name)
        if job is not None and not job.complete and (was_over or is_told):
            self.kube.jobs[name] = replace(job, failed=job.failed or "BackoffLimitExceeded")

    @precondition(lambda self: bool(self.kube.jobs))
    @rule(data=st.data(), pod_stays=st.booleans())
    def a_job_is_deleted_by_others(self, data: st.DataObject, pod_stays: bool) -> None:
        """Its pod is told to go as well, which may take a while."""
        name = data.draw(st.sampled_from(sorted(self.kube.jobs)))
        del self.kube.jobs[name]
        self.tell_to_go(name, pod_stays)

    @precondition(lambda self: bool(self.kube.jobs))
    @rule(data=st.data(), pod_stays=st.booleans())
    def a_deadline_passes(self, data: st.DataObject, pod_stays: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.kube.jobs)))
        if not (self.kube.jobs[name].complete or self.kube.jobs[name].failed):
            self.kube.jobs[name] = replace(self.kube.jobs[name], failed="DeadlineExceeded")
            self.tell_to_go(name, pod_stays)

    def tell_to_go(self, name: str, pod_stays: bool) -> None:
        if pod_stays and name in self.kube.pods:
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
                self.committed[job.id] = job

    @invariant()
    def every_job_that_was_made_is_named_in_the_status(self) -> None:
        attempts = {job.id: job.attempts for job in self.kube.stored.status.jobs}
        assert all(attempts[job.job_id] >= job.attempt for job in self.kube.made)

    @invariant()
    def budgets_hold(self) -> None:
        for job in self.kube.stored.status.jobs:
            if job.failures is not None and job.state != "Failed":
                assert job.failures.user <= 2
                assert job.failures.infra <= 3
                assert job.failures.preempted <= 6
            assert job.attempts <= 1 + 2 + 3 + 6

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
        self.reconcile(crash_after=None)
        given_up = [job.id for job in self.kube.stored.status.jobs if job.state == "Failed"]
        for _ in range(400):
            if self.kube.stored.status.completion_time is not None:
                break
            self.kube.now += timedelta(seconds=61)
            for name in [name for name, pod in self.kube.pods.items() if pod.deleting]:
                del self.kube.pods[name]
            for name in sorted(self.kube.jobs):
                job = self.kube.jobs[name]
                pod = self.kube.pods.get(name)
                if pod is not None and not pod.is_over:
                    self.end(name, 0, encode_message(a_message(job, pod, outputs={"of": pod.uid})))
                elif pod is None and not job.failed and not job.complete:
                    if job.attempt in [j.attempts for j in self.kube.stored.status.jobs if j.state == "Running"]:
                        self.kube.jobs[name] = replace(job, failed="BackoffLimitExceeded")  # its pod was deleted
                    else:
                        self.kube.pods[name] = pod_fact(job, uid=f"pod-{len(self.kube.made)}-{name}")
            self.reconcile(crash_after=None)
            for check in (
                self.never_two_live_attempts_of_a_job,
                self.committed_results_never_change,
                self.budgets_hold,
            ):
                check()
        status = self.kube.stored.status
        assert status.completion_time is not None, "it always ends"
        exhausted = [job for job in status.jobs if job.state == "Failed" and job.id not in given_up]
        if not given_up and not exhausted:
            assert [job.state for job in status.jobs] == ["Succeeded"] * 3, "the end is that of an undisturbed run"
        for job in exhausted:  # only a failure that was there already, and had no budget left
            assert job.failures is not None
            assert job.reason in ("ResultsLost", "UserError", "ConfigError", "InputLost", "OutOfMemory", "Timeout",
                                  "InfraError", "Preempted")  # fmt: skip
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
