# SPDX-License-Identifier: Apache-2.0
"""Local runs: the operator's planner decides, processes of this machine run; killed at any moment, they go on."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.hook_pod import PATHS, REPOSITORY
from tests.local_lab import ENVIRON, LocalLab, toy, toys
from tests.progress import DEEP

from sandbox_api.contract import POD_UID_ENV
from sandbox_api.status import ExperimentStatus
from sandbox_operator.cli.experiments import Ended
from sandbox_operator.cli.local_run import LocalRun


@pytest.fixture
def lab(tmp_path: Path) -> LocalLab:
    return LocalLab(tmp_path / "run")


def ready(status: ExperimentStatus) -> str:
    return next(f"{c.reason}: {c.message}" for c in status.conditions if c.type == "Ready")


def markers(lab: LocalLab, job: str = "*") -> list[Path]:
    """What toy hooks leave when they have begun to wait."""
    return sorted(lab.folder.workspace.glob(f"experiments/*/jobs/anonymous/1/execution/{job}/attempts/*/*/began"))


async def until(condition: Callable[[], object], run: "asyncio.Task[ExperimentStatus]") -> None:
    """As soon as it is true; fails when the run ends before."""
    while not condition():
        assert not run.done(), ready(await run)
        await asyncio.sleep(0.02)


async def begun(lab: LocalLab, run: "asyncio.Task[ExperimentStatus]", count: int = 1) -> None:
    """Until so many hooks have begun to wait."""
    await until(lambda: len(markers(lab)) >= count, run)


async def to_its_end(run: LocalRun) -> ExperimentStatus:
    async for status in run.statuses():
        last = status
    return last


async def test_jobs_run_in_order_and_hand_results_on(lab: LocalLab) -> None:
    status = await lab.run(
        toys(
            toy(metaName="first", extra={"text": "hello"}),
            toy(metaName="second", input={"extraConfigs.read": "anonymous.first.text"}),
        )
    )

    assert (status.outcome, status.progress) == ("Succeeded", "2/2")
    assert lab.jobs == ["Succeeded Completed 1"] * 2
    seen = lab.job("second").outputs or {}
    assert lab.text_at(seen["seen"]["extra"]["read"]) == "hello"
    assert json.loads(lab.folder.status_file.read_text())["jobs"][0]["metrics"]["first.rows"] == 3


async def test_a_failed_hook_is_tried_again_within_its_budget_and_then_ends_the_run(lab: LocalLab) -> None:
    failing = toy("fail", metaName="bad", extra={"say": "no such row"}, retry={"user": 1})
    status = await lab.run(toys(failing, toy(metaName="after")))

    assert lab.jobs == ["Failed UserError 2", "Skipped EarlierJobFailed 0"]
    assert "no such row" in ready(status)
    assert len(list(lab.folder.jobs.glob("*/log.txt"))) == 2


async def test_jobs_that_wait_for_nothing_run_side_by_side_and_at_most_as_many_as_are_allowed(lab: LocalLab) -> None:
    spec = toys(*(toy("wait", metaName=name, dependsOn=[]) for name in "abc"))
    local = lab.start(spec, most=2)
    run = asyncio.create_task(to_its_end(local))
    await begun(lab, run, 2)
    states = [job.state for job in lab.status.jobs]
    local.interrupt()
    await run

    assert sorted(states) == ["Pending", "Running", "Running"]
    assert len(markers(lab)) == 2


async def test_a_list_too_long_for_one_message_is_read_in_pieces_and_its_items_run(lab: LocalLab) -> None:
    random = Random(1)
    words = [random.randbytes(800).hex() for _ in range(4)]
    spec = toys(
        toy("long_list", hook="toy", metaName="list", extra={"items": words}),
        toy(
            metaName="each",
            forEach={"item": "word", "in": "anonymous.list.words", "maxParallel": 2},
            input={"extraConfigs.text": "item.word"},
        ),
    )
    status = await lab.run(spec)

    assert (status.outcome, status.progress) == ("Succeeded", "5/5")
    assert sum(1 for _ in lab.folder.jobs.glob("*-pieces/*/pod.json")) > 1
    texts = [lab.folder.workspace / (job.outputs or {})["text"] for job in status.jobs[1:]]
    assert [lab.text_at(text) for text in texts] == words


async def test_an_interruption_suspends_and_resuming_goes_on_without_a_failure(lab: LocalLab) -> None:
    waiting = toys(toy(metaName="done"), toy("wait", metaName="cut"))
    local = lab.start(waiting)
    run = asyncio.create_task(to_its_end(local))
    await begun(lab, run)
    local.interrupt()
    status = await run

    assert (status.outcome, status.completion_time) == ("Running", None)
    assert ready(status).startswith("Suspended: ")
    assert lab.jobs == ["Succeeded Completed 1", "Pending Suspended 1"]
    result = lab.job("done").result

    local = lab.start(waiting)
    run = asyncio.create_task(to_its_end(local))
    await begun(lab, run, 2)
    assert (lab.job("cut").attempts, lab.job("cut").failures) == (2, None)
    assert lab.job("done").result == result
    local.interrupt()
    await run


async def test_a_second_interruption_kills_a_hook_that_will_not_end(lab: LocalLab) -> None:
    local = lab.start(toys(toy("stubborn", metaName="a")))
    run = asyncio.create_task(to_its_end(local))
    await begun(lab, run)
    local.interrupt()
    await until(lambda: "Suspended" in lab.jobs[0], run)
    local.interrupt()
    status = await asyncio.wait_for(run, 20)

    assert ready(status).startswith("Suspended: ")
    assert living(lab) == []


def living(lab: LocalLab) -> list[int]:
    """Processes of any pod of the run."""
    marks = [f"{POD_UID_ENV}={json.loads(pod.read_text())['uid']}" for pod in lab.folder.jobs.glob("*/pod.json")]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            found += [int(entry.name)] if set(marks) & set(environ) else []
    return found


RUNNER = """
import asyncio, json, sys
from pathlib import Path
from tests.local_lab import LocalLab
asyncio.run(LocalLab(Path(sys.argv[1])).run(json.loads(sys.argv[2])))
"""


def runner_of(lab: LocalLab, spec: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """A local run in a process of its own, so that it can be killed."""
    paths = os.pathsep.join(str(path) for path in (*PATHS, REPOSITORY / "operator", REPOSITORY))
    lab.folder.close()
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(lab.root), json.dumps(spec)], env={**ENVIRON, "PYTHONPATH": paths}
    )


async def test_a_run_that_was_killed_ends_its_hooks_and_resuming_counts_them_as_ended_from_outside(
    lab: LocalLab,
) -> None:
    spec = toys(toy(metaName="done"), toy("wait", metaName="cut"))
    runner = runner_of(lab, spec)
    while not markers(lab):
        assert runner.poll() is None
        await asyncio.sleep(0.02)
    runner.kill()
    runner.wait()

    local = lab.start(spec)
    run = asyncio.create_task(to_its_end(local))
    await begun(lab, run, 2)
    cut = lab.job("cut")
    assert (cut.attempts, cut.failures and cut.failures.preempted) == (2, 1)
    assert lab.job("done").attempts == 1
    assert len(list((lab.folder.workspace / "experiments").glob("*/jobs/anonymous/1/execution/1/state/*/saved*"))) == 1
    local.interrupt()
    await run
    assert living(lab) == []


async def test_a_success_that_nobody_saw_is_recovered_not_repeated(lab: LocalLab) -> None:
    """The run was killed between the hook's end and its exit code: the volume still has the result."""
    spec = toys(toy(metaName="a", extra={"text": "once"}))
    await lab.run(spec)
    (pod,) = lab.folder.jobs.glob("*/pod.json")
    kept = json.loads(pod.read_text())
    pod.write_text(json.dumps({**kept, "ended_at": None, "code": None}))
    status = lab.status
    started = status.jobs[0].model_copy(
        update={"state": "Running", "completion_time": None, "result": None, "outputs": None, "metrics": None}
    )
    lab.folder.write_status(status.model_copy(update={"jobs": [started], "completion_time": None}))
    await lab.run(spec)

    assert lab.jobs == ["Succeeded Recovered 2"]


@pytest.mark.parametrize("left", [["job.json"], []])
async def test_a_job_that_the_status_names_is_started_whatever_was_made_of_it(lab: LocalLab, left: list[str]) -> None:
    """Killed between the status and the Job, or between the Job and its pod."""
    spec = toys(toy(metaName="a"))
    await lab.run(spec)
    (folder,) = lab.folder.jobs.iterdir()
    for file in folder.iterdir():
        if file.name not in left:
            file.unlink()
    status = lab.status
    named = status.jobs[0].model_copy(
        update={"state": "Pending", "completion_time": None, "result": None, "outputs": None, "metrics": None}
    )
    lab.folder.write_status(status.model_copy(update={"jobs": [named], "completion_time": None}))
    await lab.run(spec)

    assert lab.jobs == ["Succeeded Recovered 1"]


async def test_a_finished_run_is_not_run_again(lab: LocalLab) -> None:
    spec = toys(toy(metaName="a"))
    before = await lab.run(spec)

    assert await lab.run(spec) == before


async def test_a_new_rerun_token_mends_a_failed_run(lab: LocalLab) -> None:
    good = toy(metaName="good")
    await lab.run(toys(good, toy("fail", metaName="bad", extra={"say": "no"})))
    result = lab.job("good").result
    status = await lab.run(toys(good, toy(metaName="bad"), rerun={"token": "2"}))

    assert status.outcome == "Succeeded"
    assert lab.job("good").result == result
    assert lab.job("bad").attempts == 2


def test_what_has_started_is_not_changed_without_a_word(lab: LocalLab) -> None:
    asyncio.run(lab.run(toys(toy(metaName="a"))))
    with pytest.raises(Ended, match=r"spec\.executionJobConfigs: was changed, and the run has started"):
        lab.start(toys(toy(metaName="b")))
    with pytest.raises(Ended, match=r"spec\.workspace: the run has started on another claim"):
        lab.start(toys(toy(metaName="a"), workspace={"claimName": "mine"}, rerun={"token": "2"}))


def test_two_runs_do_not_share_a_folder(lab: LocalLab) -> None:
    lab.start(toys(toy(metaName="a")))
    with pytest.raises(Ended, match=r"another sandboxctl runs in .*run; wait for it, or take another --folder"):
        LocalLab(lab.root).start(toys(toy(metaName="a")))


async def test_a_volume_that_runs_share_lets_them_use_each_others_results(tmp_path: Path) -> None:
    spec = toys(toy(metaName="a", extra={"text": "same"}))
    first = LocalLab(tmp_path / "one", tmp_path / "volume", "one")
    second = LocalLab(tmp_path / "two", tmp_path / "volume", "two")
    await first.run(spec)
    await second.run(spec)

    assert second.jobs == ["Cached Cached 0"]
    assert second.job("a").result == first.job("a").result
    assert not list(second.folder.jobs.iterdir())


async def test_a_suspended_experiment_starts_nothing_and_says_so(lab: LocalLab) -> None:
    status = await lab.run(toys(toy(metaName="a"), suspend=True))

    assert ready(status).startswith("Suspended: ")
    assert lab.jobs == ["Pending None 0"]


async def test_an_interpreter_that_is_none_is_a_failure_with_words(lab: LocalLab, tmp_path: Path) -> None:
    status = await lab.run(toys(toy(metaName="a")), python=str(tmp_path / "no-python"))

    assert "the hook can't be started: " in ready(status)


RUNS = 30 if DEEP else 1
KILLS = 6
"""Of each run."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(RUNS))
def test_killed_at_any_moment_it_comes_to_the_same_end(lab: LocalLab, seed: int) -> None:
    """No attempt has two pods, no committed result is made again, and the last run ends as an undisturbed one."""
    spec = toys(*(toy(metaName=name, extra={"text": name}) for name in "abcd"), toy(metaName="e", dependsOn=["a"]))
    random = Random(seed)
    committed: dict[str, object] = {}
    for _ in range(KILLS):
        runner = runner_of(lab, spec)
        try:
            runner.wait(random.uniform(0.1, 4.0))
        except subprocess.TimeoutExpired:
            runner.kill()
            runner.wait()
        results = {job.meta_name: job.result for job in lab.status.jobs if job.result}
        assert {name: results.get(name) for name in committed} == committed
        committed |= results
    assert runner_of(lab, spec).wait() == 0

    assert lab.status.outcome == "Succeeded"
    assert [lab.text_at(lab.folder.workspace / (job.outputs or {})["text"]) for job in lab.status.jobs] == [
        "a",
        "b",
        "c",
        "d",
        "",
    ]
    attempts = list((lab.folder.workspace / "experiments").glob("*/jobs/anonymous/1/execution/*/attempts/*"))
    assert all(len(list(attempt.iterdir())) == 1 for attempt in attempts)
