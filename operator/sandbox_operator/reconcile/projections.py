# SPDX-License-Identifier: Apache-2.0
"""From objects as the API server sends them to the planner's facts. What no decision needs is dropped here."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import orjson
from pydantic import ValidationError

from sandbox_api.contract import CONTAINER
from sandbox_api.experiment import Rungs
from sandbox_api.hook import Hook
from sandbox_api.hook_resource import HookStatus, hook_of
from sandbox_api.ranges import numbers_in
from sandbox_api.status import ExperimentStatus, Reason
from sandbox_api.sweep import SweepStatus

from ..build.names import (
    ANNOTATION_CONTRACT,
    ANNOTATION_JOB_ID,
    ANNOTATION_NUMBERS,
    LABEL_ATTEMPT,
    LABEL_EXPERIMENT,
    LABEL_SWEEP,
    LABEL_UID,
)
from ..build.volume import SWEEP
from ..plan import contracts
from ..plan.facts import CLAIM, ClaimFact, ContainerFact, JobFact, PodFact, WarningFact
from ..plan.sweep_trials import Told

Manifest = dict[str, Any]
LABEL_POD_JOB = "batch.kubernetes.io/job-name"
"""Set by the Job controller on its pods."""
ANNOTATION_POD_INDEX = "batch.kubernetes.io/job-completion-index"
"""Likewise, where the Job is Indexed."""
Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class Owned(Generic[Fact]):
    """A fact, and the uid of the experiment it belongs to."""

    experiment: str
    fact: Fact


_LASTING = (
    "workspace", "ttlSecondsAfterFinished", "tracking", "projectName", "experimentName", "runAsUser", "images", "trial"
)  # fmt: skip
"""Fields of spec that matter after an experiment's end; the job lists, most of its size, are dropped."""


@lru_cache(maxsize=256)
def _unpacked(packed: bytes) -> ExperimentStatus:
    return ExperimentStatus.model_validate_json(packed)


@dataclass(frozen=True, slots=True)
class ExperimentFact:
    """An experiment as stored; of a settled one's spec only what may still matter (`_LASTING`).

    Its status is kept as JSON, a sixth of what the model takes: thousands are stored, and few are looked at.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    spec: Mapping[str, Any]
    packed_status: bytes
    outcome: str | None
    is_settled: bool
    """It has ended, and nothing was asked for since."""
    deleting: bool
    trial: Told | None = None
    """What a sweep asks, if one has made it."""
    is_refused: bool = False
    """Its spec can't be run."""

    @property
    def status(self) -> ExperimentStatus:
        return _unpacked(self.packed_status)


def experiment_fact(item: Manifest) -> ExperimentFact:
    meta, spec, status = item["metadata"], item.get("spec"), item.get("status") or {}
    spec = spec if isinstance(spec, Mapping) else {}  # only an API server without our schema would have stored it
    # A copy: the original keeps a buffer of 8 KiB, however short it is.
    packed = bytes(memoryview(orjson.dumps(status)))
    _unpacked(packed)  # what can't be read is not taken in
    # A spec that can't be run may become one that can, when a SandboxHook is there.
    refused = any(c["type"] == "Stalled" and c["reason"] == Reason.INVALID_SPEC for c in status.get("conditions") or ())
    over = status.get("completionTime") is not None and status.get("observedGeneration") == meta["generation"]
    settled = over and not refused
    trial = spec.get("trial")
    if isinstance(trial, Mapping):  # what its suggestion saw may be 128 KiB, and is asked for by nobody here
        spec = {**spec, "trial": {name: value for name, value in trial.items() if name != "observed"}}
    return ExperimentFact(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        generation=meta["generation"],
        resource_version=meta["resourceVersion"],
        spec={name: spec[name] for name in _LASTING if name in spec} if settled else spec,
        packed_status=packed,
        outcome=status.get("outcome"),
        is_settled=settled,
        deleting="deletionTimestamp" in meta,
        trial=_told(meta, spec),
        is_refused=refused,
    )


def _told(meta: Mapping[str, Any], spec: Mapping[str, Any]) -> Told | None:
    """What an experiment tells the sweep that has made it; None where none has."""
    owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
    trial = spec.get("trial")
    if owner is None or owner.get("kind") != SWEEP or not isinstance(trial, Mapping):
        return None
    number, parameters, point = trial.get("number"), trial.get("parameters"), trial.get("point")
    if not isinstance(number, int):
        return None
    return Told(
        sweep=owner["name"],
        sweep_uid=owner["uid"],
        number=number,
        parameters=parameters if isinstance(parameters, Mapping) else {},
        point=tuple(map(float, point)) if isinstance(point, list) else None,
        suspended=spec.get("suspend") is True,
        stopping=spec.get("stop") == "Now",
    )


def rungs_of_job(fact: ExperimentFact, job_id: str) -> frozenset[int]:
    """Where a job's contract says that its trial may be ended early; none where no sweep has made the experiment."""
    asked = fact.spec["trial"].get("rungs") if fact.trial is not None else None
    if asked is None:
        return frozenset()
    try:
        rungs = Rungs.model_validate(asked)
    except ValidationError:  # nothing of such a spec is run
        return frozenset()
    names = (job.meta_name for job in fact.status.jobs if job.id == job_id)
    found = [told for name in names if (told := contracts.rungs_of_job(rungs, job_id, name)) is not None]
    return frozenset(rung for told in found for rung in told.at)


def job_fact(item: Manifest) -> Owned[JobFact]:
    meta = item["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    conditions = _true_conditions(item)
    failed = conditions.get("Failed") or conditions.get("FailureTarget")  # the latter stands while its pods end
    status = item.get("status") or {}
    numbers = _ranges(annotations.get(ANNOTATION_NUMBERS))
    fact = JobFact(
        name=meta["name"],
        uid=meta["uid"],
        owner_uid=_controller(meta),
        job_id=annotations.get(ANNOTATION_JOB_ID, ""),
        attempt=int(labels.get(LABEL_ATTEMPT) or 0),
        contract=annotations.get(ANNOTATION_CONTRACT, ""),
        complete="Complete" in conditions,
        failed=failed.get("reason") or "Failed" if failed is not None else None,
        failed_message=(failed or {}).get("message", ""),
        deleting="deletionTimestamp" in meta,
        numbers=numbers,
        done_indexes=_ranges(status.get("completedIndexes")) if numbers else "",
        failed_indexes=_ranges(status.get("failedIndexes")) if numbers else "",
    )
    return Owned(labels.get(LABEL_UID, ""), fact)


def _ranges(text: str | None) -> str:
    """Numbers of pods as text; nothing where it is none, which is not of our making."""
    try:
        return sys.intern(text) if text and numbers_in(text) else ""
    except ValueError:
        return ""


def _controller(meta: Manifest) -> str | None:
    """Uid of the object that an object was made by and for."""
    return next((o["uid"] for o in meta.get("ownerReferences") or () if o.get("controller")), None)


def pod_fact(item: Manifest) -> Owned[PodFact]:
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    disruption = conditions.get("DisruptionTarget") or {}
    fact = PodFact(
        name=meta["name"],
        uid=meta["uid"],
        job_name=labels.get(LABEL_POD_JOB, ""),
        contract=annotations.get(ANNOTATION_CONTRACT, ""),
        phase=status.get("phase", "Pending"),
        hook=_container_fact(status),
        node=spec.get("nodeName"),
        unschedulable=(
            scheduled.get("message") or scheduled.get("reason", "") if scheduled.get("status") == "False" else None
        ),
        disruption=(
            f"{disruption.get('reason', '')}: {disruption.get('message', '')}"
            if disruption.get("status") == "True"
            else None
        ),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        deleting="deletionTimestamp" in meta,
        deleting_since=meta.get("deletionTimestamp"),
        job_uid=_controller(meta) or "",
        index=int(annotations.get(ANNOTATION_POD_INDEX) or 0),
        numbers=_ranges(annotations.get(ANNOTATION_NUMBERS)),
    )
    return Owned(labels.get(LABEL_UID, ""), fact)


def _container_fact(status: Mapping[str, Any]) -> ContainerFact:
    entry = next((c for c in status.get("containerStatuses") or () if c["name"] == CONTAINER), None)
    if entry is None:
        return ContainerFact()
    state = entry.get("state") or {}
    if ended := state.get("terminated"):
        return ContainerFact(
            running_since=ended.get("startedAt"),
            exit_code=ended["exitCode"],
            exit_reason=ended.get("reason", ""),
            termination_message=ended.get("message", ""),
            finished_at=ended.get("finishedAt"),
        )
    if running := state.get("running"):
        return ContainerFact(running_since=running.get("startedAt"))
    waiting = state.get("waiting") or {}
    return ContainerFact(waiting_reason=waiting.get("reason"), waiting_message=waiting.get("message", ""))


def claim_fact(item: Manifest) -> ClaimFact:
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    modes = status.get("accessModes") or spec.get("accessModes") or (None,)
    return ClaimFact(
        name=meta["name"],
        uid=meta["uid"],
        phase=status.get("phase", "Pending"),
        access_mode=modes[0],
        experiment=(meta.get("labels") or {}).get(LABEL_EXPERIMENT),
        sweep=(meta.get("labels") or {}).get(LABEL_SWEEP),
        owner_uid=next((o["uid"] for o in meta.get("ownerReferences") or ()), None),
        deleting="deletionTimestamp" in meta,
        created=meta.get("creationTimestamp"),
    )


_OURS = re.compile(r"-[0-9a-f]{10}-(a[0-9]+|export)(-[a-z0-9]{5})?")


def warning_fact(item: Manifest) -> WarningFact | None:
    """A Warning Event about a Job or a pod whose name is of our making, or about any claim that gets no volume.

    Others are somebody else's.
    """
    about = item.get("involvedObject") or {}
    is_ours = about.get("kind") in ("Job", "Pod") and _OURS.search(about.get("name", "")) is not None
    if not is_ours and (about.get("kind"), item.get("reason")) != (CLAIM, "ProvisioningFailed"):
        return None
    return WarningFact(
        kind=about["kind"],
        name=about["name"],
        reason=item.get("reason", ""),
        message=item.get("message") or item.get("note") or "",
        namespace=about.get("namespace", ""),
        uid=about.get("uid", ""),
        time=item.get("lastTimestamp") or item.get("eventTime") or item["metadata"].get("creationTimestamp") or "",
    )


def _true_conditions(item: Manifest) -> dict[str, Mapping[str, Any]]:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return {c["type"]: c for c in conditions if c.get("status") == "True"}


@dataclass(frozen=True, slots=True)
class HookFact:
    """A SandboxHook: its entry of the catalogue, or what is wrong with it."""

    name: str
    namespace: str
    uid: str
    generation: int
    hook: Hook | None
    problems: tuple[str, ...]
    status: HookStatus


def hook_fact(item: Manifest) -> HookFact:
    meta = item["metadata"]
    found = hook_of(item)
    return HookFact(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        generation=meta["generation"],
        hook=found if isinstance(found, Hook) else None,
        problems=() if isinstance(found, Hook) else found,
        status=HookStatus.model_validate(item.get("status") or {}),
    )


@lru_cache(maxsize=64)
def _unpacked_sweep(packed: bytes) -> SweepStatus:
    return SweepStatus.model_validate_json(packed)


@dataclass(frozen=True, slots=True)
class SweepFact:
    """A SandboxSweep as stored; its status as JSON, as that of experiments."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    spec: Mapping[str, Any]
    packed_status: bytes
    deleting: bool

    @property
    def status(self) -> SweepStatus:
        return _unpacked_sweep(self.packed_status)


def sweep_fact(item: Manifest) -> SweepFact:
    meta, spec = item["metadata"], item.get("spec")
    packed = bytes(memoryview(orjson.dumps(item.get("status") or {})))
    _unpacked_sweep(packed)  # what can't be read is not taken in
    return SweepFact(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        generation=meta["generation"],
        resource_version=meta["resourceVersion"],
        spec=spec if isinstance(spec, Mapping) else {},
        packed_status=packed,
        deleting="deletionTimestamp" in meta,
    )
