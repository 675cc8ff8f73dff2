# SPDX-License-Identifier: Apache-2.0
"""The state machine: an operator that looks late, twice, or breaks off; people; and a cluster where anything happens."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.model.events import USUAL, Events
from tests.model.invariants import Invariants
from tests.model.kube_model import CLAIM, Kube
from tests.model.specs import SPECS, end_of, undisturbed
from tests.unit.builders import DEFAULTS, NOW, OWN_HOOKS, a_claim, written

from sandbox_api.status import DONE_STATES, Reason, ResultRef
from sandbox_operator.plan.actions import Action, CreateJob, DeleteJob, Plan
from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import Refusal, Snapshot

COUNTS: Counter[str] = Counter()
"""What the examples went through that have come to their end."""
TROUBLES = {
    "killed": "kills between two calls",
    "error": "calls answered with an error (409, 429, 500)",
    "answer lost": "calls done whose answer was lost",
    "quota": "Jobs refused by a quota (403)",
    "invalid": "Jobs refused for good (422)",
}
"""What may become of one of the operator's calls."""
LOOKS = st.sampled_from(["all", "all", "all", "one", "Job", "pod", "no", "no"])
SOMETIMES = st.sampled_from([*[None] * 7, *TROUBLES])
AT = st.integers(0, 99)
"""Which call of a round it is, as its place among them in hundredths: a late one as often as the first."""
LATE = 3


class ExperimentMachine(Events, Invariants, RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter(dict.fromkeys(TROUBLES.values(), 0))
        self.undisturbed = undisturbed("one after another", "ReadWriteMany")
        self.kube = Kube.of(SPECS["one after another"])
        self.budgets: dict[str, int] = {}
        self.committed: dict[tuple[str, int], ResultRef | None] = {}
        self.attempts: dict[str, int] = {}
        self.last: Snapshot | None = None
        self.tokens = 0
        self.compiled: tuple[int, Compiled] = (0, Compiled(None))
        self.was_stopped = False
        self.may_delete_claim = False

    @initialize(
        name=st.sampled_from(sorted(SPECS)),
        access_mode=st.sampled_from(["ReadWriteMany", "ReadWriteMany", "ReadWriteOnce"]),
        budgets=st.fixed_dictionaries(
            {"user": st.integers(0, 2), "infra": st.integers(0, 3), "preempted": st.integers(0, 4)}
        ),
        has_neighbour=st.sampled_from([False, False, True]),
        may_delete_claim=st.sampled_from([False, False, False, True]),
        data=st.data(),
    )
    def begin(
        self,
        name: str,
        access_mode: str,
        budgets: dict[str, int],
        has_neighbour: bool,
        may_delete_claim: bool,
        data: st.DataObject,
    ) -> None:
        retry = {**budgets, "backoff": "10s", "maxBackoff": "1m"}
        self.budgets = budgets
        self.undisturbed = undisturbed(name, access_mode)
        self.kube = Kube.of({**SPECS[name], "retry": retry}, access_mode=access_mode)
        self.may_delete_claim = may_delete_claim
        if has_neighbour:  # what others have done lies on it
            self.kube.claim = a_claim(CLAIM, access_mode=access_mode, created=written(NOW - timedelta(days=1)))
        for key, done in self.undisturbed.done.items() if has_neighbour else ():
            match data.draw(st.sampled_from(["", "done", "done", "to be checked", "runs"]), label=done.id):
                case "done":
                    self.cache_has(key, externals=0)
                case "to be checked":
                    self.cache_has(key, externals=1)
                case "runs":
                    self.kube.running_keys[key] = "neighbour"

    # What the operator does

    def plan(self, snapshot: Snapshot) -> Plan:
        generation, compiled = self.compiled
        if generation != snapshot.generation:
            compiled = compile_spec(snapshot.spec, OWN_HOOKS)
            assert not compiled.problems, compiled.problems
            self.compiled = snapshot.generation, compiled
        return plan_experiment(snapshot, compiled, DEFAULTS, self.kube.now)

    def reconcile(self, trouble: str | None = None, at: int = 0) -> None:
        """One round; `trouble` strikes one of its calls, if there are any (`AT`)."""
        seen = self.kube.observed()
        step = self.plan(seen)
        assert step == self.plan(seen), "the same facts give the same plan"
        self.last = seen
        self.counts["rounds"] += 1
        self.do(seen, step, trouble, at)

    def do(self, seen: Snapshot, step: Plan, trouble: str | None = None, at: int = 0) -> None:
        """Write the status, if it has changed, then act. A call that fails ends the round."""
        has_left = self.kube.has_left(seen, step)
        if has_left or seen.resource_version != self.kube.stored.resource_version:
            self.counts["conflicts"] += 1
            return
        calls: list[Action | None] = [*([None] if step.status != seen.status else []), *step.actions]
        for number, action in enumerate(calls):
            struck = trouble if number == len(calls) * at // 100 else None
            if struck in ("quota", "invalid") and not self.may_refuse(action):
                struck = "error"
            if struck is not None:
                self.counts[TROUBLES[struck]] += 1
                self.counts["troubles at the fourth call of a round or later"] += number >= LATE
            if struck in (None, "answer lost"):
                self.call(seen, step, action)
            if isinstance(action, CreateJob) and struck is not None:
                self.is_not_told_of(action, struck)
            if struck == "killed":
                self.kube.refusals.clear()
            if struck is not None:
                return

    def may_refuse(self, action: Action | None) -> bool:
        return isinstance(action, CreateJob) and action.manifest["metadata"]["name"] not in self.kube.jobs

    def call(self, seen: Snapshot, step: Plan, action: Action | None) -> None:
        if action is not None:
            gone = isinstance(action, DeleteJob) and action.name not in self.kube.jobs
            self.counts["deletes answered with 404"] += gone
            self.kube.act(action)
            return
        self.moved_on({job.id: job for job in self.kube.stored.status.jobs}, step.status.jobs)
        self.given_up_rightly(seen, step.status.jobs)
        silent = [
            job.id for job in step.status.jobs if "is silent" in (job.message or "") and job not in seen.status.jobs
        ]
        self.counts["attempts given up with their node"] += len(silent)
        version = str(int(seen.resource_version) + 1)
        self.kube.stored = replace(self.kube.stored, status=step.status, resource_version=version)

    def is_not_told_of(self, action: CreateJob, why: str) -> None:
        name = action.manifest["metadata"]["name"]
        if why == "answer lost":  # only the watch will tell of it
            self.kube.view.jobs.pop(name, None)
        if why in ("quota", "invalid"):
            reason = Reason.QUOTA_EXCEEDED if why == "quota" else Reason.CONFIG_ERROR
            self.kube.refuse(action, Refusal(reason, f"the Job {name} was refused", final=why == "invalid"))

    @rule(trouble=st.sampled_from([None, *TROUBLES, "killed", "quota"]), at=AT)
    def the_operator_looks(self, trouble: str | None, at: int) -> None:
        self.reconcile(trouble, at)

    @precondition(lambda self: self.last is not None)
    @rule()
    def the_operator_acts_on_what_it_saw_before(self) -> None:
        """A worker that slept between observing and writing: its version is old, or nothing was written since."""
        assert self.last is not None
        self.do(self.last, self.plan(self.last))

    @rule()
    def the_operator_is_started_anew(self) -> None:
        """All that it knows it lists."""
        self.kube.refusals.clear()
        self.kube.relist()
        self.reconcile()
        self.nobody_works_for_nothing()

    @rule(seconds=st.sampled_from([1, 15, 80, 130, -1, -30, -400]), looks=st.booleans())
    def time_passes(self, seconds: int, looks: bool) -> None:
        """Or the clock jumps back for a while."""
        self.kube.pass_time(seconds)
        if looks or seconds < 0:
            self.reconcile()
        if seconds < 0:
            self.kube.pass_time(-seconds)

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
        self.was_stopped = True
        self.change_spec(stop=stop)
        self.reconcile()

    # What the cluster does

    @precondition(lambda self: any(self.possible.values()))
    @rule(data=st.data(), looks=LOOKS, trouble=SOMETIMES, at=AT)
    def something_happens(self, data: st.DataObject, looks: str, trouble: str | None, at: int) -> None:
        """Mostly seen at once, sometimes only that Job or its pod, sometimes only with what happens next."""
        events = {event: names for event, names in self.possible.items() if names}
        event = data.draw(st.sampled_from(sorted(events)), label="event")
        name = data.draw(st.sampled_from(events[event]), label="about")
        self.happens(event, name, data)
        if looks == "all":
            self.kube.relist()
        elif looks != "no":
            self.kube.hear_of(name, job=looks != "pod", pod=looks != "Job")
        if looks != "no":
            self.reconcile(trouble, at)

    @precondition(lambda self: any(self.possible.values()))
    @rule(data=st.data(), looks=LOOKS, trouble=SOMETIMES, at=AT)
    def something_else_happens(self, data: st.DataObject, looks: str, trouble: str | None, at: int) -> None:
        self.something_happens(data, looks, trouble, at)

    @precondition(lambda self: any(self.possible[event] for event in USUAL))
    @rule(data=st.data(), times=st.integers(1, 6), trouble=SOMETIMES, at=AT)
    def things_go_their_way(self, data: st.DataObject, times: int, trouble: str | None, at: int) -> None:
        """Pods are made, hooks start and succeed: without that a rule of failures would never see a second job. The
        trouble comes with the last of it."""
        for number in range(times):
            events = [(event, name) for event in USUAL for name in self.possible[event]]
            if not events:
                break
            event, name = data.draw(st.sampled_from(events), label="usual")
            self.happens(event, name, data)
            self.kube.relist()
            self.reconcile(trouble if number == times - 1 else None, at)

    def happens(self, event: str, name: str, data: st.DataObject) -> None:
        self.counts["events of the cluster"] += 1
        self.counts["nodes lost"] += event == "node_is_lost"
        getattr(self, event)(name, data)

    # The end

    def waits_for_the_lost_claim(self) -> bool:
        """The results that are committed went with it: it says so, works at nothing, and is not begun anew unasked."""
        status = self.kube.stored.status
        told = [c for c in status.conditions if (c.type, c.status, c.reason) == ("Stalled", "True", "ClaimLost")]
        if not told or self.kube.open_jobs:
            return False
        assert status.iteration != 1 or any(job.state in DONE_STATES for job in status.jobs)
        assert not [action for action in self.plan(self.kube.observed()).actions if isinstance(action, CreateJob)]
        self.counts["claims lost with the results on them"] += 1
        return True

    def teardown(self) -> None:
        """However it went so far: left in peace, it ends, and what was not given up by then succeeds."""
        if sys.exc_info()[0] is not None:  # a broken rule, or an example that Hypothesis does not go on with
            return
        kube = self.kube
        if kube.stored.spec.get("suspend"):
            self.change_spec(suspend=False)
        kube.relist()
        self.reconcile()
        self.nobody_works_for_nothing()
        given_up = {job.id for job in kube.stored.status.jobs if job.state in ("Failed", "Skipped")}
        for _ in range(200):
            is_over = kube.stored.status.completion_time is not None
            if is_over and not kube.live_pods and (kube.claim is None or kube.can_begin):
                break
            if not is_over and kube.claim is None and self.waits_for_the_lost_claim():
                if kube.stored.status.iteration != 1:  # only a new experiment begins with the first one
                    break
                self.run_again(f"{self.compiled[1].jobs[0].id.split('/')[0]}/1", seen=True)
                given_up = set()
            kube.go_well()
            self.reconcile()
            for check in (
                self.never_two_live_attempts_of_a_job,
                self.never_two_jobs_for_one_attempt,
                self.committed_results_never_change_within_a_generation,
                self.budgets_hold,
            ):
                check()
        status = kube.stored.status
        if not (status.iteration != 1 and self.waits_for_the_lost_claim()):
            assert status.completion_time is not None, "it always ends"
            self.is_the_right_end(given_up)
        final = self.plan(kube.observed())
        assert final.status == status
        assert not final.actions
        self.counts.update({"examples": 1, "Jobs": len(kube.made_all)})
        self.counts["merges of pieces"] += sum(kube.tasks[job.name] == "merge" for job in kube.made_all)
        self.counts["attempts with some pieces done before"] += sum(map(bool, kube.known_done.values()))
        self.counts["cached"] += sum(job.state == "Cached" for job in status.jobs)
        COUNTS.update(self.counts)

    def is_the_right_end(self, given_up: set[str]) -> None:
        """What was not given up before it was left in peace has succeeded."""
        status = self.kube.stored.status
        ended = [job for job in status.jobs if job.state == "Failed" and job.id not in given_up]
        for job in ended:  # by a failure that was there already and had no budget left, or by waiting too long
            assert job.failures is not None or job.reason in ("PendingTimeout", "InputLost"), job
        if not (given_up or ended or self.was_stopped):
            assert end_of(status) == self.undisturbed.end, "the end is that of an undisturbed run"
            self.counts["ends that are the undisturbed ones"] += 1
