# SPDX-License-Identifier: Apache-2.0
"""Plays an experiment through the operator's own planner on a cluster that is never in the way.

Every claim is bound, every hook succeeds, all that were started together end together, and a list that is made on the
way has one item. What comes out is the order of the first iteration and the manifests that it would create; nothing of
the order is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox_api.contract import JobContract, attempt_folder, experiment_folder
from sandbox_api.result import Message, encode_message
from sandbox_api.status import ExperimentStatus

from ..build.defaults import Defaults
from ..plan.actions import CreateClaim, CreateJob
from ..plan.clock import stamp
from ..plan.compile import Compiled
from ..plan.experiment import plan_experiment
from ..plan.facts import ClaimFact, ContainerFact, PodFact, Snapshot
from ..plan.tracking import with_tracking
from .projected import claim_fact, contract_of, job_fact

UID = "00000000-0000-0000-0000-000000000000"
"""Uid of an experiment that no API server has seen. Names of Jobs depend on the uid, so real ones differ."""
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_HOOK_SECONDS = 60
_MOST_ROUNDS = 4096
"""More than the planner can ask for: 256 jobs, each started and ended, and some waiting between."""


@dataclass(frozen=True)
class Rehearsal:
    claims: tuple[CreateClaim, ...]
    steps: tuple[tuple[CreateJob, ...], ...]
    """Jobs by when they start: those of one step run side by side."""
    status: ExperimentStatus
    """At the end, or where it could not go on."""
    exporters: tuple[Mapping[str, Any], ...] = ()
    """The first Job that exports its figures, where it is to be exported."""


def rehearse(name: str, namespace: str, spec: Mapping[str, Any], compiled: Compiled, defaults: Defaults) -> Rehearsal:
    """Everything that would be created for an experiment, in order. `compiled` must have no problems."""
    snapshot = Snapshot(
        name=name, namespace=namespace, uid=UID, generation=1, resource_version="1", spec=spec,
        status=ExperimentStatus(), claims=_given_claims(compiled),
    )  # fmt: skip
    lists = _lists(compiled)
    exporters: tuple[Mapping[str, Any], ...] = ()
    now, claims, steps = _BEGIN, list[CreateClaim](), list[tuple[CreateJob, ...]]()
    for _ in range(_MOST_ROUNDS):
        plan = plan_experiment(snapshot, compiled, defaults, now)
        if (plan.status.iteration or 1) > 1:
            break
        exports = with_tracking(plan, snapshot, compiled.spec, defaults, now).exports
        exporters = exporters or tuple(action.manifest for action in exports if isinstance(action, CreateJob))
        made = {fact.name for fact in snapshot.jobs}
        new = tuple(
            action
            for action in plan.actions
            if isinstance(action, CreateJob) and action.manifest["metadata"]["name"] not in made
        )
        asked = [action for action in plan.actions if isinstance(action, CreateClaim)]
        if new:
            steps.append(new)
        claims += asked
        unchanged = plan.status == snapshot.status and not new and not asked
        if plan.status.completion_time is not None or (unchanged and plan.requeue_after is None):
            return Rehearsal(tuple(claims), tuple(steps), plan.status, exporters)
        now += timedelta(seconds=plan.requeue_after or _HOOK_SECONDS if unchanged else _HOOK_SECONDS)
        snapshot = replace(
            snapshot,
            status=plan.status,
            claims={**snapshot.claims, **{fact.name: fact for fact in (claim_fact(a.manifest, UID) for a in asked)}},
            jobs=snapshot.jobs + tuple(job_fact(action.manifest, UID) for action in new),
            pods=snapshot.pods + tuple(pod for action in new for pod in _succeeded(action, lists, now)),
        )
    return Rehearsal(tuple(claims), tuple(steps), snapshot.status, exporters)


def _given_claims(compiled: Compiled) -> dict[str, ClaimFact]:
    name = compiled.spec.workspace.claim_name if compiled.spec else None
    return {name: ClaimFact(name, UID, "Bound", access_mode="ReadWriteMany")} if name else {}


def _lists(compiled: Compiled) -> frozenset[tuple[str, str]]:
    """Jobs and those of their results that are the list of a forEach."""
    fans = [fan for job in compiled.jobs for fan in (job.pipeline_fan, job.fan) if fan is not None]
    return frozenset((found.job_id, found.output) for fan in fans for found in fan.references)


def _succeeded(action: CreateJob, lists: frozenset[tuple[str, str]], now: datetime) -> Iterator[PodFact]:
    """The pods of a Job at their good end."""
    job = job_fact(action.manifest, UID)
    contract = contract_of(action.manifest, action.config_map)
    at = stamp(now)
    for index in range(job.size):
        uid = f"{index:08x}{UID[8:]}"
        hook = ContainerFact(
            running_since=at,
            exit_code=0,
            exit_reason="Completed",
            termination_message=encode_message(_message(contract, job.contract, lists, at, uid)),
            finished_at=at,
        )
        name = f"{job.name}-{index}-rehearsed" if job.size > 1 else f"{job.name}-rehearsed"
        yield PodFact(
            name, uid, job.name, job.contract, "Succeeded", hook=hook, node="rehearsal", index=index,
            numbers=job.numbers,
        )  # fmt: skip


def _message(contract: JobContract, digest: str, lists: frozenset[tuple[str, str]], at: str, uid: str) -> Message:
    folder = attempt_folder(
        experiment_folder(contract.experiment.name, contract.experiment.uid), contract.job.id, contract.attempt, uid
    )
    return Message(
        job=contract.job.id,
        attempt=contract.attempt,
        pod_uid=uid,
        contract=digest,
        path=f"{folder}/result.json",
        sha256="0" * 64,
        bytes=0,
        outcome="Succeeded",
        started_at=at,
        finished_at=at,
        outputs={
            name: [path] if (contract.job.id, name) in lists else path
            for name in contract.outputs
            for path in (f"{folder}/out/{name}",)
        },
    )
