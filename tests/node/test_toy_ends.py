# SPDX-License-Identifier: Apache-2.0
"""How hooks end on a real node, one case for each line of the contract's table of exit codes and classes.

All experiments run side by side; each case then looks at its own.
"""

import unicodedata
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.node.kubernetes import SYSTEM
from tests.node.toys import Toys, toy
from tests.progress import DEEP

MEMORY = {"resources": {"limits": {"memory": "96Mi"}}}
OOM = (1, 137)
"""The kernel kills the hook's process, and the supervisor tells it; or all of the container, and the kubelet does."""


@dataclass(frozen=True)
class Case:
    """A job, and how its one or more attempts must end."""

    job: dict[str, Any]
    reason: str
    words: tuple[str, ...]
    code: int | tuple[int, ...]
    """Exit code of the hook's container, by which other tools may know the class; several where the node decides."""
    attempts: int = 1
    spec: dict[str, Any] = field(default_factory=dict)


def generous(**budgets: int) -> dict[str, Any]:
    """Budgets with more attempts for the classes that are not meant: they must stay unused."""
    return {"retry": {"user": 5, "infra": 5, "preempted": 5, "backoff": "1s", **budgets}}


ALL = {
    "user": Case(toy("fail", say="row 7 has no text"), "UserError", ("ValueError", "row 7 has no text", "toy_hooks.py:"), 1, 1, generous(user=0)),
    "user-again": Case(toy("fail", say="again"), "UserError", ("again",), 1, 3, generous(user=2)),
    "unknown-code": Case(toy("exit", code=77), "UserError", ("exit code 77",), 77, 1, generous(user=0)),
    "fault": Case(toy("exit", fault=True), "UserError", ("killed by SIGSEGV (segmentation fault)", "LAST WORDS"), 139, 1, generous(user=0)),
    "aborted": Case(toy("exit", signal="SIGABRT"), "UserError", ("killed by SIGABRT (aborted)", "LAST WORDS"), 134, 1, generous(user=0)),
    "left-by-itself": Case(toy("exit", code=0), "UserError", ("exit code 0",), 1, 1, generous(user=0)),
    "killed-for-another-reason": Case(toy("exit", code=137), "UserError", ("exit code 137",), 137, 1, generous(user=0)),
    "config": Case(toy("raise_as", error="ConfigError", say="extraConfigs.size: must be even"), "ConfigError", ("extraConfigs.size: must be even",), 2, 1, generous()),
    "config-silent": Case(toy("exit", code=2), "ConfigError", ("exit code 2",), 2, 1, generous()),
    "input": Case(toy("raise_as", error="InputError", say="the stats are gone"), "InputLost", ("the stats are gone",), 3, 1, generous()),
    "infra": Case(toy("raise_as", error="InfraError", say="the GPU fell off"), "InfraError", ("the GPU fell off",), 4, 2, generous(infra=1)),
    "infra-silent": Case(toy("exit", code=4), "InfraError", ("exit code 4",), 4, 2, generous(infra=1)),
    "ended": Case(toy("ended"), "InfraError", ("told to end (SIGTERM)",), 143, 2, generous(infra=1)),
    "memory": Case(toy("hungry", job=MEMORY), "OutOfMemory", ("96",), OOM, 2, generous(user=1)),
    "memory-slowly": Case(toy("hungry", slowly=True, job=MEMORY), "OutOfMemory", ("limit 96 MiB", "peak"), OOM, 1, generous(user=0)),
    "memory-of-a-child": Case(toy("hungry", child=True, job=MEMORY), "OutOfMemory", ("limit 96 MiB", "peak 9"), 1, 1, generous(user=0)),
    "memory-error": Case(toy("memory"), "OutOfMemory", ("limit unknown", "no more"), 1, 1, generous(user=0)),
    "time": Case(toy("hold", until="never", job={"timeouts": {"active": "2s"}}), "Timeout", ("time of 2 s (timeouts.active)",), 1, 2, generous(user=1)),
    "time-native": Case(toy("native", sleep=600, job={"timeouts": {"active": "2s"}}), "Timeout", ("time of 2 s (timeouts.active)",), 1, 1, generous(user=0)),
    "no-result": Case(toy("whisper", lose=True, always=True), "ResultsLost", ("none was found on the volume",), 0, 2, {**generous(infra=1), "timeouts": {"result": "1s"}}),
    "no-result-at-once": Case(toy("whisper", lose=True, always=True, job={"resultsLost": "Fail"}), "ResultsLost", ("none was found on the volume",), 0, 1, {**generous(), "timeouts": {"result": "1s"}}),
    "noise": Case(toy("noise", **{"as": "error"}), "UserError", ("toy_hooks.py:",), 1, 1, generous(user=0)),
    "noise-silent": Case(toy("noise", **{"as": "log"}), "UserError", ("exit code 9",), 9, 1, generous(user=0)),
}  # fmt: skip
SAMPLE = (
    "user-again",
    "unknown-code",
    "fault",
    "config",
    "infra-silent",
    "ended",
    "memory-slowly",
    "memory-of-a-child",
    "no-result",
    "noise",
    "noise-silent",
)
CASES = {name: case for name, case in ALL.items() if DEEP or name in SAMPLE}


@pytest.fixture(scope="module")
def running(module_toys: Toys) -> Toys:
    """All cases, begun."""
    for name, case in CASES.items():
        module_toys.start(name, [case.job, toy("write", "later")], **case.spec)
    module_toys.start("noisy-success", [toy("noise", **{"as": "message"})])
    return module_toys


@pytest.mark.parametrize("name", CASES)
def test_an_end_has_its_class_its_words_and_its_budget(running: Toys, name: str) -> None:
    case = CASES[name]
    status = running.ended(name, 300)
    job, later = status["jobs"]
    assert (status["outcome"], job["state"], job["reason"]) == ("Failed", "Failed", case.reason), job
    for word in case.words:
        assert word in job["message"]
    assert job["attempts"] == case.attempts
    assert sum(job["failures"].values()) == case.attempts
    assert (later["state"], later["attempts"]) == ("Skipped", 0)
    # Where a result is missing, a small pod looks for it on the volume: none is there.
    assert len(running.jobs(name, "read")) == (case.attempts if case.reason == "ResultsLost" else 0)
    codes = [
        container["state"]["terminated"]["exitCode"]
        for pod in running.pods(name)
        for container in pod["status"]["containerStatuses"]
    ]
    allowed = case.code if isinstance(case.code, tuple) else (case.code,)
    assert len(codes) == case.attempts
    assert set(codes) <= set(allowed)
    assert [job["metadata"]["name"].rpartition("-")[2] for job in running.jobs(name)] == [
        f"a{number}" for number in range(1, case.attempts + 1)
    ]


@pytest.mark.parametrize("name", ["noise", "noise-silent", "noisy-success"])
def test_a_megabyte_of_control_characters_becomes_a_short_clean_message(running: Toys, name: str) -> None:
    status = running.ended(name, 300)
    (job, *_) = status["jobs"]
    assert job["state"] == ("Succeeded" if name == "noisy-success" else "Failed")
    assert len(job["message"].encode()) <= 1024
    seen = running.node.ok("kubectl", "describe", "sbx", name, "-n", running.namespace)
    seen += running.node.ok("kubectl", "get", "sbx", name, "-n", running.namespace, "-o", "wide")
    seen += "".join(event["message"] for event in running.events(name))
    seen += running.node.ok("kubectl", "logs", "deployment/sandbox-operator", "-n", SYSTEM)
    assert {unicodedata.name(c, hex(ord(c))) for c in seen if _commands_terminals(c)} == set()
    assert len(running.node.ok("kubectl", "get", "sbx", name, "-n", running.namespace, "-o", "json")) < 16 * 1024


def _commands_terminals(character: str) -> bool:
    """Control characters (but line ends and tabs), and those that change how others are shown."""
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs")
