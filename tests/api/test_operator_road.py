# SPDX-License-Identifier: Apache-2.0
"""The road on a real API server: the operator's real process takes experiments from apply to their end."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from tests.api.conftest import Plane
from tests.api.lab import Lab, OperatorProcess, probes, road
from tests.api.played import Behaviour, Table, disrupted, exits, fails, lies, succeeds

pytestmark = pytest.mark.usefixtures("operator")
HOOKS = ["before", "refine", "process", "after"]


def decides(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a status write commits a result, starts an attempt, or decides something: those are counted."""

    def decided(status: dict[str, Any]) -> object:
        jobs = [
            (job["attempts"], job["state"] in ("Succeeded", "Failed", "Skipped")) for job in status.get("jobs") or ()
        ]
        return status.get("outcome"), status.get("observedGeneration"), status.get("completionTime"), jobs

    return decided(before) != decided(after)


async def test_four_hooks_become_four_jobs_one_after_another_and_a_table(lab: Lab, plane: Plane) -> None:
    """And the writes that it costs.

    Counted from the audit log: every create, patch, update and delete that the operator sent, its Event included. Left
    out, as the design does: the claim's creation, and status writes that decide nothing (Running, why it waits).
    """
    lab.kubelet.table |= {("before",): succeeds(rows=100, mean=2.5), ("after",): succeeds(rows=80, mean=2.0)}
    await lab.apply("demo", road())
    await lab.finished("demo")
    status = lab.status("demo")
    assert (status["outcome"], status["progress"], status["stage"]) == ("Succeeded", "4/4", "evaluation")
    assert [job["metaName"] for job in status["jobs"]] == HOOKS
    assert all(
        (job["state"], job["attempts"], job["reason"]) == ("Succeeded", 1, "Completed") for job in status["jobs"]
    )
    jobs = {"beforeJob": "before", "afterJob": "after"}
    rows = [
        {"metric": "mean", "before": 2.5, "after": 2, "change": -0.5, "relative": -0.2, **jobs},
        {"metric": "rows", "before": 100, "after": 80, "change": -20, "relative": -0.2, **jobs},
    ]
    assert sorted(status["comparison"], key=lambda row: row["metric"]) == rows
    assert lab.condition("demo", "Ready")["status"] == lab.condition("demo", "StorageReady")["status"] == "True"
    assert not lab.condition("demo", "Reconciling")
    assert not lab.condition("demo", "Stalled")
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()
    # Each job was made after the one before it was committed: no status ever shows two that are not over.
    for seen in lab.history["demo"]:
        begun = [job for job in seen["jobs"] if job["attempts"] and job["state"] not in ("Succeeded", "Failed")]
        assert len(begun) <= 1, begun

    def count() -> Counter[tuple[str, str]]:
        return Counter(entry for entry in plane.requests(lab.namespace) if entry[0] not in ("get", "list", "watch"))

    await lab.until(lambda: count()["create", "events"], "the closing Event")
    written = count()
    coalesced = sum(not decides(old, new) for old, new in pairwise([{}, *lab.history["demo"]]))
    assert written.pop(("create", "persistentvolumeclaims")) == 1
    assert written["create", "jobs"] == 4
    assert written.total() - coalesced <= 2 * 4 + 2, (written, coalesced)


async def test_a_failed_hook_fails_the_experiment_in_its_own_words(lab: Lab) -> None:
    lab.kubelet.table[("process",)] = fails("User", "ValueError", "row 17: no text in field 'content'")
    await lab.apply("demo", road())
    await lab.finished("demo")
    status, job = lab.status("demo"), lab.job("demo", "process")
    assert (status["outcome"], status["progress"]) == ("Failed", "2/4")
    assert (job["state"], job["reason"], job["attempts"]) == ("Failed", "UserError", 1)
    assert job["message"] == "ValueError: row 17: no text in field 'content'"
    skipped = lab.job("demo", "after")
    assert (skipped["state"], skipped["reason"]) == ("Skipped", "EarlierJobFailed")
    assert "process" in skipped["message"]
    stalled = lab.condition("demo", "Stalled")
    assert stalled["status"] == "True"
    assert "ValueError: row 17" in stalled["message"]
    assert len(lab.made) == 3, "no Job after the failed one"
    event = await lab.event("demo", "UserError")
    assert event["type"] == "Warning"
    assert "row 17" in event["message"]


FAILURES: dict[str, tuple[Table, str, int, str]] = {
    # name: behaviours by attempt, reason in the end, attempts, words in the message
    "user": ({("a",): fails("User", "KeyError", "'text'")}, "UserError", 1, "KeyError: 'text'"),
    "config": (
        {("a",): fails("Config", "ConfigError", "djConfigs.np: not a number")},
        "ConfigError",
        1,
        "djConfigs.np",
    ),
    "infra-once": ({("a", 1): fails("Infra", "OSError", "stale file handle")}, "Completed", 2, ""),
    "infra-ever": ({("a",): fails("Infra", "OSError", "stale file handle")}, "InfraError", 3, "stale file handle"),
    "preempted": ({("a", 1): disrupted(), ("a", 2): disrupted()}, "Completed", 3, ""),
    "oom": ({("a",): exits(137, reason="OOMKilled")}, "OutOfMemory", 1, "more memory than its limit"),
    "untold-user": ({("a",): exits(1, "Segmentation fault")}, "UserError", 1, "Segmentation fault"),
    "untold-config": ({("a",): exits(2, "bad")}, "ConfigError", 1, "exit code 2"),
    "untold-infra": ({("a", 1): exits(4, "no space left")}, "Completed", 2, ""),
    "no-result": ({("a", 1): exits(0)}, "Completed", 2, ""),
    "other-attempts-words": ({("a", 1): lies(succeeds(), attempt=7)}, "Completed", 2, ""),
}


async def test_each_class_of_failure_has_its_budget_and_each_attempt_its_own_job(lab: Lab) -> None:
    spec = probes("a", claim_name="shared", retry={"infra": 2, "backoff": "1s"}, timeouts={"result": "1s"})
    await lab.make_claim("shared")
    for name, (table, *_) in FAILURES.items():
        lab.kubelet.table |= {(name, *key): behaviour for key, behaviour in table.items()}
        await lab.apply(name, spec)
    await lab.finished(*FAILURES)
    found = {
        name: (job["reason"], job["attempts"], words in job.get("message", ""))
        for name, (*_, words) in FAILURES.items()
        for job in [lab.job(name, "a")]
    }
    assert found == {name: (reason, attempts, True) for name, (_, reason, attempts, _) in FAILURES.items()}, lab.told()
    assert Counter(name for name, _, _ in lab.made) == Counter({n: f[2] for n, f in FAILURES.items()}), "Jobs made"
    assert lab.job("preempted", "a")["failures"]["preempted"] == 2
    assert lab.status("infra-once")["retries"] == 1
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()


async def test_a_user_budget_gives_a_user_failure_another_attempt(lab: Lab) -> None:
    behaviours: dict[int, Behaviour] = {1: fails("User", "E", "flaky"), 2: exits(137, reason="OOMKilled")}
    lab.kubelet.table |= {("a", attempt): behaviour for attempt, behaviour in behaviours.items()}
    await lab.apply("demo", probes("a", retry={"user": 2, "backoff": "1s"}))
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded"
    assert lab.job("demo", "a")["failures"] == {"user": 2, "infra": 0, "preempted": 0, "final": 0}


async def test_many_experiments_run_beside_each_other(lab: Lab, operator: OperatorProcess) -> None:
    names = [f"demo-{number}" for number in range(12)]
    for name in names:
        await lab.apply(name, probes("a", "b"))
    await lab.finished(*names)
    assert {lab.status(name)["outcome"] for name in names} == {"Succeeded"}
    lab.assert_no_job_was_made_twice()
    assert operator.code is None
