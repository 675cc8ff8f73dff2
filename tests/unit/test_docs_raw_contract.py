# SPDX-License-Identifier: Apache-2.0
"""The page about the raw contract: its program is run as it stands there, and what it leaves is taken as any result."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.hook_pod import REPOSITORY, Ended, HookPod, job_contract
from tests.unit.test_runtime_tasks import KEY, check, task

from sandbox_api.contract import (
    CONTRACT_DIGEST_ENV,
    CONTRACT_ENV,
    CONTRACT_FILE_ENV,
    POD_UID_ENV,
    JobContract,
    attempt_folder,
    contract_digest,
    encode_contract,
    experiment_folder,
)
from sandbox_api.result import decode_message

REFERENCE = REPOSITORY / "docs" / "reference"
UID = "0123456789abcdef"


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    return HookPod(tmp_path)


@pytest.fixture
def producer(pod: HookPod) -> Ended:
    return pod.run(job_contract(extra={"do": "write", "text": '{"text": "b"}\n{"text": "a"}\n'}, outputs=["rows"]))


def raw(pod: HookPod, contract: JobContract, *, in_a_file: bool = False) -> Ended:
    """Run the page's program as the operator's Job does."""
    (found,) = re.findall(r"```python\n(.*?)```", (REFERENCE / "raw-contract.md").read_text(), re.DOTALL)
    program = pod.base / "program.py"
    program.write_text(found)
    environ = {CONTRACT_ENV: encode_contract(contract)}
    if in_a_file:
        (pod.base / "contract").write_text(encode_contract(contract))
        environ = {CONTRACT_FILE_ENV: str(pod.base / "contract")}
    pod.termination.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-I", program],
        env={
            "PATH": os.environ["PATH"],
            **environ,
            CONTRACT_DIGEST_ENV: contract_digest(contract),
            POD_UID_ENV: UID,
            "SANDBOX_WORKSPACE": str(pod.root),
            "SANDBOX_TERMINATION_MESSAGE": str(pod.termination),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    name = experiment_folder(contract.experiment.name, contract.experiment.uid)
    folder = pod.root / attempt_folder(name, contract.job.id, contract.attempt, UID)
    return Ended(done.returncode, done.stdout + done.stderr, pod.termination.read_text(), folder, pod.root)


def sorting(producer: Ended, **more: Any) -> JobContract:
    inputs = {"extraConfigs.dataset_path": producer.reference("rows")}
    return job_contract("SortHook", stage="execution", meta_name="sort", inputs=inputs, cache_key=KEY, **more)


def schema(name: str) -> Any:
    return json.loads((REFERENCE / f"{name}.schema.json").read_text())


@pytest.mark.parametrize("in_a_file", [False, True])
def test_the_pages_program_gives_a_result_that_counts(pod: HookPod, producer: Ended, in_a_file: bool) -> None:
    contract = sorting(producer, outputs=["mine"])

    ended = raw(pod, contract, in_a_file=in_a_file)

    assert ended.code == 0, ended.log
    message = ended.message
    assert (message.job, message.attempt, message.pod_uid) == (contract.job.id, 1, UID)
    assert message.contract == contract_digest(contract)
    assert message.metrics == {"sort.rows": 2.0}
    assert ended.output("mine").read_text() == '{"text": "a"}\n{"text": "b"}\n'
    jsonschema.validate(json.loads((ended.folder / "result.json").read_text()), schema("result"))


def test_its_result_is_read_checked_and_used_as_any_other(pod: HookPod, producer: Ended) -> None:
    contract = sorting(producer)
    ended = raw(pod, contract)
    assert ended.code == 0, ended.log

    read = task(pod, contract.model_copy(update={"task": "read"}))
    assert (read.code, read.message.sha256) == (0, ended.message.sha256)
    assert check(pod, contract, ended.candidate).code == 0
    used = pod.run(
        job_contract(extra={"do": "write"}, index=3, inputs={"djConfigs.dataset_path": ended.reference("sorted")})
    )
    assert used.code == 0, used.log
    ended.output("sorted").write_text("changed")
    assert task(pod, contract.model_copy(update={"task": "read"})).code == 4


def test_its_failures_say_which_class_they_are(pod: HookPod, producer: Ended) -> None:
    wrong = raw(pod, job_contract("SortHook", index=2))
    assert wrong.code == 2
    assert wrong.message.error is not None
    assert wrong.message.error.message.startswith("extraConfigs.dataset_path: ")

    producer.output("rows").write_text("changed")
    lost = raw(pod, sorting(producer))
    assert lost.code == 3
    assert lost.message.error is not None
    assert (lost.message.error.class_, lost.message.error.job) == ("Input", producer.message.job)
    jsonschema.validate(json.loads((lost.folder / "result.json").read_text()), schema("result"))


def test_the_schemas_are_those_of_what_the_runtime_reads_and_writes(producer: Ended) -> None:
    contract = sorting(producer)
    jsonschema.validate(contract.model_dump(mode="json"), schema("job-contract"))
    jsonschema.validate(json.loads((producer.folder / "result.json").read_text()), schema("result"))
    message = decode_message(producer.termination)
    assert message is not None
    jsonschema.validate(message.model_dump(mode="json"), schema("message"))
    assert {"job", "attempt", "podUid", "contract", "outcome", "startedAt", "finishedAt"} <= set(
        schema("result")["required"]
    )
    with pytest.raises(jsonschema.ValidationError, match="outcome"):
        jsonschema.validate({**json.loads(message.model_dump_json()), "outcome": "Fine"}, schema("message"))
