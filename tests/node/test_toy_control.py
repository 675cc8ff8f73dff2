# SPDX-License-Identifier: Apache-2.0
"""Commands over time on a real node: suspend, resume, stop, rerun, the step cache, results whose word was lost."""

import json
from typing import Any

import pytest
from tests.node.kubernetes import condition, until
from tests.node.toys import Toys, hold, reads, toy
from tests.progress import deep_only

NOTHING = {"user": 0, "infra": 0, "preempted": 0, "final": 0}


def test_suspension_at_once_ends_the_hook_and_resuming_goes_on_from_its_state(toys: Toys) -> None:
    toys.start("paused", [hold(), toy("write")], suspendPolicy="Now")
    toys.began("paused")
    toys.change("paused", suspend=True)
    until("it is suspended", lambda: condition(toys.item("paused"), "Suspended").get("status") == "True")
    until("its pod is gone", lambda: not toys.pods("paused"))
    job = toys.job("paused")
    assert (job["state"], job["attempts"], job.get("failures", NOTHING)) == ("Pending", 1, NOTHING)
    (first,) = toys.attempts("paused", job, 1)
    ended = json.loads((first / "result.json").read_text())
    assert ended["error"]["type"] == "SIGTERM", "it got no order to end"

    toys.change("paused", suspend=False)
    toys.began("paused", attempt=2)
    toys.let_go("paused", "go")
    job, _ = toys.succeeded("paused")
    assert job["outputs"]["first"] == ["attempt-1", "attempt-2"]
    assert job.get("failures", NOTHING) == NOTHING


@deep_only
def test_suspension_at_the_boundary_lets_the_hook_end(toys: Toys) -> None:
    toys.start("patient", [hold(), toy("write")])
    toys.began("patient")
    toys.change("patient", suspend=True)
    toys.let_go("patient", "go")
    toys.becomes("patient", "the hook ends", lambda job: job["state"] == "Succeeded")
    until("it is suspended", lambda: condition(toys.item("patient"), "Suspended").get("status") == "True")
    assert toys.job("patient", "write")["attempts"] == 0
    toys.change("patient", suspend=False)
    assert [job["attempts"] for job in toys.succeeded("patient")] == [1, 1]


@pytest.mark.parametrize("stop", ["Now", pytest.param("AfterEvaluation", marks=deep_only)])
def test_stop_ends_it_and_keeps_what_was_found(toys: Toys, stop: str) -> None:
    evaluation = [toy("look", "judge")]
    toys.start("stopped", [toy("write"), hold(), toy("write", "later")], evaluationJobConfigs=evaluation)
    toys.began("stopped", "hold")
    done = toys.job("stopped", "write")
    toys.change("stopped", stop=stop)
    if stop != "Now":
        toys.let_go("stopped", "go")
    status = toys.ended("stopped")
    jobs = {job["metaName"]: job for job in status["jobs"]}
    assert status["outcome"] == "Stopped"
    assert jobs["write"] == done
    assert jobs["later"]["state"] == "Skipped"
    assert jobs["judge"]["state"] == ("Skipped" if stop == "Now" else "Succeeded")
    until("no pod of it runs", lambda: not [p for p in toys.pods("stopped") if p["status"]["phase"] == "Running"])


def test_a_rerun_from_a_job_keeps_what_was_before_it(toys: Toys) -> None:
    jobs = [toy("write", "first"), toy("look", "second", job=reads("first")), toy("look", "third")]
    toys.start("again", jobs)
    before = {job["metaName"]: job for job in toys.succeeded("again")}
    toys.change("again", rerun={"token": "2", "from": "second"})
    until("the token is seen", lambda: toys.status("again").get("rerunToken") == "2")
    after = {job["metaName"]: job for job in toys.succeeded("again")}
    assert after["first"] == before["first"]
    for name in ("second", "third"):
        assert (after[name]["attempts"], after[name]["generation"], after[name]["state"]) == (2, 2, "Succeeded")
        assert after[name]["result"]["path"] != before[name]["result"]["path"]
    history = {entry["id"]: entry for entry in toys.status("again")["history"]}
    assert {history[before[name]["id"]]["result"]["path"] for name in ("second", "third")} == {
        before[name]["result"]["path"] for name in ("second", "third")
    }
    for name in ("second", "third"):
        assert (toys.volume("again-workspace") / before[name]["result"]["path"]).exists(), "an earlier result is lost"


@deep_only
def test_a_failed_experiment_is_mended_and_keeps_what_did_not_change(toys: Toys) -> None:
    toys.start("mended", [toy("write"), toy("fail", "broken", say="no"), toy("look", "last")])
    failed = toys.ended("mended")
    assert failed["outcome"] == "Failed"
    mended = [toy("write"), toy("look", "broken"), toy("look", "last")]
    toys.change("mended", executionJobConfigs=mended, rerun={"token": "2"})
    until("the token is seen", lambda: toys.status("mended").get("rerunToken") == "2")
    first, second, third = toys.succeeded("mended")
    assert first == failed["jobs"][0]
    assert (second["attempts"], third["attempts"]) == (2, 1)
    assert len(toys.jobs("mended")) == 4


# The step cache


def test_an_equal_experiment_on_the_same_claim_runs_no_hook(toys: Toys) -> None:
    jobs = [toy("write", "first", text="made once"), toy("look", job=reads("first"))]
    toys.start("one", jobs)
    done = toys.succeeded("one")
    toys.start("two", jobs, workspace={"claimName": "one-workspace"})
    cached = toys.succeeded("two")
    assert [job["state"] for job in cached] == ["Cached", "Cached"]
    assert [job["attempts"] for job in cached] == [0, 0]
    assert [job["result"]["path"] for job in cached] == [job["result"]["path"] for job in done]
    assert not toys.jobs("two")

    fresh = [jobs[0], toy("look", "new", job=reads("first"))]
    (toys.volume("one-workspace") / done[0]["outputs"]["first"]).write_text("changed by hand")
    toys.start("three", fresh, workspace={"claimName": "one-workspace"})
    first, look = toys.succeeded("three")
    assert (first["state"], first["attempts"], first["generation"]) == ("Succeeded", 1, 2), "its reader did not notice"
    assert look["attempts"] == 2
    read = toys.volume("one-workspace") / first["outputs"]["first"]
    assert read.read_text() == "made once"
    assert look["outputs"]["first"]["read"].endswith(first["outputs"]["first"])
    assert any(event["reason"] == "InputLost" for event in toys.events("three"))


@deep_only
def test_a_hit_on_a_users_file_is_looked_at_by_a_pod_first(toys: Toys) -> None:
    def data(text: str) -> dict[str, Any]:
        meta = {"name": "data", "namespace": toys.namespace}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"x.txt": text}}

    jobs = [toy("look", dataset_path="inputs/raw/x.txt")]
    raw = {"inputs": [{"name": "raw", "configMapName": "data"}]}
    toys.node.apply(data("as it was"))
    toys.start("one", jobs, **raw)
    (done,) = toys.succeeded("one")
    shared = {**raw, "workspace": {"claimName": "one-workspace"}}
    toys.start("same", jobs, **shared)
    (hit,) = toys.succeeded("same")
    assert (hit["state"], hit["attempts"], hit["result"]["path"]) == ("Cached", 0, done["result"]["path"])
    assert (len(toys.jobs("same")), len(toys.jobs("same", "check"))) == (0, 1)

    toys.node.apply(data("replaced"))
    toys.start("other", jobs, **shared)
    (ran,) = toys.succeeded("other")
    assert (ran["state"], ran["attempts"]) == ("Succeeded", 1)
    assert (len(toys.jobs("other")), len(toys.jobs("other", "check"))) == (1, 1)


@deep_only
def test_equal_jobs_at_the_same_time_run_once(toys: Toys) -> None:
    toys.start("first", [hold()])
    toys.began("first")
    toys.start("second", [hold()], workspace={"claimName": "first-workspace"})
    waiting = toys.becomes("second", "it waits", lambda job: job.get("reason") == "EqualJobRuns")
    assert waiting["attempts"] == 0
    toys.let_go("first", "go")
    (done,) = toys.succeeded("first")
    (hit,) = toys.succeeded("second")
    assert (hit["state"], hit["result"]["path"]) == ("Cached", done["result"]["path"])
    assert not toys.jobs("second")


@deep_only
def test_a_result_that_was_changed_by_hand_is_made_again_for_its_reader(toys: Toys) -> None:
    jobs = [toy("write", "first", text="as it was"), hold(), toy("look", job=reads("first"))]
    toys.start("tampered", jobs)
    toys.began("tampered", "hold")
    before = toys.job("tampered", "first")
    (toys.volume("tampered-workspace") / before["outputs"]["first"]).unlink()
    toys.let_go("tampered", "go")
    first, held, look = toys.succeeded("tampered")
    assert (first["generation"], first["attempts"], first["remade"]) == (2, 2, 1)
    assert held["attempts"] == 1, "it read nothing of that"
    assert look["outputs"]["first"]["read"].endswith(first["outputs"]["first"])


# Results whose word was lost


def test_a_result_without_a_message_is_read_from_the_volume(toys: Toys) -> None:
    toys.start("mute", [toy("whisper"), toy("look", job=reads("whisper"))], timeouts={"result": "1s"})
    whisper, look = toys.succeeded("mute")
    assert (whisper["attempts"], whisper["state"]) == (1, "Succeeded")
    assert whisper["outputs"]["first"] == "said to nobody"
    (reader,) = toys.jobs("mute", "read")
    assert reader["metadata"]["name"] == f"{whisper['jobName']}-read"
    assert look["outputs"]["first"]["read"] == "said to nobody"


@deep_only
def test_apply_delete_apply_goes_on_where_it_was(toys: Toys) -> None:
    """The claim is kept and found again by its name; what was done before is returned, not repeated."""
    jobs = [toy("write", "first", text="by the first life"), hold()]
    toys.start("twice", jobs)
    toys.began("twice", "hold")
    before = toys.job("twice", "first")
    toys.node.ok("kubectl", "delete", "sbx", "twice", "-n", toys.namespace)
    until("its pods are gone", lambda: not toys.node.get("pods", "-n", toys.namespace)["items"])
    toys.start("twice", jobs)
    toys.began("twice", "hold")
    toys.let_go("twice", "go")
    first, _ = toys.succeeded("twice")
    assert (first["state"], first["reason"]) == ("Succeeded", "Recovered")
    assert first["outputs"]["first"] == before["outputs"]["first"]


@deep_only
def test_a_result_that_nobody_wrote_is_lost_and_made_again(toys: Toys) -> None:
    toys.start("vanished", [toy("whisper", lose=True), toy("write", "later")], timeouts={"result": "1s"})
    job = toys.becomes("vanished", "it is tried again", lambda job: job["attempts"] == 2)
    assert job["failures"] == {"user": 0, "infra": 1, "preempted": 0, "final": 0}
    first, _ = toys.succeeded("vanished")
    assert (first["attempts"], first["outputs"]["first"]) == (2, "said to nobody")
