# SPDX-License-Identifier: Apache-2.0
"""The job contract, operator -> pod: everything a hook's pod needs to know, in one environment variable.

It travels as base64(gzip(JSON)) because the kubelet expands `$(NAME)` and `$$` in plain values. Above `MAX_INLINE`
bytes it lies in a file of an immutable ConfigMap instead.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from typing import Annotated, Any, Literal

from pydantic import Field

from .base import ContractModel
from .digest import canonical_json, sha256_of

CONTRACT_VERSION = 1
CONTRACT_ENV = "SANDBOX_CONTRACT"
CONTRACT_FILE_ENV = "SANDBOX_CONTRACT_FILE"
CONTRACT_DIGEST_ENV = "SANDBOX_CONTRACT_DIGEST"
"""`contract_digest`, for programs that do not compute it themselves (`contract: raw`)."""
INDEX_ENV = "JOB_COMPLETION_INDEX"
"""In a pod of an Indexed Job: which one it is, from 0. A reader of a long result gives that piece of the needs; with
`nodes` it is the rank, with `shards` the place in `pieces`."""
RENDEZVOUS_ENV = "SANDBOX_RENDEZVOUS"
"""With `nodes`: `host:port` at which the pod of rank 0 may be reached by the others."""
RENDEZVOUS_PORT = 29500
POD_UID_ENV = "SANDBOX_POD_UID"
POD_NAME_ENV = "SANDBOX_POD_NAME"
IMAGE_ENV = "SANDBOX_IMAGE"
MAX_INLINE = 64 * 1024
WORKSPACE = "/workspace"
INPUTS = "/inputs"
CONTAINER = "hook"
PROGRESS_TOKEN = "/var/run/secrets/sandbox/token"
"""In a pod that tells its progress: a token for the operator's endpoint alone."""
RUN_COMMAND = ("sandbox-runtime", "run")


class ExperimentRef(ContractModel):
    name: str
    namespace: str
    uid: str
    project: str
    run: str


class JobRef(ContractModel):
    id: str
    pipeline: str
    iteration: int
    stage: str
    index: int
    pipeline_item: int | None = None
    """Which item of the pipeline's forEach, from 0."""
    item: int | None = None
    """Which item of the job's own forEach, from 0."""
    repeat: int | None = None
    hook: str
    type: str | None = None
    meta_name: str


class Configs(ContractModel):
    """Configurations as the user wrote them; `local` and inputs are applied in the pod, in that order."""

    dj: Any = None
    """Text (a path), an object, or nothing."""
    extra: Any = None
    """Text (a path), an object, or nothing."""
    local: dict[str, Any] = {}
    parameters: dict[str, Any] = {}


class InputRef(ContractModel):
    """Where a configuration key gets its value: an output or a metric of a committed result."""

    job: str
    """Id of the job that made it."""
    output: str
    """Name of the output, or of a metric."""
    result_path: str
    """Its result.json, relative to the volume's root."""
    sha256: str
    """Digest of that result.json."""
    element: int | None = None
    """Only this element of an output that is a list."""


class Limits(ContractModel):
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int = 0


class Rungs(ContractModel):
    """Where on its way a trial may be ended early."""

    metric: str
    """The live figure that is looked at."""
    resource: str
    """The live figure that counts the way."""
    at: list[int]
    """At these values of it, rising."""


class Candidate(ContractModel):
    """A committed result with the same cache key, which a check pod looks at."""

    result_path: str
    """Its result.json, relative to the volume's root."""
    sha256: str
    """Digest of that result.json."""


class ProgressTarget(ContractModel):
    """Where a pod tells how far it is; the answer says when it may tell again."""

    url: str
    """Of the operator's endpoint, with the token of `PROGRESS_TOKEN`."""
    rungs: Rungs | None = None
    """Of a trial that may be ended early: values there are told until they are acknowledged."""


REFINED = "refineRecipe"
"""Stands between a metaName that a refine job shares with its probe and the refine job's figures."""


class JobContract(ContractModel):
    version: int = CONTRACT_VERSION
    task: Literal["run", "read", "check", "merge"] = "run"
    """Run the hook; or read the result that an attempt of this contract left on the volume; or check whether
    `candidate` may be used instead of running; or make the job's result of those of its pieces."""
    candidate: Candidate | None = None
    experiment: ExperimentRef
    job: JobRef
    generation: int = 1
    attempt: int
    nodes: int = 1
    """Pods that work as one; the one of rank 0 writes the job's result."""
    shards: int = 1
    """Independent pieces of the job, each done by a pod of its own."""
    pieces: str = ""
    """With `shards`: the pieces of this attempt by the index of their pods, e.g. `0,2-5`; those that are done before
    it are not among them."""
    cache_key: str = ""
    configs: Configs
    inputs: dict[str, InputRef | list[InputRef]] = {}
    """By target: `djConfigs`, `djConfigs.<key>...`, `extraConfigs.<key>...`, or `probe` for a refine job.
    A list is gathered from the items of a forEach, in their order."""
    compared: InputRef | None = None
    """The result that this one is compared with: the later job of a pair writes the table of both. Names no output."""
    outputs: list[str] = []
    """Names for the hook's results, by position."""
    needs: list[str] = []
    """Metrics and outputs the operator itself must know; never cut from the message."""
    publish_under: str = ""
    """Folder below which users' own paths are published, e.g. `iter_2` or `item_3`: `a/b.jsonl` becomes
    `a/iter_2/b.jsonl`, `a/b` becomes `a/b/iter_2`."""
    limits: Limits = Limits()
    seed: int = 42
    keep_attempts: bool = False
    keep_checkpoints: int | None = None
    """Of a training's checkpoints keep the newest so many; None: all."""
    tracking: dict[str, Any] = {}
    progress: ProgressTarget | None = None
    """Where the pod tells how far it is; None: nowhere."""
    active_seconds_left: int | None = None
    told_digest: Annotated[str | None, Field(exclude=True)] = None
    """In a pod: the digest as the writer computed it, who may know fields that this reader does not."""

    @property
    def needed(self) -> tuple[str, ...]:
        """`needs` by every name that they may have among outputs and metrics."""
        return tuple(name for need in self.needs for name in (need, *figure_names(self.job.meta_name, need)[:2]))


def figure_names(meta_name: str, name: str) -> tuple[str, str, str]:
    """What a job's figure may be called among its metrics: they begin with its metaName, and those of a refine job that
    shares its name with the probe it reads also with `REFINED`."""
    return f"{meta_name}.{name}", f"{meta_name}.{REFINED}.{name}", name


def contract_digest(contract: JobContract) -> str:
    """Identity of what is asked for; the attempt, the time left, who is told and what a helper pod does are left out.

    So is the version, and what has its default: an attempt before an upgrade and one after it are asked for the same.
    """
    if contract.told_digest is not None:
        return contract.told_digest
    helper = {"task", "candidate"}
    left_out = {"version", "attempt", "pieces", "active_seconds_left", "tracking", "progress", *helper}
    body = contract.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    return sha256_of(body)


def encode_contract(contract: JobContract) -> str:
    """The contract as an environment variable carries it."""
    return base64.b64encode(gzip.compress(canonical_json(contract.model_dump(mode="json")).encode(), mtime=0)).decode()


def decode_contract(text: str) -> JobContract:
    """Read what `encode_contract` wrote. Raises ValueError (pydantic's included) when it is not a contract."""
    try:
        body = gzip.decompress(base64.b64decode(text, validate=True))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a compressed contract: {error}") from error
    return JobContract.model_validate_json(body)


def experiment_folder(name: str, uid: str) -> str:
    """Folder of an experiment, relative to the volume's root: the working directory of its hooks."""
    return f"experiments/{name}-{uid[:8]}"


def job_folder(job_id: str) -> str:
    """Folders of a job, below `jobs` of its experiment: `exps[3]/1/execution/0` is `exps.3/1/execution/0`.

    Brackets are patterns to libraries that take paths (Hugging Face's data sets find no `[3]`); dots stand in no id.
    """
    return job_id.replace("[", ".").replace("]", "")


def attempt_folder(experiment: str, job_id: str, attempt: int, pod_uid: str) -> str:
    """A pod's own folder, relative to the volume's root: no two pods ever write in one."""
    return f"{experiment}/jobs/{job_folder(job_id)}/attempts/{attempt}/{pod_uid[:8]}"
