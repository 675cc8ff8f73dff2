# SPDX-License-Identifier: Apache-2.0
"""`spec.keep.bestTrials`: whose large files go when a search has ended, and how far that is.

What a trial computed may be what others read, so nothing goes that another experiment has taken, whoever that is. A
trial's results are first marked in its status, from when on the step cache offers them to nobody; only then a Job gets
the list of what is still nobody else's, and removes it. Nothing of this holds up the search, or changes its outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from sandbox_api.contract import job_folder
from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import EarlierResult, ExperimentStatus, JobStatus, Reason, TrialStatus
from sandbox_api.trim import TrimContract, TrimFolder

from ..build.defaults import Defaults
from ..build.trim import TrimRequest, trim_job, trim_name
from .actions import Event
from .conditions import Said, condition_in, condition_of
from .images import HELPER_IMAGE
from .sweep_facts import (
    CreateRemoval,
    MarkTrial,
    SweepAction,
    SweepPlan,
    SweepSnapshot,
    TrialFact,
    TrialFiles,
    best_of,
    in_words,
)

if TYPE_CHECKING:  # what searches takes a second to import
    from .sweep_definition import CompiledSweep

Entry = TypeVar("Entry", JobStatus, EarlierResult)
TRIMMED = "Trimmed"
"""The condition."""
AT_ONCE_TRIALS, AT_ONCE_RESULTS = 100, 1000
"""What one Job is given at most: its list stands in an environment variable."""
POLL = 2.0
"""Seconds after which a Job that runs is looked at again: nobody tells."""
LATER = 300.0
"""The same of one that has failed: it goes after an hour, and is made again."""


def with_trimming(
    plan: SweepPlan, snapshot: SweepSnapshot, compiled: CompiledSweep, defaults: Defaults, now: datetime
) -> SweepPlan:
    """The plan of a round with what is to be done about files, and what is said of it."""
    count = sum(trial.artifacts == "Removed" for trial in snapshot.trials)
    plan = replace(plan, status=plan.status.model_copy(update={"trimmed": count or None}))
    if plan.status.completion_time is None or compiled.spec is None or best_trials(compiled) is None:
        return plan
    if snapshot.status.completion_time is None:  # its end is written first; what trials have is looked at after that
        return replace(plan, requeue_after=0.0)
    said, actions, requeue = _next(snapshot, compiled, defaults)
    conditions = [
        *plan.status.conditions,
        condition_of(TRIMMED, said, snapshot.status.conditions, snapshot.generation, now),
    ]
    events = plan.events
    before = condition_in(snapshot.status.conditions, TRIMMED)
    if (
        said.reason != Reason.TRIMMING
        and (before is None or before.reason != said.reason)
        and (count or said.status == "False")
    ):
        events = (*events, Event("Warning" if said.status == "False" else "Normal", said.reason, said.message))
    return replace(
        plan,
        status=plan.status.model_copy(update={"conditions": conditions}),
        actions=(*plan.actions, *actions),
        events=events,
        requeue_after=requeue,
        urgent=plan.urgent or before is None or before.reason != said.reason,
    )


def best_trials(compiled: CompiledSweep) -> int | None:
    """How many keep their files; None: all."""
    keep = compiled.spec.keep if compiled.spec is not None else None
    return keep.best_trials if keep is not None else None


def going(trials: Sequence[TrialFact], goal: str, kept: int) -> list[TrialFact]:
    """Trials whose large files go: ended, with a value or ended early, and not among the best so many.

    Those that failed stay as they are: somebody will want to know why.
    """
    best = {trial.number for trial in best_of(trials, goal)[:kept]}
    return [
        trial
        for trial in trials
        if trial.is_over and trial.state in ("Succeeded", "Pruned") and trial.number not in best
    ]


def is_trimming(snapshot: SweepSnapshot, compiled: CompiledSweep) -> bool:
    """Whether there is something to remove, or to look after: what trials have on the volume is asked for then."""
    kept = best_trials(compiled)
    if kept is None or compiled.spec is None or snapshot.status.completion_time is None:
        return False
    if removing(snapshot.trials):
        return True
    return any(trial.artifacts is None for trial in going(snapshot.trials, compiled.spec.metric.goal, kept))


def removing(trials: Sequence[TrialFact]) -> list[int]:
    """Numbers of the trials that are at it."""
    return [trial.number for trial in trials if trial.artifacts == "Removing"]


def removal_name(snapshot: SweepSnapshot) -> str | None:
    """Name of the Job that is at it, or is to be made; None where none is needed."""
    numbers = removing(snapshot.trials)
    return trim_name(snapshot.name, snapshot.uid, numbers) if numbers else None


def contract_of(snapshot: SweepSnapshot, *, keep_attempts: bool = False) -> TrimContract:
    """What the Job is told: of each trial that is being removed the jobs that have begun, and of their results those
    that were marked and that nobody has taken since. `keep_attempts`: attempts that failed keep theirs."""
    folders: list[TrimFolder] = []
    for number in removing(snapshot.trials):
        files = snapshot.files.get(number)
        if files is None:
            continue
        free = files.removed - snapshot.taken
        by_job: dict[str, list[str]] = {job_id: [] for job_id in (*files.attempts, *files.results.values())}
        for path, job_id in files.results.items():
            if path in free:
                by_job[job_id].append(path)
        for job_id, paths in by_job.items():
            place = f"{files.folder}/jobs/{job_folder(job_id)}"
            inside = [path.removeprefix(f"{place}/").rpartition("/")[0] for path in paths if path.startswith(place)]
            attempts = 0 if keep_attempts else files.attempts.get(job_id, 0)
            if not attempts and not inside:
                continue
            folders.append(TrimFolder(path=place, attempts=attempts, results=sorted(inside)))
    return TrimContract(sweep=snapshot.name, folders=folders)


def marked(status: ExperimentStatus, mark: MarkTrial) -> ExperimentStatus:
    """A trial's status with a mark: what it says of its files, and of results that stand for no other job."""
    trial = (status.trial or TrialStatus()).model_copy(update={"artifacts": mark.artifacts})
    jobs = [_without_files(job, mark.results) for job in status.jobs]
    history = [_without_files(earlier, mark.results) for earlier in status.history or ()]
    return status.model_copy(update={"trial": trial, "jobs": jobs, **({"history": history} if history else {})})


def _without_files(entry: Entry, paths: frozenset[str]) -> Entry:
    if entry.result is None or entry.result.path not in paths:
        return entry
    return entry.model_copy(update={"result": entry.result.model_copy(update={"removed": True})})


def _next(
    snapshot: SweepSnapshot, compiled: CompiledSweep, defaults: Defaults
) -> tuple[Said, tuple[SweepAction, ...], float | None]:
    assert compiled.spec is not None
    kept = best_trials(compiled)
    assert kept is not None
    to_go = going(snapshot.trials, compiled.spec.metric.goal, kept)
    left = [trial for trial in to_go if trial.artifacts is None]
    if removing(snapshot.trials):
        return _remove(snapshot, compiled, defaults)
    if ready := [trial for trial in left if not trial.is_exporting]:
        marks = tuple(_marks(ready, snapshot.files, snapshot.taken))
        return Said("Unknown", Reason.TRIMMING, f"large files of {in_words(len(left))} are to be removed"), marks, 0.0
    if left:
        words = f"waits until the exporters of {in_words(len(left))} have read what they need, or are given up"
        return Said("Unknown", Reason.TRIMMING, words), (), LATER
    failed = sum(trial.state == "Failed" for trial in snapshot.trials)
    gone = sum(trial.artifacts == "Removed" for trial in snapshot.trials)
    also = f", and so do those of {in_words(failed)} that failed" if failed else ""
    words = f"large files of {in_words(gone)} were removed; those of the best {kept} stay{also}"
    return Said("True", Reason.TRIMMED, words), (), None


def _marks(trials: Sequence[TrialFact], files: Mapping[int, TrialFiles], taken: frozenset[str]) -> Iterator[MarkTrial]:
    """The next ones that go, as many as a Job may be given."""
    room = AT_ONCE_RESULTS
    for number, trial in enumerate(trials):
        own = files.get(trial.number, TrialFiles(""))
        room -= len(own.results)
        if number and (number >= AT_ONCE_TRIALS or room < 0):
            return
        yield MarkTrial(trial.name, "Removing", frozenset(own.results) - taken)


def _remove(
    snapshot: SweepSnapshot, compiled: CompiledSweep, defaults: Defaults
) -> tuple[Said, tuple[SweepAction, ...], float | None]:
    numbers = set(removing(snapshot.trials))
    done = tuple(MarkTrial(trial.name, "Removed") for trial in snapshot.trials if trial.number in numbers)
    name, job = removal_name(snapshot), snapshot.removal
    assert name is not None
    at_it = Said("Unknown", Reason.TRIMMING, f"large files of {in_words(len(numbers))} are being removed by {name}")
    if job is not None and job.complete:
        return at_it, done, 0.0
    if job is not None and job.failed is not None:
        words = f"the Job {name} could not remove large files of {in_words(len(numbers))}: "
        rest = f"{job.failed_message or job.failed}; its pods' logs say more; delete it to have it tried again"
        return Said("False", Reason.NOT_TRIMMED, words + rest), (), LATER
    if job is not None:
        return at_it, (), POLL
    assert compiled.first is not None
    spec = compiled.first.spec
    assert spec is not None, "what has none has a problem"
    contract = contract_of(snapshot, keep_attempts=spec.keep_attempts)
    if not contract.folders:  # nothing of theirs was theirs alone
        return at_it, done, 0.0
    request = _request(snapshot, spec, defaults, name, contract)
    if request is None:
        words = f"the operator has no image named {HELPER_IMAGE}, which removes large files"
        return Said("False", Reason.NOT_TRIMMED, words), (), None
    if (refusal := snapshot.refusals.get(name)) is not None:
        again = () if refusal.final else (CreateRemoval(trim_job(request, defaults)),)
        return Said("False", Reason.NOT_TRIMMED, refusal.message), again, LATER
    return at_it, (CreateRemoval(trim_job(request, defaults)),), POLL


def _request(
    snapshot: SweepSnapshot, spec: ExperimentSpec, defaults: Defaults, name: str, contract: TrimContract
) -> TrimRequest | None:
    image = spec.images.get(HELPER_IMAGE) or defaults.images.get(HELPER_IMAGE)
    claim = snapshot.status.claim_name
    if image is None or claim is None:
        return None
    known = snapshot.claims.get(claim)
    return TrimRequest(
        name=name,
        contract=contract,
        namespace=snapshot.namespace,
        sweep_uid=snapshot.uid,
        image=image,
        claim=claim,
        run_as=spec.run_as_user,
        profile=spec.pods.get("default"),
        pinned=known is not None and known.access_mode == "ReadWriteOnce",
    )
