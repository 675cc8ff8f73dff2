# SPDX-License-Identifier: Apache-2.0
"""What others do to a running hook on a real node: drains, deletions, preemption, restarts. One success, no result lost, no
Job twice, and the failure counted where it belongs.

A hook's result lists the attempts that have worked on it: a restart that nobody meant would show there.
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.kubernetes import CLUSTER, Kubernetes, until
from tests.node.toys import Toys, hold, toy
from tests.progress import DEEP, deep_only

PROCESSES = [
    "kubelet",
    *(("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd") if DEEP else ()),
]
NOTHING = {"user": 0, "infra": 0, "preempted": 0, "final": 0}


def evict(toys: Toys, pod: str) -> None:
    """What a drain asks for each pod."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": toys.namespace}}
    path = f"/api/v1/namespaces/{toys.namespace}/pods/{pod}/eviction"
    toys.node.ok("kubectl", "create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def went_on(toys: Toys, name: str, attempts: int, failures: dict[str, int], released: str = "go") -> dict[str, Any]:
    """Let the newest attempt go; check that it alone succeeded, and what was counted. Returns the job's status."""
    toys.began(name, attempt=attempts)
    toys.let_go(name, released)
    job, later = toys.succeeded(name)
    assert job["attempts"] == attempts
    assert job.get("failures", NOTHING) == {**NOTHING, **failures}
    assert job["outputs"]["first"] == [f"attempt-{number}" for number in range(1, attempts + 1)]
    assert [done.parts[-3] for done in _successes(toys, name, job)] == [str(attempts)]
    assert job["result"]["path"].endswith("result.json")
    assert f"/attempts/{attempts}/" in job["result"]["path"]
    assert later["attempts"] == 1
    names = [found["metadata"]["name"] for found in toys.jobs(name)]
    assert len(names) == len(set(names))
    return job


def _successes(toys: Toys, name: str, job: dict[str, Any]) -> list[Any]:
    results = list(toys.attempts(name, job, file="result.json"))
    return [path for path in results if json.loads(path.read_text())["outcome"] == "Succeeded"]


def test_a_drained_pod_is_tried_again_at_no_cost(toys: Toys) -> None:
    toys.start("drained", [hold(), toy("write")], retry={"user": 0, "infra": 0})
    toys.began("drained")
    evict(toys, toys.pod("drained"))
    job = toys.becomes("drained", "the eviction is counted", lambda job: job.get("failures"))
    assert job["failures"] == {"user": 0, "infra": 0, "preempted": 1, "final": 0}
    went_on(toys, "drained", 2, {"preempted": 1})
    first = toys.jobs("drained")[0]
    (failed,) = (c for c in first["status"]["conditions"] if c["type"] == "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "PodFailurePolicy")
    assert any(event["reason"] == "Preempted" for event in toys.events("drained"))


@deep_only
def test_preemptions_have_a_budget_of_their_own(toys: Toys) -> None:
    toys.start("spot", [hold(), toy("write", "later")], retry={"user": 5, "infra": 5, "preempted": 1})
    for attempt in (1, 2):
        toys.began("spot", attempt=attempt)
        evict(toys, toys.pod("spot"))
    job, later = toys.ended("spot")["jobs"]
    assert (job["state"], job["reason"], job["attempts"]) == ("Failed", "Preempted", 2)
    assert job["failures"] == {"user": 0, "infra": 0, "preempted": 2, "final": 0}
    assert later["state"] == "Skipped"


@pytest.mark.parametrize("force", [False, *([True] if DEEP else [])])
def test_a_pod_deleted_by_hand_is_tried_again(toys: Toys, force: bool) -> None:
    toys.start("deleted", [hold(), toy("write")], retry={"user": 0, "infra": 0})
    toys.began("deleted")
    how = ("--force", "--grace-period=0") if force else ("--wait=false",)
    toys.node.ok("kubectl", "delete", "pod", toys.pod("deleted"), "-n", toys.namespace, *how)
    went_on(toys, "deleted", 2, {"preempted": 1})


def test_a_job_deleted_by_hand_is_tried_again_when_its_pod_is_gone(toys: Toys) -> None:
    toys.start("jobless", [hold(), toy("write")], retry={"user": 0, "infra": 0})
    name = toys.began("jobless")["jobName"]
    toys.node.ok("kubectl", "delete", "job", name, "-n", toys.namespace, "--wait=false")
    job = went_on(toys, "jobless", 2, {"preempted": 1})
    assert job["jobName"] != name


@deep_only
def test_a_job_deleted_by_hand_while_it_waits_is_made_again(toys: Toys) -> None:
    """Nothing of it has run, so nothing has failed."""
    toys.start("early", [hold(job={"resources": {"requests": {"cpu": "64"}}}), toy("write")])
    waiting = toys.becomes("early", "it waits for a place", lambda job: job.get("reason") == "Unschedulable")
    before = toys.jobs("early")[0]["metadata"]["uid"]
    toys.node.ok("kubectl", "delete", "job", waiting["jobName"], "-n", toys.namespace)
    until("another Job of that name", lambda: [j for j in toys.jobs("early") if j["metadata"]["uid"] != before])
    assert toys.job("early")["attempts"] == 1


def test_a_higher_priority_takes_the_place_and_the_hook_comes_back(toys: Toys) -> None:
    free = _free_milli_cpus(toys.node)
    high = f"{toys.namespace}-high"
    toys.node.apply(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": high}, "value": 1000}
    )
    try:
        most = {"requests": {"cpu": f"{free * 2 // 3}m"}}
        toys.start("low", [hold(job={"resources": most}), toy("write")], retry={"user": 0, "infra": 0})
        toys.began("low")
        urgent = {"default": {"resources": most, "priorityClassName": high}}
        toys.start("high", [hold(until="done")], pods=urgent)
        toys.began("high")
        job = toys.becomes("low", "it waits for a place again", lambda job: job.get("reason") == "Unschedulable")
        assert (job["attempts"], job["failures"]) == (2, {"user": 0, "infra": 0, "preempted": 1, "final": 0})
        toys.let_go("high", "done")
        toys.succeeded("high")
        went_on(toys, "low", 2, {"preempted": 1})
    finally:
        toys.node.ok("kubectl", "delete", "priorityclass", high)


@deep_only
def test_a_hook_that_outgrows_the_nodes_disk_is_evicted_and_counts_as_infra(toys: Toys) -> None:
    """The kubelet evicts it for its ephemeral storage; the volume of the experiment is not meant."""
    small = {"resources": {"limits": {"ephemeral-storage": "8Mi"}}}
    toys.start("spilling", [toy("fill", tmp=True, mebibytes=64, job=small)], retry={"user": 5, "infra": 0})
    (job,) = toys.ended("spilling", 300)["jobs"]
    assert (job["state"], job["reason"], job["attempts"]) == ("Failed", "InfraError", 1)
    assert job["failures"] == {"user": 0, "infra": 1, "preempted": 0, "final": 0}
    assert "ephemeral" in job["message"]


@pytest.fixture
def healed(controller: Kubernetes) -> Iterator[None]:
    """The node well again after a test that ended parts of it."""
    yield
    controller.ok(str(CLUSTER), "up")


def _end(node: Kubernetes, process: str) -> int:
    """Kill a process of the node, which its first process starts again. Returns its number inside the node."""
    return int(node.ok(str(CLUSTER), "exec", "sh", "-c", f"p=$(cat /run/pids/{process}); kill -9 $p; echo $p"))


def _is_there_again(node: Kubernetes, process: str, old: int) -> None:
    def number() -> str:
        return node.run(str(CLUSTER), "exec", "cat", f"/run/pids/{process}").stdout.strip()

    until("it is started again", lambda: number().isdigit() and int(number()) != old)
    until("the API server answers", lambda: node.run("kubectl", "get", "--raw", "/readyz").returncode == 0)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.usefixtures("healed")
def test_a_process_of_the_node_restarts_and_the_hook_never_notices(toys: Toys, process: str) -> None:
    toys.start("steady", [hold(), hold("second", until="go"), toy("write")])
    toys.began("steady")
    folder = toys.folder("steady")
    old = _end(toys.node, process)
    (folder / "go").touch()  # while it is down: the first hook ends unseen
    _is_there_again(toys.node, process, old)
    jobs = toys.succeeded("steady", 300)
    assert [job["attempts"] for job in jobs] == [1, 1, 1]
    assert [job.get("failures", NOTHING) for job in jobs] == [NOTHING] * 3
    assert len(toys.jobs("steady")) == 3


@deep_only
@pytest.mark.usefixtures("healed")
def test_a_hook_runs_through_a_restart_of_the_kubelet(toys: Toys) -> None:
    toys.start("through", [hold(), toy("write")])
    toys.began("through")
    pod = toys.pod("through")
    old = _end(toys.node, "kubelet")
    _is_there_again(toys.node, "kubelet", old)
    heartbeat = lambda: toys.node.get("lease", toys.node.name(), "-n", "kube-node-lease")["spec"]["renewTime"]  # noqa: E731
    before = heartbeat()
    until("the new kubelet reports", lambda: heartbeat() > before)
    assert toys.pod("through") == pod
    went_on(toys, "through", 1, {})


@deep_only
@pytest.mark.usefixtures("healed")
def test_a_success_that_containerd_forgot_is_found_on_the_volume(toys: Toys) -> None:
    """A container that ends while containerd is away has an end that nobody saw; what it did is not done again."""
    toys.start("forgotten", [hold(), toy("write")], retry={"user": 0, "infra": 1})
    job = toys.began("forgotten")
    old = _end(toys.node, "containerd")
    toys.let_go("forgotten", "go")
    until("its result is written", lambda: _successes(toys, "forgotten", job))
    _is_there_again(toys.node, "containerd", old)
    (job, _) = toys.succeeded("forgotten", 300)
    assert job["outputs"]["first"] == ["attempt-1"], "it was done twice"
    assert (job["attempts"], job["reason"]) in [(1, "Completed"), (2, "Recovered")]


@deep_only
@pytest.mark.usefixtures("healed")
def test_a_node_that_was_rebooted_costs_an_attempt_and_nothing_else(toys: Toys) -> None:
    """Operator, API server and hook all go at once; what ran has failed, what was done stays done."""
    toys.start("rebooted", [toy("write", "first"), hold(), toy("write", "last")], retry={"user": 0})
    toys.began("rebooted", "hold")
    first = toys.job("rebooted", "first")
    toys.node.ok(str(CLUSTER), "down")
    toys.node.ok(str(CLUSTER), "up")
    toys.began("rebooted", "hold", attempt=2)
    toys.let_go("rebooted", "go")
    jobs = {job["metaName"]: job for job in toys.succeeded("rebooted", 300)}
    assert jobs["first"] == first
    assert jobs["hold"]["outputs"]["first"] == ["attempt-1", "attempt-2"]
    assert jobs["last"]["attempts"] == 1


@deep_only
def test_a_drained_node_tells_why_the_hook_waits_and_comes_back(toys: Toys) -> None:
    toys.start("cordoned", [hold(), toy("write")], retry={"user": 0, "infra": 0})
    toys.began("cordoned")
    mine = f"sandbox.datajuicer.io/experiment-uid={toys.item('cordoned')['metadata']['uid']}"
    try:
        toys.node.ok(
            "kubectl",
            "drain",
            toys.node.name(),
            "--force",
            "--delete-emptydir-data",
            "--pod-selector",
            mine,
            "--timeout=120s",
        )
        job = toys.becomes("cordoned", "it waits for a node", lambda job: job.get("reason") == "Unschedulable")
        assert "unschedulable" in job["message"]
    finally:
        toys.node.ok("kubectl", "uncordon", toys.node.name())
    went_on(toys, "cordoned", 2, {"preempted": 1})


@deep_only
def test_a_hook_killed_from_outside_the_cluster_is_the_users_failure(toys: Toys) -> None:
    """By a person on the node, say: nobody can tell it from a crash, and the budget for those decides."""
    toys.start("shot", [hold(), toy("write")], retry={"user": 1, "infra": 0, "preempted": 0})
    toys.began("shot")
    os.kill(_hook_process(toys), signal.SIGKILL)
    job = toys.becomes("shot", "it is counted", lambda job: job.get("failures"))
    assert job["failures"] == {"user": 1, "infra": 0, "preempted": 0, "final": 0}
    assert "exit code 137" in job["message"]
    went_on(toys, "shot", 2, {"user": 1})


def _hook_process(toys: Toys) -> int:
    """The number, on this machine, of the process of the one hook that runs in this namespace."""
    needle = toys.namespace.encode()  # its volume's folder is named after it
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"sandbox-runtime" in (process / "cmdline").read_bytes()
                and needle in (process / "mountinfo").read_bytes()
            ):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError("no hook runs")


def _free_milli_cpus(node: Kubernetes) -> int:
    """What pods may still ask for on the node."""
    (found,) = node.get("nodes")["items"]
    taken = [
        container.get("resources", {}).get("requests", {}).get("cpu", "0")
        for pod in node.get("pods", "-A")["items"]
        if pod["spec"].get("nodeName") and pod["status"]["phase"] in ("Pending", "Running")
        for container in pod["spec"]["containers"]
    ]
    return _milli(found["status"]["allocatable"]["cpu"]) - sum(map(_milli, taken))


def _milli(cpus: str) -> int:
    return int(cpus[:-1]) if cpus.endswith("m") else int(float(cpus) * 1000)
