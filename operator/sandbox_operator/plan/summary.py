# SPDX-License-Identifier: Apache-2.0
"""What a round comes to: one status, in which every job stands, and one sentence about the whole."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox_api.contract import experiment_folder
from sandbox_api.status import (
    DONE_STATES,
    FINISHED_STATES,
    ExperimentStatus,
    Failures,
    JobStatus,
    Reason,
    Resolved,
    WorkspaceStatus,
)

from .actions import Event, Plan
from .claim import ClaimDecision
from .clock import since, stamp
from .comparison import compare
from .compile import Compiled
from .conditions import Headline, conditions_of
from .iterations import targets_met, untold, wants_another
from .placement import told
from .progress import line_of, only_running
from .ranking import baseline_problems, ranking
from .rerun import is_live
from .round import Round


def conclude(this: Round, compiled: Compiled, claim: ClaimDecision, iteration: int) -> Plan:
    """The plan of this round."""
    snapshot, old = this.snapshot, this.snapshot.status
    planned = list(this.planned.values())
    this.jobs = {id: only_running(entry) for id, entry in this.jobs.items()}
    jobs = [this.jobs[job.id] for job in planned]
    started = old.start_time or (
        stamp(this.now) if any(job.attempts or job.state == "Cached" for job in jobs) else None
    )
    finished = all(job.state in FINISHED_STATES for job in jobs)
    headline = _headline(this, compiled, claim, jobs, finished, iteration)
    if finished:
        this.events.append(_closing_event(headline))
    elif not claim.ready and claim.reason != Reason.CLAIM_TERMINATING:
        this.events.append(Event("Warning", claim.reason, claim.message))
    current = _current(jobs)
    used = {job.hook.image for job in planned}
    status = ExperimentStatus(
        observed_generation=snapshot.generation,
        outcome=headline.outcome,
        stage=current.id.split("/")[2] if current else None,
        progress=f"{sum(job.state in DONE_STATES for job in jobs)}/{len(jobs)}",
        hook=current.hook if current else None,
        live=line_of(this.jobs.values()),
        retries=sum(map(_retries, jobs)),
        start_time=started,
        completion_time=stamp(this.now) if finished else None,
        conditions=conditions_of(old.conditions, headline, claim, snapshot.generation, this.now),
        workspace=WorkspaceStatus(
            claim_name=claim.name,
            path=experiment_folder(snapshot.name, snapshot.uid),
            access_mode=claim.access_mode or (old.workspace.access_mode if old.workspace else None),
            placement=told(claim.access_mode, may_be_parallel=_may_be_parallel(this)),
        ),
        resolved=Resolved(
            images={name: this.images[name] for name in sorted(used)},
            hooks={job.hook.name: job.hook.image for job in planned},
            contract=this.contract_version,
        )
        if started
        else None,
        iteration=iteration,
        rerun_token=this.spec.rerun.token if this.spec.rerun else old.rerun_token,
        jobs=list(this.jobs.values()),
        history=this.history or None,
        trial=old.trial,  # the sweep's word, which it writes here itself
        ranking=ranking(this.spec.rank, compiled.ranked, planned, this.jobs) or None,
        comparison=compare(this.spec, tuple(planned), this.jobs),
    )
    events = [*_warning_events(this, compiled), *this.events]
    urgent = this.urgent or old.observed_generation != snapshot.generation
    return Plan(status, tuple(this.actions), tuple(events), min(this.requeue, default=None), urgent)


def _retries(job: JobStatus) -> int:
    """Attempts that a failure of this generation made necessary."""
    failures = job.failures or Failures()
    counts = failures.user, failures.infra, failures.preempted, failures.final
    return max(0, sum(counts) - (job.state == "Failed"))


def _current(jobs: list[JobStatus]) -> JobStatus | None:
    """The job that the columns are about: the first at work, else one that waits, one that failed, the last."""
    waiting = [job for job in jobs if job.state not in FINISHED_STATES]
    failed = [job for job in jobs if job.state == "Failed"]
    return next((job for job in waiting if is_live(job)), None) or next(iter([*waiting, *failed, *jobs[-1:]]), None)


def _headline(
    this: Round, compiled: Compiled, claim: ClaimDecision, jobs: list[JobStatus], finished: bool, iteration: int
) -> Headline:
    failed = this.failed()
    if finished and failed is not None:
        skipped = sum(job.state == "Skipped" and job.reason == Reason.EARLIER_JOB_FAILED for job in jobs)
        after = f"; {_count(skipped, 'later job')} skipped" if skipped else ""
        words = f"{_name(failed)} failed: {failed.message}{after}"
        return Headline("Failed", failed.reason or Reason.FAILED, words)
    if finished and this.spec.stop is not None and _has_left_out(this, compiled, jobs, iteration):
        done = sum(job.state in DONE_STATES for job in jobs)
        whose, why = _why_stopped(this)
        return Headline("Stopped", whose, f"{why}; {done} of {_count(len(jobs), 'job')} done")
    if finished and jobs and not any(job.state in DONE_STATES for job in jobs):
        return Headline("Failed", Reason.FAILED, f"no job was done: {_success(this, compiled, jobs, iteration)}")
    if finished:
        return Headline("Succeeded", Reason.SUCCEEDED, _success(this, compiled, jobs, iteration))
    begun = any(job.attempts or job.state in DONE_STATES for job in jobs)
    outcome = "Running" if begun else "Pending"
    if this.spec.suspend and this.held:
        words = "no further job is started until spec.suspend is false"
        return Headline(outcome, Reason.SUSPENDED, words, suspended=True)  # type: ignore[arg-type]
    if not claim.ready:
        stalled = claim.reason != Reason.CLAIM_TERMINATING
        return Headline(outcome, claim.reason, claim.message, stalled=stalled)  # type: ignore[arg-type]
    running = [job for job in jobs if job.state == "Running"]
    ending = f"; it ends after that, because {_name(failed)} failed: {failed.message}" if failed is not None else ""
    if len(running) > 1:
        names = ", ".join(_name(job) for job in running[:3]) + (", ..." if len(running) > 3 else "")
        return Headline("Running", Reason.RUNNING, f"{len(running)} jobs are running: {names}{ending}")
    if running:
        odd = f": {running[0].message}" if running[0].message else ""
        return Headline("Running", Reason.RUNNING, f"{_name(running[0])} is running{odd}{ending}")
    current = _current(jobs)
    assert current is not None, "what is not finished has a job that is not"
    reason = current.reason or Reason.PENDING
    return Headline("Running", reason, f"{_name(current)} waits: {current.message or 'its Job is being created'}")


def _why_stopped(this: Round) -> tuple[Reason, str]:
    """Whose word ended it: a person's, or that of the sweep whose trial it is."""
    trial, decided = this.spec.trial, this.snapshot.status.trial
    if trial is not None and decided is not None and decided.pruned:
        last = decided.decisions[-1] if decided.decisions else None
        at = f" at {last.rung}, where its value was {_in_words(last.value)}" if last is not None else ""
        return Reason.PRUNED, f"ended early by the sweep {trial.sweep}{at}"
    return Reason.STOPPED, f"spec.stop: {this.spec.stop}"


def _in_words(value: float | None) -> str:
    return "no finite number" if value is None else f"{value:g}"


def _has_left_out(this: Round, compiled: Compiled, jobs: list[JobStatus], iteration: int) -> bool:
    """Whether `spec.stop` kept anything from being done: a job, or another iteration."""
    is_cut = any(job.state == "Skipped" and job.reason == Reason.STOPPED for job in jobs)
    return is_cut or wants_another(this.spec, compiled.targets, this.jobs, iteration)


def _success(this: Round, compiled: Compiled, jobs: list[JobStatus], iteration: int) -> str:
    began = this.snapshot.status.start_time
    once = all((job.generation or 1) == 1 for job in jobs)  # else it was over, and began again at some time
    took = f" in {int(since(began, this.now))} s" if began and once else ""
    parts = [f"{_count(sum(job.state in DONE_STATES for job in jobs), 'job')} done{took}"]
    for state, words in (
        ("Cached", "taken from the cache"),
        ("Failed", "failed and passed over"),
        ("Skipped", "skipped"),
    ):
        number = sum(job.state == state for job in jobs)
        if number:
            parts.append(f"{number} {words}")
    if compiled.targets:
        met = targets_met(this.spec, compiled.targets, this.jobs, iteration)
        parts.append(f"{'targets met' if met else 'targets not met'} after {_count(iteration, 'iteration')}")
        if (target := untold(this.spec, compiled.targets, this.jobs, iteration)) is not None:
            parts.append(f"{target.references[0].job_id} gave no number for the target {target.text!r}")
    elif iteration > 1:
        parts.append(_count(iteration, "iteration"))
    parts += baseline_problems(this.spec, compiled.ranked, list(this.planned.values()))  # of lists that are known now
    return "; ".join(parts)


def _name(job: JobStatus) -> str:
    return f"{job.id} ({job.hook}, {job.meta_name})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _may_be_parallel(this: Round) -> bool:
    return any(
        job.config.depends_on is not None or job.config.for_each is not None or job.has_several_pods
        for job in this.planned.values()
    ) or any(job.pipeline_item is not None or job.pipeline_fan is not None for job in this.planned.values())


def _closing_event(headline: Headline) -> Event:
    return Event("Normal" if headline.outcome != "Failed" else "Warning", headline.reason, headline.message)


def _warning_events(this: Round, compiled: Compiled) -> Iterator[Event]:
    """What is odd about a spec, once: when its generation is seen first."""
    if this.snapshot.status.observed_generation != this.snapshot.generation:
        for words in compiled.warnings:
            yield Event("Warning", "SpecWarning", words)
