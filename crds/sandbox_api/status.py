# SPDX-License-Identifier: Apache-2.0
"""`SandboxExperiment.status`: what the operator says about an experiment, and nothing it needs to remember elsewhere.

`outcome`, `stage` and `progress` are summaries for columns and selectors; the conditions are the truth for tools.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from .base import ContractModel

Outcome = Literal["Pending", "Running", "Succeeded", "Failed", "Stopped"]
JobState = Literal["Pending", "Queued", "Running", "Succeeded", "Failed", "Skipped", "Cached"]
FINISHED_STATES = ("Succeeded", "Failed", "Skipped", "Cached")
DONE_STATES = ("Succeeded", "Cached")

MAX_JOB_METRICS = 32
MAX_METRICS = 2000
"""Of all jobs together."""
MAX_COMPARISON = 50
MAX_RANKING = 50


class Reason(StrEnum):
    """The closed list of reasons in `.status`; messages are for people and may change, these do not."""

    # of the experiment
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    INVALID_SPEC = "InvalidSpec"
    SUSPENDED = "Suspended"
    STOPPED = "Stopped"
    PRUNED = "Pruned"
    # of a sweep's trial that gave no value
    METRIC_MISSING = "MetricMissing"
    METRIC_NOT_FINITE = "MetricNotFinite"
    # of the workspace
    CLAIM_NOT_FOUND = "ClaimNotFound"
    CLAIM_TERMINATING = "ClaimTerminating"
    CLAIM_NOT_OURS = "ClaimNotOurs"
    CLAIM_REFUSED = "ClaimRefused"
    CLAIM_LOST = "ClaimLost"
    CLAIM_PENDING = "ClaimPending"
    CLAIM_BOUND = "ClaimBound"
    # of a sweep
    TARGET_REACHED = "TargetReached"
    TOO_MANY_FAILED_TRIALS = "TooManyFailedTrials"
    TRIMMING = "Trimming"
    TRIMMED = "Trimmed"
    NOT_TRIMMED = "NotTrimmed"
    # of its exporter
    EXPORTING = "Exporting"
    EXPORTED = "Exported"
    NOT_EXPORTED = "NotExported"
    EXPORTER_FAILED = "ExporterFailed"
    AFTER_THE_END = "AfterTheEnd"
    # why a job is not running yet
    CREATING = "Creating"
    SCHEDULING = "Scheduling"
    STARTING = "Starting"
    BACKOFF = "Backoff"
    POD_LEFT = "WaitingForOldPod"
    WAITING_FOR_ITEMS = "WaitingForItems"
    WAITING_FOR_NODE = "WaitingForVolumeNode"
    CHECKING_CACHE = "CheckingCache"
    EQUAL_JOB_RUNS = "EqualJobRuns"
    READING_RESULT = "ReadingResult"
    MERGING = "Merging"
    INPUT_REMADE = "InputRemade"
    RERUN = "Rerun"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    INSUFFICIENT_GPU = "InsufficientGPU"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_UNBOUND = "VolumeUnbound"
    VOLUME_MOUNT = "VolumeMountFailed"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_REFUSED = "PodRefused"
    CONTAINER_CONFIG = "ContainerConfigError"
    # how a job ended
    COMPLETED = "Completed"
    RECOVERED = "Recovered"
    CACHED = "Cached"
    USER_ERROR = "UserError"
    CONFIG_ERROR = "ConfigError"
    INPUT_LOST = "InputLost"
    OUT_OF_MEMORY = "OutOfMemory"
    INFRA_ERROR = "InfraError"
    PREEMPTED = "Preempted"
    TIMEOUT = "Timeout"
    PENDING_TIMEOUT = "PendingTimeout"
    RESULTS_LOST = "ResultsLost"
    NAME_TAKEN = "NameTaken"
    EARLIER_JOB_FAILED = "EarlierJobFailed"
    INPUT_UNAVAILABLE = "InputUnavailable"
    REMOVED = "Removed"


class Condition(ContractModel):
    """A condition as in Kubernetes' API conventions."""

    type: str
    """What is claimed."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: int | None = None
    """Generation of spec it was seen on."""
    last_transition_time: str
    """When status changed last."""
    reason: str
    """One word of a closed list."""
    message: str = ""
    """A sentence for people."""


class Failures(ContractModel):
    user: int = 0
    """Of the hook's own code or data, its memory or time (retry.user)."""
    infra: int = 0
    """Of nodes, volumes or the network (retry.infra)."""
    preempted: int = 0
    """Preemptions (retry.preempted)."""
    final: int = 0
    """Wrong configurations and lost inputs: never tried again."""


class ResultRef(ContractModel):
    path: str
    """result.json, relative to the volume's root."""
    sha256: str
    """Its digest."""
    bytes: int
    """Its size."""
    cache_key: str | None = None
    """Digest of everything the result depends on."""
    content: str | None = None
    """Digest of the outputs alone."""
    externals: int | None = None
    """Files and folders that it depends on and no job made."""
    generation: int = 1
    """Rises with each rerun that touches the job."""
    removed: bool | None = None
    """Its large artifacts go or have gone (a sweep's keep.bestTrials): it stands for no other job."""


class Made(ContractModel):
    """How a result came to be."""

    state: Literal["Succeeded", "Cached"] | None = None
    """How its job ended."""
    start_time: str | None = None
    """When its hook began to run."""
    completion_time: str | None = None
    """When its job ended."""


class StepProgress(ContractModel):
    step: int | None = None
    """Steps done; of several pods together."""
    total: int | None = None
    """Steps in all, where the hook knows."""
    metrics: dict[str, float] | None = None
    """Newest figures, without the metaName; of several pods their means."""
    eta: str | None = None
    """When its last step should be done."""


class ShardCounts(ContractModel):
    succeeded: int = 0
    """Pieces done."""
    failed: int = 0
    """Pieces that failed in the newest attempt."""
    total: int
    """All pieces."""
    done: str | None = None
    """The pieces that are done and are not run again, e.g. 0,2-5."""


class JobStatus(ContractModel):
    id: str
    """<pipeline>/<iteration>/<stage>/<index>."""
    hook: str
    """The hook that runs."""
    meta_name: str
    """Name under which results are recorded."""
    state: JobState = "Pending"
    """Where the job stands."""
    attempts: int = 0
    """Attempts begun; never starts again."""
    generation: int | None = None
    """Rises with each rerun or remaking of the result; absent: 1."""
    digest: str | None = None
    """Digest of what the spec asks of the job."""
    cache_key: str | None = None
    """Cache key of what runs now."""
    helper_job: str | None = None
    """Kubernetes Job that reads a result or checks the cache for it."""
    remade: int | None = None
    """How often its result was lost and made again since the last rerun."""
    active_seconds: int | None = None
    """Seconds that its hook had run before it was suspended."""
    failures: Failures | None = None
    """Failed attempts by class."""
    job_name: str | None = None
    """Kubernetes Job of the newest attempt."""
    start_time: str | None = None
    """When the newest attempt's hook began to run."""
    completion_time: str | None = None
    """When the job ended."""
    waiting_since: str | None = None
    """Since when the newest attempt waits."""
    retry_at: str | None = None
    """When the next attempt starts."""
    reason: str | None = None
    """One word of a closed list."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """A sentence for people."""
    outputs: dict[str, Any] | None = None
    """Paths, values and lists by name."""
    metrics: dict[str, float] | None = None
    """Figures, at most 32; all of them stand in result.json."""
    not_finite: list[str] | None = None
    """Figures that are needed, and were no finite numbers."""
    result: ResultRef | None = None
    """The committed result."""
    made: Made | None = None
    """How that result came to be, while the job runs again."""
    progress: StepProgress | None = None
    """How far the running hook is."""
    shards: ShardCounts | None = None
    """Independent pieces by how they ended."""


class EarlierResult(Made):
    """A result that a rerun, a regeneration or an iteration has replaced."""

    id: str
    """Job that made it."""
    outputs: dict[str, Any] | None = None
    """Paths, values and lists by name."""
    metrics: dict[str, float] | None = None
    """Its figures."""
    result: ResultRef
    """Where it lies."""


class TrialDecision(ContractModel):
    rung: int
    """Where in the trial it was decided."""
    value: float | None = None
    """The objective there; absent where it was no finite number."""
    seen: int | None = None
    """How many other trials were compared."""
    decision: Literal["Continue", "Stop"]
    """What was decided."""


class TrialStatus(ContractModel):
    decisions: list[TrialDecision] = []
    """Decisions of early stopping, in order."""
    pruned: bool = False
    """Whether the trial was ended early."""
    artifacts: Literal["Removing", "Removed"] | None = None
    """What has become of its large artifacts, where its sweep keeps those of the best trials."""


class WorkspaceStatus(ContractModel):
    claim_name: str
    """The claim in use."""
    path: str
    """Folder of this experiment on it."""
    access_mode: str | None = None
    """Its access mode."""
    placement: str | None = None
    """How pods are placed because of it, and why."""


class Resolved(ContractModel):
    images: dict[str, str] = {}
    """Images by name."""
    hooks: dict[str, str] = {}
    """Image name by hook."""
    contract: int = 1
    """Version of the job contract that the images read."""


class ComparisonRow(ContractModel):
    metric: str
    """What is compared."""
    before: float | None = None
    """Figure before; with repeats their mean."""
    after: float | None = None
    """Figure after; with repeats their mean."""
    change: float | None = None
    """After minus before."""
    relative: float | None = None
    """Change as a share of before; absent where that is near 0."""
    interval: list[float] | None = None
    """With repeats: 95 % interval of the change; with 0 in it there may be none."""
    repeats: int | None = None
    """Repeats that the figures are means of."""
    before_job: str | None = None
    """Job of the before."""
    after_job: str | None = None
    """Job of the after."""


class RankRow(ContractModel):
    item: str
    """Item of the forEach."""
    mean: float | None = None
    """Its figure; with repeats their mean."""
    std: float | None = None
    """Standard deviation over repeats."""
    repeats: int | None = None
    """Repeats that the figure is the mean of."""
    change: float | None = None
    """Difference to the baseline."""
    relative: float | None = None
    """That as a share of the baseline's figure; absent where that is near 0."""
    interval: list[float] | None = None
    """With repeats: 95 % interval of the difference; with 0 in it there may be none."""
    tied: bool | None = None
    """Whether repeats can't tell it from the first one, or the first from the second; absent without repeats."""


class ExperimentStatus(ContractModel):
    """What the operator says about the experiment."""

    revision: int | None = None
    """Rises with each status that is written; a change of spec leaves it as it is."""
    observed_generation: int | None = None
    """Newest generation of spec that was seen."""
    outcome: Outcome | None = None
    """Pending, Running, Succeeded, Failed or Stopped."""
    stage: str | None = None
    """Stage of the current job."""
    progress: str | None = None
    """Jobs done / all jobs."""
    hook: str | None = None
    """Hook of the current job."""
    live: str | None = None
    """How far the running hook is, e.g. train 120/500 loss 0.31; at most every 10 s."""
    retries: int | None = None
    """Attempts beyond the first, over all jobs."""
    start_time: str | None = None
    """Written before the first Job."""
    completion_time: str | None = None
    """When the last job ended."""
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    """Ready, Reconciling, Stalled (kstatus); Succeeded, Suspended, StorageReady, Tracking."""
    workspace: WorkspaceStatus | None = None
    """The volume in use."""
    resolved: Resolved | None = None
    """What names meant when the experiment started."""
    iteration: int | None = None
    """Current iteration."""
    rerun_token: str | None = None
    """The rerun token that was seen last."""
    jobs: list[JobStatus] = []
    """Each job in the order in which it runs."""
    history: list[EarlierResult] | None = None
    """Results of earlier generations."""
    trial: TrialStatus | None = None
    """What a sweep has decided about this trial."""
    ranking: list[RankRow] | None = None
    """Items of the forEach that spec.rank names, the best first; at most 50."""
    comparison: list[ComparisonRow] = []
    """Figures before and after, at most 50 rows."""
