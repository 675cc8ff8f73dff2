# SPDX-License-Identifier: Apache-2.0
"""`spec.keep.bestTrials` on the real API server: one Job gets the list, and nothing that it removes is offered again."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator

import pytest
from tests.api.conftest import Operators, Plane
from tests.api.lab import OperatorProcess
from tests.api.played import PODS, now
from tests.api.sweep_lab import SweepLab, a_sweep, hits, sweep_lab, template

from sandbox_api.contract import CONTAINER
from sandbox_api.trim import TRIM_ENV, decode_trim
from sandbox_operator.kube.client import Manifest

PROBE = {"hook": "ProbeViaAnalyzerHook", "metaName": "before", "djConfigs": {"dataset_path": "data/demo.jsonl"}}
NAME = "app.kubernetes.io/name"


@pytest.fixture
async def lab(plane: Plane) -> AsyncIterator[SweepLab]:
    async with sweep_lab(plane, {("before", "check"): hits}) as made:
        yield made


@pytest.fixture
def operator(plane: Plane, lab: SweepLab, warm_operators: Operators) -> OperatorProcess:
    return warm_operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)


def removals(lab: SweepLab) -> list[Manifest]:
    return [job for job in lab.jobs.store.values() if job["metadata"]["labels"].get(NAME) == "sandbox-trim"]


async def a_pod_ends(lab: SweepLab, code: int) -> None:
    """A pod of the Job that removes files ends with this code."""

    def alive() -> list[Manifest]:
        pods = [pod for pod in lab.pods.store.values() if pod["metadata"]["labels"].get(NAME) == "sandbox-trim"]
        return [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]

    await lab.until(alive, "the pod that removes files")
    (pod,) = alive()
    ended = {"exitCode": code, "reason": "Error", "startedAt": now(), "finishedAt": now()}
    container = {
        "name": CONTAINER, "state": {"terminated": ended}, "ready": False, "restartCount": 0, "imageID": "",
        "image": "registry.example/data:1",
    }  # fmt: skip
    status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]}
    name = pod["metadata"]["name"]
    await lab.client.patch(PODS, name, {"status": status}, lab.namespace, subresource="status")


async def test_files_of_all_but_the_best_go_and_what_was_removed_is_made_again_for_others(
    lab: SweepLab, operator: OperatorProcess
) -> None:
    spec = a_sweep(maxTrials=4, parallelism=2, keep={"bestTrials": 1}, template=template(probeJobConfigs=[PROBE]))
    await lab.apply_sweep("demo", spec)
    await lab.sweep_ends("demo", limit=90)
    await lab.until(lambda: removals(lab), "the Job that removes files")
    best = lab.sweep("demo")["best"]["trial"]
    others = sorted({0, 1, 2, 3} - {best})
    (job,) = removals(lab)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    contract = decode_trim(container["env"][0]["value"])
    assert container["env"][0]["name"] == TRIM_ENV

    trials = lab.trials("demo")
    by_folder = {f"experiments/demo-{n:04d}-{trials[n]['metadata']['uid'][:8]}/jobs": n for n in others}
    listed = {
        (by_folder[f.path.rpartition("/anonymous")[0]], f.path.split("/")[-2], len(f.results)) for f in contract.folders
    }
    work = {(n, "execution", 1) for n in others}
    assert listed - work <= {(n, "probe", 0) for n in others}  # whoever made it: all have taken it
    assert work <= listed
    assert {(lab.status(f"demo-{n:04d}")["trial"])["artifacts"] for n in others} == {"Removing"}
    assert lab.sweep_condition("demo", "Trimmed")["status"] == "Unknown"

    operator.kill()  # what is to be done stands in the trials
    operator.start()
    await a_pod_ends(lab, 0)
    await lab.sweep_reason("demo", "Trimmed", kind="Trimmed")
    assert lab.sweep("demo")["trimmed"] == 3
    assert (lab.sweep("demo")["outcome"], lab.sweep_condition("demo")["status"]) == ("Succeeded", "True")
    assert len(removals(lab)) == 1
    assert lab.verified("demo") == ()

    begun = len(lab.kubelet.pods)
    for number, name in ((others[0], "again"), (best, "kept")):
        await lab.apply(name, copy.deepcopy(trials[number]["spec"]))
    await lab.finished("again", "kept", limit=60)
    states = {name: {job["metaName"]: job["state"] for job in lab.status(name)["jobs"]} for name in ("again", "kept")}
    assert states == {
        "again": {"before": "Cached", "process": "Succeeded"}, "kept": {"before": "Cached", "process": "Cached"},
    }, lab.told()  # fmt: skip
    assert [job for _, job, _, _ in lab.kubelet.pods[begun:] if "/execution/" in job] == ["anonymous/1/execution/0"]
    assert operator.code is None
