# SPDX-License-Identifier: Apache-2.0
"""Why an attempt is not running yet: one word of the closed list, and the cause in the cluster's own words."""

from dataclasses import replace

import pytest

from sandbox_api.status import Reason
from sandbox_operator.plan.facts import CLAIM, ContainerFact, JobFact, PodFact, WarningFact
from sandbox_operator.plan.waiting import why_waiting

JOB = JobFact("demo-0123456789-a1", "ju", "eu", "anonymous/1/probe/0", 1, "c")
POD = PodFact("demo-0123456789-a1-abcde", "pu", JOB.name, "c", "Pending")
PLACED = replace(POD, node="node-1")


def pull(reason: str, words: str = "") -> PodFact:
    return replace(PLACED, hook=ContainerFact(waiting_reason=reason, waiting_message=words))


def about_job(words: str, reason: str = "FailedCreate") -> WarningFact:
    return WarningFact("Job", JOB.name, reason, words)


def about_pod(reason: str, words: str) -> WarningFact:
    return WarningFact("Pod", POD.name, reason, words)


QUOTA = 'pods "demo" is forbidden: exceeded quota: gpus, requested: limits.cpu=4, used: 0, limited: 2'
PULL = 'Failed to pull image "nowhere/x:1": not found'
NO_CLASS = WarningFact(CLAIM, "lab-data", "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available"
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"


@pytest.mark.parametrize(
    ("job", "pod", "warnings", "reason", "said"),
    [
        (None, None, (), Reason.CREATING, "its Job is being created"),
        (JOB, None, (), Reason.CREATING, "its pod is being created"),
        (JOB, None, (about_job(QUOTA),), Reason.QUOTA_EXCEEDED, "requested: limits.cpu=4"),
        (JOB, None, (about_job("failed quota: q: must specify limits.cpu"),), Reason.QUOTA_EXCEEDED, "limits.cpu"),
        (JOB, None, (about_job("violates PodSecurity"),), Reason.POD_REFUSED, "violates PodSecurity"),
        (JOB, None, (about_job(QUOTA), about_job("violates PodSecurity")), Reason.POD_REFUSED, "PodSecurity"),
        (JOB, None, (about_job("x", "SuspendedByOther"),), Reason.CREATING, "its pod is being created"),
        (JOB, POD, (), Reason.SCHEDULING, "waits for the scheduler"),
        (JOB, POD, (about_job(QUOTA),), Reason.SCHEDULING, "waits for the scheduler"),
        (JOB, replace(POD, unschedulable=NO_GPU), (), Reason.INSUFFICIENT_GPU, "3 Insufficient nvidia.com/gpu"),
        (JOB, replace(POD, unschedulable="1 Insufficient amd.com/gpu"), (), Reason.INSUFFICIENT_GPU, "amd.com"),
        (JOB, replace(POD, unschedulable="1 Insufficient gpu.intel.com/i915"), (), Reason.INSUFFICIENT_GPU, "i915"),
        (JOB, replace(POD, unschedulable="1 Insufficient nvidia.com/mig-1g.5gb"), (), Reason.INSUFFICIENT_GPU, "mig"),
        (JOB, replace(POD, unschedulable=UNBOUND), (), Reason.VOLUME_UNBOUND, "unbound immediate"),
        (JOB, replace(POD, unschedulable=UNBOUND), (NO_CLASS,), Reason.VOLUME_UNBOUND, "the claim lab-data waits: storage"),
        (JOB, replace(POD, unschedulable="1 Insufficient memory"), (NO_CLASS,), Reason.UNSCHEDULABLE, "memory"),
        (JOB, replace(POD, unschedulable='persistentvolumeclaim "x" not found'), (), Reason.VOLUME_UNBOUND, "not found"),
        (
            JOB, replace(POD, unschedulable="1 node(s) didn't find available persistent volumes to bind"), (),
            Reason.VOLUME_UNBOUND, "persistent volumes to bind",
        ),
        (JOB, replace(POD, unschedulable="1 Insufficient memory"), (), Reason.UNSCHEDULABLE, "1 Insufficient memory"),
        (JOB, replace(POD, unschedulable=""), (), Reason.UNSCHEDULABLE, "no node fits"),
        (JOB, PLACED, (), Reason.STARTING, "the pod starts on node node-1"),
        (JOB, PLACED, (about_pod("FailedMount", "timed out"),), Reason.VOLUME_MOUNT, "timed out"),
        (JOB, PLACED, (about_pod("FailedAttachVolume", "in use"),), Reason.VOLUME_MOUNT, "in use"),
        (JOB, PLACED, (about_pod("FailedCreatePodSandBox", "no address"),), Reason.STARTING, "no address"),
        (JOB, pull("ErrImagePull", "not found"), (), Reason.IMAGE_UNAVAILABLE, "not found"),
        (JOB, pull("InvalidImageName", "bad reference"), (), Reason.IMAGE_UNAVAILABLE, "bad reference"),
        (JOB, pull("ErrImageNeverPull"), (), Reason.IMAGE_UNAVAILABLE, "ErrImageNeverPull"),
        (JOB, pull("ImagePullBackOff", "Back-off pulling"), (), Reason.IMAGE_UNAVAILABLE, "Back-off pulling"),
        (JOB, pull("CreateContainerConfigError", 'secret "hf" not found'), (), Reason.CONTAINER_CONFIG, '"hf" not found'),
        (JOB, pull("ContainerCreating"), (), Reason.STARTING, "node-1"),
    ],
)  # fmt: skip
def test_a_reason_for_each_way_to_wait(
    job: JobFact | None, pod: PodFact | None, warnings: tuple[WarningFact, ...], reason: Reason, said: str
) -> None:
    waiting = why_waiting(job, pod, warnings)

    assert waiting.reason == reason
    assert said in waiting.message


def test_while_it_backs_off_the_pulls_own_error_is_told() -> None:
    """The container then says only that it backs off, and so do the kubelet's newer events."""
    warnings = (
        about_pod("Failed", PULL),
        about_pod("Failed", "Error: ErrImagePull"),
        about_pod("Failed", "Error: ImagePullBackOff"),
    )

    assert PULL in why_waiting(JOB, pull("ImagePullBackOff", 'Back-off pulling image "nowhere/x:1"'), warnings).message


@pytest.mark.parametrize(
    ("pod", "is_needed"),
    [(None, False), (POD, False), (PLACED, False), (pull("ErrImagePull"), True), (replace(POD, unschedulable=NO_GPU), True)],
)  # fmt: skip
def test_a_person_is_called_only_for_what_will_not_pass_by_itself(pod: PodFact | None, is_needed: bool) -> None:
    assert why_waiting(JOB, pod, ()).needs_help is is_needed
