# SPDX-License-Identifier: Apache-2.0
"""Running again: what a token makes run, what keeps its results, and results that were lost and are made again."""

from typing import Any

import pytest
from tests.unit.builders import Play, a_spec, condition, contract_of, created, four_jobs, probe, process

from sandbox_api.status import Failures
from sandbox_operator.plan.compile import compile_spec

A, R, P, E = (f"anonymous/1/{place}" for place in ("probe/0", "refine/0", "execution/0", "evaluation/0"))


def done(spec: dict[str, Any] | None = None) -> Play:
    play = Play(spec or four_jobs())
    play.step()
    for _ in range(4):
        play.succeed(outputs={"path": f"before {play.now}"}, content=f"before {play.now}")
    assert play.status.outcome == "Succeeded"
    return play


def test_a_token_runs_a_finished_experiment_again_from_its_first_job() -> None:
    play = done()
    first = play.status
    play.change_spec(rerun={"token": "2"})
    step = play.step(after=60)

    assert [contract_of(action).job.id for action in created(step)] == [A]
    assert contract_of(created(step)[0]).generation == 2
    assert play.status.jobs[0].attempts == 2, "attempt numbers never start again"
    assert (play.status.outcome, play.status.progress) == ("Running", "0/4")
    assert play.status.completion_time is None
    assert play.status.start_time == first.start_time
    assert [job.result for job in play.status.jobs] == [job.result for job in first.jobs], "nothing is lost until then"
    for number in range(4):
        play.succeed(content=f"after {number}")
    assert play.status.outcome == "Succeeded"
    assert [result.id for result in play.status.history or []] == [A, R, P, E]
    assert [result.result for result in play.status.history or []] == [job.result for job in first.jobs]
    assert play.status.rerun_token == "2"


def test_the_same_token_means_nothing_more() -> None:
    play = done()
    play.change_spec(rerun={"token": "2", "from": "after"})
    play.step(after=60)
    play.succeed(content="x")
    attempts = [job.attempts for job in play.status.jobs]
    play.change_spec(ttlSecondsAfterFinished=1000)
    play.step(after=60)

    assert [job.attempts for job in play.status.jobs] == attempts == [1, 1, 1, 2]
    assert play.status.outcome == "Succeeded"


@pytest.mark.parametrize(
    ("start", "again"),
    [("process", [P, E]), ("anonymous/1/execution", [P, E]), ("analysis", [A, R, P, E]), ("after", [E])],
)
def test_from_names_a_job_by_meta_name_or_by_the_beginning_of_its_id(start: str, again: list[str]) -> None:
    play = done()
    play.change_spec(rerun={"token": "2", "from": start})
    play.step(after=60)

    assert [job.id for job in play.status.jobs if job.generation == 2] == again


def test_a_name_is_no_beginning_of_another() -> None:
    spec = a_spec(executions=[process(metaName=f"p{n}", dependsOn=[]) for n in range(11)])
    play = Play(spec)
    play.step()
    play.succeed_in(*(f"anonymous/1/execution/{n}" for n in range(11)))
    for token, start in enumerate(["p1", "anonymous/1/execution/1"]):
        play.change_spec(rerun={"token": str(token), "from": start})
        play.step(after=60)
        (again,) = (job.id for job in play.status.jobs if job.generation == token + 2)
        assert again == "anonymous/1/execution/1"
        play.succeed_in(again, content=str(token))


def test_the_iteration_in_an_id_is_always_the_one_at_work() -> None:
    play = Play(four_jobs(maxIterNum=2))
    play.step()
    for _ in range(8):
        play.succeed()
    assert play.status.iteration == 2
    for token, start in enumerate(["anonymous/1/evaluation/0", "anonymous/2/evaluation/0"]):
        play.change_spec(rerun={"token": str(token), "from": start})
        play.step(after=60)
        assert play.states()["anonymous/2/evaluation/0"] == "Pending: Creating"
        play.succeed(content=str(token))


def test_one_item_of_a_list_runs_again_and_one_that_is_not_there_is_told() -> None:
    each = {"item": "k", "in": [1, 2]}
    job = process(metaName="many", forEach=each, input={"djConfigs.np": "item.k"}, djConfigs=process()["djConfigs"])
    play = Play(a_spec(executions=[job]))
    play.step()
    ids = [f"anonymous/1/execution/0[{n}]" for n in range(2)]
    for item in ids:  # one after another: no dependsOn
        play.succeed_in(item)
    play.change_spec(rerun={"token": "2", "from": ids[1]})
    play.step(after=60)
    assert [job.id for job in play.status.jobs if job.generation == 2] == [ids[1]]
    play.succeed_in(ids[1], content="x")
    play.change_spec(rerun={"token": "3", "from": "anonymous/1/execution/0[7]"})
    step = play.step(after=60)

    assert not created(step)
    assert (play.status.outcome, play.status.rerun_token) == ("Succeeded", "2")
    assert condition(play.status, "Ready") == "False: InvalidSpec"
    assert [event.message for event in step.events] == [
        "spec.rerun.from: no item's id begins with 'anonymous/1/execution/0[7]', so nothing runs again; write the"
        " beginning of another id or a job's metaName, or leave it out; did you mean 'anonymous/1/execution/0[1]'?"
    ]
    play.change_spec(rerun={"token": "3", "from": ids[0]})
    play.step(after=60)
    assert play.states()[ids[0]] == "Pending: Creating"


def test_a_token_that_a_new_experiment_has_means_nothing() -> None:
    play = done(four_jobs(rerun={"token": "7"}))

    assert [job.attempts for job in play.status.jobs] == [1, 1, 1, 1]
    assert play.status.rerun_token == "7"


def test_a_failed_experiment_goes_on_where_it_failed_and_budgets_begin_anew() -> None:
    play = Play(four_jobs(retry={"user": 1}))
    play.step()
    play.succeed()
    play.succeed()
    play.fail()
    play.step(after=60)
    play.fail()
    assert play.jobs[2:] == ["Failed: UserError", "Skipped: EarlierJobFailed"]
    play.change_spec(rerun={"token": "2"})
    play.step(after=60)

    assert play.jobs == ["Succeeded: Completed", "Succeeded: Completed", "Pending: Creating", "Pending: Rerun"]
    assert play.status.jobs[2].failures is None
    assert play.status.jobs[2].attempts == 3


def test_the_job_that_was_wrong_is_changed_with_the_token_and_what_did_not_change_keeps_its_results() -> None:
    play = Play(four_jobs())
    play.step()
    for _ in range(4):
        play.succeed()
    spec = four_jobs(rerun={"token": "2"})
    spec["executionJobConfigs"][0]["djConfigs"] = {"np": 1}
    spec["executionJobConfigs"][0]["local"] = {"djConfigs.np": 2}
    play.change_spec(**{key: spec[key] for key in ("executionJobConfigs", "rerun")})
    play.step(after=60)

    assert play.jobs[:2] == ["Succeeded: Completed", "Succeeded: Completed"]
    assert [job.generation for job in play.status.jobs] == [None, None, 2, 2]


def test_a_wrong_image_is_mended_with_the_token() -> None:
    play = done(four_jobs(images={"data": "registry.example.com/wrong:1"}))
    play.change_spec(images={"data": "registry.example.com/right:1"}, rerun={"token": "2", "from": "after"})
    (job,) = created(play.step(after=60))

    assert job.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/right:1"


def test_a_rerun_ends_what_runs_and_waits_until_its_pod_is_gone() -> None:
    play = Play(four_jobs())
    play.step()
    play.run_in(A)
    play.change_spec(rerun={"token": "2"})
    step = play.step(after=1)
    assert [type(action).__name__ for action in step.actions] == ["DeleteJob"]
    assert created(step) == []
    play.step(after=1)
    assert play.jobs[0] == "Pending: WaitingForOldPod"
    play.change(pods=(), jobs=())
    (job,) = created(play.step(after=1))
    assert contract_of(job).attempt == 2


@pytest.mark.parametrize(
    ("start", "hint"),
    [
        ("proces", "did you mean 'process'?"),
        ("x", "there is: analysis, process, after"),
        ("anonymous/1/exection", "did you mean 'anonymous/1/execution/0'?"),
    ],
)
def test_a_place_to_run_from_that_there_is_not_is_told_with_what_there_is(start: str, hint: str) -> None:
    assert compile_spec(four_jobs(rerun={"token": "2", "from": start})).problems == (
        f"spec.rerun.from: no job has the metaName '{start}', and no id begins with it, so nothing runs again; write a"
        f" job's metaName or the beginning of its id, or leave it out; {hint}",
    )


# What the history keeps


def test_the_history_says_when_and_how_each_result_was_made() -> None:
    play = done()
    first = play.status.jobs
    play.change_spec(rerun={"token": "2"})
    play.step(after=60)
    play.run_in(A)
    assert play.status.jobs[0].start_time != first[0].start_time
    for number in range(4):
        play.succeed(content=f"after {number}", started_at="2026-01-31T13:00:00Z", finished_at="2026-01-31T13:00:09Z")
    earlier = play.status.history or []

    assert [(e.state, e.start_time, e.completion_time) for e in earlier] == [
        ("Succeeded", job.start_time, job.completion_time) for job in first
    ]
    assert None not in [time for e in earlier for time in (e.start_time, e.completion_time)]
    assert [job.made for job in play.status.jobs] == [None] * 4, "only while a job runs again"


def test_a_result_that_a_failed_rerun_left_in_place_keeps_its_own_times() -> None:
    play = done()
    first = play.status.jobs[0]
    for token in ("2", "3"):
        play.change_spec(rerun={"token": token, "from": A})
        play.step(after=60)
        play.fail()
    assert play.jobs[0] == "Failed: UserError"
    play.change_spec(rerun={"token": "4"})
    play.step(after=60)
    play.succeed(content="x")
    (earlier,) = play.status.history or []

    assert (earlier.state, earlier.start_time) == ("Succeeded", first.start_time)
    assert earlier.completion_time == first.completion_time


# Results that were lost


def reader_misses(play: Play, producer: str = P) -> None:
    play.fail_in(E, "Input", 3, "dataset is missing", job=producer)


def until_the_reader() -> Play:
    play = Play(four_jobs())
    play.step()
    for number in range(3):
        play.succeed(content=f"content {number}")
    return play


def test_a_result_that_its_reader_misses_is_made_again_and_read_again() -> None:
    play = until_the_reader()
    old = play.status.jobs[2].result
    reader_misses(play)
    assert play.states()[P] == "Pending: Creating"
    assert play.states()[E] == "Pending: InputRemade"
    assert contract_of(created(play.plans[-1])[0]).generation == 2
    play.succeed_in(P, content="content 2")

    assert play.status.jobs[2].result != old
    assert [result.result for result in play.status.history or []] == [old]
    assert play.states()[E] == "Pending: Creating"
    assert play.status.jobs[3].failures is None, "it is not the reader's failure"
    play.succeed_in(E)
    assert play.status.outcome == "Succeeded"


def test_what_read_a_result_that_differs_now_runs_again() -> None:
    evaluations = [probe(metaName=n, input={"djConfigs.dataset_path": "anonymous.p.dataset"}) for n in ("e", "f")]
    play = Play(a_spec(executions=[process(metaName="p")], evaluations=evaluations))
    play.step()
    play.succeed(content="first")
    play.succeed(content="of e")
    play.fail_in("anonymous/1/evaluation/1", "Input", 3, "dataset was changed", job=P)
    play.succeed_in(P, content="second")

    assert play.states()[E] == "Pending: Creating"
    assert play.status.jobs[1].generation == 2
    for job_id in (E, "anonymous/1/evaluation/1"):
        play.succeed_in(job_id, content="x")
    assert play.status.outcome == "Succeeded"


def test_a_result_that_is_lost_a_second_time_ends_it_until_a_person_asks_again() -> None:
    play = until_the_reader()
    reader_misses(play)
    play.succeed_in(P, content="content 2")
    reader_misses(play)
    assert play.states()[E] == "Failed: InputLost"
    assert condition(play.status, "Ready") == "False: InputLost"
    assert "again after it was made anew" in (play.status.jobs[3].message or "")
    assert play.status.jobs[3].failures == Failures(final=1), "it has no budget, and counts under none"

    play.change_spec(rerun={"token": "2"})
    play.step(after=60)
    reader_misses(play)
    assert play.states()[P] == "Pending: Creating"


def test_an_input_that_no_job_of_the_experiment_made_ends_it() -> None:
    play = until_the_reader()
    reader_misses(play, producer="anonymous/1/probe/7")

    assert play.states()[E] == "Failed: InputLost"
