# SPDX-License-Identifier: Apache-2.0
"""Why an attempt is not running yet, in one word of a closed list and one sentence.

The facts stand in three places: the pod's conditions (no place), its container's waiting state (image), and Warning
Events of the Job, the pod and the claim (quota, mounts, storage classes), which exist nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox_api.status import Reason

from .facts import CLAIM, JobFact, PodFact, WarningFact

_IMAGE_TROUBLE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_CONFIG_TROUBLE = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_NO_GPU = re.compile(r"insufficient (\S*gpu|nvidia\.com/|amd\.com/)")

SOON_OVER = (Reason.CREATING, Reason.SCHEDULING, Reason.STARTING)


@dataclass(frozen=True)
class Waiting:
    reason: Reason
    message: str

    @property
    def needs_help(self) -> bool:
        """Whether a person should look: it will hardly pass by itself."""
        return self.reason not in SOON_OVER


def why_waiting(job: JobFact | None, pod: PodFact | None, warnings: tuple[WarningFact, ...]) -> Waiting:
    """The reason why a job's attempt has not begun to run.

    `warnings` are those of its Job and pod, newest last.
    """
    if job is None:
        return Waiting(Reason.CREATING, "its Job is being created")
    if pod is None:
        return _no_pod(warnings)
    container = pod.hook
    if container.waiting_reason in _IMAGE_TROUBLE:
        return Waiting(
            Reason.IMAGE_UNAVAILABLE,
            f"the image can't be pulled: {_image_words(container.waiting_message, container.waiting_reason, warnings)}",
        )
    if container.waiting_reason in _CONFIG_TROUBLE:
        return Waiting(
            Reason.CONTAINER_CONFIG,
            f"the container can't be made: {container.waiting_message or container.waiting_reason}",
        )
    if pod.unschedulable is not None:
        return _no_place(pod.unschedulable, warnings)
    if pod.node is None:
        return Waiting(Reason.SCHEDULING, "waits for the scheduler")
    mount = next(
        (w for w in reversed(warnings) if w.reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume")), None
    )
    if mount is not None:
        return Waiting(Reason.VOLUME_MOUNT, f"a volume can't be mounted: {mount.message}")
    sandbox = next((w for w in reversed(warnings) if w.reason == "FailedCreatePodSandBox"), None)
    if sandbox is not None:
        return Waiting(Reason.STARTING, f"the pod can't start yet: {sandbox.message}")
    return Waiting(
        Reason.STARTING, f"the pod starts on node {pod.node}: its image is pulled if need be, its volumes are mounted"
    )


def _no_pod(warnings: tuple[WarningFact, ...]) -> Waiting:
    refusal = next((w for w in reversed(warnings) if w.kind == "Job" and w.reason == "FailedCreate"), None)
    if refusal is None:
        return Waiting(Reason.CREATING, "its pod is being created")
    if "exceeded quota" in refusal.message or "failed quota" in refusal.message:
        return Waiting(Reason.QUOTA_EXCEEDED, f"the namespace's quota refuses the pod: {refusal.message}")
    return Waiting(Reason.POD_REFUSED, f"the pod was refused: {refusal.message}")


def _no_place(words: str, warnings: tuple[WarningFact, ...]) -> Waiting:
    lowered = words.lower()
    if _NO_GPU.search(lowered):
        return Waiting(Reason.INSUFFICIENT_GPU, f"no node has the GPUs it asks for: {words}")
    if "persistentvolumeclaim" in lowered or "persistent volumes to bind" in lowered:
        why = claim_words(warnings)
        return Waiting(Reason.VOLUME_UNBOUND, f"its volume is not bound: {why or words}")
    return Waiting(Reason.UNSCHEDULABLE, f"no node fits: {words}")


def claim_words(warnings: tuple[WarningFact, ...], name: str | None = None) -> str | None:
    """Why a claim, that of this `name` or any, gets no volume."""
    about = (w for w in reversed(warnings) if w.kind == CLAIM and name in (None, w.name))
    found = next(about, None)
    return f"the claim {found.name} waits: {found.message}" if found is not None else None


def _image_words(message: str, reason: str | None, warnings: tuple[WarningFact, ...]) -> str:
    """The pull's own error: in back-off the container says only that it backs off, the Event still knows why."""
    if reason == "ImagePullBackOff":
        # The kubelet also sends `Error: ErrImagePull` and `Error: ImagePullBackOff`, which say nothing.
        failed = next((w for w in reversed(warnings) if "failed to pull" in w.message.lower()), None)
        if failed is not None:
            return failed.message
    return message or str(reason)
