# SPDX-License-Identifier: Apache-2.0
"""The raw route: a static Go program as a pod starts it, judged by the models that the operator judges it by.

`HookPod` starts any program with the runtime's arguments, which this one ignores.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.custom import CUSTOM, extra_of, go_program, hook_in
from tests.hook_pod import EXPERIMENT, Ended, HookPod, job_contract, write_jsonl

from sandbox_api.contract import (
    CONTRACT_ENV,
    CONTRACT_FILE_ENV,
    JobContract,
    Limits,
    contract_digest,
    encode_contract,
)
from sandbox_api.result import MESSAGE_BYTES, MESSAGE_PREFIX, message_of
from sandbox_runtime.digests import digest_of

ROWS = [{"text": text} for text in ("a b", "c", "A  B", "a b", "é $HOME $$ \u2028", "c", "é $HOME $$ \u2028")]
OUTPUTS = ["dataset", "removed"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_program(tmp_path_factory.mktemp("go"))


@pytest.fixture
def pod(tmp_path: Path, program: Path) -> HookPod:
    made = HookPod(tmp_path, python=str(program), environ={"SANDBOX_IMAGE": "registry.example/exact-dedup:1"})
    write_jsonl(made.inputs / "raw/demo.jsonl", ROWS)
    return made


def dedup(settings: dict[str, Any] | None = None, **more: Any) -> JobContract:
    """A contract as the planner makes it: the defaults are in."""
    extra = extra_of("raw-go", **{"dataset_path": "inputs/raw/demo.jsonl", **(settings or {})})
    return job_contract(
        "exact-dedup", **{"stage": "execution", "meta_name": "dedup", "extra": extra, "outputs": OUTPUTS, **more}
    )


def kept(ended: Ended) -> list[str]:
    return [json.loads(line)["text"] for line in ended.output("dataset").read_text().strip().split("\n")]


def test_a_success_is_told_by_result_and_message(pod: HookPod) -> None:
    contract = dedup()

    ended = pod.run(contract)

    assert ended.code == 0, ended.log
    assert kept(ended) == ["a b", "c", "A  B", "é $HOME $$ \u2028"]
    assert [json.loads(line) for line in ended.output("removed").read_text().splitlines()] == [
        {"line": 4, "same_as": 1},
        {"line": 6, "same_as": 2},
        {"line": 7, "same_as": 5},
    ]
    result, content = ended.result, (ended.folder / "result.json").read_bytes()
    assert (result.outcome, result.job, result.attempt) == ("Succeeded", "anonymous/1/execution/0", 1)
    assert result.contract == contract_digest(contract)
    assert result.metrics == {"dedup.rows_in": 7, "dedup.rows_out": 4, "dedup.removed": 3}
    assert result.runtime.image == "registry.example/exact-dedup:1"
    assert result.externals == {"inputs/raw/demo.jsonl": digest_of(pod.inputs / "raw/demo.jsonl").sha256}
    for name, rows in (("dataset", 4), ("removed", 3)):
        output, digest = result.outputs[name], digest_of(ended.output(name))
        assert (output.kind, output.sha256, output.bytes, output.rows) == ("path", digest.sha256, digest.bytes, rows)
        assert ended.output(name).is_relative_to(ended.folder / "out")
    path = str((ended.folder / "result.json").relative_to(pod.root))
    assert ended.message == message_of(
        result, path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content)
    ), "the message says of the result what the runtime's would"
    assert len(ended.termination) <= MESSAGE_BYTES
    assert {file.name for file in ended.folder.iterdir()} == {"out", "result.json"}, "nothing half-written is left"


def test_equal_outputs_have_equal_content_whatever_made_them(pod: HookPod) -> None:
    first, again = pod.run(dedup()), pod.run(dedup(attempt=2, index=3))
    other = pod.run(dedup({"ignore_space": True, "ignore_case": True}))

    assert first.result.content == again.message.content != other.message.content
    assert len(first.message.content) == 64


def test_the_settings_are_obeyed(pod: HookPod) -> None:
    assert kept(pod.run(dedup({"ignore_case": True, "ignore_space": True}))) == ["a b", "c", "é $HOME $$ \u2028"]
    (pod.inputs / "raw/packed.jsonl.gz").write_bytes(gzip.compress(b'{"x": "1"}\n\n{"x": "1"}\n{"x": "2"}'))
    ended = pod.run(dedup({"dataset_path": "inputs/raw/packed.jsonl.gz", "text_key": "x"}))
    assert ended.output("dataset").read_text() == '{"x": "1"}\n{"x": "2"}\n'
    local = {"extraConfigs.ignore_space": True, "extraConfigs.ignore_case": True}
    assert len(kept(pod.run(dedup(local=local)))) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"attempt": 7, "active_seconds_left": 60, "tracking": {"wandb": {"mode": "offline"}}},
        {"generation": 2, "cache_key": "ab" * 32, "needs": ["dedup.rows_out"], "limits": Limits(cpus=0.5, gpus=1)},
        {"dj": {"nächste": '"\\/\b\f\n\r\t\x7f\u2028<&>', "n": [1.0, 1e-7, 1e22, -0.0, 12345678901234567890]}},
        {"seed": 7, "publish_under": "iter_2", "keep_attempts": True},
    ],
)
def test_it_knows_the_contracts_identity(pod: HookPod, change: dict[str, Any]) -> None:
    """To the byte: a digest that differs would be another job's result."""
    contract = dedup(**change)

    assert pod.run(contract).message.contract == contract_digest(contract)


def test_a_newer_contract_may_say_more(pod: HookPod) -> None:
    body = json.loads(gzip.decompress(base64.b64decode(encode_contract(dedup()))))
    body["someday"] = {"a": [1]}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    packed = base64.b64encode(gzip.compress(text.encode())).decode()

    ended = pod.run(dedup(), **{CONTRACT_ENV: packed})

    assert ended.code == 0, ended.log


def test_a_contract_too_long_for_the_environment_comes_as_a_file(pod: HookPod, tmp_path: Path) -> None:
    contract = dedup()
    file = tmp_path / "contract"
    file.write_text(encode_contract(contract))

    ended = pod.run(contract, **{CONTRACT_ENV: "", CONTRACT_FILE_ENV: str(file)})

    assert ended.message.contract == contract_digest(contract)


def test_its_results_and_those_of_runtime_hooks_feed_each_other(pod: HookPod) -> None:
    """Python writes, Go reads, Python reads: each verifies what the other committed."""
    python = HookPod(pod.base)
    text = '{"text": "x"}\n{"text": "x"}\n{"text": "y"}\n'
    written = python.run(job_contract(extra={"do": "write", "text": text}, outputs=["text", "seen", "folder"]))
    assert written.code == 0, written.log

    removed = pod.run(
        dedup({"dataset_path": "replaced"}, index=1, inputs={"extraConfigs.dataset_path": written.reference("text")})
    )
    assert removed.code == 0, removed.log
    assert kept(removed) == ["x", "y"]
    assert removed.result.inputs == {"extraConfigs.dataset_path": written.result.outputs["text"].sha256}
    assert removed.result.externals == {}

    inputs = {"extraConfigs.text": removed.reference("dataset"), "extraConfigs.count": removed.reference("rows_out")}
    read = python.run(job_contract(extra={"do": "write"}, index=2, inputs=inputs, outputs=["text", "seen"]))
    assert read.code == 0, read.log
    assert read.result.inputs["extraConfigs.text"] == removed.result.outputs["dataset"].sha256
    assert read.result.outputs["seen"].value["inputs"] == {
        "extraConfigs.text": str(removed.output("dataset")),
        "extraConfigs.count": 2.0,
    }


def helper(contract: JobContract, task: str, ended: Ended | None = None) -> JobContract:
    """The contract of a pod of the operator's own image that looks at a raw program's result."""
    return contract.model_copy(update={"task": task, "candidate": ended and ended.candidate, "attempt": 2})


def test_the_operators_own_pods_can_read_and_check_its_results(pod: HookPod) -> None:
    """A raw image has no runtime, so a lost message is read, and a cache hit confirmed, by a pod that has one."""
    contract, python = dedup(cache_key="ab" * 32), HookPod(pod.base)
    ended = pod.run(contract)

    read = python.run(helper(contract, "read", ended))
    assert read.code == 0, read.log
    assert read.message.sha256 == ended.message.sha256
    assert (read.message.outputs, read.message.metrics) == (ended.message.outputs, ended.message.metrics)

    hit = python.run(helper(contract, "check", ended))
    assert hit.code == 0, hit.log
    assert hit.message.sha256 == ended.message.sha256

    data = pod.inputs / "raw/demo.jsonl"
    data.write_text(data.read_text() + '{"text": "new"}\n')
    replaced = python.run(helper(contract, "check", ended)).message.error
    assert replaced is not None
    assert replaced.message == "inputs/raw/demo.jsonl has changed"

    ended.output("dataset").write_text("changed by hand")
    changed = python.run(helper(contract, "check", ended)).message.error
    assert changed is not None
    assert "the output 'dataset'" in changed.message


def test_a_value_of_another_kind_that_an_input_brings_is_a_configuration_error(pod: HookPod) -> None:
    """The schema could not see it before the start."""
    number = HookPod(pod.base).run(job_contract("StrictToyHook", extra={"size": 3}, outputs=["size"]))

    ended = pod.run(dedup(index=1, inputs={"extraConfigs.text_key": number.reference("size")}))

    assert ended.code == 2
    assert ended.message.error is not None
    assert ended.message.error.message.startswith("extraConfigs: json: cannot unmarshal number into Go struct field")


def changed(ended: Ended) -> None:
    ended.output("text").write_text('{"text": "other"}\n')


def gone(ended: Ended) -> None:
    ended.output("text").unlink()


def rewritten(ended: Ended) -> None:
    (ended.folder / "result.json").write_text("{}")


def forgotten(ended: Ended) -> None:
    (ended.folder / "result.json").unlink()


@pytest.mark.parametrize("harm", [changed, gone, rewritten, forgotten])
def test_an_input_that_went_bad_names_its_producer(pod: HookPod, harm: Callable[[Ended], None]) -> None:
    written = HookPod(pod.base).run(job_contract(extra={"do": "write", "text": '{"text": "x"}\n'}, outputs=["text"]))
    reference = written.reference("text")
    harm(written)

    ended = pod.run(dedup(inputs={"extraConfigs.dataset_path": reference}, index=1))

    assert ended.code == 3
    error = ended.message.error
    assert error is not None
    assert (error.class_, error.job) == ("Input", "anonymous/1/probe/0")
    assert error.message.startswith('the output "text" of job anonymous/1/probe/0: ')
    assert error.message.endswith("; the job must run again")
    assert ended.result.error == error


@pytest.mark.parametrize(
    ("settings", "more", "code", "class_", "words"),
    [
        ({"dataset_path": "inputs/raw/none.jsonl"}, {}, 2, "Config", "extraConfigs.dataset_path: there is no file "),
        ({"dataset_path": "/etc/passwd"}, {}, 2, "Config", 'extraConfigs.dataset_path: the path "/etc/passwd" leads out of the workspace'),
        ({"dataset_path": "inputs/raw/broken.jsonl"}, {}, 1, "User", "broken.jsonl, line 2: is not a JSON object"),
        ({"dataset_path": "inputs/raw/list.jsonl"}, {}, 1, "User", "list.jsonl, line 1: is not a JSON object"),
        ({"text_key": "content"}, {}, 1, "User", 'demo.jsonl, line 1: has no text under "content"'),
        ({"dataset_path": "inputs/raw/cut.jsonl.gz"}, {}, 1, "User", "cut.jsonl.gz, line "),
        ({}, {"local": {"extraConfigs.ignore_case": "yes"}}, 2, "Config", "extraConfigs: json: cannot unmarshal string"),
        ({}, {"local": {"djConfigs.np": 1}}, 2, "Config", "djConfigs.np: this program has settings of one level"),
        ({}, {"outputs": ["a", "b", "c"]}, 2, "Config", "output: 3 names for 2 results"),
    ],
)  # fmt: skip
def test_a_failure_has_its_class_and_its_sentence(
    pod: HookPod, settings: dict[str, Any], more: dict[str, Any], code: int, class_: str, words: str
) -> None:
    (pod.inputs / "raw/broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (pod.inputs / "raw/list.jsonl").write_text("[1]\n")
    packed = gzip.compress("".join(json.dumps({"text": str(n)}) + "\n" for n in range(1000)).encode())
    (pod.inputs / "raw/cut.jsonl.gz").write_bytes(packed[:-100])

    ended = pod.run(dedup(settings, **more))

    assert ended.code == code, ended.log
    error = ended.message.error
    assert error is not None
    assert error.class_ == class_
    assert error.message.startswith(words), error.message
    assert f"{class_}: {words}" in ended.log
    assert ended.result.outcome == ended.message.outcome == "Failed"
    assert ended.result.outputs == {}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({CONTRACT_ENV: ""}, "there is no job contract: "),
        ({CONTRACT_ENV: "bm90IGd6aXA="}, "there is no job contract: "),
        ({CONTRACT_ENV: "", CONTRACT_FILE_ENV: "/nowhere"}, "SANDBOX_CONTRACT_FILE: open /nowhere"),
        ({CONTRACT_ENV: encode_contract(job_contract(version=2))}, "the contract has version 2, this program reads 1"),
        ({CONTRACT_ENV: encode_contract(job_contract(task="read"))}, 'the task is "read"; this program only runs'),
    ],
)
def test_without_a_contract_it_can_only_say_so(pod: HookPod, environ: dict[str, str], words: str) -> None:
    ended = pod.run(dedup(), **environ)

    assert ended.code == 2
    assert ended.termination.startswith(words)
    assert not ended.termination.startswith(MESSAGE_PREFIX)
    assert not ended.folder.exists()


@pytest.mark.parametrize(
    ("contract", "send", "code", "class_"),
    [({}, signal.SIGTERM, 143, "Preempted"), ({"active_seconds_left": 1}, None, 1, "Timeout")],
)
def test_it_ends_when_it_is_told_to_even_while_a_read_hangs(
    pod: HookPod, contract: dict[str, Any], send: signal.Signals | None, code: int, class_: str
) -> None:
    pipe = pod.inputs / "raw/pipe.jsonl"
    os.mkfifo(pipe)
    running = pod.start(dedup({"dataset_path": "inputs/raw/pipe.jsonl"}, **contract))
    with pipe.open("w") as source:  # opens once the program reads; never ends
        source.write('{"text": "a"}\n')
        source.flush()
        if send is not None:
            running.process.send_signal(send)
        ended = running.end()

    assert ended.code == code, ended.log
    assert ended.message.error is not None
    assert ended.message.error.class_ == class_
    assert ended.result.error == ended.message.error


def test_a_volume_that_can_not_be_written_is_told_by_the_message_alone(pod: HookPod) -> None:
    pod.root.rmdir()
    pod.root.write_text("no folder")

    ended = pod.run(dedup())

    assert ended.code == 4
    assert ended.message.error is not None
    assert ended.message.error.class_ == "Infra"
    assert (ended.message.sha256, ended.message.bytes) == ("", 0)


def test_its_own_tests_pass() -> None:
    """What can't be seen from outside: a message that would be too long."""
    done = subprocess.run(["go", "test", "."], cwd=CUSTOM / "raw-go", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_attempts_write_in_folders_of_their_own(pod: HookPod) -> None:
    first, second = pod.run(dedup()), pod.run(dedup(attempt=2))

    assert first.folder != second.folder
    assert first.result.attempt == 1
    assert second.result.attempt == 2
    assert (pod.root / "experiments" / f"{EXPERIMENT.name}-{EXPERIMENT.uid[:8]}/inputs").readlink() == pod.inputs


def test_the_program_is_static(program: Path) -> None:
    """Its image is `scratch`: there is no library and no loader in it."""
    headers = subprocess.run(["readelf", "-l", str(program)], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in headers


def test_what_it_returns_is_what_its_resource_says() -> None:
    hook = hook_in("raw-go")

    assert list(hook.outputs) == OUTPUTS
    assert all(map(hook.has_figure, ("rows_in", "rows_out", "removed")))
