# SPDX-License-Identifier: Apache-2.0
"""What a planned job asks of its pod: the job contract, and the request for the Job that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sandbox_api import contract as wire
from sandbox_api.experiment import ExperimentSpec, Resources, Rungs
from sandbox_api.status import JobStatus

from ..build.defaults import Defaults
from ..build.job import JobRequest
from ..build.parts import GRACE_SECONDS
from ..build.quantity import amount
from .cache import cache_key, has_key
from .configs import given_configs
from .facts import Snapshot
from .images import HELPER_IMAGE
from .job import Gathered, PlannedJob, Reference
from .limits import gpus_of

BASE_SEED = 42
"""Of a job's random draws; each repeat has the next one."""
HELPER_SECONDS = 600
"""How long a pod may take that only looks at the volume."""
HELPER_RESOURCES = Resources(requests={"cpu": "100m", "memory": "256Mi"})


@dataclass(frozen=True)
class Asked:
    """What a contract is made of, beside the job itself."""

    snapshot: Snapshot
    spec: ExperimentSpec
    defaults: Defaults
    claim: str
    images: Mapping[str, str]
    version: int
    """Of the contract that the images read."""
    committed: Mapping[str, JobStatus]
    """Jobs whose results inputs name, by id."""
    before: Mapping[str, str] = field(default_factory=dict)
    """By the id of a job: the one whose figures its own are compared with."""


def job_contract(asked: Asked, job: PlannedJob, attempt: int) -> wire.JobContract:
    """The contract of one attempt."""
    entry = asked.committed[job.id]
    snapshot, spec = asked.snapshot, asked.spec
    configs = given_configs(job)
    return wire.JobContract(
        version=asked.version,
        experiment=wire.ExperimentRef(
            name=snapshot.name,
            namespace=snapshot.namespace,
            uid=snapshot.uid,
            project=spec.project_name or snapshot.namespace,
            run=spec.experiment_name or snapshot.name,
        ),
        job=wire.JobRef(
            id=job.id,
            pipeline=job.pipeline,
            iteration=job.iteration,
            stage=job.stage,
            index=job.index,
            pipeline_item=job.pipeline_item,
            item=job.item,
            repeat=job.repeat,
            hook=job.hook.name,
            type=job.config.type,
            meta_name=job.meta_name,
        ),
        generation=entry.generation or 1,
        attempt=attempt,
        nodes=job.config.nodes,
        shards=job.config.shards,
        cache_key=key_of(asked, job) if has_key(spec, job) else "",
        configs=configs,
        inputs=_inputs(job, asked.committed),
        compared=_compared(asked, job),
        outputs=list(job.outputs),
        needs=list(job.needs),
        publish_under=_publish_under(spec, job),
        limits=_limits(job.resources),
        seed=_seed(job),
        keep_attempts=spec.keep_attempts,
        keep_checkpoints=job.keep_checkpoints,
        progress=_progress(asked, job),
        active_seconds_left=active_seconds_left(job, entry),
    )


def _progress(asked: Asked, job: PlannedJob) -> wire.ProgressTarget | None:
    """Where the job's pods tell how far they are, if anywhere."""
    url = asked.defaults.progress_url
    return wire.ProgressTarget(url=url, rungs=rungs_for(asked.spec, job)) if url else None


def rungs_for(spec: ExperimentSpec, job: PlannedJob) -> wire.Rungs | None:
    """For a job's `progress.rungs`: where its trial may be ended early, if it is the job that logs the figure which
    decides that. Of repeats the first one decides."""
    rungs = spec.trial.rungs if spec.trial is not None else None
    return rungs_of_job(rungs, job.id, job.meta_name) if rungs is not None else None


def rungs_of_job(rungs: Rungs, job_id: str, meta_name: str) -> wire.Rungs | None:
    """The same for a job that is known by its id and metaName alone."""
    planned, _, repeat = job_id.partition("~")
    pipeline = f"{planned.partition('/')[0]}."
    metric = rungs.metric.removeprefix(pipeline)
    if repeat not in ("", "0") or not metric.startswith(f"{meta_name}."):
        return None
    return wire.Rungs(metric=metric, resource=rungs.resource.removeprefix(pipeline), at=rungs.at)


def active_seconds_left(job: PlannedJob, entry: JobStatus) -> int:
    """What is left of `timeouts.active` at the start of an attempt: suspension keeps what was used."""
    return max(1, job.limits.active - (entry.active_seconds or 0))


def key_of(asked: Asked, job: PlannedJob) -> str:
    """The cache key of a job whose inputs are committed."""
    return cache_key(
        job, given_configs(job), asked.images[job.hook.image], asked.defaults.image_pull_policy, _seed(job),
        asked.spec.inputs, asked.committed, _before(asked, job),
    )  # fmt: skip


def job_request(asked: Asked, job: PlannedJob, attempt: int, *, pinned: bool = False, pieces: str = "") -> JobRequest:
    """The request for one attempt's Job. `pieces`: those of a divided job that it is to do."""
    contract = job_contract(asked, job, attempt).model_copy(update={"pieces": pieces})
    seconds = (contract.active_seconds_left or 0) + GRACE_SECONDS
    return JobRequest(
        contract=contract,
        image=asked.images[job.hook.image],
        claim=asked.claim,
        command=job.hook.command or wire.RUN_COMMAND,
        inputs=tuple(asked.spec.inputs),
        profile=job.profile,
        resources=job.resources,
        secrets=tuple(job.config.secrets or ()),
        run_as=asked.spec.run_as_user,
        deadline=0 if job.is_divided else job.limits.pending + seconds,
        pod_seconds=job.limits.pending + seconds if job.is_divided else 0,
        pinned=pinned,
    )


def helper_request(
    asked: Asked,
    job: PlannedJob,
    attempt: int,
    task: Literal["read", "check", "merge"],
    *,
    pinned: bool = False,
    candidate: wire.Candidate | None = None,
    pieces: int = 0,
) -> JobRequest:
    """The request for a pod that needs no GPU: it looks at the volume and tells what is there, or merges it."""
    other = {"task": task, "candidate": candidate, "progress": None}
    contract = job_contract(asked, job, attempt).model_copy(update=other)
    profile, is_merge = job.profile, task == "merge"
    dropped = ("resources", "node_selector", "affinity", "runtime_class_name", "patch", *(() if is_merge else ("env",)))
    image = asked.images[job.hook.image] if not job.hook.command else asked.images[HELPER_IMAGE]
    return JobRequest(
        contract=contract,
        image=image,
        claim=asked.claim,
        inputs=tuple(asked.spec.inputs),
        profile=profile.model_copy(update=dict.fromkeys(dropped)),
        resources=HELPER_RESOURCES,
        run_as=asked.spec.run_as_user,
        deadline=job.limits.pending + (job.limits.active if is_merge else HELPER_SECONDS),
        pieces=pieces,
        pinned=pinned,
    )


def _inputs(job: PlannedJob, committed: Mapping[str, JobStatus]) -> dict[str, wire.InputRef | list[wire.InputRef]]:
    inputs: dict[str, wire.InputRef | list[wire.InputRef]] = {}
    for target, source in sorted(job.inputs.items()):
        if isinstance(source, Gathered):
            inputs[target] = [_input(reference, committed) for reference in source.references]
        elif isinstance(source, Reference):
            inputs[target] = _input(source, committed)
    return inputs


def _before(asked: Asked, job: PlannedJob) -> JobStatus | None:
    """The job whose figures this one's are compared with, when it has any."""
    entry = asked.committed.get(asked.before.get(job.id, ""))
    return entry if entry is not None and entry.result is not None else None


def _compared(asked: Asked, job: PlannedJob) -> wire.InputRef | None:
    entry = _before(asked, job)
    return _input(Reference(entry.id, ""), asked.committed) if entry is not None else None


def _input(reference: Reference, committed: Mapping[str, JobStatus]) -> wire.InputRef:
    result = committed[reference.job_id].result
    assert result is not None, f"{reference.job_id} has no result yet"
    return wire.InputRef(
        job=reference.job_id,
        output=reference.output,
        result_path=result.path,
        sha256=result.sha256,
        element=reference.element,
    )


def _seed(job: PlannedJob) -> int:
    return BASE_SEED + (job.repeat or 0)


def _publish_under(spec: ExperimentSpec, job: PlannedJob) -> str:
    iteration = f"iter_{job.iteration}" if spec.max_iter_num != 1 else ""
    return "/".join(filter(None, (iteration, job.publish_under)))


def _limits(resources: Resources | None) -> wire.Limits:
    if resources is None:
        return wire.Limits()
    limits, requests = resources.limits or {}, resources.requests or {}
    cpus = limits.get("cpu", requests.get("cpu"))
    memory = limits.get("memory")
    return wire.Limits(
        cpus=amount(cpus) if cpus is not None else None,
        memory_bytes=int(amount(memory)) if memory is not None else None,
        gpus=gpus_of(resources),
    )
