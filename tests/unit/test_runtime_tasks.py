# SPDX-License-Identifier: Apache-2.0
"""Pods that run no hook: the reader of a lost or too short message, and the check of a cache hit."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import EXPERIMENT, PATHS, Ended, HookPod, job_contract, write_jsonl

from sandbox_api.contract import Candidate, ExperimentRef, JobContract, contract_digest
from sandbox_api.result import MESSAGE_BYTES, Message, Result, decode_message, join_pieces
from sandbox_runtime.settings import Settings
from sandbox_runtime.tasks import run_task

LATER = ExperimentRef(name="demo", namespace="lab", uid="9a8b7c6d-0000", project="lab", run="demo")
KEY = "k" * 64


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path)


@dataclass
class Told:
    code: int
    message: Message

    @property
    def error(self) -> str:
        assert self.message.error is not None
        return self.message.error.message


def task(pod: HookPod, contract: JobContract, *, piece: int | None = None, uid: str = "reader-1") -> Told:
    """Run a reader or a check in this process, as its pod does."""
    index = None if piece is None else piece - 1
    settings = Settings(pod.root, pod.inputs, pod.termination, uid, "image", index)
    code = run_task(contract, settings)
    text = pod.termination.read_text()
    assert len(text) <= MESSAGE_BYTES
    message = decode_message(text)
    assert message is not None
    assert (message.job, message.attempt, message.pod_uid) == (contract.job.id, contract.attempt, uid)
    assert message.contract == contract_digest(contract)
    assert (message.outcome == "Succeeded") == (code == 0)
    return Told(code, message)


def contents(pod: HookPod) -> list[str]:
    """Everything on the volume, so that a test sees that a helper leaves nothing."""
    return sorted(str(path.relative_to(pod.root)) for path in pod.root.rglob("*"))


# Reading


def test_a_reader_gives_the_result_of_an_attempt_whose_message_was_lost(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "write", "text": "x"}, attempt=3)
    ended = pod.run(contract)
    before = contents(pod)

    told = task(pod, contract.model_copy(update={"task": "read"}))

    assert told.code == 0
    assert told.message.recovered
    same = {"pod_uid": "reader-1", "recovered": True}
    assert told.message == ended.message.model_copy(update=same)
    assert contents(pod) == before


def test_a_reader_gives_a_failure_as_the_hook_told_it(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "fail", "say": "row 7 has no text"})
    pod.run(contract)

    told = task(pod, contract.model_copy(update={"task": "read"}))

    assert told.code == 1
    assert told.message.error is not None
    assert told.message.error.class_ == "User"
    assert told.error.startswith("row 7 has no text")


def test_a_reader_prefers_a_success_among_the_pods_of_an_attempt(pod: HookPod) -> None:
    """The Job controller may have started the pod of an attempt twice."""
    contract = job_contract(extra={"do": "write", "text": "x"})
    first = pod.run(contract)
    failed = first.folder.parent / "ffffffff"
    failed.mkdir()
    error = {"class": "Infra", "type": "OSError", "message": "no space"}
    told_so = Result.model_validate(
        {**first.result.model_dump(mode="json"), "outcome": "Failed", "outputs": {}, "error": error}
    )
    (failed / "result.json").write_text(told_so.model_dump_json())

    assert task(pod, contract.model_copy(update={"task": "read"})).message.outputs == first.message.outputs
    (first.folder / "result.json").unlink()
    assert task(pod, contract.model_copy(update={"task": "read"})).code == 4


@pytest.mark.parametrize("why", ["nothing", "another attempt", "another contract", "tampered", "torn"])
def test_a_reader_that_finds_nothing_valid_says_that_the_result_is_lost(pod: HookPod, why: str) -> None:
    contract = job_contract(extra={"do": "write", "text": "x"}, attempt=2)
    words = "attempt 2 left no result on the volume"
    if why != "nothing":
        ended = pod.run(contract.model_copy(update={"attempt": 1} if why == "another attempt" else {}))
        if why == "another contract":
            contract = contract.model_copy(update={"seed": 7})
            words = "result.json is of another contract"
        elif why == "tampered":
            ended.output("0").write_text("y")
            words = "the output '0'"
        elif why == "torn":
            path = ended.folder / "result.json"
            path.write_text(path.read_text()[:100])

    told = task(pod, contract.model_copy(update={"task": "read"}))

    assert told.code == 4
    assert told.message.error is not None
    assert (told.message.error.class_, told.message.error.type) == ("Infra", "ResultsLost")
    assert words in told.error


def test_a_reader_tells_the_memory_of_a_pod_that_was_killed(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "kill"})
    killed = pod.run(contract)
    with (killed.folder / "events.jsonl").open("a") as events:
        events.write('{"event": "memory", "peak": 5, "words": "last sampled memory peak: 480 MiB"}\n')
        events.write('{"event": "memory", "peak": 6, "words": "last sampled memory peak: 511 MiB"}\nhalf a li')

    told = task(pod, contract.model_copy(update={"task": "read"}))

    assert told.error == "attempt 1 left no result on the volume; last sampled memory peak: 511 MiB"


def test_what_is_needed_and_too_long_comes_in_pieces(pod: HookPod) -> None:
    items = [f"{number * 7919 % 104729:x}-{number * 104723 % 7907:x}" for number in range(1500)]
    contract = job_contract(
        extra={"do": "long_list", "items": items}, outputs=["pools", "word"], needs=["pools", "toy.rows"]
    )
    ended = pod.run(contract)

    assert ended.message.truncated
    assert "pools" not in ended.message.outputs
    assert ended.message.outputs["word"] == "short"
    assert ended.message.metrics == {"toy.rows": 3.0}
    assert ended.message.pieces > 1
    reader = contract.model_copy(update={"task": "read", "candidate": ended.candidate})
    pieces = [task(pod, reader, piece=number + 1).message for number in range(ended.message.pieces)]
    assert {(piece.pieces, piece.sha256) for piece in pieces} == {(ended.message.pieces, ended.message.sha256)}
    assert join_pieces(pieces[::-1]) == ({"pools": items}, {"toy.rows": 3.0})
    assert join_pieces(pieces[1:]) is None
    assert task(pod, reader, piece=ended.message.pieces + 1).code == 1


def test_the_number_of_a_piece_comes_from_the_indexed_job(pod: HookPod) -> None:
    contract = job_contract(extra={"do": "long_list", "items": [1, 2]}, outputs=["pools"], needs=["pools"])
    pod.run(contract)

    ended = pod.run(contract.model_copy(update={"task": "read"}), JOB_COMPLETION_INDEX="0")

    assert ended.code == 0, ended.log
    assert (ended.message.piece, ended.message.pieces) == (1, 1)
    assert join_pieces([ended.message]) == ({"pools": [1, 2]}, {})


def test_a_helper_imports_nothing_heavy_and_no_hook() -> None:
    program = (
        "import sys, sandbox_runtime.main, sandbox_runtime.run\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print(*sorted(sys.modules))"
    )
    environ = {"PYTHONPATH": os.pathsep.join(str(path) for path in PATHS)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    packages, modules = (line.split() for line in done.stdout.splitlines())

    heavy = {"data_juicer", "datasets", "numpy", "pandas", "pyarrow", "ray", "torch", "yaml", "zstandard", "asyncio"}
    assert "sandbox_runtime" in packages
    assert heavy.isdisjoint(packages)
    assert "sandbox_runtime.hooks.process" not in modules


# Checking


def made(pod: HookPod, **more: Any) -> tuple[JobContract, Ended]:
    """A job that reads a file and a folder of its users', and its success."""
    write_jsonl(pod.inputs / "raw" / "x.jsonl", [{"text": "a"}])
    (pod.root / "models" / "small").mkdir(parents=True, exist_ok=True)
    (pod.root / "models" / "small" / "weights").write_text("1")
    extra = {
        "do": "write",
        "text": "x",
        "dataset_path": "inputs/raw/x.jsonl",
        "model": "../../models/small",
        "extra_dir": "inputs/raw/none" if more.pop("absent", False) else None,
        "export_path": "outputs/text.txt",
    }
    contract = job_contract(extra=extra, cache_key=KEY, outputs=["text"], **more)
    ended = pod.run(contract)
    assert ended.code == 0, ended.log
    return contract, ended


def check(pod: HookPod, contract: JobContract, candidate: Candidate, **more: Any) -> Told:
    later = {"task": "check", "candidate": candidate, "experiment": LATER, **more}
    return task(pod, contract.model_copy(update=later), uid="check-1")


def test_a_hit_gives_the_candidates_outputs_and_where_its_result_lies(pod: HookPod) -> None:
    contract, ended = made(pod)
    before = contents(pod)

    told = check(pod, contract, ended.candidate)

    assert told.code == 0, told.message.error
    assert told.message.recovered
    assert told.message.outputs == ended.message.outputs
    assert told.message.metrics == ended.message.metrics
    assert told.message.content == ended.message.content
    assert (told.message.path, told.message.sha256) == (ended.message.path, ended.message.sha256)
    folder = "experiments/demo-9a8b7c6d"
    assert contents(pod) == sorted([*before, folder, f"{folder}/inputs"])


def test_externals_are_what_the_configuration_names_and_no_job_made(pod: HookPod) -> None:
    _, ended = made(pod)

    assert set(ended.result.externals) == {"inputs/raw/x.jsonl", "../../models/small"}
    assert ended.message.externals == 2


def change_file(pod: HookPod, _: Ended) -> None:
    write_jsonl(pod.inputs / "raw" / "x.jsonl", [{"text": "b"}])


def change_model(pod: HookPod, _: Ended) -> None:
    (pod.root / "models" / "small" / "weights").write_text("2")


def add_to_model(pod: HookPod, _: Ended) -> None:
    (pod.root / "models" / "small" / "more").write_text("")


def remove_file(pod: HookPod, _: Ended) -> None:
    (pod.inputs / "raw" / "x.jsonl").unlink()


def change_output(_: HookPod, ended: Ended) -> None:
    ended.output("text").write_text("y")


def change_result(_: HookPod, ended: Ended) -> None:
    path = ended.folder / "result.json"
    path.write_text(path.read_text().replace('"x', '"y'))


def remove_result(_: HookPod, ended: Ended) -> None:
    (ended.folder / "result.json").unlink()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (change_file, "inputs/raw/x.jsonl has changed"),
        (change_model, "../../models/small has changed"),
        (add_to_model, "../../models/small has changed"),
        (remove_file, "inputs/raw/x.jsonl is missing"),
        (change_output, "the output 'text'"),
        (change_result, "is not the one that was committed"),
        (remove_result, "can't be read"),
    ],
)
def test_what_is_no_longer_as_it_was_is_no_hit_and_is_named(pod: HookPod, change: Any, sentence: str) -> None:
    contract, ended = made(pod)
    candidate = ended.candidate
    change(pod, ended)

    told = check(pod, contract, candidate)

    assert told.code == 3
    assert told.message.error is not None
    assert (told.message.error.class_, told.message.error.job) == ("Input", None)
    assert sentence in told.error


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [({"cache_key": "other"}, "its cache key differs"), ({"cache_key": ""}, "its cache key differs")],
)
def test_a_result_of_another_question_is_no_hit(pod: HookPod, asked: dict[str, Any], sentence: str) -> None:
    contract, ended = made(pod)

    assert sentence in check(pod, contract, ended.candidate, **asked).error


def test_a_result_under_another_name_is_no_hit(pod: HookPod) -> None:
    contract, ended = made(pod)
    job = contract.job.model_copy(update={"meta_name": "other"})

    assert check(pod, contract, ended.candidate, job=job).error == "the result is named 'toy', the job 'other'"


def test_a_path_is_that_of_the_experiment_that_asks(pod: HookPod) -> None:
    """A user's file in one experiment's folder says nothing of the same name in another's."""
    mine = pod.experiment / "mine" / "rows.jsonl"
    write_jsonl(mine, [{"text": "a"}])
    contract = job_contract(extra={"do": "write", "dataset_path": "mine/rows.jsonl"}, cache_key=KEY)
    ended = pod.run(contract)
    assert ended.code == 0, ended.log

    assert check(pod, contract, ended.candidate, experiment=EXPERIMENT).code == 0
    assert check(pod, contract, ended.candidate).error == "mine/rows.jsonl is missing"
    write_jsonl(pod.root / "experiments" / "demo-9a8b7c6d" / "mine" / "rows.jsonl", [{"text": "a"}])
    assert check(pod, contract, ended.candidate).code == 0


def test_a_check_without_a_candidate_is_the_controllers_mistake(pod: HookPod) -> None:
    contract = job_contract(cache_key=KEY).model_copy(update={"task": "check"})

    assert task(pod, contract).code == 2
