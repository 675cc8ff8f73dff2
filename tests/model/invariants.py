# SPDX-License-Identifier: Apache-2.0
"""What must hold in the model at any moment."""

from __future__ import annotations

from collections import Counter

from hypothesis.stateful import invariant
from tests.model.kube_model import Kube, job_name_in, keys_of, pod_uid
from tests.model.specs import Undisturbed

from sandbox_api.ranges import numbers_in
from sandbox_api.status import DONE_STATES, FINISHED_STATES, JobStatus, ResultRef
from sandbox_operator.plan.compile import Compiled
from sandbox_operator.plan.facts import JobFact, Snapshot

BUDGETS = {
    "UserError": "user", "OutOfMemory": "user", "Timeout": "user",
    "InfraError": "infra", "ResultsLost": "infra", "Preempted": "preempted",
}  # fmt: skip
"""The budget behind a reason."""
FORWARD = {"Pending": 0, "Running": 1, "Succeeded": 2, "Cached": 2, "Failed": 2, "Skipped": 2}


class Invariants:
    kube: Kube
    undisturbed: Undisturbed
    counts: Counter[str]
    compiled: tuple[int, Compiled]
    budgets: dict[str, int]
    committed: dict[tuple[str, int], ResultRef | None]
    attempts: dict[str, int]

    @invariant()
    def never_two_live_attempts_of_a_job(self) -> None:
        assert len(self.kube.live) == len(set(self.kube.live))

    @invariant()
    def never_two_jobs_for_one_attempt(self) -> None:
        """Unless others have deleted the first one. Looking at a cached result is no attempt: it may be asked twice."""
        made: dict[tuple[str, int, str], JobFact] = {}
        for job in self.kube.made_all:
            task = self.kube.tasks[job.name]
            before = made.get((job.job_id, job.attempt, task))
            if task == "check":
                continue
            assert before is None or before.uid in self.kube.vanished, f"a second Job for attempt {job.attempt}"
            made[job.job_id, job.attempt, task] = job

    @invariant()
    def committed_results_never_change_within_a_generation(self) -> None:
        for job in self.kube.stored.status.jobs:
            key = (job.id, job.generation or 1)
            if job.state in DONE_STATES:
                assert job.result is not None
                of = (job.outputs or {})["of"]
                if job.state == "Cached":
                    assert job.attempts == 0, "a hit costs no attempt"
                    assert not job.result.externals or job.id in self.kube.confirmed, (
                        "what it was made of was not looked at"
                    )
                    assert of in {(done.outputs or {})["of"] for done in self.undisturbed.done.values()}
                else:
                    assert of in self.kube.succeeded, "nobody else's word counts"
                    self.is_the_result_of_all(job, of)
                assert self.committed.setdefault(key, job.result) == job.result
            else:
                assert key not in self.committed or job.reason == "Removed", "a committed result was lost"

    def is_the_result_of_all(self, job: JobStatus, of: str) -> None:
        """Of pods that work as one it is rank 0's, and all have ended well; of pieces the one that merged them all."""
        makers = [made for made in self.kube.made_all if of in {pod_uid(made, key) for key in keys_of(made)}]
        (maker,) = makers
        if job.id in self.kube.spanning:
            uids = [pod_uid(maker, key) for key in keys_of(maker)]
            assert (len(uids), of) == (2, uids[0])
            assert self.kube.ended_well.issuperset(uids)
        if self.kube.shards[job.id] > 1:
            assert self.kube.tasks[maker.name] == "merge"
            assert of in self.kube.whole

    @invariant()
    def pieces_that_are_done_are_not_run_again(self) -> None:
        """Unless the volume has lost them, which the merging pod says."""
        for name in self.kube.divided:
            job = self.kube.job_of(name)
            before = self.kube.known_done.get(name, set())
            assert not before & set(numbers_in(job.numbers)), "a piece that is done is run again"

    @invariant()
    def every_job_that_was_made_is_named_in_the_status(self) -> None:
        assert all(self.attempts.get(job.job_id, 0) >= job.attempt for job in self.kube.made)

    @invariant()
    def budgets_hold(self) -> None:
        for job in self.kube.stored.status.jobs:
            if job.failures is not None and job.state != "Failed":
                for budget, further in self.budgets.items():
                    assert getattr(job.failures, budget) <= further

    def given_up_rightly(self, seen: Snapshot, after: list[JobStatus]) -> None:
        """In the order of the list: a job fails for good when its budget is used up, or because another one has."""
        before = {job.id: job.state for job in seen.status.jobs}
        tolerant = {job.id for job in self.compiled[1].jobs if job.on_failure == "Continue"}
        is_ending = seen.spec.get("stop") is not None or any(
            state == "Failed" and job_id not in tolerant for job_id, state in before.items()
        )
        for job in after:
            if job.state != "Failed" or before.get(job.id) == "Failed":
                continue
            if job.reason not in BUDGETS:
                self.counts["given up for another reason"] += 1
            elif is_ending:
                self.counts["given up as the rest was ending"] += 1
            else:
                self.counts["given up with the budget used up"] += 1
                budget = BUDGETS[job.reason]
                assert getattr(job.failures, budget) == self.budgets[budget] + 1, f"given up too early: {job}"
            is_ending |= job.id not in tolerant

    def nobody_works_for_nothing(self) -> None:
        """Once the operator has seen everything: a Job whose result nobody waits for is deleted."""
        waiting = [job for job in self.kube.stored.status.jobs if job.state not in FINISHED_STATES and not job.retry_at]
        wanted = {name for job in waiting for name in (job.job_name, job.helper_job)}
        alive = {job_name_in(key) for key, pod in self.kube.pods.items() if not pod.is_over}
        over = {job_name_in(key) for key in self.kube.pods} - alive
        assert set(self.kube.open_jobs) <= wanted | over

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
