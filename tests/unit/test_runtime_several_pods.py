# SPDX-License-Identifier: Apache-2.0
"""A job of several pods as its pods live it, through the real processes: pieces and their merge, ranks that are one."""

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import Ended, HookPod, Running, job_contract
from tests.ports import free_ports

from sandbox_api.contract import INDEX_ENV, RENDEZVOUS_ENV, JobContract, Limits

WORDS = ["one", "two", "three", "four", "five"]


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path)


def divided(pieces: str = "0-2", attempt: int = 1, **extra: Any) -> JobContract:
    asked = {"do": "share", "words": WORDS, "export_path": "outputs/words.txt", **extra}
    return job_contract(
        extra=asked, outputs=["words", "count"], shards=3, pieces=pieces, attempt=attempt, limits=Limits(gpus=1)
    )


def run_pieces(pod: HookPod, contract: JobContract, count: int) -> list[Ended]:
    return [pod.run(contract, **{INDEX_ENV: str(index)}) for index in range(count)]


def merge(pod: HookPod, contract: JobContract) -> Ended:
    return pod.run(contract.model_copy(update={"task": "merge"}))


# Pieces


def test_pieces_are_done_apart_and_merged_to_what_one_pod_would_have_made(pod: HookPod) -> None:
    pieces = run_pieces(pod, divided(), 3)
    published = pod.experiment / "outputs/words.txt"
    was_published = published.is_symlink()
    merged = merge(pod, divided())

    assert [ended.code for ended in pieces] == [0, 0, 0], pieces[0].log
    assert [ended.message.shard for ended in pieces] == [0, 1, 2]
    assert not was_published, "a piece is not the job's result"
    assert merged.code == 0, merged.log
    assert merged.message.shard is None
    assert merged.output("words").read_text().split() == WORDS
    assert merged.message.metrics == {"toy.words": 5}
    assert published.resolve() == merged.output("words")
    spent = sum(ended.result.runtime.gpu_seconds for ended in pieces)
    assert merged.result.runtime.gpu_seconds == pytest.approx(spent, abs=0.01)


def test_a_further_attempt_does_the_pieces_that_are_left_and_all_attempts_are_merged(pod: HookPod) -> None:
    first = run_pieces(pod, divided(broken=[1]), 3)
    second = run_pieces(pod, divided("1", attempt=2, broken=[1]), 1)
    merged = merge(pod, divided("1", attempt=2, broken=[1]))

    assert [ended.code for ended in first] == [0, 1, 0]
    assert first[1].message.error is not None
    assert "piece 1 can't be done yet" in first[1].message.error.message
    assert [(ended.code, ended.message.shard) for ended in second] == [(0, 1)]
    assert merged.output("words").read_text().split() == WORDS


def test_a_piece_that_is_done_is_not_done_again(pod: HookPod) -> None:
    """The status may have forgotten that, the volume has not."""
    run_pieces(pod, divided(), 2)
    again = pod.run(divided(attempt=2), **{INDEX_ENV: "1"})
    other = pod.run(divided(attempt=2), **{INDEX_ENV: "2"})

    assert (again.code, again.message.recovered, again.message.shard) == (0, True, 1)
    assert (other.code, other.message.recovered) == (0, False), "another piece's result is not this one's"


def test_a_merge_says_which_pieces_are_not_there_and_that_this_job_has_to_make_them(pod: HookPod) -> None:
    pieces = run_pieces(pod, divided(), 2)
    pieces[0].output("words").write_text("tampered")
    merged = merge(pod, divided())

    assert merged.code == 3
    error = merged.message.error
    assert error is not None
    assert (error.class_, error.job) == ("Input", "anonymous/1/probe/0")
    assert "pieces 0,2 of 3: no result on the volume" in error.message


def test_a_merge_whose_word_was_lost_is_found_by_the_next_one(pod: HookPod) -> None:
    run_pieces(pod, divided(), 3)
    merge(pod, divided())
    again = merge(pod, divided(attempt=2))

    assert (again.code, again.message.recovered) == (0, True)
    assert again.output("words").read_text().split() == WORDS


def test_what_pieces_resume_from_stays_until_all_are_merged(pod: HookPod) -> None:
    running = pod.start(divided(waits=[0]), **{INDEX_ENV: "0"})
    running.wait_for("began")
    state = pod.experiment / "jobs/anonymous/1/probe/0/state"
    state.mkdir()
    pod.run(divided(waits=[0]), **{INDEX_ENV: "1"})
    stayed = state.exists()
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()
    run_pieces(pod, divided(attempt=2), 3)
    merged = merge(pod, divided(attempt=2))

    assert stayed
    assert ended.code == 143
    assert merged.code == 0, merged.log
    assert not state.exists()


def test_a_hook_that_can_not_be_divided_says_so_before_it_works(pod: HookPod) -> None:
    ended = pod.run(job_contract("StrictToyHook", extra={"size": 1}, shards=2, pieces="0-1"), **{INDEX_ENV: "0"})

    assert ended.code == 2
    assert ended.message.error is not None
    assert "shards: StrictToyHook can't be divided" in ended.message.error.message


@pytest.mark.parametrize("environ", [{}, {INDEX_ENV: "3"}])
def test_a_pod_that_has_no_place_does_nothing(pod: HookPod, environ: dict[str, str]) -> None:
    ended = pod.run(divided(), **environ)

    assert ended.code == 2
    assert INDEX_ENV in ended.termination


# Ranks


def together(pod: HookPod, attempt: int = 1, **extra: Any) -> list[Running]:
    contract = job_contract(extra={"do": "meet", **extra}, outputs=["met", "attempt"], nodes=3, attempt=attempt)
    place = {RENDEZVOUS_ENV: f"127.0.0.1:{free_ports()}"}
    return [pod.start(contract, **{INDEX_ENV: str(rank), **place}) for rank in range(3)]


def test_the_pods_of_a_job_meet_at_rank_0_whose_result_is_the_jobs(pod: HookPod) -> None:
    pods = [running.end() for running in together(pod)]

    assert [ended.code for ended in pods] == [0, 0, 0], pods[0].log
    assert [ended.message.rank for ended in pods] == [0, 1, 2]
    assert pods[0].message.outputs == {"met": ["1", "2"], "attempt": 1}
    assert pods[1].message.outputs == {}
    current = pod.experiment / "jobs/anonymous/1/probe/0/current"
    assert current.resolve() == pods[0].folder, "people look at rank 0"


def test_a_success_of_all_stands_for_a_further_attempt_of_all(pod: HookPod) -> None:
    for running in together(pod):
        running.end()
    again = [running.end() for running in together(pod, attempt=2)]

    assert [(ended.code, ended.message.recovered, ended.message.rank) for ended in again] == [
        (0, True, 0), (0, True, 1), (0, True, 2),
    ]  # fmt: skip
    assert again[0].message.outputs["attempt"] == 1


def test_a_success_of_rank_0_alone_stands_for_nothing(pod: HookPod) -> None:
    first = together(pod, fails=2)
    first[0].wait_for("log.txt")
    ended = first[2].end()
    for running in first[:2]:  # as the Job does with the others
        running.process.send_signal(signal.SIGTERM)
    others = [running.end() for running in first[:2]]
    # rank 0 may have had its success already, as far as it knows
    (folder,) = {running.folder for running in first[:1]}
    told = others[0].result.model_copy(update={"outcome": "Succeeded", "error": None})
    (folder / "result.json").write_text(told.model_dump_json())
    again = [running.end() for running in together(pod, attempt=2, fails=2)]

    assert ended.code == 1
    assert others[0].code == 143
    assert [(ended.code, ended.message.recovered) for ended in again] == [(0, False)] * 3
    assert again[0].message.outputs["attempt"] == 2
