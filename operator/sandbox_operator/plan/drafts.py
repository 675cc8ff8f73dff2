# SPDX-License-Identifier: Apache-2.0
"""From the lists of a spec to its jobs in order, each with its name, its pod and what it comes after.

References between them are not known yet; `compile.py` finds those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sandbox_api.experiment import ExperimentSpec, ForEach, JobConfig, JobLists, Pipeline, PodProfile, Policy, Resources
from sandbox_api.hook import STAGES, Hook

from ..build.job import limits_of
from .job import ANY_ITEM, PlannedJob, time_limits
from .limits import resource_problems, timeout_problems
from .profiles import secret_problems
from .references import did_you_mean
from .retry import budgets_of
from .several import pod_problems

ANONYMOUS = "anonymous"
LISTS = dict(
    zip(
        STAGES,
        ("probe_job_configs", "refine_recipe_job_configs", "execution_job_configs", "evaluation_job_configs"),
        strict=True,
    )
)


@dataclass(frozen=True)
class JobAsWritten:
    """A job as it stands in the spec."""

    where: str
    pipeline: str
    for_each: ForEach | None
    """The pipeline's."""
    stage: str
    is_last_stage: bool
    index: int
    config: JobConfig

    @property
    def id(self) -> str:
        """Of the first iteration."""
        pipeline = self.pipeline + (ANY_ITEM if self.for_each else "")
        return f"{pipeline}/1/{self.stage}/{self.index}{ANY_ITEM if self.config.for_each else ''}"


def drafts(
    spec: ExperimentSpec, hooks: Mapping[str, Hook | tuple[str, ...]], problems: list[str]
) -> Iterator[PlannedJob]:
    """Each job in the order in which it is written; what is wrong with it goes to `problems`.

    In place of a hook there may be what is wrong with its SandboxHook.
    """
    written = [*jobs_as_written(spec)]
    taken = {(job.pipeline, job.config.meta_name) for job in written}
    used: Counter[tuple[str, str]] = Counter()
    order = _Order(written)
    for job in written:
        where, config = job.where, job.config
        problems += secret_problems(config, where)
        problems += timeout_problems(config.timeouts, f"{where}.timeouts")
        hook = hooks.get(config.hook)
        if hook is None:
            problems.append(f"{where}.hook: there is no hook {config.hook!r}{did_you_mean(config.hook, hooks)}")
            hook = _unknown(config)
        elif isinstance(hook, tuple):
            problems.append(f"{where}.hook: the SandboxHook {config.hook!r} can't be used: {'; '.join(hook)}")
            hook = _unknown(config)
        elif hook.components:
            config = config.model_copy(update={"type": type_of(config)})
            hook = _of_type(hook, config, where, problems)
        elif config.type is not None:
            problems.append(f"{where}.type: {hook.name} has no components to choose from; leave type out")
        problems += pod_problems(spec, config, hook, where)
        meta_name = config.meta_name
        while meta_name is None:
            used[job.pipeline, hook.meta_name] += 1
            number = used[job.pipeline, hook.meta_name]
            candidate = hook.meta_name if number == 1 else f"{hook.meta_name}_{number}"
            meta_name = candidate if (job.pipeline, candidate) not in taken else None
        names = tuple(config.output or ())
        if len(names) > len(hook.outputs):
            problems.append(
                f"{where}.output: {len(names)} names are too many; the results of {hook.name} are"
                f" {', '.join(hook.outputs)}"
            )
        profile, resources = _profile(spec, config, where, problems)
        draft = PlannedJob(
            id=job.id,
            where=where,
            pipeline=job.pipeline,
            iteration=1,
            stage=job.stage,
            index=job.index,
            hook=hook,
            config=config,
            meta_name=meta_name,
            outputs=names + hook.outputs[len(names) :],
            on_failure=_on_failure(spec, job),
            is_last_stage=job.is_last_stage,
            budgets=budgets_of(spec.retry, config.retry),
            limits=time_limits(spec.timeouts, config.timeouts),
            profile=profile,
            resources=resources,
        )
        yield replace(draft, after=order.place(draft, problems))


def jobs_as_written(spec: ExperimentSpec) -> Iterator[JobAsWritten]:
    """Each job of the four lists or of all pipelines, with its place in the spec."""
    if not spec.pipelines:
        yield from _in_lists(spec, ANONYMOUS, None, "spec")
    for number, pipeline in enumerate(spec.pipelines or ()):
        where = f"spec.pipelines[{number}]"
        if pipeline.stages is None:
            yield from _in_lists(pipeline, pipeline.name, pipeline.for_each, where)
        else:
            yield from _in_stages(pipeline, where)


def _in_lists(lists: JobLists, pipeline: str, for_each: ForEach | None, where: str) -> Iterator[JobAsWritten]:
    for stage, name in LISTS.items():
        key = type(lists).model_fields[name].alias
        for index, config in enumerate(getattr(lists, name) or ()):
            yield JobAsWritten(
                f"{where}.{key}[{index}]", pipeline, for_each, stage, stage == "evaluation", index, config
            )


def _in_stages(pipeline: Pipeline, where: str) -> Iterator[JobAsWritten]:
    stages = pipeline.stages or []
    for number, stage in enumerate(stages):
        for index, config in enumerate(stage.job_configs):
            place = f"{where}.stages[{number}].jobConfigs[{index}]"
            is_last = number == len(stages) - 1
            yield JobAsWritten(place, pipeline.name, pipeline.for_each, stage.name, is_last, index, config)


@dataclass
class _Order:
    """What each job comes after. Pipelines and their lists follow one another; inside a list a job comes after all
    that are written before it, unless it says `dependsOn`."""

    written: Sequence[JobAsWritten]
    pipeline: str | None = None
    stage: str | None = None
    before: list[str] = field(default_factory=list)
    """Jobs of earlier lists and pipelines that nothing has waited for yet."""
    open: list[str] = field(default_factory=list)
    """Jobs of this list that nothing has waited for yet."""
    in_list: dict[str, str] = field(default_factory=dict)
    """Ids in this list by metaName and by id."""
    earlier: set[str] = field(default_factory=set)
    """metaNames and ids of earlier lists of this pipeline, which are over anyhow."""

    def place(self, job: PlannedJob, problems: list[str]) -> tuple[str, ...]:
        if (job.pipeline, job.stage) != (self.pipeline, self.stage):
            self._next_list(job)
        if job.config.depends_on is None:
            after = tuple(self.open or self.before)
            self.open = [job.id]
        else:
            named = self._named(job, problems)
            after = tuple(named or self.before)
            self.open = [other for other in self.open if other not in named] + [job.id]
        self.in_list |= {job.meta_name: job.id, job.id: job.id}
        return after

    def _next_list(self, job: PlannedJob) -> None:
        if job.pipeline != self.pipeline:
            self.earlier = set()
        else:
            self.earlier |= set(self.in_list)
        self.before = self.open or self.before
        self.open, self.in_list = [], {}
        self.pipeline, self.stage = job.pipeline, job.stage

    def _named(self, job: PlannedJob, problems: list[str]) -> list[str]:
        found: list[str] = []
        for number, name in enumerate(job.config.depends_on or ()):
            if name in self.in_list:
                found.append(self.in_list[name])
            elif name not in self.earlier:
                problems.append(f"{job.where}.dependsOn[{number}]: {self._not_before(job, name)}")
        return list(dict.fromkeys(found))

    def _not_before(self, job: PlannedJob, name: str) -> str:
        if name in (job.meta_name, job.id):
            return f"{name!r} is this job itself; leave it out"
        for other in self.written:
            if other.pipeline == job.pipeline and name in (other.config.meta_name, other.id):
                return f"{name!r} ({other.where}) stands after this job; put it first, or leave it out"
        hint = did_you_mean(name, self.in_list)
        return f"no job before this one in the pipeline has the metaName or id {name!r}{hint}"


def _of_type(hook: Hook, config: JobConfig, where: str, problems: list[str]) -> Hook:
    """The hook as the job's component makes it."""
    extra = config.extra_configs if isinstance(config.extra_configs, Mapping) else {}
    if (inside := extra.get("type", config.type)) != config.type:
        problems.append(f"{where}.extraConfigs.type: {inside!r} is not the job's type {config.type!r}; name it once")
    if config.type is not None and config.type in hook.components:
        return hook.of_type(config.type)
    if config.type is None:
        there_is = f"{hook.name} has: {', '.join(hook.components)}"
        problems.append(f"{where}.type: name the component, its image depends on it; {there_is}")
    elif config.type in hook.lacks:
        problems.append(f"{where}.type: {hook.name} of type {config.type} is not in this version yet")
    else:
        hint = did_you_mean(config.type, hook.components)
        hint += "; one of your own comes with its image as a SandboxHook (docs/how-to/own-hook.md)"
        problems.append(f"{where}.type: there is no component {config.type!r}{hint}")
    return _unknown(config)


def type_of(config: JobConfig) -> str | None:
    """The component that a job names: beside its hook, or inside extraConfigs as Data-Juicer's sandbox has it."""
    extra = config.extra_configs if isinstance(config.extra_configs, Mapping) else {}
    found = config.type or (config.local or {}).get("extraConfigs.type") or extra.get("type")
    return found if isinstance(found, str) else None


def _unknown(config: JobConfig) -> Hook:
    """A stand-in that can be referred to in any way, so that one misspelt hook is one mistake."""
    outputs = tuple(config.output or ())
    return Hook(
        config.hook, config.meta_name or "unknown", STAGES, outputs, figures=("*",), known=False,
        spans_pods=True, divisible=True,
    )  # fmt: skip


def _on_failure(spec: ExperimentSpec, job: JobAsWritten) -> Policy:
    if job.config.on_failure is not None:
        return job.config.on_failure
    stages = spec.on_failure
    if stages is None:
        return "Fail"
    if job.stage in STAGES:
        policy: Policy = getattr(stages, job.stage)
        return policy
    return stages.evaluation if job.is_last_stage else stages.execution


def _profile(
    spec: ExperimentSpec, config: JobConfig, where: str, problems: list[str]
) -> tuple[PodProfile, Resources | None]:
    name = config.pod or "default"
    if config.pod and config.pod not in spec.pods:
        problems.append(f"{where}.pod: spec.pods has no profile {config.pod!r}{did_you_mean(config.pod, spec.pods)}")
    profile = spec.pods.get(name, PodProfile())
    resources = limits_of(profile.resources, config.resources)
    if config.resources is not None:
        own = {*(config.resources.requests or ()), *(config.resources.limits or ())}
        problems += resource_problems(resources, f"{where}.resources", own)
    return profile, resources
