# SPDX-License-Identifier: Apache-2.0
"""`spec.keep.bestTrials`: whose large files go when a search has ended, and that nothing goes which others have taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.test_sweep_plan import CLAIM, NOW, a_sweep, a_trial, compiled_of, template, told

from sandbox_api.status import ExperimentStatus, JobStatus, ResultRef
from sandbox_api.sweep import SweepStatus
from sandbox_api.trim import TRIM_ENV, TrimContract, decode_trim
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.plan.facts import JobFact, Refusal
from sandbox_operator.plan.sweep import plan_sweep
from sandbox_operator.plan.sweep_facts import CreateRemoval, MarkTrial, SweepPlan, SweepSnapshot, TrialFact, TrialFiles
from sandbox_operator.plan.sweep_trials import Told, taken_by, trial_fact, trial_files
from sandbox_operator.plan.trim import AT_ONCE_TRIALS, is_trimming, marked, removal_name
from sandbox_operator.search.studies import StudyCache

DEFAULTS = Defaults(images={"data": "registry/data:1"})
PROBE, WORK = "anonymous/1/probe/0", "anonymous/1/execution/0"


def folder(number: int) -> str:
    return f"experiments/s-{number:04d}-uid{number:05d}"


def path_of(number: int, job: str, pod: str = "pod00000") -> str:
    return f"{folder(number)}/jobs/{job}/attempts/1/{pod}/result.json"


def files(number: int, *, marked: bool = False) -> TrialFiles:
    """One that processed; the first also made the probe that all read."""
    results = {path_of(number, WORK): WORK, **({path_of(0, PROBE): PROBE} if number == 0 else {})}
    attempts = {WORK: 1, **({PROBE: 1} if number == 0 else {})}
    return TrialFiles(folder(number), attempts, results, frozenset({path_of(number, WORK)} if marked else ()))


def ended(*trials: TrialFact, **known: Any) -> SweepSnapshot:
    """A search that is over, the probe of the first trial taken by the others."""
    status = SweepStatus.model_validate(
        {
            "counts": {"total": len(trials)}, "completionTime": "2026-01-31T11:00:00Z", "claimName": CLAIM.name,
            "startTime": "2026-01-31T10:00:00Z", "observedGeneration": 1,
        }
    )  # fmt: skip
    own = {trial.number: files(trial.number, marked=trial.artifacts == "Removing") for trial in trials}
    facts: dict[str, Any] = {"status": status, "files": own, "taken": frozenset({path_of(0, PROBE)}), **known}
    return a_sweep(*trials, **facts)


def plan(snapshot: SweepSnapshot, kept: int | None = 2, **more: Any) -> SweepPlan:
    keep = {"keep": {"bestTrials": kept}} if kept else {}
    compiled = compiled_of(maxTrials=len(snapshot.trials), maxFailedTrials=9, **keep, **more)
    return plan_sweep(snapshot, compiled, StudyCache(), DEFAULTS, NOW)


def marks(found: SweepPlan, artifacts: str = "Removing") -> dict[str, set[str]]:
    actions = [action for action in found.actions if isinstance(action, MarkTrial)]
    return {action.name: set(action.results) for action in actions if action.artifacts == artifacts}


def removal(found: SweepPlan) -> TrimContract:
    (action,) = [action for action in found.actions if isinstance(action, CreateRemoval)]
    (container,) = action.manifest["spec"]["template"]["spec"]["containers"]
    return decode_trim({entry["name"]: entry["value"] for entry in container["env"]}[TRIM_ENV])


SIX = (
    a_trial(0, "Succeeded", 9.0), a_trial(1, "Succeeded", 1.0), a_trial(2, "Failed", reason="UserError"),
    a_trial(3, "Pruned", 0.5), a_trial(4, "Succeeded", 2.0), a_trial(5, "Succeeded", 3.0),
)  # fmt: skip


def test_all_but_the_best_and_the_failed_are_marked_and_what_others_took_is_not() -> None:
    found = plan(ended(*SIX))
    assert marks(found) == {
        "s-0000": {path_of(0, WORK)}, "s-0003": {path_of(3, WORK)}, "s-0005": {path_of(5, WORK)},
    }  # fmt: skip
    assert told(found, "Trimmed") == ("Unknown", "Trimming")
    assert told(found) == ("True", "Succeeded")
    high = plan(ended(*SIX), metric={"name": "process.rows_out", "goal": "maximize"})
    assert set(marks(high)) == {"s-0001", "s-0003", "s-0004"}


@pytest.mark.parametrize("kept", [None, 6])
def test_nothing_goes_where_all_are_kept(kept: int | None) -> None:
    trials = tuple(a_trial(number, "Succeeded", float(number)) for number in range(6))
    found = plan(ended(*trials), kept)
    assert found.actions == ()
    assert (told(found, "Trimmed") == ("True", "Trimmed")) if kept else found.status.conditions[-1].type != "Trimmed"


def test_nothing_goes_before_the_end_is_written_or_while_a_trial_runs() -> None:
    before = ended(*SIX)
    before = replace(before, status=before.status.model_copy(update={"completion_time": None}))
    found = plan(before)
    assert (found.actions, found.requeue_after) == ((), 0.0)
    assert found.status.completion_time is not None
    again = plan(ended(*SIX[:5], a_trial(5, "Running")))
    assert again.actions == ()
    assert again.status.completion_time is None
    assert all(condition.type != "Trimmed" for condition in again.status.conditions)


def test_a_trial_whose_exporter_still_reads_is_waited_for() -> None:
    found = plan(ended(SIX[1], replace(SIX[0], is_exporting=True)), 1)
    assert found.actions == ()
    assert found.requeue_after
    assert "exporters of 1 trial" in found.status.conditions[-1].message


@pytest.mark.parametrize(
    ("reason", "waits"),
    [("Exporting", True), ("ExporterFailed", True), ("AfterTheEnd", True), ("Exported", False), ("NotExported", False)],
)
def test_an_export_is_waited_for_until_its_end_is_told(reason: str, waits: bool) -> None:
    """One that has failed is tried again; it is given up in the end, and then it is not waited for."""
    said = {"type": "Tracking", "status": "False", "reason": reason, "lastTransitionTime": "2026-01-31T11:00:00Z"}
    status = ExperimentStatus.model_validate({"completionTime": "2026-01-31T11:00:00Z", "conditions": [said]})
    first = compiled_of().first
    assert first is not None
    about = Told("s", "sweep-uid", 0, {}, None, suspended=False, stopping=False)
    is_exporting = trial_fact("s-0000", about, status, first).is_exporting
    found = plan(ended(SIX[1], replace(SIX[0], is_exporting=is_exporting)), 1)
    assert (found.actions == ()) is waits


def at_it(*numbers: int) -> tuple[TrialFact, ...]:
    return tuple(replace(trial, artifacts="Removing" if trial.number in numbers else None) for trial in SIX)


def test_what_was_marked_is_handed_to_one_job_and_what_was_taken_meanwhile_stays() -> None:
    snapshot = ended(*at_it(0, 3, 5))
    snapshot = replace(snapshot, taken=snapshot.taken | {path_of(5, WORK)})
    contract = removal(plan(snapshot))
    assert contract.sweep == "s"
    assert {(job.path, job.attempts, *job.results) for job in contract.folders} == {
        (f"{folder(0)}/jobs/{WORK}", 1, "attempts/1/pod00000"),
        (f"{folder(0)}/jobs/{PROBE}", 1),
        (f"{folder(3)}/jobs/{WORK}", 1, "attempts/1/pod00000"),
        (f"{folder(5)}/jobs/{WORK}", 1),
    }
    (action,) = plan(snapshot).actions
    assert isinstance(action, CreateRemoval)
    assert action.manifest["metadata"]["name"] == removal_name(snapshot)
    assert action.manifest["metadata"]["ownerReferences"][0]["kind"] == "SandboxSweep"


def test_failed_attempts_stay_where_the_template_keeps_them() -> None:
    contract = removal(plan(ended(*at_it(0, 3)), template=template(keepAttempts=True)))
    assert {(job.path, job.attempts, *job.results) for job in contract.folders} == {
        (f"{folder(number)}/jobs/{WORK}", 0, "attempts/1/pod00000") for number in (0, 3)
    }


def test_the_pod_may_do_nothing_but_write_on_the_volume_and_goes_to_where_that_is_mounted() -> None:
    once = replace(CLAIM, access_mode="ReadWriteOnce")
    pods = {"default": {"imagePullSecrets": ["pull"], "tolerations": [{"key": "gpu", "operator": "Exists"}]}}
    found = plan(ended(*at_it(0), claims={CLAIM.name: once}), template=template(pods=pods, runAsUser=2000))
    (action,) = found.actions
    assert isinstance(action, CreateRemoval)
    pod = action.manifest["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 2000)
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["tolerations"][0]["key"] == "gpu"
    assert pod["volumes"] == [{"name": "workspace", "persistentVolumeClaim": {"claimName": CLAIM.name}}]
    (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    labels = action.manifest["spec"]["template"]["metadata"]["labels"]
    assert term["labelSelector"]["matchLabels"].items() <= labels.items()
    (everywhere,) = plan(ended(*at_it(0))).actions
    assert isinstance(everywhere, CreateRemoval)
    assert "affinity" not in everywhere.manifest["spec"]["template"]["spec"]


def the_job(snapshot: SweepSnapshot, **more: Any) -> SweepSnapshot:
    name = removal_name(snapshot)
    assert name is not None
    return replace(snapshot, removal=JobFact(name, "job-uid", "sweep-uid", "", 0, "", **more), files={})


def test_it_is_waited_for_and_when_it_is_done_the_trials_are_counted() -> None:
    snapshot = ended(*at_it(0, 3, 5))
    assert plan(the_job(snapshot)).actions == ()
    assert plan(the_job(snapshot)).requeue_after
    assert set(marks(plan(the_job(snapshot, complete=True)), "Removed")) == {"s-0000", "s-0003", "s-0005"}
    removed = ended(*(replace(t, artifacts="Removed") if t.artifacts else t for t in at_it(0, 3, 5)))
    found = plan(removed)
    assert found.actions == ()
    assert told(found, "Trimmed") == ("True", "Trimmed")
    assert found.status.trimmed == 3
    words = "large files of 3 trials were removed; those of the best 2 stay, and so do those of 1 trial that failed"
    assert found.status.conditions[-1].message == words
    assert found.events[-1].reason == "Trimmed"
    assert not is_trimming(removed, compiled_of(keep={"bestTrials": 2}))


def test_a_job_that_failed_or_was_refused_is_told_and_the_sweep_stays_succeeded() -> None:
    snapshot = ended(*at_it(0, 3, 5))
    failed = plan(the_job(snapshot, failed="BackoffLimitExceeded", failed_message="Job has reached the limit"))
    assert told(failed, "Trimmed") == ("False", "NotTrimmed")
    assert told(failed) == ("True", "Succeeded")
    assert "Job has reached the limit; its pods' logs say more" in failed.status.conditions[-1].message
    assert failed.requeue_after
    quota = Refusal("QuotaExceeded", "the Job was refused: exceeded quota", final=False)  # type: ignore[arg-type]
    refused = plan(replace(snapshot, refusals={removal_name(snapshot) or "": quota}))
    assert refused.status.conditions[-1].message == quota.message
    assert removal(refused).folders
    assert (
        plan_sweep(snapshot, compiled_of(maxTrials=6, keep={"bestTrials": 2}), StudyCache(), Defaults(), NOW)
        .status.conditions[-1]
        .message.startswith("the operator has no image named data")
    )


def test_a_job_is_given_no_more_than_its_list_can_hold() -> None:
    trials = tuple(a_trial(number, "Succeeded", float(number)) for number in range(AT_ONCE_TRIALS + 50))
    first = marks(plan(ended(*trials), 1))
    assert len(first) == AT_ONCE_TRIALS
    removed = {int(name[2:]) for name in first}
    rest = tuple(replace(t, artifacts="Removed") if t.number in removed else t for t in trials)
    assert len(marks(plan(ended(*rest), 1))) == 49


def test_what_is_a_trials_own_and_what_it_took() -> None:
    def job(job_id: str, path: str, **more: Any) -> JobStatus:
        ref = ResultRef(path=path, sha256="0", bytes=1)
        return JobStatus(id=job_id, hook="h", meta_name="m", result=ref, **more)

    status = ExperimentStatus(
        outcome="Succeeded",
        jobs=[
            job(PROBE, path_of(0, PROBE), state="Cached"),
            job(WORK, path_of(3, WORK), state="Succeeded", attempts=2),
        ],
    )
    name, uid = "s-0003", "uid00003-rest"
    assert trial_files(name, uid, status) == TrialFiles(folder(3), {WORK: 2}, {path_of(3, WORK): WORK})
    assert list(taken_by(name, uid, status)) == [path_of(0, PROBE)]
    after = marked(status, MarkTrial(name, "Removing", frozenset({path_of(3, WORK)})))
    assert after.trial is not None
    assert after.trial.artifacts == "Removing"
    assert trial_files(name, uid, after).removed == {path_of(3, WORK)}
    assert after.jobs[0] == status.jobs[0]
