# SPDX-License-Identifier: Apache-2.0
"""ProcessDataHook on a Ray that others have started (`ray_address`): it does the work, and is left as it was."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hook_pod import HookPod, job_contract, write_jsonl
from tests.ports import free_ports

from sandbox_api.contract import INDEX_ENV, RENDEZVOUS_ENV, JobContract, Limits
from sandbox_runtime.data_juicer.ray_pods import LEAVE_AT_ONCE

ACCESS = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""What a user gives a pod by a secret."""
MARK = "RAY_OF_OTHERS"
"""Set for the processes of that Ray alone: a row tells by it where it was worked on."""
RECIPE: list[dict[str, Any]] = [
    {"text_length_filter": {"min_len": 12}},
    {
        "python_lambda_mapper": {
            "lambda_str": f"lambda row: {{**row, 'at': __import__('os').environ.get('{MARK}', '')}}"
        }
    },
]


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    pod = HookPod(tmp_path)
    rows = [{"text": f"row {number} " + "x" * (number % 17), "n": number} for number in range(400)]
    write_jsonl(pod.inputs / "raw/rows.jsonl", rows)
    return pod


def contract(index: int, address: str | None, **more: Any) -> JobContract:
    dj = {"dataset_path": "inputs/raw/rows.jsonl", "process": RECIPE, "executor_type": "ray"}
    return job_contract(
        "ProcessDataHook", dj={**dj, **({"ray_address": address} if address else {})}, stage="execution", index=index,
        meta_name="process", outputs=["dataset"], limits=Limits(cpus=1, memory_bytes=1 << 30), **more,
    )  # fmt: skip


WAIT = """
import sys, time
from ray._raylet import GcsClient
deadline = time.monotonic() + 120
while True:
    try:
        nodes = GcsClient(address=sys.argv[1]).get_all_node_info().values()
        if sum(node.state == 0 for node in nodes) == 1:
            break
    except Exception:
        if time.monotonic() > deadline:
            raise
    assert time.monotonic() < deadline, "it has not one node"
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address of a Ray of one CPU on this machine."""
    address = f"127.0.0.1:{free_ports()}"
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # short: its sockets stand in it
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
        where = ["--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}"]
        small = [f"--object-store-memory={80 << 20}", "--include-dashboard=false", "--disable-usage-stats"]
        process = subprocess.Popen(
            [*command, *where, *small], env={**os.environ, **LEAVE_AT_ONCE, **ACCESS, MARK: "there"}
        )
        try:
            wait_for_one_node(address)
            yield address
        finally:
            process.terminate()
            process.wait(60)


def wait_for_one_node(address: str) -> None:
    """In a process of its own: Ray keeps the token that it has read."""
    subprocess.run([sys.executable, "-c", WAIT, address], env={**os.environ, **ACCESS}, timeout=180, check=True)


@pytest.mark.timeout(600)
def test_it_does_the_work_and_is_left_as_it_was(pod: HookPod, head: str) -> None:
    own = pod.run(contract(1, "auto"))
    joined = pod.run(contract(2, head), **ACCESS)

    assert own.code == 0, own.log
    assert joined.code == 0, joined.log
    rows = [[json.loads(row) for row in ended.output("dataset").read_text().splitlines()] for ended in (own, joined)]
    assert {row["at"] for row in rows[0]} == {""}
    assert {row["at"] for row in rows[1]} == {"there"}
    assert [row["n"] for row in rows[1]] == [row["n"] for row in rows[0]]
    assert joined.message.metrics == own.message.metrics
    wait_for_one_node(head)


def test_a_token_that_is_missing_is_asked_for(pod: HookPod, head: str) -> None:
    ended = pod.run(contract(1, head))

    assert ended.code == 2, ended.log
    assert ended.message.error is not None
    assert ended.message.error.message.startswith(f"djConfigs.ray_address: the Ray at {head} wants a token")


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("ray://head:10001", 2, "djConfigs.ray_address: ray://head:10001 is the address for Ray's client"),
        ("head", 2, "djConfigs.ray_address: 'head' is no host:port of a Ray's head"),
        ("127.0.0.1:9", 4, "djConfigs.ray_address: nothing answers at 127.0.0.1:9"),
    ],
)
def test_an_address_that_is_none_is_told_in_a_sentence(pod: HookPod, address: str, code: int, said: str) -> None:
    ended = pod.run(contract(1, address))

    assert ended.code == code, ended.log
    assert ended.message.error is not None
    assert ended.message.error.message.startswith(said)


def test_several_pods_have_a_ray_of_their_own(pod: HookPod) -> None:
    port = free_ports()
    asked = contract(1, "head:6379", nodes=2)
    places = [{INDEX_ENV: str(rank), RENDEZVOUS_ENV: f"127.0.0.1:{port}"} for rank in range(2)]
    ended = [running.end() for running in [pod.start(asked, **place) for place in places]]

    assert [each.code for each in ended] == [2, 2], ended[0].log
    assert ended[0].message.error is not None
    assert "djConfigs.ray_address: the Ray of others is joined by one pod" in ended[0].message.error.message
