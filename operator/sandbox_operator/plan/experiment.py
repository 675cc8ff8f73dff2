# SPDX-License-Identifier: Apache-2.0
"""The whole decision about one experiment: from what is known now to the next step. Total, pure, deterministic.

The policies it calls stand in files of their own; this one holds their order. What is said of the whole is in
`summary.py`, what still happens after the end in `afterwards.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from sandbox_api.contract import CONTRACT_VERSION
from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import FINISHED_STATES, EarlierResult, JobStatus, Reason

from ..build.defaults import Defaults
from ..build.names import ANNOTATION_JOB_ID as JOB_ID
from .actions import Action, CreateJob, Event, Plan
from .advance import advance
from .afterwards import after_the_end, holders, invalid, orphans
from .claim import ClaimDecision, decide_claim
from .comparison import before_of
from .compile import Compiled
from .doubt import after_grace, before_their_pods
from .facts import Snapshot
from .history import archived, iteration_of
from .images import images_of
from .iterations import in_iteration, jobs_of_iteration, wants_another
from .job import PlannedJob
from .rerun import begun_again, is_live, item_problems, to_run_again
from .round import Round
from .settle import give_up, interrupt, skip
from .spread import spread
from .start import may_run, missing_input
from .summary import conclude

PASSES = 3
"""Looks at all jobs in one round: a job that is made again stands before the one that noticed, and an iteration may be
followed by the next."""


def plan_experiment(snapshot: Snapshot, compiled: Compiled, defaults: Defaults, now: datetime) -> Plan:
    """The next step of an experiment; `compiled` is what its spec means (`compile_spec`)."""
    # 1. Gone, or over: only tidying is left.
    if snapshot.deleting:
        return Plan(snapshot.status)
    asked = _is_to_run_again(snapshot, compiled)
    images = _images(snapshot, compiled, defaults, renew=asked)
    problems = compiled.problems
    if asked or snapshot.status.completion_time is None:
        problems = (*problems, *_image_problems(compiled, images))
    if asked and not problems:
        problems = tuple(_item_problems(snapshot, compiled))
    rerun = asked and not problems
    if snapshot.status.completion_time is not None and not rerun:
        if not asked and compiled.spec is not None:  # nothing is to run: what its spec would not do now is of no matter
            problems = ()
        return after_the_end(snapshot, compiled, problems, defaults, now)

    # 2. A spec that can't be run starts nothing, and says everything that is wrong with it.
    if compiled.spec is None or problems:
        return invalid(snapshot, problems, now)

    # 3. The volume.
    claim = decide_claim(compiled.spec.workspace, snapshot, defaults)

    # 4. Results, failures and the next attempts, job by job; perhaps the next iteration.
    version = _contract_version(snapshot, renew=rerun)
    this = _begin(snapshot, compiled.spec, compiled, defaults, images, version, claim, now)
    if rerun:
        _run_again(this)
    iteration = snapshot.status.iteration or 1
    for _ in range(PASSES):
        _look_at_jobs(this)
        if _is_done(this) and _wants_another(this, compiled, iteration):
            iteration += 1
            _next_iteration(this, compiled, iteration)
        elif this.again:
            _take_jobs(this, compiled, iteration)
        else:
            break
        this.again = False
    else:
        this.requeue.append(0.0)  # cached results can go on for ever: one round at a time

    # 5. Pods that work for nobody.
    this.actions = [action for action in this.actions if _is_wanted(this, action)]
    ended = tuple(orphans(snapshot, this.jobs.values()))
    this.actions += ended
    this.actions += holders(snapshot, this.jobs.values(), this.claim)
    podless = {action.name for action in ended} & before_their_pods(snapshot)
    this.jobs = {id: after_grace(job, now) if job.job_name in podless else job for id, job in this.jobs.items()}

    # 6. What is to be said of it all, in one status.
    return conclude(this, compiled, claim, iteration)


def _begin(
    snapshot: Snapshot,
    spec: ExperimentSpec,
    compiled: Compiled,
    defaults: Defaults,
    images: Mapping[str, str],
    contract_version: int,
    claim: ClaimDecision,
    now: datetime,
) -> Round:
    this = Round(
        snapshot=snapshot,
        spec=spec,
        defaults=defaults,
        images=images,
        contract_version=contract_version,
        claim=claim.name,
        access_mode=claim.access_mode,
        may_start=claim.ready and not spec.suspend,
        now=now,
        planned={},
        jobs={entry.id: entry for entry in snapshot.status.jobs},
        history=list(snapshot.status.history or ()),
        actions=[claim.action] if claim.action else [],
    )
    _take_jobs(this, compiled, snapshot.status.iteration or 1)
    return this


def _take_jobs(this: Round, compiled: Compiled, iteration: int) -> None:
    """The jobs of an iteration as far as they are known, each with its status so far."""
    jobs = jobs_of_iteration(compiled.jobs, compiled.updates, iteration)
    this.active = None
    this.earlier = _committed_before(this.history, compiled.jobs, iteration)
    this.planned = {job.id: job for job in spread(jobs, this.jobs)}
    this.before = before_of(this.spec, tuple(this.planned.values()))
    entries = {job.id: _entry(this, job) for job in this.planned.values()}
    left = [entry for entry in this.jobs.values() if entry.id not in entries and entry.attempts]
    for entry in left:  # their attempt numbers must never start again
        entries[entry.id] = entry if entry.reason == Reason.REMOVED else _removed(this, entry)
    this.jobs = entries


def _entry(this: Round, job: PlannedJob) -> JobStatus:
    entry = this.jobs.get(job.id)
    if entry is None:
        return JobStatus(id=job.id, hook=job.hook.name, meta_name=job.meta_name)
    if entry.reason == Reason.REMOVED:
        return begun_again(entry, this.now, Reason.RERUN, "stands in the spec again", new_budgets=True)
    if (entry.hook, entry.meta_name) != (job.hook.name, job.meta_name):
        return entry.model_copy(update={"hook": job.hook.name, "meta_name": job.meta_name})
    return entry


def _removed(this: Round, entry: JobStatus) -> JobStatus:
    if entry.result is not None:
        this.history = archived(this.history, [entry], read=iteration_of(entry.id) - 1)
    words = "it no longer stands in the spec, or its item is no longer in the list"
    update = {"state": "Skipped", "reason": Reason.REMOVED, "message": words, "retry_at": None, "helper_job": None,
              "outputs": None, "metrics": None, "not_finite": None, "result": None, "made": None, "cache_key": None,
              "waiting_since": None, "shards": None}  # fmt: skip
    return entry.model_copy(update=update)


def _committed_before(
    history: list[EarlierResult], jobs: tuple[PlannedJob, ...], iteration: int
) -> dict[str, JobStatus]:
    """The results of the iteration before, as jobs that are done."""
    if iteration == 1:
        return {}
    wanted = {in_iteration(job.id, iteration - 1): job for job in jobs}
    return {
        result.id: JobStatus(
            id=result.id,
            hook=wanted[result.id].hook.name,
            meta_name=wanted[result.id].meta_name,
            state="Succeeded",
            outputs=result.outputs,
            metrics=result.metrics,
            result=result.result,
        )
        for result in history
        if result.id in wanted
    }


def _look_at_jobs(this: Round) -> None:
    """Every job that has not ended, in written order; what ends the experiment ends the others as well."""
    for job in list(this.planned.values()):
        entry = this.jobs[job.id]
        if entry.state in FINISHED_STATES or job.id in this.begun:
            continue
        if is_live(entry):
            advance(this, job, is_last_chance=_is_over_for(this, job))
            if is_live(this.jobs[job.id]):
                _end_at_once(this, job)
            elif job.needs and this.again:
                return  # perhaps the list of a forEach: what follows is another set of jobs now
        elif job.problem is not None:
            give_up(this, job, Reason.CONFIG_ERROR, job.problem)
        elif _is_over_for(this, job):
            _skip_the_rest(this, job)
        elif (missing := missing_input(this, job)) is not None:
            skip(this, job, Reason.INPUT_UNAVAILABLE, f"{missing}, whose result it reads, has none")
        elif not job.is_spread:
            this.update(job.id, reason=Reason.WAITING_FOR_ITEMS, message="its list of items is not made yet")
        elif may_run(this, job):
            advance(this, job)
    for job in this.planned.values():  # what had not begun and stands before the job that ended it all
        if this.jobs[job.id].state == "Pending" and _is_over_for(this, job):
            _skip_the_rest(this, job)


def _is_over_for(this: Round, job: PlannedJob) -> bool:
    """Whether a job is not to begin any more: another one has failed, or a person stops the experiment."""
    if this.failed() is not None or this.spec.stop == "Now":
        return True
    return this.spec.stop == "AfterEvaluation" and not job.is_last_stage


def _skip_the_rest(this: Round, job: PlannedJob) -> None:
    failed = this.failed()
    if failed is not None:
        skip(this, job, Reason.EARLIER_JOB_FAILED, f"{failed.id} ({failed.meta_name}) failed")
    else:
        skip(this, job, Reason.STOPPED, f"spec.stop: {this.spec.stop}")


def _end_at_once(this: Round, job: PlannedJob) -> None:
    """A running attempt that must not go on; its Job is deleted with those that work for nobody."""
    spec = this.spec
    if spec.stop == "Now":
        skip(this, job, Reason.STOPPED, "ended by spec.stop: Now")
    elif spec.suspend and spec.suspend_policy == "Now":
        interrupt(this, job, Reason.SUSPENDED, "ended by spec.suspendPolicy: Now; goes on when spec.suspend is false")
        this.held = True


def _is_done(this: Round) -> bool:
    return all(this.jobs[job.id].state in FINISHED_STATES for job in this.planned.values())


def _wants_another(this: Round, compiled: Compiled, iteration: int) -> bool:
    if this.failed() is not None or this.spec.stop is not None:
        return False
    return wants_another(this.spec, compiled.targets, this.jobs, iteration)


def _next_iteration(this: Round, compiled: Compiled, iteration: int) -> None:
    this.history = archived(this.history, list(this.jobs.values()), read=iteration - 1)
    this.jobs = {}
    this.urgent = True
    _take_jobs(this, compiled, iteration)


def _is_to_run_again(snapshot: Snapshot, compiled: Compiled) -> bool:
    """Whether there is a rerun token that was not seen yet. The first one that a new experiment has means nothing."""
    status, spec = snapshot.status, compiled.spec
    if spec is None or spec.rerun is None or (status.start_time or status.completion_time) is None:
        return False
    return spec.rerun.token != status.rerun_token


def _item_problems(snapshot: Snapshot, compiled: Compiled) -> Iterator[str]:
    assert compiled.spec is not None
    status = snapshot.status
    jobs = jobs_of_iteration(compiled.jobs, compiled.updates, status.iteration or 1)
    yield from item_problems(compiled.spec, spread(jobs, {entry.id: entry for entry in status.jobs}))


def _run_again(this: Round) -> None:
    jobs = list(this.planned.values())
    assert this.spec.rerun is not None
    words, start = f"spec.rerun.token: {this.spec.rerun.token}", this.spec.rerun.from_
    again = to_run_again(this.spec, jobs, this.jobs)
    for job_id in this.planned:
        this.update(job_id, remade=None)  # once for each token
    for job_id in again:
        this.jobs[job_id] = begun_again(this.jobs[job_id], this.now, Reason.RERUN, words, new_budgets=True)
    this.urgent = True
    if this.spec.stop is not None:
        words += f"; nothing more is begun, since spec.stop is {this.spec.stop}"
    elif not again:
        words += f"; nothing runs again: the list of spec.rerun.from, {start!r}, is empty"
    this.events.append(Event("Normal" if again and not this.spec.stop else "Warning", Reason.RERUN, words))


def _is_wanted(this: Round, action: Action) -> bool:
    """A job that was begun in this round may have been ended by another's failure in the same round."""
    return not isinstance(action, CreateJob) or is_live(this.jobs[action.manifest["metadata"]["annotations"][JOB_ID]])


def _images(snapshot: Snapshot, compiled: Compiled, defaults: Defaults, *, renew: bool) -> dict[str, str]:
    """Images by name. What a name meant when the experiment started it means to its end, whatever is upgraded; a rerun
    asks anew."""
    spec = compiled.spec
    own = {job.hook.image: job.hook.image_reference for job in compiled.jobs if job.hook.image_reference}
    resolved = snapshot.status.resolved.images if snapshot.status.resolved and not renew else {}
    return {**defaults.images, **own, **(spec.images if spec else {}), **resolved}


def _contract_version(snapshot: Snapshot, *, renew: bool) -> int:
    """The contract that the images read: an experiment keeps the images it began with, whatever is upgraded, and so it
    keeps their language."""
    resolved = snapshot.status.resolved
    return resolved.contract if resolved is not None and not renew else CONTRACT_VERSION


def _image_problems(compiled: Compiled, images: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(images_of(compiled.jobs, compiled.spec) - set(images)):
        yield f"spec.images.{name}: the operator has no such image; set it here, or images.{name} in the chart's values"
