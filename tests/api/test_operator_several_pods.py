# SPDX-License-Identifier: Apache-2.0
"""Jobs of several pods on a real API server, with the real Job controller: Indexed Jobs as they are counted and ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.api.conftest import Plane
from tests.api.lab import Lab, OperatorProcess
from tests.api.played import Gate, Pod, disrupted, fails, lies, succeeds

from sandbox_api.base import API_VERSION
from sandbox_api.result import ResultError
from sandbox_operator.kube.errors import NotFound
from sandbox_operator.reconcile.resources import HOOKS, JOBS, PODS, SERVICES

pytestmark = pytest.mark.usefixtures("operator")


async def make_hook(lab: Lab) -> None:
    """A hook that several pods may work at."""
    spec = {"imageName": "data", "outputs": ["dataset"]}
    hook = {"apiVersion": API_VERSION, "kind": "SandboxHook", "metadata": {"name": "workers"}, "spec": spec}
    await lab.client.create(HOOKS, hook, lab.namespace)


def workers(*jobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "workspace": {"claim": {"size": "1Gi"}},
        "retry": {"backoff": "1s"},
        "cache": "Never",
        "executionJobConfigs": [{"hook": "workers", "extraConfigs": {}, **job} for job in jobs],
        **more,
    }


def attempts(lab: Lab) -> dict[int, int]:
    """Pods that were begun, by attempt."""
    begun = [attempt for _, _, attempt, _ in lab.kubelet.pods]
    return {attempt: begun.count(attempt) for attempt in begun}


def one_job_each(lab: Lab) -> None:
    lab.assert_no_job_was_made_twice()
    lab.assert_status_only_went_forward("demo")


# Pieces


async def test_unfinished_pieces_alone_are_tried_again_and_all_are_merged(lab: Lab) -> None:
    await make_hook(lab)
    lab.kubelet.table |= {("w", 1, 1): disrupted(), ("w", 1, 3): fails("Infra", "OSError", "stale file handle")}
    await lab.apply("demo", workers({"metaName": "w", "shards": 4}, {"metaName": "after"}))
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["attempts"], job["reason"]) == ("Succeeded", 2, "Completed"), lab.told()
    assert job["shards"] == {"succeeded": 4, "failed": 0, "total": 4, "done": "0-3"}
    assert job["failures"] == {"user": 0, "infra": 1, "preempted": 0, "final": 0}
    assert attempts(lab) == {1: 5, 2: 2}, "four pieces and the job after them; then two pieces"
    made = {job["metadata"]["name"]: job for job in lab.jobs_of("demo")}
    second = next(job for name, job in made.items() if name.endswith("-a2") and "completions" in job["spec"])
    assert (second["spec"]["completions"], second["spec"]["backoffLimitPerIndex"]) == (2, 0)
    assert second["metadata"]["annotations"]["sandbox.datajuicer.io/pod-numbers"] == "1,3"
    assert [name for name in made if name.endswith("-merge")] == [f"{second['metadata']['name']}-merge"]
    assert lab.status("demo")["outcome"] == "Succeeded"
    one_job_each(lab)


async def test_a_piece_that_nothing_can_save_ends_the_others(lab: Lab) -> None:
    await make_hook(lab)
    waiting = Gate(succeeds())
    lab.kubelet.table |= {("w",): waiting, ("w", 1, 2): fails("User", "ValueError", "row 17 has no text")}
    await lab.apply("demo", workers({"metaName": "w", "shards": 3}))
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["reason"]) == ("Failed", "UserError"), lab.told()
    assert job["message"] == "piece 2: ValueError: row 17 has no text"
    await lab.until(lambda: not lab.pods_of("demo"), "no piece works for nothing")
    one_job_each(lab)


async def test_a_deleted_pod_is_a_piece_to_be_tried_again(lab: Lab) -> None:
    await make_hook(lab)
    held = Gate(succeeds())
    lab.kubelet.table[("w", 1, 0)] = held
    await lab.apply("demo", workers({"metaName": "w", "shards": 2}))
    await lab.until(lambda: lab.job("demo", "w").get("shards", {}).get("done") == "1", "the other piece is done")
    await lab.reached(held, "piece 0 runs")
    (name,) = [
        pod["metadata"]["name"] for pod in lab.pods_of("demo") if pod["status"].get("phase") in ("Running", "Pending")
    ]
    await lab.client.delete(PODS, name, lab.namespace)
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["attempts"]) == ("Succeeded", 2), lab.told()
    assert job["failures"]["preempted"] == 1
    assert attempts(lab) == {1: 2, 2: 1}
    one_job_each(lab)


async def test_an_operator_that_is_killed_while_pieces_end_counts_them_when_it_is_back(
    lab: Lab, operator: OperatorProcess
) -> None:
    await make_hook(lab)
    gates = {number: Gate(succeeds()) for number in range(3)}
    lab.kubelet.table |= {("w", 1, number): gate for number, gate in gates.items()}
    await lab.apply("demo", workers({"metaName": "w", "shards": 3}))
    for gate in gates.values():
        await lab.reached(gate, "all pieces run")
    operator.kill()
    gates[0].opened.set()
    gates[2].opened.set()

    def ended() -> int:
        return sum(pod["status"].get("phase") == "Succeeded" for pod in lab.pods_of("demo"))

    await lab.until(lambda: ended() == 2, "two pieces end unseen")
    operator.start()
    await lab.until(lambda: lab.job("demo", "w").get("shards", {}).get("done") == "0,2", "they are counted")
    gates[1].opened.set()
    await lab.finished("demo")

    assert lab.job("demo", "w")["state"] == "Succeeded", lab.told()
    assert attempts(lab) == {1: 3}
    one_job_each(lab)


async def test_pieces_that_the_merge_does_not_find_are_run_again(lab: Lab) -> None:
    await make_hook(lab)
    job_id = "anonymous/1/execution/0"
    seen: list[int] = []

    async def first_misses(pod: Pod) -> None:
        seen.append(pod.contract.attempt)
        if len(seen) > 1:
            await succeeds()(pod)
            return
        await pod.runs()
        told = ResultError(class_="Input", type="InputError", message="piece 1 of 2: no result", job=job_id)  # type: ignore[call-arg]
        await pod.ends(3, pod.message(outcome="Failed", error=told))

    lab.kubelet.table[("w", "merge")] = first_misses
    await lab.apply("demo", workers({"metaName": "w", "shards": 2}))
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["attempts"], seen) == ("Succeeded", 2, [1, 2]), lab.told()
    assert attempts(lab) == {1: 2, 2: 2}
    one_job_each(lab)


# Ranks


async def test_pods_that_work_as_one_have_names_and_succeed_together(lab: Lab, plane: Plane) -> None:
    await make_hook(lab)
    held = Gate(succeeds())
    lab.kubelet.table[("w", 1, 1)] = held
    await lab.apply("demo", workers({"metaName": "w", "nodes": 2}))
    await lab.reached(held, "rank 1 runs")
    await lab.until(lambda: lab.job("demo", "w").get("state") == "Running", "both run")
    (job,) = lab.jobs_of("demo")
    name = job["metadata"]["name"]
    service = await lab.client.get(SERVICES, job["spec"]["template"]["spec"]["subdomain"], lab.namespace)
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert {(pod["spec"]["hostname"], pod["spec"]["subdomain"]) for pod in lab.pods_of("demo")} == {
        (f"{name}-0", service["metadata"]["name"]), (f"{name}-1", service["metadata"]["name"]),
    }  # fmt: skip
    (container,) = job["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert env["SANDBOX_RENDEZVOUS"] == f"{name}-0.{service['metadata']['name']}.{lab.namespace}.svc:29500"
    assert lab.job("demo", "w")["state"] == "Running", "rank 0 alone is not the end"
    held.opened.set()
    await lab.finished("demo")

    done = lab.job("demo", "w")
    assert (done["state"], done["attempts"]) == ("Succeeded", 1), lab.told()
    rank_0 = next(
        p for p in lab.pods_of("demo") if p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0"
    )
    assert f"/attempts/1/{rank_0['metadata']['uid'][:8]}/" in done["result"]["path"]
    written = [entry for entry in plane.requests(lab.namespace) if entry[0] not in ("get", "list", "watch")]
    assert written.count(("create", "services")) == 1
    one_job_each(lab)
    await lab.delete("demo")

    async def gone() -> bool:
        try:
            await lab.client.get(SERVICES, service["metadata"]["name"], lab.namespace)
        except NotFound:
            return True
        return False

    for _ in range(400):
        if await gone():
            break
        await asyncio.sleep(0.05)
    assert await gone(), "the Service goes with its experiment"


async def test_one_that_fails_ends_the_others_and_is_the_one_that_is_blamed(lab: Lab) -> None:
    await make_hook(lab)
    held = Gate(succeeds())
    lab.kubelet.table |= {("w", 1): held, ("w", 1, 2): fails("User", "ValueError", "row 17 has no text")}
    await lab.apply("demo", workers({"metaName": "w", "nodes": 3}))
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["reason"], job["attempts"]) == ("Failed", "UserError", 1), lab.told()
    assert job["message"] == "ValueError: row 17 has no text (pod 2)"
    assert job["failures"] == {"user": 1, "infra": 0, "preempted": 0, "final": 0}
    await lab.until(
        lambda: all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in lab.pods_of("demo")),
        "the Job ends the others",
    )
    one_job_each(lab)


async def test_a_drained_pod_preempts_them_all_and_all_begin_again(lab: Lab) -> None:
    await make_hook(lab)
    held = Gate(succeeds())
    lab.kubelet.table |= {("w", 1): held, ("w", 1, 1): disrupted()}
    await lab.apply("demo", workers({"metaName": "w", "nodes": 2}))
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["attempts"]) == ("Succeeded", 2), lab.told()
    assert job["failures"] == {"user": 0, "infra": 0, "preempted": 1, "final": 0}
    assert attempts(lab) == {1: 2, 2: 2}
    names = {made["spec"]["template"]["spec"]["subdomain"] for made in lab.jobs_of("demo")}
    assert len(names) == 1, "one Service for both attempts"
    one_job_each(lab)


async def test_a_pod_that_is_deleted_preempts_them_all(lab: Lab) -> None:
    await make_hook(lab)
    held = Gate(succeeds())
    lab.kubelet.table[("w", 1)] = held
    await lab.apply("demo", workers({"metaName": "w", "nodes": 2}))
    await lab.until(lambda: lab.job("demo", "w").get("state") == "Running", "both run")
    pod = lab.pods_of("demo")[0]["metadata"]["name"]
    await lab.client.delete(PODS, pod, lab.namespace)
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["attempts"]) == ("Succeeded", 2), lab.told()
    assert job["failures"] == {"user": 0, "infra": 0, "preempted": 1, "final": 0}
    one_job_each(lab)


async def test_another_ranks_word_is_not_the_jobs_result(lab: Lab) -> None:
    await make_hook(lab)
    lab.kubelet.table[("w", 1, 0)] = lies(succeeds(), attempt=7)
    await lab.apply("demo", workers({"metaName": "w", "nodes": 2}, timeouts={"result": "1s"}))
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["attempts"]) == ("Succeeded", 2), lab.told()
    assert job["failures"]["infra"] == 1, "it was asked of the volume, where there was none"
    one_job_each(lab)


async def test_its_job_that_somebody_deletes_is_made_again_as_the_next_attempt(lab: Lab) -> None:
    await make_hook(lab)
    held = Gate(succeeds())
    lab.kubelet.table[("w", 1)] = held
    await lab.apply("demo", workers({"metaName": "w", "nodes": 2}))
    await lab.until(lambda: lab.job("demo", "w").get("state") == "Running", "both run")
    await lab.client.delete(JOBS, lab.job("demo", "w")["jobName"], lab.namespace)
    await lab.finished("demo")

    job = lab.job("demo", "w")
    assert (job["state"], job["attempts"], job["failures"]["preempted"]) == ("Succeeded", 2, 1), lab.told()
    one_job_each(lab)
