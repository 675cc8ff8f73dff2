# SPDX-License-Identifier: Apache-2.0
"""Any order of events, lateness, crashes, commands and restarts ends in the same place.

A small model of a cluster (`kube_model.py`) is driven by Hypothesis while the planner looks at it: late, twice, or after
a crash between any two of its own writes; people suspend, resume, stop and run again as they please. What the model
knows and the planner does not is which attempts live and what each hook returned; the invariants are about that.

500 examples in the sample; 20 000, of more steps, with SANDBOX_DEEP=1, resumable (`progress.py`). They are drawn by seed: a
failure names the seed, and SANDBOX_MODEL_SEED repeats that piece alone.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.model.kube_model import Kube
from tests.progress import DEEP, HOURS, Say, in_pieces, told
from tests.unit.builders import DEFAULTS, a_spec, lists, pipelines, probe, process, refine

from sandbox_api.result import EXIT_CODES
from sandbox_api.status import DONE_STATES, FINISHED_STATES, JobStatus, ResultRef
from sandbox_operator.plan.actions import Plan
from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import Snapshot

EACH = 100
"""Examples in a piece."""
EXAMPLES = int(os.environ.get("SANDBOX_MODEL_EXAMPLES", 20_000 if DEEP else 500))
ONLY = os.environ.get("SANDBOX_MODEL_SEED")
RETRY = {"user": 2, "infra": 3, "preempted": 6, "backoff": "10s", "maxBackoff": "1m"}
COMMON: dict[str, Any] = {"retry": RETRY, "timeouts": {"pending": "10m", "result": "2m"}}
CHAIN = {
    "probes": [probe(metaName="a")],
    "refines": [refine(metaName="a", output=["refined"])],
    "executions": [process(input={"djConfigs": "-1.refined"}, metaName="p", output=["dataset"])],
}


SPECS: dict[str, dict[str, Any]] = {
    "one after another": a_spec(**CHAIN, **COMMON),
    "side by side, one may fail": a_spec(
        probes=[probe(metaName="a")],
        executions=[
            process(metaName="x", dependsOn=[], onFailure="Continue"),
            process(metaName="y", dependsOn=[]),
            process(metaName="z", dependsOn=["x"], input={"djConfigs.dataset_path": "anonymous.y.dataset"}),
        ],
        evaluations=[probe(metaName="e", input={"djConfigs.dataset_path": "anonymous.x.dataset"})],
        **COMMON,
    ),
    "for each item of a list": pipelines(
        {"name": "split", **lists(executions=[process(metaName="pools", output=["paths"])])},
        {
            "name": "exps",
            "forEach": {"item": "pool", "in": "split.pools.paths", "maxParallel": 2},
            **lists(
                executions=[process(metaName="t", input={"djConfigs.dataset_path": "item.pool"})],
                evaluations=[probe(metaName="v", input={"djConfigs.dataset_path": "exps.t.dataset"})],
            ),
        },
        {"name": "end", **lists(evaluations=[probe(metaName="r", input={"djConfigs.dataset_path": "exps.t.dataset"})])},
        **COMMON,
    ),
    "iterations": a_spec(
        probes=[probe(metaName="a")],
        executions=[process(metaName="p", output=["dataset"], input={"djConfigs.dataset_path": "anonymous.a.stats"})],
        maxIterNum=3,
        iterTargets=["anonymous.p.rows_out >= 0.9"],
        iterUpdater={"anonymous.p.dataset": "anonymous.a.djConfigs.dataset_path"},
        **COMMON,
    ),
}
CLASSES = sorted(EXIT_CODES)
USUAL = ("pod_is_made", "hook_starts", "hook_succeeds", "job_says_how_it_ended")
BUDGETS = {
    "UserError": ("user", 3), "OutOfMemory": ("user", 3), "Timeout": ("user", 3),
    "InfraError": ("infra", 4), "ResultsLost": ("infra", 4), "Preempted": ("preempted", 7),
}  # fmt: skip
"""The budget behind a reason, and the failure that is one too many."""
FORWARD = {"Pending": 0, "Running": 1, "Succeeded": 2, "Cached": 2, "Failed": 2, "Skipped": 2}

COUNTS: Counter[str] = Counter()
"""What the examples of this piece went through."""


class ExperimentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.kube = Kube.of(SPECS["one after another"])
        self.committed: dict[tuple[str, int], ResultRef | None] = {}
        self.attempts: dict[str, int] = {}
        self.last: Snapshot | None = None
        self.tokens = 0
        self.compiled: tuple[int, Compiled] = (0, Compiled(None))
        self.was_disturbed = False
        """Whether something ended that the undisturbed run would have done."""

    @initialize(name=st.sampled_from(sorted(SPECS)))
    def begin(self, name: str) -> None:
        self.kube = Kube.of(SPECS[name])

    # What the operator does

    def plan(self, snapshot: Snapshot) -> Plan:
        generation, compiled = self.compiled
        if generation != snapshot.generation:
            compiled = compile_spec(snapshot.spec)
            assert not compiled.problems, compiled.problems
            self.compiled = snapshot.generation, compiled
        return plan_experiment(snapshot, compiled, DEFAULTS, self.kube.now)

    def write(self, seen: Snapshot, step: Plan) -> bool:
        """Write the status as the API server takes it: only on the version it was computed from."""
        if seen.resource_version != self.kube.stored.resource_version:
            return False
        if step.status != seen.status:
            self.moved_on({job.id: job for job in self.kube.stored.status.jobs}, step.status.jobs)
            version = str(int(seen.resource_version) + 1)
            self.kube.stored = replace(self.kube.stored, status=step.status, resource_version=version)
        return True

    def moved_on(self, before: dict[str, JobStatus], after: list[JobStatus]) -> None:
        """Within a generation a status only moves forward, but for an attempt that ended and is tried again."""
        for new in after:
            assert new.attempts >= self.attempts.get(new.id, 0), "attempt numbers rise for ever"
            self.attempts[new.id] = new.attempts
            old = before.get(new.id)
            if old is None:
                continue
            assert (new.generation or 1) >= (old.generation or 1)
            if (new.generation or 1) > (old.generation or 1) or new.reason == "Removed":
                continue
            tried_again = new.retry_at is not None or new.attempts > old.attempts or new.attempts == 0
            assert FORWARD[new.state] >= FORWARD[old.state] or tried_again, (old, new)
            same = new.model_copy(update={"remade": old.remade}) == old  # a new token grants another remaking
            assert FORWARD[old.state] < 2 or same, "what has ended stays as it was"

    def reconcile(self, crash_after: int | None = None) -> None:
        """One round; with `crash_after` the operator stops after that many of its writes."""
        seen = self.kube.observed()
        step = self.plan(seen)
        assert step == self.plan(seen), "the same facts give the same plan"
        self.last = seen
        self.counts["rounds"] += 1
        self.counts["crashes"] += crash_after is not None
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

    @rule()
    def the_operator_is_started_anew(self) -> None:
        """All that it knows it lists."""
        self.kube.relist()
        self.reconcile()

    @rule(seconds=st.sampled_from([1, 15, 80, 130, -1, -30, -400]), looks=st.booleans())
    def time_passes(self, seconds: int, looks: bool) -> None:
        """Or the clock jumps back for a while."""
        if seconds < 0:
            self.the_clock_jumps_back(-seconds)
            return
        self.kube.now += timedelta(seconds=seconds)
        if looks:
            self.reconcile()

    def the_clock_jumps_back(self, seconds: int) -> None:
        self.kube.now -= timedelta(seconds=seconds)
        self.reconcile()
        self.kube.now += timedelta(seconds=seconds)

    # What people do

    def change_spec(self, **fields: Any) -> None:
        self.counts["commands"] += 1
        stored = self.kube.stored
        self.kube.stored = replace(
            stored,
            spec={**stored.spec, **fields},
            generation=stored.generation + 1,
            resource_version=str(int(stored.resource_version) + 1),
        )

    @rule(what=st.sampled_from([*["suspend", "resume"] * 3, *["again"] * 4, "stop"]), data=st.data())
    def somebody_says(self, what: str, data: st.DataObject) -> None:
        """One rule for all commands: most of what happens is the cluster's."""
        if what in ("suspend", "resume"):
            self.suspend_or_resume(what == "suspend", data.draw(st.sampled_from(["Boundary", "Now"]), label="policy"))
        elif what == "again" and self.kube.stored.status.start_time is not None:
            start = data.draw(st.sampled_from([None, None, "a", "p", "t", "anonymous/1/execution"]), label="from")
            self.run_again(start, data.draw(st.booleans(), label="seen"))
        elif what == "stop":
            self.stop(data.draw(st.sampled_from(["AfterEvaluation", "Now"]), label="stop"))

    def suspend_or_resume(self, suspend: bool, policy: str) -> None:
        self.change_spec(suspend=suspend, suspendPolicy=policy)
        self.reconcile()

    def run_again(self, start: str | None, seen: bool) -> None:
        self.tokens += 1
        names = {job.meta_name for job in self.compiled[1].jobs}
        ids = [job.id for job in self.compiled[1].jobs]
        known = start in names or any(start and job_id.startswith(start) for job_id in ids)
        rerun = {"token": str(self.tokens), **({"from": start} if known else {})}
        self.change_spec(rerun=rerun, stop=None)
        if seen:
            self.reconcile()

    def stop(self, stop: str) -> None:
        self.was_disturbed = True
        self.change_spec(stop=stop)
        self.reconcile()

    # What the cluster does

    @precondition(lambda self: any(self.possible.values()))
    @rule(data=st.data(), looks=st.sampled_from(["all", "all", "one", "no"]))
    def something_happens(self, data: st.DataObject, looks: str) -> None:
        """Mostly seen at once, sometimes only that object, sometimes only with what happens next."""
        events = {event: names for event, names in self.possible.items() if names}
        event = data.draw(st.sampled_from(sorted(events)), label="event")
        name = data.draw(st.sampled_from(events[event]), label="about")
        self.counts["events of the cluster"] += 1
        getattr(self, event)(name, data)
        if looks == "all":
            self.kube.relist()
        elif looks == "one":
            self.kube.hear_of(name)
        if looks != "no":
            self.reconcile()

    @precondition(lambda self: any(self.possible.values()))
    @rule(data=st.data(), looks=st.sampled_from(["all", "all", "one", "no"]))
    def something_else_happens(self, data: st.DataObject, looks: str) -> None:
        self.something_happens(data, looks)

    @precondition(lambda self: any(self.possible[event] for event in USUAL))
    @rule(data=st.data(), times=st.integers(1, 6))
    def things_go_their_way(self, data: st.DataObject, times: int) -> None:
        """Pods are made, hooks start and succeed: without that a rule of failures would never see a second job."""
        for _ in range(times):
            events = [(event, name) for event in USUAL for name in self.possible[event]]
            if not events:
                break
            event, name = data.draw(st.sampled_from(events), label="usual")
            getattr(self, event)(name, data)
            self.counts["events of the cluster"] += 1
            self.kube.relist()
            self.reconcile()

    @property
    def possible(self) -> dict[str, list[str]]:
        """What may happen next, and to which Jobs or pods (by their Job's name)."""
        kube = self.kube
        live = kube.live_pods
        hooks = [name for name in live if kube.tasks[name] == "run"]
        return {
            "pod_is_made": kube.podless,
            "hook_starts": [name for name in live if kube.pods[name].hook.running_since is None],
            "hook_succeeds": hooks,
            "hook_fails": hooks,
            "hook_ends_without_a_word": hooks,
            "hook_misses_an_input": hooks,
            "reader_ends": [name for name in live if kube.tasks[name] == "read"],
            "job_says_how_it_ended": kube.to_be_told,
            "pod_is_deleted": sorted(kube.pods),
            "job_is_deleted": sorted(kube.jobs),
            "deadline_passes": kube.open_jobs,
            "node_is_lost": [name for name in live if not kube.pods[name].deleting],
        }

    def pod_is_made(self, name: str, _: st.DataObject) -> None:
        self.kube.make_pod(name)

    def hook_starts(self, name: str, _: st.DataObject) -> None:
        self.kube.begin(name)

    def hook_succeeds(self, name: str, data: st.DataObject) -> None:
        content = data.draw(st.sampled_from(["as before", "as before", "another"]), label="content")
        more = {} if content == "as before" else {"content": f"content of {name}"}
        self.kube.succeed(name, **more)

    def hook_fails(self, name: str, data: st.DataObject) -> None:
        error = data.draw(st.sampled_from(CLASSES), label="class")
        said = data.draw(st.sampled_from(["", error, None]), label="said")  # None: killed after it wrote a success
        deleting = data.draw(st.booleans(), label="deleting")
        message = said if said == "" else self.kube.message(name, said)
        self.kube.end(name, EXIT_CODES[error], message, deleting=deleting)

    def hook_misses_an_input(self, name: str, data: st.DataObject) -> None:
        """A result that it reads has gone from the volume, or was changed."""
        others = sorted({job.job_id for job in self.kube.made}) or ["nobody"]
        lost = data.draw(st.sampled_from([*others, "nobody"]), label="lost")
        self.kube.end(name, EXIT_CODES["Input"], self.kube.message(name, "Input", lost))

    def hook_ends_without_a_word(self, name: str, data: st.DataObject) -> None:
        """Or with the words of another pod. Its result may lie on the volume all the same."""
        words = data.draw(st.sampled_from(["", "another pod", "another attempt"]), label="words")
        if data.draw(st.booleans(), label="has succeeded"):
            self.kube.succeeded.add(self.kube.pods[name].uid)
        attempt = self.kube.job_of(name).attempt
        about: dict[str, Any] = {"another pod": {"pod_uid": "other"}, "another attempt": {"attempt": attempt + 1}}.get(
            words, {}
        )
        self.kube.end(name, 0, self.kube.message(name, outputs={"of": "other"}, **about) if about else "")

    def reader_ends(self, name: str, data: st.DataObject) -> None:
        """It finds what the attempt has really left, or fails for a reason of its own."""
        job = self.kube.job_of(name)
        hook = name.removesuffix("-read")
        left = [f"pod-of-{made.uid}" for made in self.kube.made if made.name == hook]
        found = [uid for uid in left if uid in self.kube.succeeded]
        if found and data.draw(st.sampled_from([True, True, False]), label="finds it"):
            outputs = {"of": found[-1], "paths": ["a"], "score": 0.5, "dataset": "d", "stats": "s", "refined": "r"}
            self.kube.end(name, 0, self.kube.message(name, outputs=outputs, attempt=job.attempt))
        else:
            self.kube.end(name, 4, self.kube.message(name, "Infra"))

    def job_says_how_it_ended(self, name: str, _: st.DataObject) -> None:
        self.kube.tell_how_it_ended(name)

    def pod_is_deleted(self, name: str, data: st.DataObject) -> None:
        """A live one fails its Job, which says so at once or a moment later."""
        was_over = self.kube.pods.pop(name).is_over
        job = self.kube.jobs.get(name)
        at_once = data.draw(st.booleans(), label="at once")
        if job is not None and not job.complete and (was_over or at_once):
            self.kube.jobs[name] = replace(job, failed=job.failed or "BackoffLimitExceeded")

    def job_is_deleted(self, name: str, data: st.DataObject) -> None:
        del self.kube.jobs[name]
        self.kube.tell_to_go(name, stays=data.draw(st.booleans(), label="pod stays"))

    def deadline_passes(self, name: str, data: st.DataObject) -> None:
        self.kube.jobs[name] = replace(self.kube.jobs[name], failed="DeadlineExceeded")
        self.kube.tell_to_go(name, stays=data.draw(st.booleans(), label="pod stays"))

    def node_is_lost(self, name: str, _: st.DataObject) -> None:
        """Its pods are told to go and say nothing more; after `nodeLost` nothing of them can matter."""
        pod = self.kube.pods[name]
        self.kube.pods[name] = replace(pod, deleting=True)

    # What must always hold

    @invariant()
    def never_two_live_attempts_of_a_job(self) -> None:
        assert len(self.kube.live) == len(set(self.kube.live))

    @invariant()
    def never_two_jobs_for_one_attempt(self) -> None:
        attempts = [(job.job_id, job.attempt, self.kube.tasks[job.name]) for job in self.kube.jobs.values()]
        assert len(attempts) == len(set(attempts))

    @invariant()
    def committed_results_never_change_within_a_generation(self) -> None:
        for job in self.kube.stored.status.jobs:
            key = (job.id, job.generation or 1)
            if job.state in DONE_STATES:
                assert job.result is not None
                assert (job.outputs or {})["of"] in self.kube.succeeded, "nobody else's word counts"
                assert self.committed.setdefault(key, job.result) == job.result
            else:
                assert key not in self.committed or job.reason == "Removed", "a committed result was lost"

    @invariant()
    def every_job_that_was_made_is_named_in_the_status(self) -> None:
        assert all(self.attempts.get(job.job_id, 0) >= job.attempt for job in self.kube.made)

    @invariant()
    def budgets_hold(self) -> None:
        for job in self.kube.stored.status.jobs:
            if job.failures is not None and job.state != "Failed":
                assert job.failures.user <= 2
                assert job.failures.infra <= 3
                assert job.failures.preempted <= 6
            ended = self.kube.stored.status.outcome in ("Failed", "Stopped") or len(self.compiled[1].jobs) > 3
            if job.state == "Failed" and job.reason in BUDGETS and not ended:
                budget, last = BUDGETS[job.reason]
                assert getattr(job.failures, budget) == last, "nothing is given up before its budget is used up"

    @invariant()
    def at_most_so_many_items_at_a_time(self) -> None:
        at_work = {job_id.split("/")[0] for job_id in self.kube.expected if job_id.startswith("exps[")}
        assert len(at_work) <= 2

    @invariant()
    def the_summary_says_what_the_jobs_say(self) -> None:
        status = self.kube.stored.status
        if not status.jobs:
            return
        states = {job.state for job in status.jobs}
        if status.completion_time is not None:
            assert states <= set(FINISHED_STATES)
            assert status.outcome in ("Succeeded", "Failed", "Stopped")
        else:
            assert status.outcome in ("Running", "Pending")
        if any(job.attempts for job in status.jobs):
            assert status.start_time is not None

    def teardown(self) -> None:
        """However it went so far: left in peace, it ends, and what was not given up by then succeeds."""
        if sys.exc_info()[0] is not None:  # a broken rule, or an example that Hypothesis does not go on with
            return
        if self.kube.stored.spec.get("suspend"):
            self.change_spec(suspend=False)
        self.kube.relist()
        self.reconcile()
        given_up = [job.id for job in self.kube.stored.status.jobs if job.state in ("Failed", "Skipped")]
        for _ in range(1000):
            if self.kube.stored.status.completion_time is not None and not self.kube.live_pods:
                break
            self.let_it_be()
            for check in (
                self.never_two_live_attempts_of_a_job,
                self.committed_results_never_change_within_a_generation,
                self.budgets_hold,
            ):
                check()
        status = self.kube.stored.status
        assert status.completion_time is not None, "it always ends"
        ended = [job for job in status.jobs if job.state == "Failed" and job.id not in given_up]
        for job in ended:  # by a failure that was there already and had no budget left, or by waiting too long
            assert job.failures is not None or job.reason in ("PendingTimeout", "InputLost")
        if not given_up and not ended and not self.was_disturbed:
            assert {job.state for job in status.jobs} <= {"Succeeded"}, "the end is that of an undisturbed run"
        self.counts["Jobs"] += len(self.kube.made_all)
        final = self.plan(self.kube.observed())
        assert final.status == status
        assert not final.actions
        COUNTS.update(self.counts + Counter({"examples": 1}))

    def let_it_be(self) -> None:
        """A minute in which everything goes well."""
        kube = self.kube
        kube.now += timedelta(seconds=61)
        for name in [name for name, pod in kube.pods.items() if pod.deleting]:
            del kube.pods[name]
        for name in [name for name in kube.open_jobs if kube.jobs[name].uid not in kube.podded]:
            kube.make_pod(name)
        for name in kube.live_pods:
            if kube.tasks[name] == "run":
                kube.succeed(name)
            else:
                kube.end(name, 4, kube.message(name, "Infra"))
        for name in kube.to_be_told:
            kube.tell_how_it_ended(name)
        kube.relist()
        self.reconcile()


def gone_through(number: int) -> Counter[str]:
    """The examples of one seed."""
    COUNTS.clear()
    run_state_machine_as_test(
        seed(number)(ExperimentMachine),
        settings=settings(
            max_examples=EACH,
            stateful_step_count=80 if DEEP else 50,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    return Counter(COUNTS)


@pytest.mark.timeout(HOURS * 3600 if DEEP else 900)
async def test_any_order_of_events_ends_in_the_same_place(say: Say, counts: Say) -> None:
    async def piece(number: int) -> Counter[str]:
        return gone_through(number)

    seeds = range(-(-EXAMPLES // EACH)) if ONLY is None else [int(ONLY)]
    found = await in_pieces("model", seeds, piece, say=say, deep=DEEP and ONLY is None, at_once=1, tests="tests/model")
    counts(f"model of the planner: {told(found)}; no invariant was broken")
    assert found["examples"] >= len(seeds) * EACH
