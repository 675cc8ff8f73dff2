# SPDX-License-Identifier: Apache-2.0
"""What becomes of reports: the newest of each pod as a job's progress, rungs of trials in the order of their arrival."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox_api.progress import ProgressReport
from sandbox_api.status import ExperimentStatus, JobStatus, StepProgress
from sandbox_operator.kube.informer import Key
from sandbox_operator.plan.progress import Live, line_of, only_running, told, words_of
from sandbox_operator.reconcile.push import Refused, check_claims, report_in
from sandbox_operator.reconcile.reports import Reports, RungReport, Teller

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
KEY = ("lab", "demo")
JOB = "anonymous/1/execution/0"


def teller(
    pod: str = "p1", attempt: int = 1, job: str = JOB, key: Key = KEY, uid: str = "u1", rungs: tuple[int, ...] = (2, 4)
) -> Teller:
    return Teller(key, uid, job, attempt, pod, frozenset(rungs))


def report(**what: Any) -> ProgressReport:
    return ProgressReport.model_validate({"pod": "p1", "job": JOB, "attempt": 1, **what})


class Heard:
    def __init__(self) -> None:
        self.news: list[Key] = []
        self.came: list[Key] = []
        self.reports = Reports(self.news.append, self.came.append)

    def take(self, who: Teller, **what: Any) -> None:
        self.reports.take(who, report(**what), NOON)

    @property
    def live(self) -> dict[str, Live]:
        return dict(self.reports.live(KEY, "u1"))


@pytest.fixture
def heard() -> Heard:
    return Heard()


def running(progress: StepProgress | None = None, attempts: int = 1, **more: Any) -> JobStatus:
    what = {"id": JOB, "hook": "TrainModelHook", "metaName": "train", "state": "Running", "attempts": attempts}
    return JobStatus.model_validate({**what, "progress": progress, **more})


def test_the_newest_report_of_a_pod_counts(heard: Heard) -> None:
    heard.take(teller(), step=1, total=10, metrics={"loss": 3.0})
    heard.take(teller(), step=5, total=10, metrics={"loss": 2.0, "lr": 0.1}, secondsLeft=90)
    progress = StepProgress(step=5, total=10, metrics={"loss": 2.0, "lr": 0.1}, eta="2026-01-02T12:01:30Z")
    assert heard.live == {JOB: Live(1, progress)}
    assert heard.news == [KEY, KEY]


def test_pieces_of_a_job_are_added_up_and_nobody_knows_the_end_before_all_have_told(heard: Heard) -> None:
    heard.take(teller("p1"), step=10, total=10, metrics={"loss": 1.0}, tellers=2, secondsLeft=0)
    assert heard.live[JOB].progress == StepProgress(step=10, metrics={"loss": 1.0})
    heard.take(teller("p2"), step=4, total=10, metrics={"loss": 3.0}, tellers=2, secondsLeft=60)
    both = StepProgress(step=14, total=20, metrics={"loss": 2.0}, eta="2026-01-02T12:01:00Z")
    assert heard.live[JOB].progress == both


def test_a_mean_that_no_float_holds_is_not_shown(heard: Heard) -> None:
    for pod in ("p1", "p2"):
        heard.take(teller(pod), metrics={"loss": 1.7e308, "lr": 0.5}, tellers=2)
    assert heard.live[JOB].progress.metrics == {"lr": 0.5}


def test_an_attempt_begins_anew_and_the_one_before_it_is_not_listened_to(heard: Heard) -> None:
    heard.take(teller("p1"), step=9)
    heard.take(teller("p2", attempt=2), step=1)
    heard.take(teller("p1"), step=10)
    assert heard.live == {JOB: Live(2, StepProgress(step=1))}


def test_another_experiment_of_the_same_name_has_nothing_of_the_first(heard: Heard) -> None:
    heard.take(teller(), step=9, rungs=[{"rung": 2, "value": 1.0}])
    assert heard.reports.live(KEY, "u2") == {}
    heard.take(teller(uid="u2"), step=1)
    assert heard.reports.live(KEY, "u2") == {JOB: Live(1, StepProgress(step=1))}
    assert heard.reports.rungs(KEY) == ()


def test_rungs_are_kept_in_the_order_in_which_they_came_and_the_first_value_counts(heard: Heard) -> None:
    other = teller(key=("lab", "other"), uid="u9")
    heard.take(teller(), rungs=[{"rung": 2, "value": 5.0}])
    heard.take(other, rungs=[{"rung": 2, "value": 4.0}])
    heard.take(teller(), rungs=[{"rung": 2, "value": 5.0}, {"rung": 4, "value": 3.0}])
    heard.take(teller("p2", attempt=2), rungs=[{"rung": 2, "value": 99.0}])
    assert heard.reports.rungs(KEY) == (RungReport(2, 5.0, 1), RungReport(4, 3.0, 3))
    assert heard.reports.rungs(("lab", "other")) == (RungReport(2, 4.0, 2),)
    assert heard.came == [KEY, ("lab", "other"), KEY], "said once for what is new"


def test_a_rung_that_is_none_of_the_trials_is_not_kept_and_wakes_nobody(heard: Heard) -> None:
    heard.take(teller(), step=1, rungs=[{"rung": 2**53 - 1, "value": 0.0}, {"rung": 3, "value": 0.0}])
    heard.take(teller(key=("lab", "no-trial"), uid="u9", rungs=()), rungs=[{"rung": 2, "value": 0.0}])
    assert heard.reports.rungs(KEY) == heard.reports.rungs(("lab", "no-trial")) == ()
    assert heard.came == []
    assert heard.live[JOB].progress.step == 1, "the rest of the report counts"
    heard.take(teller(), rungs=[{"rung": 4, "value": None}])
    assert heard.reports.rungs(KEY) == (RungReport(4, None, 1),), "no finite number is something to decide on"


def test_an_end_takes_the_progress_and_keeps_the_rungs_until_the_experiment_has_gone(heard: Heard) -> None:
    heard.take(teller(), step=9, rungs=[{"rung": 2, "value": 5.0}])
    heard.reports.ended(KEY)
    assert heard.live == {}
    assert heard.reports.rungs(KEY) == (RungReport(2, 5.0, 1),)
    heard.reports.forget(KEY)
    assert heard.reports.rungs(KEY) == ()
    heard.take(teller(), step=9)
    heard.reports.ended(KEY)
    assert not heard.reports.is_known(KEY)


def test_a_status_tells_of_the_attempt_that_runs_and_of_nothing_else() -> None:
    live = {JOB: Live(2, StepProgress(step=1))}
    for state, attempts in (("Running", 1), ("Pending", 2), ("Succeeded", 2)):
        status = ExperimentStatus(jobs=[running(attempts=attempts, state=state)])
        assert told(status, live) == status
    status = told(ExperimentStatus(jobs=[running(attempts=2)], outcome="Running"), live)
    assert status.jobs[0].progress == StepProgress(step=1)
    assert (status.live, status.outcome) == ("train 1", "Running")
    assert told(status, {}) == status, "what was told stays until there is news"


def test_what_runs_no_more_has_no_progress() -> None:
    entry = running(StepProgress(step=1))
    assert only_running(entry) == entry
    assert only_running(entry.model_copy(update={"state": "Succeeded"})).progress is None


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (StepProgress(step=120, total=500, metrics={"lr": 1e-4, "loss": 0.3123456}), "120/500 loss 0.3123"),
        (StepProgress(step=7), "7"),
        (StepProgress(step=7, metrics={"lr": 0.1, "heldout_loss": 2.0}), "7 heldout_loss 2"),
        (StepProgress(metrics={"rows_done": 300.0}), "rows_done 300"),
        (StepProgress(), ""),
        (None, ""),
    ],
)
def test_progress_in_a_few_words(progress: StepProgress | None, words: str) -> None:
    assert words_of(progress) == words


def test_the_line_is_about_the_first_that_runs_and_counts_the_others() -> None:
    two = [running(None), running(StepProgress(step=3)), running(StepProgress(step=4), id="b/1/x/0", metaName="b")]
    assert line_of(two) == "train 3 (+1)"
    assert line_of(two[:1]) is None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "the body: invalid JSON"),
        (b"[]", "the body: input should be an object"),
        (b'{"pod": "p", "job": "j"}', "attempt: field required"),
        (b'{"pod": "p", "job": "j", "attempt": 1, "step": -1}', "step: input should be greater"),
        (b'{"pod": "p", "job": "j", "attempt": 1, "metrics": {"loss": NaN}}', "metrics.loss: input should be a finite"),
        (b'{"pod": "p", "job": "j", "attempt": 1, "metrics": {"loss": "x"}}', "metrics.loss: input should be"),
        (b'{"pod": "p", "job": "j", "attempt": 1, "rungs": [{"rung": 1}]}', "rungs.0.value: field required"),
        (
            b'{"pod": "p", "job": "j", "attempt": 1, "rungs": [{"rung": 1, "value": NaN}]}',
            "rungs.0.value: input should",
        ),
    ],
)
def test_a_report_that_is_none_is_refused_with_the_field(body: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why) as error:
        report_in(body)
    assert error.value.status == 400


@pytest.mark.parametrize("field", [{"pod": "p2"}, {"job": "other/1/probe/0"}, {"attempt": 2}])
def test_a_pod_tells_of_itself_alone(field: dict[str, Any]) -> None:
    check_claims(report(), teller())
    with pytest.raises(Refused, match=f"^{next(iter(field))}: the report says") as error:
        check_claims(report(**field), teller())
    assert error.value.status == 403


def test_what_a_newer_pod_says_more_is_no_mistake() -> None:
    assert report_in(b'{"pod": "p", "job": "j", "attempt": 1, "colour": "red"}').step is None
