# SPDX-License-Identifier: Apache-2.0
"""Claims on a real node: a volume that is full, access modes, what is left when an experiment is deleted."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.node.kubernetes import CLUSTER, Kubernetes, until
from tests.node.toys import Toys, hold, reads, toy
from tests.progress import DEEP, deep_only

MEBIBYTES = 6


@pytest.fixture
def small_volume(toys: Toys) -> Iterator[str]:
    """A claim on a volume of 6 MiB, as memory inside the node; the folder where the node sees it."""
    name = f"small-{toys.namespace}"
    folder = f"/run/{name}"
    inside = (str(CLUSTER), "exec")
    toys.node.ok(*inside, "mkdir", folder)
    toys.node.ok(*inside, "mount", "-t", "tmpfs", "-o", f"size={MEBIBYTES}m,mode=2777", name, folder)
    toys.node.apply(_volume(name, folder, toys.namespace), _claim("small", toys.namespace, name))
    until("it is bound", lambda: toys.node.get("pvc", "small", "-n", toys.namespace)["status"].get("phase") == "Bound")
    yield folder
    toys.node.ok("kubectl", "delete", "sbx", "--all", "-n", toys.namespace)
    until("its pods are gone", lambda: not toys.node.get("pods", "-n", toys.namespace)["items"])
    toys.node.ok("kubectl", "delete", "pvc/small", f"pv/{name}", "-n", toys.namespace)
    toys.node.ok(*inside, "umount", folder)


def _volume(name: str, folder: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": f"{MEBIBYTES}Mi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": folder, "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": "small"},
        },
    }


def _claim(name: str, namespace: str, volume: str = "", mode: str = "ReadWriteOnce") -> dict[str, Any]:
    given = {"storageClassName": "", "volumeName": volume} if volume else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}, **given},
    }


def test_a_full_volume_is_named_and_the_job_goes_on_when_there_is_room(toys: Toys, small_volume: str) -> None:
    inside = (str(CLUSTER), "exec")
    toys.node.ok(*inside, "dd", "if=/dev/zero", f"of={small_volume}/somebodys", "bs=1M", "count=3", "status=none")
    jobs = [toy("fill", mebibytes=4), toy("write", "later")]
    toys.start("full", jobs, workspace={"claimName": "small"}, retry={"user": 0, "infra": 1, "backoff": "5s"})
    job = toys.becomes("full", "the failure is counted", lambda job: job.get("failures"))
    assert job["failures"] == {"user": 0, "infra": 1, "preempted": 0, "final": 0}
    assert "No space left on device" in job["message"]
    # The failed attempt's own 3 MiB stay until a success: 6 are enough for one attempt after another only without them.
    toys.node.ok(*inside, "sh", "-c", f"rm {small_volume}/somebodys; find {small_volume} -name ballast -delete")
    jobs = toys.succeeded("full")
    assert [job["attempts"] for job in jobs] == [2, 1]


def test_a_volume_without_any_room_is_named_too(toys: Toys, small_volume: str) -> None:
    """Not even a folder or a result can be written; the reason still arrives."""
    fill = f"dd if=/dev/zero of={small_volume}/all bs=4k status=none; test $? = 1"
    toys.node.ok(str(CLUSTER), "exec", "sh", "-c", fill)
    toys.start("packed", [toy("write", times=100_000, text="x")], workspace={"claimName": "small"}, retry={"infra": 0})
    (job,) = toys.ended("packed")["jobs"]
    assert (job["state"], job["reason"], job["attempts"]) == ("Failed", "InfraError", 1)
    assert "No space left on device" in job["message"]


def test_jobs_in_sequence_share_a_claim_of_one_node(toys: Toys) -> None:
    claim = {"claim": {"accessModes": ["ReadWriteOnce"], "size": "1Gi"}}
    jobs = [
        toy("write", text="made by the first"),
        toy("look", job=reads("write")),
    ]
    toys.start("once", jobs, workspace=claim)
    first, second = toys.succeeded("once")
    workspace = toys.status("once")["workspace"]
    assert workspace["accessMode"] == "ReadWriteOnce"
    assert workspace["placement"]
    read = second["outputs"]["first"]["read"]
    assert read.endswith(first["outputs"]["first"])
    assert (toys.volume("once-workspace") / first["outputs"]["first"]).read_text() == "made by the first"
    assert not any("affinity" in job["spec"]["template"]["spec"] for job in toys.jobs("once"))


@pytest.mark.parametrize("mode", ["ReadWriteMany", *(["ReadWriteOnce"] if DEEP else [])])
def test_jobs_that_may_run_side_by_side_do(toys: Toys, mode: str) -> None:
    together = {"dependsOn": []}
    jobs = [hold("one"), hold("two", job=together), toy("write", "last", job={"dependsOn": ["one", "two"]})]
    toys.start("beside", jobs, workspace={"claim": {"accessModes": [mode], "size": "1Gi"}})
    for name in ("one", "two"):  # neither ends before both have begun
        toys.began("beside", name)
    pinned = ["affinity" in job["spec"]["template"]["spec"] for job in toys.jobs("beside")]
    assert any(pinned) == (mode == "ReadWriteOnce")
    assert mode in toys.status("beside")["workspace"]["placement"]
    toys.let_go("beside", "go")
    assert [job["attempts"] for job in toys.succeeded("beside")] == [1, 1, 1]


@deep_only
def test_a_claim_for_one_pod_makes_jobs_take_turns(toys: Toys) -> None:
    jobs = [hold("one"), hold("two", job={"dependsOn": []})]
    toys.start("turns", jobs, workspace={"claim": {"accessModes": ["ReadWriteOncePod"], "size": "1Gi"}})
    toys.began("turns", "one")
    waiting = toys.becomes("turns", "the second waits", lambda job: job.get("reason"), "two")
    assert (waiting["attempts"], waiting["reason"]) == (0, "WaitingForVolumeNode")
    toys.let_go("turns", "go")
    assert [job["attempts"] for job in toys.succeeded("turns")] == [1, 1]


@deep_only
def test_two_experiments_on_a_claim_of_one_node_meet_there(toys: Toys) -> None:
    toys.node.apply(_claim("shared", toys.namespace))
    for name in ("left", "right"):
        toys.start(name, [hold(name)], workspace={"claimName": "shared"})
    for name in ("left", "right"):
        toys.began(name)
    for name in ("left", "right"):
        toys.let_go(name, "go")
        toys.succeeded(name)


# Deletion


def _left(node: Kubernetes, namespace: str) -> list[str]:
    """What is in a namespace that Kubernetes itself has not put there, claims apart."""
    found = node.get("sbx,jobs,pods,configmaps,secrets", "-n", namespace)["items"]
    return [
        f"{item['kind']}/{item['metadata']['name']}" for item in found if item["metadata"]["name"] != "kube-root-ca.crt"
    ]


def test_an_experiment_deleted_at_any_moment_leaves_only_its_claim(toys: Toys) -> None:
    too_large = {"default": {"resources": {"requests": {"cpu": "64"}}}}
    long = {"digests": [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]}
    moments: dict[str, tuple[list[Any], dict[str, Any], Any]] = {
        "at-once": ([hold()], {}, None),
        "waiting-for-a-place": ([hold()], {"pods": too_large}, lambda job: job.get("reason") == "Unschedulable"),
        "waiting-for-a-claim": ([hold()], {"workspace": {"claimName": "nobodys"}}, None),
        "running": ([hold()], {}, lambda job: job["state"] == "Running"),
        "running-with-a-long-contract": ([toy("hold", until="go", **long)], {}, lambda job: job["state"] == "Running"),
        "with-its-claim": ([hold()], {"workspace": {"claim": {"size": "1Gi"}, "retention": "Delete"}}, lambda job: job["state"] == "Running"),
        "between-two": ([toy("write"), hold("second")], {}, lambda job: job["state"] == "Succeeded"),
        "before-another-attempt": ([toy("fail", say="no")], {"retry": {"user": 5, "backoff": "1h", "maxBackoff": "1h"}}, lambda job: job.get("reason") == "Backoff"),
        "suspended": ([hold()], {"suspend": True}, None),
        "ended": ([toy("write")], {}, lambda job: job["state"] == "Succeeded"),
        "failed": ([toy("fail", say="no")], {}, lambda job: job["state"] == "Failed"),
    }  # fmt: skip
    names = list(moments) if DEEP else ["at-once", "waiting-for-a-place", "running-with-a-long-contract", "with-its-claim", "before-another-attempt", "ended"]  # fmt: skip
    for name in names:
        jobs, spec, _ = moments[name]
        toys.start(name, jobs, **spec)
        if name == "at-once":
            _delete(toys, name)
    for name in names:
        if name != "at-once":
            if (moment := moments[name][2]) is not None:
                toys.becomes(name, name, moment)
            if name == "running-with-a-long-contract":
                assert [kind for kind in _left(toys.node, toys.namespace) if kind.startswith("ConfigMap/running-with")]
            _delete(toys, name, "--cascade=foreground" if name == "between-two" else "--cascade=background")
    until("nothing is left", lambda: not _left(toys.node, toys.namespace))

    toys.start("witness", [toy("write")])  # the operator has looked at everything once more by then
    toys.succeeded("witness")
    _delete(toys, "witness")
    until("nothing is left", lambda: not _left(toys.node, toys.namespace))
    claims = {claim["metadata"]["name"]: claim for claim in toys.node.get("pvc", "-n", toys.namespace)["items"]}
    assert "with-its-claim-workspace" not in claims
    kept = set(names) - {"at-once", "with-its-claim", "waiting-for-a-claim"}
    assert {f"{name}-workspace" for name in kept} <= set(claims)
    for claim in claims.values():
        assert "deletionTimestamp" not in claim["metadata"]
        assert not claim["metadata"].get("ownerReferences")
        assert claim["status"]["phase"] == "Bound"


def _delete(toys: Toys, name: str, *how: str) -> None:
    toys.node.ok("kubectl", "delete", "sbx", name, "-n", toys.namespace, "--timeout=90s", *how)


@deep_only
def test_a_claim_deleted_under_a_running_hook_is_named_when_it_is_gone(toys: Toys) -> None:
    """Kubernetes holds it until the hook's pod has gone, which the operator sees to; then the next job has no volume."""
    toys.node.apply(_claim("brief", toys.namespace))
    toys.start("claimless", [hold(), toy("write", "later")], workspace={"claimName": "brief"})
    toys.began("claimless")
    toys.node.ok("kubectl", "delete", "pvc", "brief", "-n", toys.namespace, "--wait=false")
    toys.let_go("claimless", "go")
    toys.becomes("claimless", "the first is done", lambda job: job["state"] == "Succeeded", "hold")
    until("the claim is named", lambda: _reason(toys, "claimless") == "ClaimNotFound")
    assert toys.job("claimless", "later")["attempts"] == 0


def _reason(toys: Toys, name: str) -> str:
    conditions = toys.status(name).get("conditions", ())
    return str(next((c["reason"] for c in conditions if c["type"] == "Ready"), ""))
