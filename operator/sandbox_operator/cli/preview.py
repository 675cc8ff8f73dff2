# SPDX-License-Identifier: Apache-2.0
"""What `sandboxctl plan` says of a file, as data: the shape of `-o json` and `-o yaml`.

The models are the documented shape (docs/reference/plan.schema.json): fields may come, none goes or changes its meaning
while `version` stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox_api.base import ContractModel
from sandbox_api.contract import JobContract
from sandbox_api.crd import MAX_NAME
from sandbox_api.hook import Hook

from ..build.defaults import Defaults
from ..plan.compile import Compiled, compile_spec
from ..plan.images import images_of
from ..plan.job import ANY_ITEM, Given, Item, PlannedJob, Source, references_in
from ..plan.spread import spread
from ..plan.tracking import exporter_of
from .offline import UNNAMED, Experiment
from .projected import contract_of
from .rehearsal import Rehearsal, rehearse
from .sweep_plan import SweepPlan

PLAN_VERSION = 1
UNKNOWN_IMAGE = "image-of-the-operator.invalid/"
"""Stands before the name of an image that only an operator's installation knows."""
_HOUR = 3600
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
"""A DNS subdomain (RFC 1123), as the API server wants it."""


class SourcePlan(ContractModel):
    job: str
    """Id of the job whose result it is."""
    output: str
    """Name of that result."""
    element: int | None = None
    """Only this element of a result that is a list."""


class InputPlan(ContractModel):
    target: str
    """Configuration key that is filled, or `probe`."""
    sources: list[SourcePlan] = []
    """Results that go there; several where they are gathered from the items of a forEach."""
    item: str | None = None
    """The element of a list that is made on the way, by its name in the forEach."""
    value: Any = None
    """A value that stands in the file: an item of a literal list."""


class ResourcesPlan(ContractModel):
    requests: dict[str, int | str] = {}
    """Amounts the scheduler sets aside."""
    limits: dict[str, int | str] = {}
    """Amounts the pod may not exceed."""


class RetryPlan(ContractModel):
    user: int
    """Further attempts when the hook's own code or data failed."""
    infra: int
    """Further attempts when a node, a volume or the network failed."""
    preempted: int
    """Further attempts when the pod was preempted."""


class JobPlan(ContractModel):
    id: str
    """<pipeline>/<iteration>/<stage>/<index>, with [n] for the nth item of a forEach, [*] for items known later."""
    where: str
    """Its place in the file's spec."""
    stage: str
    """The list it stands in."""
    hook: str
    """The hook that runs."""
    type: str | None = None
    """Component of the hook."""
    meta_name: str
    """Name under which its results are recorded."""
    step: int | None = None
    """When it starts, from 1: jobs of one step run side by side. Absent where there are problems."""
    after: list[str] = []
    """Ids of the jobs that must be done first."""
    inputs: list[InputPlan] = []
    """What it takes from results of other jobs."""
    parameters: dict[str, Any] = {}
    """Of a trial (spec.trial), those that concern this job; applied last."""
    outputs: list[str] = []
    """Names of its results."""
    image: str
    """Name of its image."""
    image_reference: str | None = None
    """The image itself, where the file or --image names it."""
    resources: ResourcesPlan = ResourcesPlan()
    """Of its pod, the profile's and its own together."""
    retry: RetryPlan
    """Its budgets."""
    nodes: int = 1
    """Pods that work as one."""
    shards: int = 1
    """Independent pieces, each with a pod."""
    active_seconds: int
    """Its time limit for one attempt (timeouts.active)."""
    gpus: int | None = None
    """GPUs that all its pods ask for. Absent where there are problems."""
    gpu_hours: float | None = None
    """`gpus` for its whole time limit, one attempt."""


class ExperimentPlan(ContractModel):
    name: str
    """metadata.name."""
    namespace: str | None = None
    """metadata.namespace, where the file says it."""
    claim: str | None = None
    """The claim it works on."""
    iterations: int = 1
    """Most iterations of all jobs; 0 is without limit."""
    jobs: list[JobPlan] = []
    """Every job of the first iteration, in written order."""
    steps: int = 0
    """How many groups of jobs run one after another in an iteration; 0 where there are problems."""
    gpus_at_once: int | None = None
    """Most GPUs that the jobs of one step ask for together."""
    gpu_hours: float | None = None
    """Sum over the jobs of one iteration, one attempt each; a job with [*] counts once."""
    exporter: str | None = None
    """What tells Weights & Biases of it, where spec.tracking asks for that."""
    problems: list[str] = []
    """Sentences that begin with the field's path. With any, nothing would start."""
    warnings: list[str] = []
    """What would run, but perhaps not as it was meant."""


class FilePlan(ContractModel):
    """What the operator would make of a file."""

    version: int = PLAN_VERSION
    """Of this shape."""
    experiments: list[ExperimentPlan]
    """In the order of the file."""
    sweeps: list[SweepPlan] = []
    """Likewise."""
    problems: list[str] = []
    """What is wrong with its SandboxHooks, and with its experiments and sweeps taken together, in sentences."""

    @property
    def is_sound(self) -> bool:
        """Whether all of it would run."""
        return not self.problems and not any(plan.problems for plan in (*self.experiments, *self.sweeps))


def previewed(
    experiment: Experiment, hooks: Mapping[str, Hook | tuple[str, ...]], images: Mapping[str, str]
) -> tuple[ExperimentPlan, Rehearsal | None]:
    """An experiment's plan, and what it would create; None where there are problems.

    `hooks` are the SandboxHooks it may use, or what is wrong with them; `images` are references by name, for those
    that the spec leaves to the operator.
    """
    compiled = compile_spec(experiment.spec, hooks)
    name = experiment.name
    problems = [*name_problems(name), *compiled.problems]
    own = {job.hook.image: job.hook.image_reference for job in compiled.jobs if job.hook.image_reference}
    known = {**images, **own, **(compiled.spec.images if compiled.spec else {})}
    rehearsed = None if problems else _rehearsed(experiment, hooks, compiled, known)
    jobs = _jobs(compiled, known, rehearsed)
    at_once = [sum(job.gpus or 0 for job in jobs if job.step == step) for step in {job.step for job in jobs}]
    plan = ExperimentPlan(
        name=name,
        namespace=experiment.namespace,
        claim=rehearsed.status.workspace.claim_name if rehearsed and rehearsed.status.workspace else None,
        iterations=compiled.spec.max_iter_num if compiled.spec else 1,
        jobs=jobs,
        steps=len(_steps(rehearsed)),
        gpus_at_once=max(at_once, default=0) if rehearsed else None,
        gpu_hours=round(sum(job.gpu_hours or 0.0 for job in jobs), 3) if rehearsed else None,
        exporter=exporter_of(name, compiled.spec) if compiled.spec else None,
        problems=problems,
        warnings=[*compiled.warnings, *_held(experiment)],
    )
    return plan, rehearsed


def manifests(rehearsed: Rehearsal) -> list[dict[str, Any]]:
    """Everything that the operator would create, in order: the claim, then of each job the ConfigMap, the Service where
    none is there yet, and the Job."""
    # last, the exporter's Job
    jobs = [action for step in rehearsed.steps for action in step]
    made = [manifest for job in jobs for manifest in (job.config_map, job.service, job.manifest) if manifest]
    services = [manifest for manifest in made if manifest["kind"] == "Service"]
    again = [manifest for number, manifest in enumerate(services) if manifest in services[:number]]
    once = [manifest for manifest in made if not any(manifest is other for other in again)]
    return [*(claim.manifest for claim in rehearsed.claims), *once, *rehearsed.exporters]


def _rehearsed(
    experiment: Experiment, hooks: Mapping[str, Hook | tuple[str, ...]], compiled: Compiled, images: Mapping[str, str]
) -> Rehearsal:
    unknown = {name: f"{UNKNOWN_IMAGE}{name}" for name in images_of(compiled.jobs, compiled.spec)}
    free = {key: value for key, value in experiment.spec.items() if key not in ("suspend", "stop")}
    if free != experiment.spec:
        compiled = compile_spec(free, hooks)
    return rehearse(
        experiment.name, experiment.namespace or "default", free, compiled, Defaults(images={**unknown, **images})
    )


def _jobs(compiled: Compiled, images: Mapping[str, str], rehearsed: Rehearsal | None) -> list[JobPlan]:
    steps, gpus = dict[str, int](), dict[str, int]()
    for number, step in enumerate(_steps(rehearsed), 1):
        for contract in step:
            steps.setdefault(contract.job.id, number)
            gpus[contract.job.id] = contract.limits.gpus * contract.nodes * contract.shards
    plans = []
    for job in spread(compiled.jobs, {}):
        rehearsed_id = job.id.replace(ANY_ITEM, "[0]")
        plans.append(_job(job, images, steps.get(rehearsed_id), gpus.get(rehearsed_id)))
    return plans


def _steps(rehearsed: Rehearsal | None) -> list[list[JobContract]]:
    """The hooks that start together, by when; what only merges pieces is part of its job."""
    found = [
        [contract_of(action.manifest, action.config_map) for action in step]
        for step in (rehearsed.steps if rehearsed else ())
    ]
    hooks = [[contract for contract in step if contract.task == "run"] for step in found]
    return [step for step in hooks if step]


def _job(job: PlannedJob, images: Mapping[str, str], step: int | None, gpus: int | None) -> JobPlan:
    return JobPlan(
        id=job.id,
        where=job.where,
        stage=job.stage,
        hook=job.hook.name,
        type=job.config.type,
        meta_name=job.meta_name,
        step=step,
        after=list(job.after),
        inputs=[_input(target, source) for target, source in job.inputs.items()],
        parameters=dict(job.parameters),
        outputs=list(job.outputs),
        image=job.hook.image,
        image_reference=images.get(job.hook.image),
        resources=ResourcesPlan(**(job.resources.model_dump(exclude_none=True) if job.resources else {})),
        retry=RetryPlan(user=job.budgets.user, infra=job.budgets.infra, preempted=job.budgets.preempted),
        nodes=job.config.nodes,
        shards=job.config.shards,
        active_seconds=job.limits.active,
        gpus=gpus,
        gpu_hours=None if gpus is None else round(gpus * job.limits.active / _HOUR, 3),
    )


def _input(target: str, source: Source) -> InputPlan:
    if isinstance(source, Item):
        return InputPlan(target=target, item=".".join((source.name, *source.keys)))
    if isinstance(source, Given):
        return InputPlan(target=target, value=source.value)
    return InputPlan(
        target=target,
        sources=[SourcePlan(job=r.job_id, output=r.output, element=r.element) for r in references_in(source)],
    )


def name_problems(name: str, longest: int = MAX_NAME) -> Iterator[str]:
    """What the API server would say of a resource's name."""
    if name == UNNAMED:
        yield "metadata.name: is missing"
    elif len(name) > longest:
        yield f"metadata.name: {name!r} has more than {longest} characters"
    elif not _OBJECT_NAME.fullmatch(name):
        yield (
            f"metadata.name: {name!r} is not a name; write lower-case letters, digits, '-' and '.', with a letter or"
            " digit at either end and beside each '.'"
        )


def _held(experiment: Experiment) -> Iterator[str]:
    spec = experiment.spec if isinstance(experiment.spec, Mapping) else {}
    if spec.get("suspend") is True:
        yield "spec.suspend: is true; nothing starts until it is false"
    if spec.get("stop"):
        yield "spec.stop: is set; not all of these jobs would run"
