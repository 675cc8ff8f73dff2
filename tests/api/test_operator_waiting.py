# SPDX-License-Identifier: Apache-2.0
"""Why nothing runs: what holds an experiment up stands in its status in words, and it goes on by itself afterwards."""

from __future__ import annotations

import pytest
from tests.api.conftest import Plane
from tests.api.lab import Lab, probes, road
from tests.api.played import CLAIMS, Behaviour, Gate, Pod, exits, lacks_image, waits

from sandbox_operator.kube.resources import Resource

pytestmark = pytest.mark.usefixtures("operator")
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")


async def set_quota(lab: Lab, **hard: str) -> None:
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": hard}}
    await lab.client.patch(QUOTAS, "quota", body, lab.namespace, kind="apply", force=True)


async def job_reason(lab: Lab, name: str, reason: str) -> str:
    """Wait for the reason of the first job; its message."""
    await lab.until(lambda: lab.job(name, "a").get("reason") == reason, f"{name}: the job waits because of {reason}")
    assert lab.condition(name, "Ready")["reason"] == reason
    return str(lab.job(name, "a")["message"])


async def job_says(lab: Lab, name: str, words: str) -> str:
    """Wait for words in the message of the first job; all of it."""
    await lab.until(lambda: words in (lab.job(name, "a").get("message") or ""), f"{name}: the job says {words}")
    return str(lab.job(name, "a")["message"])


async def test_a_quota_that_refuses_the_pod(lab: Lab) -> None:
    """Only a Warning Event of the Job says so: nothing else of it changes, and the claim is bound before."""
    await set_quota(lab, pods="0")
    await lab.make_bound_claim("shared")
    await lab.apply("demo", probes("a", claim_name="shared"))
    assert "pods=0" in await job_reason(lab, "demo", "QuotaExceeded")
    await set_quota(lab, pods="10")
    await lab.finished("demo", limit=60)  # the Job controller tries again after its own back-off
    assert lab.status("demo")["outcome"] == "Succeeded"
    assert lab.job("demo", "a")["attempts"] == 1


async def test_a_quota_that_refuses_the_job(lab: Lab) -> None:
    await set_quota(lab, **{"count/jobs.batch": "0"})
    await lab.apply("demo", probes("a"))
    assert "count/jobs.batch=0" in await job_reason(lab, "demo", "QuotaExceeded")
    await set_quota(lab, **{"count/jobs.batch": "10"})
    await lab.finished("demo", limit=60)
    assert lab.job("demo", "a")["attempts"] == 1


async def test_a_quota_that_refuses_the_claim(lab: Lab) -> None:
    await set_quota(lab, persistentvolumeclaims="0")
    await lab.apply("demo", probes("a"))
    message = await lab.reason("demo", "ClaimRefused", kind="StorageReady")
    assert "persistentvolumeclaims=0" in message
    await set_quota(lab, persistentvolumeclaims="10")
    await lab.finished("demo", limit=60)
    assert lab.status("demo")["outcome"] == "Succeeded"


async def test_a_policy_that_refuses_the_pod_and_pods_that_pass_it(lab: Lab, plane: Plane) -> None:
    """Pod Security `restricted`: what we make by ourselves passes, what a user patches into it may not."""
    plane.kubectl("label", "namespace", lab.namespace, "pod-security.kubernetes.io/enforce=restricted")
    await lab.apply("good", road())
    await lab.apply("demo", probes("a", pods={"default": {"patch": {"hostNetwork": True}}}))
    assert "hostNetwork=true" in await job_reason(lab, "demo", "PodRefused")
    await lab.finished("good")
    assert lab.status("good")["outcome"] == "Succeeded"


async def test_an_image_that_does_not_exist(lab: Lab) -> None:
    lab.kubelet.table[("a", 1)] = lacks_image('manifest for "registry.example/data:2" not found')
    await lab.apply("demo", probes("a", images={"data": "registry.example/data:2"}))
    words = 'manifest for "registry.example/data:2" not found'
    assert words in await job_reason(lab, "demo", "ImageUnavailable")
    # Once the kubelet backs off, only its Event still says why.
    await lab.until(lambda: "Failed to pull image" in lab.job("demo", "a")["message"], "the pull's own error stays")
    assert words in lab.job("demo", "a")["message"]
    assert lab.job("demo", "a")["attempts"] == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (waits("CreateContainerConfigError", 'secret "hf" not found'), "ContainerConfigError"),
        (waits("ContainerCreating", 'configmap "recipes" not found', event="FailedMount"), "VolumeMountFailed"),
        (waits("InvalidImageName", "couldn't parse image name"), "ImageUnavailable"),
    ],
    ids=["secret", "mount", "image name"],
)
async def test_a_container_that_can_not_be_made(lab: Lab, behaviour: Behaviour, reason: str) -> None:
    lab.kubelet.table[("a", 1)] = behaviour
    await lab.apply("demo", probes("a"))
    message = await job_reason(lab, "demo", reason)
    assert "not found" in message or "image name" in message
    assert lab.job("demo", "a")["attempts"] == 1


async def test_what_only_a_later_event_says(lab: Lab) -> None:
    """A mount that fails: neither the pod nor its Job changes, minutes after the pod got its place."""

    async def warns(pod: Pod) -> None:
        await pod.warn("FailedMount", "mount of the share timed out")

    gate = lab.kubelet.table[("a", 1)] = Gate(warns, running=False)
    await lab.make_bound_claim("shared")
    await lab.apply("demo", probes("a", claim_name="shared"))
    await lab.reached(gate, "the pod has a node")
    await job_reason(lab, "demo", "Starting")
    gate.opened.set()
    assert "mount of the share timed out" in await job_reason(lab, "demo", "VolumeMountFailed")


async def test_a_gpu_that_no_node_has(lab: Lab) -> None:
    gpu = {"default": {"resources": {"limits": {"nvidia.com/gpu": 8}}}}
    await lab.apply("demo", probes("a", pods=gpu))
    assert "Insufficient nvidia.com/gpu" in await job_reason(lab, "demo", "InsufficientGPU")


async def test_a_node_that_does_not_exist(lab: Lab) -> None:
    await lab.apply("demo", probes("a", pods={"default": {"nodeSelector": {"disk": "none"}}}))
    assert "node affinity/selector" in await job_reason(lab, "demo", "Unschedulable")


async def test_a_volume_that_does_not_come(lab: Lab) -> None:
    assert lab.provisioner is not None
    lab.provisioner.refused.add("demo-workspace")
    await lab.apply("demo", probes("a"))
    assert "PersistentVolumeClaim" in await job_reason(lab, "demo", "VolumeUnbound")
    assert lab.condition("demo", "StorageReady")["reason"] == "ClaimPending"
    lab.provisioner.refused.clear()
    claim = await lab.claim("demo-workspace")
    assert claim is not None
    await lab.provisioner.step(None, claim)
    await lab.finished("demo", limit=60)
    assert lab.condition("demo", "StorageReady")["reason"] == "ClaimBound"


async def test_a_storage_class_that_does_not_exist(lab: Lab) -> None:
    """Only a Warning Event of the claim says so; what was said of an earlier claim of that name is over."""
    assert lab.provisioner is not None
    lab.provisioner.refused.add("demo-workspace")
    await lab.apply("demo", probes("a", workspace={"claim": {"storageClassName": "fast"}}))
    words = 'the claim demo-workspace waits: storageclass.storage.k8s.io "fast" not found'
    said = await job_says(lab, "demo", words)
    assert said == f"spec.workspace.claim: its volume is not bound: {words}"
    assert lab.job("demo", "a")["reason"] == "VolumeUnbound"
    storage = lab.condition("demo", "StorageReady")
    assert (storage["reason"], storage["message"]) == ("ClaimPending", words)
    await lab.delete("demo")
    await lab.client.delete(CLAIMS, "demo-workspace", lab.namespace)

    await lab.apply("demo", probes("a"))
    await job_reason(lab, "demo", "VolumeUnbound")
    assert "fast" not in lab.job("demo", "a")["message"]


async def test_a_storage_class_that_a_claim_to_read_from_does_not_find(lab: Lab) -> None:
    assert lab.provisioner is not None
    lab.provisioner.refused.add("raw")
    await lab.make_claim("raw", storage_class="fast")
    await lab.apply("demo", probes("a", inputs=[{"name": "raw", "claimName": "raw"}]))
    words = 'the claim raw waits: storageclass.storage.k8s.io "fast" not found'
    said = await job_says(lab, "demo", words)
    assert said == f"spec.inputs[0].claimName: its volume is not bound: {words}"


async def test_a_claim_that_does_not_exist_is_waited_for(lab: Lab) -> None:
    await lab.apply("demo", probes("a", claim_name="missing"))
    message = await lab.reason("demo", "ClaimNotFound")
    assert "spec.workspace.claimName" in message
    assert "'missing'" in message
    assert not lab.status("demo").get("startTime"), "nothing has begun, so the name may still be mended"
    assert not lab.made
    await lab.make_claim("missing")
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded"


async def test_a_claim_of_somebody_else_is_not_taken(lab: Lab) -> None:
    await lab.make_claim("demo-workspace", owner="another-team")
    await lab.apply("demo", probes("a"))
    message = await lab.reason("demo", "ClaimNotOurs")
    assert "demo-workspace" in message
    assert not lab.made
    await lab.client.delete(CLAIMS, "demo-workspace", lab.namespace)
    await lab.finished("demo", limit=60)


async def test_a_spec_that_can_not_run_tells_all_that_is_wrong_and_starts_nothing(lab: Lab) -> None:
    spec = road(claim_name="shared")
    good = road(claim_name="shared")
    spec["probeJobConfigs"][0]["hook"] = "ProbeViaAnalyserHook"
    spec["executionJobConfigs"][0]["input"] = {"djConfigs": "anonymous.refine.refined_recipee"}
    spec["evaluationJobConfigs"][0]["djConfigs"] = {"process": [{"text_lenght_filter": {}}]}
    await lab.make_claim("shared")
    await lab.apply("demo", spec)
    message = await lab.reason("demo", "InvalidSpec")
    for words in (
        "spec.probeJobConfigs[0].hook: there is no hook 'ProbeViaAnalyserHook'",
        'spec.executionJobConfigs[0].input["djConfigs"]',
        "spec.evaluationJobConfigs[0].djConfigs.process[0]",
    ):
        assert words in message
    assert lab.condition("demo", "Stalled")["reason"] == "InvalidSpec"
    assert not lab.status("demo").get("startTime")
    assert not lab.made
    await lab.change("demo", good)
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded"
    assert not lab.condition("demo", "Stalled")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"workspace": {"claim": {"size": "lots"}}}, "size"),
        ({"pods": {"default": {"resources": {"limits": {"memory": "4 gigs"}}}}}, "memory"),
        ({"pods": {"default": {"patch": {"hostNetwork": "perhaps"}}}}, "hostNetwork"),
        ({"pods": {"default": {"affinity": {"nodeAffinity": {"preferred": 1}}}}}, "nodeAffinity"),
        ({"pods": {"default": {"nodeSelector": {"not a label": "x"}}}}, "nodeSelector"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_only_the_api_server_can_refuse_is_told_and_not_tried_for_ever(
    lab: Lab, more: dict[str, object], field: str
) -> None:
    await lab.apply("demo", {**probes("a"), **more})
    await lab.until(lambda: lab.condition("demo", "Stalled").get("status") == "True", "it says that it can't go on")
    assert field in lab.condition("demo", "Stalled")["message"]


async def test_a_pod_that_waits_too_long_ends_its_job(lab: Lab) -> None:
    lab.kubelet.table[("a",)] = lacks_image()
    await lab.apply("demo", probes("a", "b", timeouts={"pending": "2s"}))
    await lab.finished("demo")
    job = lab.job("demo", "a")
    assert (job["state"], job["reason"], job["attempts"]) == ("Failed", "PendingTimeout", 1)
    assert "timeouts.pending" in job["message"]
    assert "pull access denied" in job["message"]
    await lab.until(lambda: not lab.jobs_of("demo"), "its Job is removed")


async def test_what_a_hook_prints_is_no_result(lab: Lab) -> None:
    """A program that prints what looks like a message, or binary rubbish, can't make the operator stumble."""
    lab.kubelet.table |= {
        ("rubbish", "a"): exits(1, "sandbox1:AAAA not base64 \x00\x1b[31m"),
        ("empty", "a"): exits(1, ""),
        ("long", "a"): exits(1, "x" * 4000),
    }
    for name in ("rubbish", "empty", "long"):
        await lab.apply(name, probes("a"))
    await lab.finished("rubbish", "empty", "long")
    assert {lab.job(name, "a")["reason"] for name in ("rubbish", "empty", "long")} == {"UserError"}
    assert "\x1b" not in lab.job("rubbish", "a")["message"]
