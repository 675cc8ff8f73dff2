# SPDX-License-Identifier: Apache-2.0
"""`SandboxExperiment.spec` as users write it. The CRD is generated from here (`make generate`).

Only the language lives here. What a value means, and whether this version can do it, is the planner's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .base import AnyObject, Duration, Name, ObjectName, Quantity, SpecModel, TextOrObject
from .forms import ClassName, DataKey, ImageReference, LabelKey, LabelValue, Size, SubPath
from .pod_fields import Toleration
from .tracking import Tracking

MAX_JOBS = 64
AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]
Policy = Literal["Fail", "Continue"]


def rules(*entries: dict[str, str]) -> ConfigDict:
    """CEL rules of a model, as they stand in the CRD."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": [dict(entry) for entry in entries]})


ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
HOOK = r"^[A-Za-z][A-Za-z0-9_-]*$"


class Resources(SpecModel):
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """Amounts the scheduler sets aside, e.g. `cpu: "2"`."""
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """Amounts the pod may not exceed, e.g. `nvidia.com/gpu: 8`."""


class EnvVar(SpecModel):
    name: Annotated[str, Field(pattern=ENV_NAME, max_length=128)]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] = ""
    """Its value, taken as it stands: `$(X)` and `$$` arrive unchanged."""


class PodProfile(SpecModel):
    """How pods of jobs that name this profile are placed and sized."""

    resources: Resources | None = None
    """Requests and limits of the hook's container."""
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = None
    """Labels a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = None
    """Taints the pod accepts."""
    affinity: AnyObject | None = None
    """Kubernetes affinity, as in a pod."""
    priority_class_name: ClassName | None = None
    """Priority class of the pod; default: the operator's setting."""
    runtime_class_name: ClassName | None = None
    """Runtime class, e.g. nvidia."""
    scheduler_name: str | None = None
    """Scheduler other than the default."""
    image_pull_secrets: Annotated[list[ObjectName], Field(max_length=8)] | None = None
    """Names of pull secrets in the namespace."""
    env: Annotated[list[EnvVar], Field(max_length=64)] | None = None
    """Further environment variables of the hook's container."""
    shared_memory: Quantity | None = None
    """Size limit of /dev/shm, which counts as the pod's memory."""
    patch: AnyObject | None = None
    """Merged into the pod's spec last, for what has no field here."""


class NewClaim(SpecModel):
    storage_class_name: ObjectName | None = None
    """Storage class; default: the cluster's."""
    access_modes: Annotated[list[AccessMode], Field(min_length=1, max_length=1)] = ["ReadWriteMany"]
    """One mode: ReadWriteMany lets jobs run on several nodes."""
    size: Size = "50Gi"
    """Requested size."""


class Workspace(SpecModel):
    """The shared volume: an existing claim, or one to make."""

    model_config = rules(
        {
            "rule": "has(self.claimName) != has(self.claim)",
            "message": "give either claimName (an existing claim) or claim (one to make), not both",
            "fieldPath": ".claimName",
        }
    )

    claim_name: ObjectName | None = None
    """An existing claim in the namespace."""
    claim: NewClaim | None = None
    """A claim to make, named `<experiment>-workspace`."""
    retention: Literal["Retain", "Delete"] = "Retain"
    """Whether a made claim outlives the experiment (Retain) or goes with it (Delete)."""


class InputVolume(SpecModel):
    """A read-only source, mounted at /inputs/<name>."""

    model_config = rules(
        {
            "rule": "has(self.claimName) != has(self.configMapName)",
            "message": "give either claimName or configMapName, not both",
        }
    )

    name: Name
    """Reachable as inputs/<name>."""
    claim_name: ObjectName | None = None
    """A claim to read from."""
    config_map_name: ObjectName | None = None
    """A ConfigMap to read from."""
    sub_path: SubPath | None = None
    """A folder inside the claim."""


class Retry(SpecModel):
    """Budgets for each class of failure, and the wait between attempts."""

    user: Annotated[int, Field(ge=0, le=100)] | None = None
    """Further attempts when the hook's own code or data failed (default 0)."""
    infra: Annotated[int, Field(ge=0, le=100)] | None = None
    """Further attempts when a node, volume or the network failed (default 3)."""
    preempted: Annotated[int, Field(ge=0, le=10000)] | None = None
    """Further attempts when the pod was preempted or drained (default 100)."""
    backoff: Duration | None = None
    """Wait before the second attempt; doubles each time (default 10s)."""
    max_backoff: Duration | None = None
    """Longest wait (default 10m)."""


class Timeouts(SpecModel):
    pending: Duration | None = None
    """How long a pod may wait for a place, image or volume (default 1h)."""
    active: Duration | None = None
    """A hook may run that long (default 24h)."""
    result: Duration | None = None
    """How long to wait for a result after the pod ended (default 2m)."""
    node_lost: Duration | None = None
    """A pod on a node silent for that long counts as ended (default 10m)."""


class SecretEnv(SpecModel):
    env: Annotated[str, Field(pattern=ENV_NAME, max_length=128)]
    """Name of the environment variable."""
    name: ObjectName
    """Name of the Secret; the operator never reads it."""
    key: DataKey
    """Key in the Secret."""


class ForEach(SpecModel):
    item: Name
    """Name of the element in configurations, as item.<name>."""
    in_: Annotated[TextOrObject, Field(alias="in")]
    """A reference to a list output, or a literal list."""
    max_parallel: Annotated[int, Field(ge=1, le=256)] | None = None
    """How many run at the same time."""


class JobConfig(SpecModel):
    """One job: one hook, run in a pod of its own."""

    hook: Annotated[str, Field(pattern=HOOK, max_length=128)]
    """The hook to run, e.g. ProbeViaAnalyzerHook."""
    meta_name: Name | None = None
    """Name under which results are recorded; default: the hook's own."""
    type: Annotated[str, Field(max_length=128)] | None = None
    """Component of the hook, e.g. easyanimate."""
    dj_configs: TextOrObject | None = None
    """A Data-Juicer configuration inline, or the path of one."""
    extra_configs: TextOrObject | None = None
    """Settings of the hook inline, or the path of a file."""
    probe: Name | None = None
    """For a refine job: the metaName of the probe it reads."""
    input: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=64)] | None = None
    """Configuration keys filled from results of other jobs."""
    local: AnyObject | None = None
    """Overrides of configuration keys, applied before input."""
    output: Annotated[list[Name], Field(max_length=32)] | None = None
    """Names for the hook's results, by position."""
    pod: Name | None = None
    """Pod profile; default: the one named default."""
    resources: Resources | None = None
    """Requests and limits other than the profile's."""
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Pods that work as one."""
    shards: Annotated[int, Field(ge=1, le=1024)] = 1
    """Independent pieces of the job."""
    for_each: ForEach | None = None
    """Run once for each item of a list."""
    retry: Retry | None = None
    """Budgets of this job."""
    timeouts: Timeouts | None = None
    """Time limits of this job."""
    depends_on: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = None
    """Jobs that must be done first; default: all before it in the list."""
    on_failure: Policy | None = None
    """Whether the experiment goes on when this job fails."""
    results_lost: Literal["Retry", "Fail"] = "Retry"
    """What to do when its finished result can't be found."""
    secrets: Annotated[list[SecretEnv], Field(max_length=32)] | None = None
    """Environment variables from Secrets."""


JobList = Annotated[list[JobConfig], Field(max_length=MAX_JOBS)]


class Stage(SpecModel):
    name: Name
    """Name of the stage."""
    job_configs: JobList
    """Its jobs, in order."""


class JobLists(SpecModel):
    """The four lists of the sandbox, in the order in which they run."""

    probe_job_configs: JobList | None = None
    """Jobs that look at data or a model."""
    refine_recipe_job_configs: JobList | None = None
    """Jobs that refine a recipe from what was seen."""
    execution_job_configs: JobList | None = None
    """Jobs that process data and train models."""
    evaluation_job_configs: JobList | None = None
    """Jobs that evaluate data and models."""


class Pipeline(JobLists):
    name: Name
    """Name of the pipeline, the first part of references."""
    for_each: ForEach | None = None
    """Run the pipeline once for each item of a list."""
    stages: Annotated[list[Stage], Field(max_length=16)] | None = None
    """Job lists of one's own, in order, instead of the four."""


class Keep(SpecModel):
    checkpoints: Annotated[int, Field(ge=1)] | None = None
    """How many checkpoints a training keeps."""
    videos: Annotated[int, Field(ge=0)] | None = None
    """How many videos an inference keeps."""


class ComparisonPair(SpecModel):
    before: Name
    """metaName of the job whose figures are the before."""
    after: Name
    """metaName of the job whose figures are the after."""


class Rank(SpecModel):
    metric: Annotated[str, Field(max_length=253)]
    """Metric to rank by."""
    goal: Literal["minimize", "maximize"] = "maximize"
    """Whether low or high is good."""
    baseline: Name | None = None
    """Item that others are compared with."""
    repeats: Annotated[int, Field(ge=1, le=100)] | None = None
    """Seeds; default spec.repeats."""


class Rungs(SpecModel):
    """Where on its way a trial may be ended early."""

    metric: Annotated[str, Field(max_length=253)]
    """The figure that is looked at, as it is logged."""
    resource: Annotated[str, Field(max_length=253)]
    """The figure that counts the way, e.g. train.step."""
    at: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=64)]
    """At these values of it, rising."""


class Trial(SpecModel):
    sweep: ObjectName
    """The sweep this experiment belongs to."""
    number: Annotated[int, Field(ge=0)]
    """Number of the trial, from 0."""
    metric: Annotated[str, Field(max_length=253)]
    """The sweep's metric: a figure of the jobs, whole or by its end."""
    parameters: AnyObject
    """Values of the trial's parameters."""
    overrides: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=64)] = []
    """Parameters that may replace what a refine job has found."""
    point: Annotated[list[float], Field(max_length=64)] | None = None
    """The suggestion in the unit cube, parameters in the order of their names."""
    observed: Annotated[str, Field(max_length=131072)] | None = None
    """The trials, values and states that the suggestion was made from, in order: `0=0.5 1=failed 2=running`."""
    rungs: Rungs | None = None
    """Where it may be ended early."""


class Rerun(SpecModel):
    token: Annotated[str, Field(max_length=63)]
    """A new value starts a rerun."""
    from_: Annotated[Annotated[str, Field(max_length=256)] | None, Field(alias="from")] = None
    """A metaName or the start of a job id; default: what failed, was skipped or changed, and its readers; else all."""


class StageFailure(SpecModel):
    probe: Policy = "Fail"
    """Policy for probe jobs."""
    refine: Policy = "Fail"
    """Policy for refine jobs."""
    execution: Policy = "Fail"
    """Policy for execution jobs."""
    evaluation: Policy = "Fail"
    """Policy for evaluation jobs."""


class ExperimentSpec(JobLists):
    """One experiment: the four job lists, or several named pipelines of them."""

    model_config = rules(
        {
            "rule": "!has(self.pipelines) || size(self.pipelines) == 0 || !(has(self.probeJobConfigs)"
            " || has(self.refineRecipeJobConfigs) || has(self.executionJobConfigs) || has(self.evaluationJobConfigs))",
            "message": "give either the four job lists or pipelines, not both",
            "fieldPath": ".pipelines",
        },
    )

    project_name: Annotated[str, Field(max_length=128)] | None = None
    """Project in Weights & Biases; default: the namespace."""
    experiment_name: Annotated[str, Field(max_length=128)] | None = None
    """Name of the run in Weights & Biases; default: the resource's name."""
    workspace: Workspace
    """The shared volume."""
    inputs: Annotated[
        list[InputVolume],
        Field(
            max_length=32, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = []
    """Read-only sources at /inputs/<name>."""
    pods: Annotated[dict[Name, PodProfile], Field(max_length=16)] = {}
    """Pod profiles by name; default applies where a job names none."""
    images: Annotated[dict[Name, ImageReference], Field(max_length=32)] = {}
    """Overrides of the operator's images, e.g. data."""
    run_as_user: Annotated[int, Field(ge=1, le=2147483647)] = 1000
    """User, group and fsGroup of all hook pods; never root."""
    retry: Retry | None = None
    """Budgets for all jobs."""
    timeouts: Timeouts | None = None
    """Time limits for all jobs."""
    cache: Literal["Auto", "Never"] = "Auto"
    """Whether results of equal jobs on the same volume may be used again."""
    on_failure: StageFailure | None = None
    """Policy for each stage."""
    keep_attempts: bool = False
    """Keep the artifacts of failed attempts."""
    keep: Keep | None = None
    """What hooks keep of many files."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """Train, infer and evaluate that many times with different seeds."""
    comparison: Annotated[list[ComparisonPair], Field(max_length=16)] | None = None
    """Pairs of jobs to compare; default: the last probe against the last evaluation of the same hook."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """Remove the finished Jobs after that long; never the experiment."""
    pipelines: Annotated[list[Pipeline], Field(max_length=16)] | None = None
    """Several pipelines in order, instead of the four lists."""
    max_iter_num: Annotated[int, Field(ge=0, le=1000)] = 1
    """Iterations of all pipelines; 0 is without limit and needs iterTargets."""
    iter_targets: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=32)] | None = None
    """Targets that end the iterations, e.g. "anonymous.eval_data.rows >= 100"."""
    iter_targets_mode: Literal["all", "any"] = "all"
    """Whether all targets must be met, or any."""
    iter_updater: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=32)] | None = None
    """Results of one iteration that configure the next."""
    hpo_config: Annotated[str, Field(max_length=1024)] | None = None
    """Only in files from upstream: a search is a SandboxSweep, which sandboxctl convert makes."""
    rank: Rank | None = None
    """How items of a forEach are ranked."""
    tracking: Tracking | None = None
    """Where figures are exported to."""
    trial: Trial | None = None
    """Set by a sweep."""
    suspend: bool = False
    """Start no further job; with suspendPolicy Now, end the running one."""
    suspend_policy: Literal["Boundary", "Now"] = "Boundary"
    """Whether suspension waits for the running hook."""
    stop: Literal["Now", "AfterEvaluation"] | None = None
    """End the experiment; Stopped when that leaves anything undone."""
    rerun: Rerun | None = None
    """Run again from a job, on the same volume."""
    queue_name: Annotated[str, Field(max_length=63)] | None = None
    """Kueue queue."""
