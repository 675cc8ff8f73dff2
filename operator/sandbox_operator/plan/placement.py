# SPDX-License-Identifier: Apache-2.0
"""Where pods may go because of the volume: one node at a time can mount a ReadWriteOnce claim.

Jobs in sequence are never pinned, the volume follows the pod. Pods that would run at the same time are bound to one
node, or wait for each other where their own placements differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox_api.experiment import PodProfile

from .job import PlannedJob


@dataclass(frozen=True)
class Placement:
    """How one pod may be placed. `wait` says why it may not start yet."""

    pinned: bool = False
    wait: str | None = None
    never: str | None = None
    """Why it can't be placed at all."""


def place(job: PlannedJob, mode: str | None, live: Sequence[PlannedJob], *, is_shared: bool) -> Placement:
    """The placement of a job beside those that are at work on the same claim.

    `is_shared`: other experiments are at work on it.
    """
    if mode == "ReadWriteOncePod" and job.has_several_pods:
        return Placement(never="the claim is ReadWriteOncePod: one pod at a time can use it, and the job has several")
    if mode == "ReadWriteOncePod" and live:
        return Placement(wait=f"the claim is ReadWriteOncePod, and {live[0].id} uses it")
    if mode != "ReadWriteOnce" or not (live or is_shared or job.has_several_pods):
        return Placement()
    other = next((one for one in live if _wish(one.profile) != _wish(job.profile)), None)
    if other is not None:
        words = f"the claim is ReadWriteOnce, and {other.id}, which uses it, is placed by other rules (pod profile)"
        return Placement(wait=words)
    return Placement(pinned=True)


def told(mode: str | None, *, may_be_parallel: bool) -> str:
    """The decision and its reason, for the status."""
    if mode == "ReadWriteOncePod":
        return "ReadWriteOncePod: one pod at a time"
    if mode == "ReadWriteOnce" and may_be_parallel:
        return (
            "ReadWriteOnce: jobs that run at the same time share a node (required pod affinity), or run one after"
            " another where their pod profiles place them differently"
        )
    if mode == "ReadWriteOnce":
        return (
            "one job runs at a time, so nothing is pinned: the volume follows the pod; while another experiment works"
            " on the claim, both share a node"
        )
    if not may_be_parallel:
        return "one job runs at a time, so nothing is pinned: the volume follows the pod"
    return "ReadWriteMany: jobs may run at the same time on any nodes"


def _wish(profile: PodProfile) -> list[Any]:
    return [
        profile.node_selector, profile.tolerations, profile.affinity, profile.runtime_class_name,
        profile.scheduler_name, (profile.patch or {}).get("nodeName"),
    ]  # fmt: skip
