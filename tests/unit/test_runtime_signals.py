# SPDX-License-Identifier: Apache-2.0
"""A job that is ended from outside, or by its own time: exit code, class, what is saved, and that nobody is left."""

import signal
from pathlib import Path

import pytest
from tests.hook_pod import HookPod, job_contract


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_sigterm_lets_the_hook_save_and_ends_with_143(pod: HookPod) -> None:
    running = pod.start(job_contract(extra={"do": "wait"}))
    running.wait_for("began")
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.code == 143, ended.log
    error = ended.message.error
    assert error is not None
    assert (error.class_, error.type) == ("Preempted", "SIGTERM")
    assert ended.result.outcome == "Failed"


def test_what_an_attempt_saved_is_there_for_the_next_one_of_the_same_contract_only(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "wait"})
    for attempt in (1, 2):
        running = pod.start(contract.model_copy(update={"attempt": attempt}))
        running.wait_for("began")
        running.process.send_signal(signal.SIGTERM)
        assert running.end().code == 143

    (state,) = (pod.experiment / "jobs/anonymous/1/probe/0/state").iterdir()
    assert sorted(entry.name for entry in state.iterdir()) == ["saved-by-1", "saved-by-2"]
    other = pod.run(job_contract(extra={"do": "resume"}, attempt=3))
    assert other.result.outputs["0"].value == []


def test_a_hook_that_swallows_sigterm_and_returns_has_not_succeeded(pod: HookPod) -> None:
    running = pod.start(job_contract(extra={"do": "ignore"}))
    running.wait_for("began")
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.code == 143
    assert ended.result.outputs == {}
    assert ended.message.error is not None
    assert ended.message.error.class_ == "Preempted"


def test_a_hook_that_will_not_end_is_cut_off_after_the_grace_period(pod: HookPod) -> None:
    running = pod.start(job_contract(extra={"do": "stubborn"}), SANDBOX_GRACE_SECONDS="0.5")
    running.wait_for("began")
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.code == 143
    assert ended.result.outcome == ended.message.outcome == "Failed"
    assert "never" in ended.log


def test_a_childs_own_exit_code_after_sigterm_does_not_count(pod: HookPod) -> None:
    running = pod.start(job_contract(extra={"do": "child"}))
    child = int(running.wait_for("began").read_text())
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.code == 143
    assert ended.message.error is not None
    assert ended.message.error.class_ == "Preempted"
    assert not is_alive(child)


def test_time_that_runs_out_is_a_timeout_on_the_users_budget(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "wait"}, active_seconds_left=1))

    assert ended.code == 1
    error = ended.message.error
    assert error is not None
    assert error.class_ == "Timeout"
    assert "time of 1 s (timeouts.active) ran out" in error.message


def test_no_time_left_ends_the_job_before_the_hook(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "wait"}, active_seconds_left=0))

    assert ended.message.error is not None
    assert ended.message.error.class_ == "Timeout"


def test_nobody_that_the_hook_left_behind_survives_it(pod: HookPod) -> None:
    ended = pod.run(job_contract(extra={"do": "orphan"}))

    assert ended.code == 0, ended.log
    assert not is_alive(ended.result.outputs["0"].value)
