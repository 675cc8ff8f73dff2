# SPDX-License-Identifier: Apache-2.0
"""`SandboxSweep`: a hyper-parameter search over an experiment template. The CRD is generated from here.

The spec takes a W&B sweep file's keys as they are, beside Kubernetes' spelling of the two that differ. What its untyped
parts (`parameters`, the template) mean is checked by the planner, which tells all mistakes at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from .base import AnyObject, ContractModel, ObjectName, SpecModel, TextOrObject
from .experiment import rules
from .extra import NEEDED
from .status import Condition

MAX_TRIALS = 10_000
MAX_PARALLELISM = 256
MAX_TABLE = 100
"""Trials that the status shows; each trial's own resource holds the rest."""

Count = Annotated[int, Field(ge=1, le=MAX_TRIALS)]
Method = Literal["bayes", "random", "grid", "sobol"]
TrialState = Literal["Pending", "Running", "Succeeded", "Failed", "Pruned"]


SPELLINGS = (("earlyTerminate", "early_terminate"), ("runCap", "run_cap"))
"""Keys that may be spelt in Kubernetes' way or in W&B's, but not in both."""


def not_both(ours: str, theirs: str) -> str:
    return f"give either {ours} or {theirs}, not both"


METRIC_IS_NEEDED = (
    "every method needs a metric, random and grid too, where W&B can do without: the best trial, what is kept, and when"
    " the search ends follow from it; name a figure of the template's jobs, as in"
    " `metric: {name: quality_score, goal: maximize}`"
)
_NONE: Any = None  # as a default it is judged too, so that the sentence is told where the key is missing


def _not_missing(metric: Any) -> Any:
    if metric is None:
        raise PydanticCustomError(NEEDED, METRIC_IS_NEEDED)
    return metric


class SweepMetric(SpecModel):
    name: Annotated[str, Field(min_length=1, max_length=253)]
    """A figure of the template's jobs, whole or by its end; quality_score: that of the one quality classifier."""
    goal: Literal["minimize", "maximize"] = "minimize"
    """Whether low or high is good."""
    target: float | None = None
    """Begin no further trial once a value is that good."""
    impute: str | None = None
    """Of a W&B file; ignored: a trial that has failed is no point for the search, whatever its last value was."""
    impute_while_running: Annotated[TextOrObject, Field(alias="impute_while_running")] = None
    """Of a W&B file; ignored: bayes takes the points of running trials as bad ones."""


class EarlyTerminate(SpecModel):
    """Which trials end early. With W&B's keys in its spelling, and `resource`."""

    type: Literal["hyperband", "median"]
    """hyperband: a trial goes on at a rung when it is among the best 1/eta that came there;
    median: as good as their median or better."""
    resource: Annotated[str, Field(max_length=253)] | None = None
    """What counts the way: `<metaName>.step` (default: that of the metric's job), as its live figures are logged."""
    min_iter: Annotated[int | None, Field(alias="min_iter", ge=1)] = None
    """The first rung; the others are eta times the one before."""
    max_iter: Annotated[int | None, Field(alias="max_iter", ge=1)] = None
    """The end of the way; with `s`, the rungs are max_iter/eta, max_iter/eta^2, ..."""
    s: Annotated[int, Field(ge=1, le=16)] | None = None
    """How many rungs, with max_iter."""
    eta: Annotated[float, Field(gt=1, le=100)] = 3
    """How much a rung thins out."""
    strict: bool = True
    """Compare what a trial has at the rung; false: the best it has had up to there, which stops fewer."""


class SweepKeep(SpecModel):
    best_trials: Annotated[int, Field(ge=1)] | None = None
    """When the search has ended, keep the large artifacts of the best so many trials, and of those that failed;
    default: of all."""
    checkpoints: Annotated[int, Field(ge=1)] | None = None
    """Checkpoints that each trial keeps (its spec.keep.checkpoints)."""


class SweepSpec(SpecModel):
    """A W&B sweep definition, an experiment template, and how many trials, how many at a time."""

    model_config = rules(
        *(
            {
                "rule": f"!(has(self.{ours}) && has(self.{theirs}))",
                "message": not_both(ours, theirs),
                "fieldPath": f".{ours}",
            }
            for ours, theirs in SPELLINGS
        ),
        {
            "rule": "has(self.metric)",
            "message": METRIC_IS_NEEDED,
            "fieldPath": ".metric",
            "reason": "FieldValueRequired",
        },
    )

    method: Method
    """bayes (TPE), random, grid or sobol (evenly spread)."""
    metric: Annotated[SweepMetric, BeforeValidator(_not_missing), Field(validate_default=True)] = _NONE
    """What is searched for; needed with every method."""
    parameters: AnyObject
    """W&B's parameters: `<op>.<arg>` of a recipe, or `<metaName>.djConfigs.<key>`, `<metaName>.extraConfigs.<key>`."""
    template: AnyObject
    """The spec of an experiment; each trial is one with its parameters applied."""
    max_trials: Count | None = None
    """Trials in all; default: W&B's run_cap or sweep_max_count, else 20, for a grid all of it, up to 10000."""
    max_failed_trials: Annotated[int, Field(ge=0, le=MAX_TRIALS)] | None = None
    """Begin no further trial once more than so many failed; default: 3."""
    parallelism: Annotated[int, Field(ge=1, le=MAX_PARALLELISM)] = 1
    """Trials at a time."""
    seed: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """Of the search; default: from the resource's uid."""
    keep: SweepKeep | None = None
    """What is kept of ended trials."""
    overrides: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=64)] = []
    """Parameters that may replace what a refine job of the template has found."""
    suspend: bool = False
    """Begin no further trial, and suspend those that run."""
    early_terminate: EarlyTerminate | None = None
    """End trials early that are not promising."""
    early_terminate_: Annotated[EarlyTerminate | None, Field(alias="early_terminate")] = None
    """The same in W&B's spelling."""
    run_cap: Count | None = None
    """W&B's limit of trials; with maxTrials the smaller counts."""
    run_cap_: Annotated[Count | None, Field(alias="run_cap")] = None
    """The same in W&B's spelling."""
    sweep_max_count: Annotated[Count | None, Field(alias="sweep_max_count")] = None
    """Data-Juicer's spelling of maxTrials."""
    sweep_name: Annotated[str | None, Field(alias="sweep_name", max_length=253)] = None
    """Of a W&B or Data-Juicer file; ignored: the resource has a name."""
    name: Annotated[str, Field(max_length=253)] | None = None
    """Of a W&B file; ignored, the resource has a name."""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """For people."""
    program: Annotated[str, Field(max_length=1024)] | None = None
    """Of a W&B file; ignored: the template says what runs."""
    command: TextOrObject = None
    """Of a W&B file; ignored."""
    project: Annotated[str, Field(max_length=253)] | None = None
    """Of a W&B file; ignored: template.projectName."""
    entity: Annotated[str, Field(max_length=253)] | None = None
    """Of a W&B file; ignored: template.tracking.wandb.entity."""
    controller: AnyObject | None = None
    """Of a W&B file; ignored: the operator is the controller."""
    scheduler: AnyObject | None = None
    """Of a W&B file; ignored: the operator searches."""
    launch: AnyObject | None = None
    """Of a W&B file; ignored: the template says what runs, and where."""
    job: Annotated[str, Field(max_length=1024)] | None = None
    """Of a W&B file; ignored: the template says what runs."""
    image_uri: Annotated[str | None, Field(alias="image_uri", max_length=1024)] = None
    """Of a W&B file; ignored: a job of the template names its image."""
    api_version: Annotated[str, Field(max_length=253)] | None = None
    """Of a W&B file; ignored: the resource has its own."""
    kind: Annotated[str, Field(max_length=253)] | None = None
    """Of a W&B file (sweep); ignored: the resource has its own."""


IGNORED = (
    "sweep_name", "name", "program", "command", "project", "entity", "controller", "scheduler", "launch", "job",
    "image_uri", "apiVersion", "kind", "metric.impute", "metric.impute_while_running",
)  # fmt: skip
"""Keys of a definition that are accepted and do nothing, as they are written."""


def ignored_in(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of `IGNORED` that a definition sets."""
    metric = definition.get("metric")
    inside = {f"metric.{key}": value for key, value in metric.items()} if isinstance(metric, Mapping) else {}
    given = {**definition, **inside}
    return tuple(key for key in IGNORED if given.get(key) is not None)


class TrialRow(ContractModel):
    number: int
    """Of the trial, from 0."""
    experiment: str
    """Its resource."""
    state: TrialState
    """How it stands."""
    value: float | None = None
    """What the metric is; of a pruned trial at its last rung."""
    parameters: dict[str, Any] = {}
    """What it was begun with."""
    reason: str | None = None
    """Why it failed, or was stopped without a value: one word of the closed list."""


class BestTrial(ContractModel):
    trial: int
    """Its number."""
    experiment: ObjectName
    """Its resource."""
    value: float
    """The best value of the metric."""
    parameters: dict[str, Any]
    """What it was begun with."""


class TrialCounts(ContractModel):
    total: int = 0
    """Begun so far."""
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    pruned: int = 0


class SweepStatus(ContractModel):
    observed_generation: int | None = None
    """Generation of the spec this status is about."""
    revision: int | None = None
    """Rises with each status."""
    outcome: Literal["Pending", "Running", "Succeeded", "Failed"] | None = None
    """A summary for columns and selectors."""
    start_time: str | None = None
    """When the first trial was decided on."""
    completion_time: str | None = None
    """When the last trial had ended."""
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    """Ready, Reconciling, Stalled (kstatus); Succeeded, Suspended, StorageReady, Trimmed."""
    objective: str | None = None
    """The figure that the metric's name was resolved to."""
    seed: int | None = None
    """Of the search."""
    max_trials: int | None = None
    """Trials in all, as the spec is understood."""
    claim_name: str | None = None
    """The claim that all trials share."""
    progress: str | None = None
    """Trials ended / trials in all."""
    best: BestTrial | None = None
    """The best so far."""
    counts: TrialCounts = TrialCounts()
    """Trials by state."""
    trimmed: int | None = None
    """Trials whose large artifacts were removed (spec.keep.bestTrials)."""
    trials: list[TrialRow] = []
    """The best, the failed and the newest of them, by number; a trial's own resource has all."""
    ignored: list[str] = []
    """Keys of the definition that are accepted and have no effect here."""
    warnings: list[str] = []
    """What will run, but perhaps not as it was meant."""
