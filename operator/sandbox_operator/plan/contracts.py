# SPDX-License-Identifier: Apache-2.0
"""What a planned job asks of its pod: the job contract, and the request for the Job that carries it."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_api import contract as wire
from sandbox_api.digest import sha256_of
from sandbox_api.experiment import ExperimentSpec, Resources
from sandbox_api.status import JobStatus

from ..build.job import GRACE_SECONDS, JobRequest
from ..build.quantity import amount
from .compile import PlannedJob
from .facts import Snapshot

CACHE_VERSION = 1
BASE_SEED = 42


def job_request(
    snapshot: Snapshot,
    spec: ExperimentSpec,
    job: PlannedJob,
    attempt: int,
    *,
    image: str,
    claim: str,
    committed: Mapping[str, JobStatus],
) -> JobRequest:
    """The request for one attempt. `committed` holds the jobs whose results its inputs name, by id."""
    inputs = {
        target: wire.InputRef(
            job=reference.job_id, output=reference.output, result_path=result.path, sha256=result.sha256
        )
        for target, reference in sorted(job.inputs.items())
        if (result := committed[reference.job_id].result) is not None
    }
    configs = wire.Configs(dj=job.config.dj_configs, extra=job.config.extra_configs, local=job.config.local or {})
    contract = wire.JobContract(
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
            hook=job.hook.name,
            type=job.config.type,
            meta_name=job.meta_name,
        ),
        attempt=attempt,
        cache_key=sha256_of(
            [CACHE_VERSION, job.hook.name, job.config.type, image, configs.model_dump(mode="json"),
             {target: [reference.output, reference.sha256] for target, reference in inputs.items()}]
        ),
        configs=configs,
        inputs=inputs,
        outputs=list(job.outputs),
        limits=_limits(job.resources),
        seed=BASE_SEED,
        keep_attempts=spec.keep_attempts,
        active_seconds_left=job.limits.active,
    )  # fmt: skip
    return JobRequest(
        contract=contract,
        image=image,
        claim=claim,
        inputs=tuple(spec.inputs),
        profile=job.profile,
        resources=job.resources,
        secrets=tuple(job.config.secrets or ()),
        run_as=spec.run_as_user,
        deadline=job.limits.pending + job.limits.active + GRACE_SECONDS,
    )


def _limits(resources: Resources | None) -> wire.Limits:
    if resources is None:
        return wire.Limits()
    limits, requests = resources.limits or {}, resources.requests or {}
    cpus = limits.get("cpu", requests.get("cpu"))
    memory = limits.get("memory")
    gpus = sum(int(amount(value)) for name, value in limits.items() if name.endswith("/gpu"))
    return wire.Limits(
        cpus=amount(cpus) if cpus is not None else None,
        memory_bytes=int(amount(memory)) if memory is not None else None,
        gpus=gpus,
    )
