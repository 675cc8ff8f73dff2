# SPDX-License-Identifier: Apache-2.0
"""ProcessDataHook on a Ray over two pods, through the runtime's own processes: the same rows as one pod, and ends."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import HookPod, Running, job_contract, write_jsonl
from tests.ports import free_ports
from tests.progress import deep_only

from sandbox_api.contract import INDEX_ENV, RENDEZVOUS_ENV, JobContract, Limits

RECIPE: list[dict[str, Any]] = [
    {"text_length_filter": {"min_len": 12}},
    {"python_lambda_mapper": {"lambda_str": "lambda row: {**row, 'text': row['text'].upper()}"}},
]


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    pod = HookPod(tmp_path)
    rows = [{"text": f"row {number} " + "x" * (number % 17), "n": number} for number in range(400)]
    write_jsonl(pod.inputs / "raw/rows.jsonl", rows)
    return pod


def contract(index: int, executor: str = "ray", **more: Any) -> JobContract:
    dj = {"dataset_path": "inputs/raw/rows.jsonl", "process": RECIPE, "executor_type": executor}
    limits = Limits(cpus=1, memory_bytes=2 << 30)
    return job_contract(
        "ProcessDataHook", dj=dj, stage="execution", index=index, meta_name="process", outputs=["dataset"],
        limits=limits, **more,
    )  # fmt: skip


def start(pod: HookPod, index: int, **more: Any) -> list[Running]:
    place = {RENDEZVOUS_ENV: f"127.0.0.1:{free_ports()}"}
    asked = contract(index, nodes=2, **more)
    return [pod.start(asked, **{INDEX_ENV: str(rank), **place}) for rank in range(2)]


@pytest.mark.timeout(600)
def test_two_pods_give_the_rows_of_one(pod: HookPod) -> None:
    one = pod.run(contract(1))
    two = [running.end(400) for running in start(pod, 2)]

    assert one.code == 0, one.log
    assert [ended.code for ended in two] == [0, 0], "\n".join(ended.log for ended in two)
    assert two[0].output("dataset").read_bytes() == one.output("dataset").read_bytes()
    assert two[0].message.metrics == one.message.metrics
    assert two[1].message.message == "lent its processors to the Ray of rank 0"
    assert (two[1].message.rank, two[1].message.outputs) == (1, {})


SLOW = {"python_lambda_mapper": {"lambda_str": "lambda row: (__import__('time').sleep(1), row)[1]"}}


def slow(**more: Any) -> JobContract:
    """It would take minutes."""
    found = contract(1, **more)
    dj = {**found.configs.dj, "process": [SLOW]}
    return found.model_copy(update={"configs": found.configs.model_copy(update={"dj": dj})})


@deep_only
@pytest.mark.timeout(600)
def test_a_drained_run_on_ray_is_preempted(pod: HookPod) -> None:
    """Ray takes the signal for itself when it starts."""
    running = pod.start(slow())
    while "Started a local Ray instance" not in _printed(running):
        assert running.process.poll() is None, running.end().log
    running.process.send_signal(signal.SIGTERM)
    ended = running.end(200)

    assert ended.code == 143, ended.log
    assert ended.message.error is not None
    assert ended.message.error.class_ == "Preempted"


@pytest.mark.timeout(600)
def test_a_pod_that_goes_ends_the_run_as_its_own_and_the_other_only_follows(pod: HookPod) -> None:
    pods = [pod.start(slow(nodes=2), **environ) for environ in _environs()]
    while "Ray runtime started" not in _printed(pods[1]):
        assert pods[1].process.poll() is None, pods[1].end().log
    pods[0].process.send_signal(signal.SIGTERM)
    ended = [running.end(200) for running in pods]

    assert ended[0].code == 143, ended[0].log
    assert ended[1].code == 4, ended[1].log
    error = ended[1].message.error
    assert error is not None
    assert (error.class_, error.type) == ("Infra", "PeerLost")


def _environs() -> list[dict[str, str]]:
    place = {RENDEZVOUS_ENV: f"127.0.0.1:{free_ports()}"}
    return [{INDEX_ENV: str(rank), **place} for rank in range(2)]


def _printed(running: Running) -> str:
    file = running.folder / "log.txt"
    return file.read_text() if file.exists() else ""


def test_the_default_executor_does_not_span_pods(pod: HookPod) -> None:
    ended = [running.end(200) for running in [
        pod.start(contract(1, "default", nodes=2), **environ) for environ in _environs()
    ]]  # fmt: skip

    assert [each.code for each in ended] == [2, 2], ended[0].log
    for each in ended:
        assert each.message.error is not None
        assert "djConfigs.executor_type: only ray spans" in each.message.error.message
