# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes Job of one attempt of one hook, top to bottom as a person would write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from sandbox_api import contract as wire
from sandbox_api.experiment import InputVolume, PodProfile, Resources, SecretEnv
from sandbox_api.progress import PROGRESS_AUDIENCE
from sandbox_api.ranges import numbers_in, ranges_of

from . import parts
from .defaults import Defaults
from .names import (
    ANNOTATION_CONTRACT,
    ANNOTATION_JOB_ID,
    ANNOTATION_NUMBERS,
    LABEL_ATTEMPT,
    LABEL_CLAIM,
    LABEL_HOOK,
    LABEL_JOB,
    LABEL_TASK,
    claim_hash,
    experiment_labels,
    helper_name,
    job_hash,
    job_name,
    service_name,
)

PROGRESS = "progress"
"""Name of the volume with the token for the operator's endpoint."""
CONTRACT_FOLDER = "/sandbox/contract"
CONTRACT_KEY = "contract"
TOKEN_SECONDS = 3600
"""After which a token for the progress endpoint is of no use; the kubelet puts a new one there in time."""


@dataclass(frozen=True)
class JobRequest:
    """All that a Job's manifest depends on."""

    contract: wire.JobContract
    image: str
    claim: str
    command: tuple[str, ...] = wire.RUN_COMMAND
    inputs: tuple[InputVolume, ...] = ()
    profile: PodProfile = field(default_factory=lambda: PodProfile())
    resources: Resources | None = None
    secrets: tuple[SecretEnv, ...] = ()
    run_as: int = 1000
    deadline: int = 0
    """Backstop in seconds for pending, active and grace together; the runtime counts the active time itself."""
    pieces: int = 0
    """Of a reader: how many pods give one numbered piece each of a result that is too long for one message."""
    pod_seconds: int = 0
    """Backstop for each pod instead, from its start: pieces may wait for each other's places longer than one runs."""
    pinned: bool = False
    """Whether it must run on the node of the other live pods of the claim."""

    @cached_property
    def encoded(self) -> str:
        """The contract as it travels."""
        return wire.encode_contract(self.contract)

    @cached_property
    def digest(self) -> str:
        """The contract's digest."""
        return wire.contract_digest(self.contract)

    @property
    def is_long(self) -> bool:
        """Whether the contract is too long for an environment variable."""
        return len(self.encoded) > wire.MAX_INLINE

    @property
    def name(self) -> str:
        """Name of the Job, and of the ConfigMap with its contract where there is one."""
        experiment, contract = self.contract.experiment, self.contract
        task = "pieces" if self.pieces else contract.task
        indexed = contract.nodes > 1 or contract.shards > 1
        name = job_name(experiment.name, experiment.uid, contract.job.id, contract.attempt, indexed=indexed)
        return helper_name(name, task)

    @property
    def numbers(self) -> str:
        """What the pods of a hook are by their index, where there are several: ranks, or pieces."""
        contract = self.contract
        if contract.task != "run":
            return ""
        return ranges_of(range(contract.nodes)) if contract.nodes > 1 else contract.pieces

    @property
    def service(self) -> str:
        """Name of the headless Service by which its pods find each other; empty where they need not."""
        experiment, contract = self.contract.experiment, self.contract
        return service_name(experiment.name, experiment.uid) if contract.nodes > 1 and contract.task == "run" else ""


def hook_job(request: JobRequest, defaults: Defaults) -> dict[str, Any]:
    """The Job: its pods are never restarted, never replaced; each further attempt is a Job of its own."""
    contract = request.contract
    experiment, job = contract.experiment, contract.job
    labels = {
        "app.kubernetes.io/name": "sandbox-hook",
        **experiment_labels(experiment.name, experiment.uid),
        LABEL_JOB: job_hash(experiment.uid, job.id),
        LABEL_ATTEMPT: str(contract.attempt),
        LABEL_HOOK: job.hook[:63].rstrip("-_"),
        LABEL_TASK: contract.task,
        LABEL_CLAIM: claim_hash(request.claim),
    }
    annotations = {ANNOTATION_JOB_ID: job.id, ANNOTATION_CONTRACT: request.digest}
    if request.numbers:
        annotations[ANNOTATION_NUMBERS] = request.numbers
    pod = _merge(_pod_spec(request, defaults), request.profile.patch or {})
    meta = parts.metadata(request.name, experiment, labels, annotations=annotations)
    return parts.job(meta, _pods(request), pod, request.deadline)


def rendezvous_service(request: JobRequest) -> dict[str, Any] | None:
    """The headless Service that gives the pods of an experiment names before they are ready, where they need them."""
    if not request.service:
        return None
    experiment = request.contract.experiment
    labels = experiment_labels(experiment.name, experiment.uid)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": parts.metadata(request.service, experiment, labels),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {**labels, LABEL_TASK: "run"}},
    }


def contract_config_map(request: JobRequest) -> dict[str, Any] | None:
    """The immutable ConfigMap for a contract that is too long for an environment variable, else None."""
    if not request.is_long:
        return None
    experiment = request.contract.experiment
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": parts.metadata(request.name, experiment, experiment_labels(experiment.name, experiment.uid)),
        "immutable": True,
        "data": {CONTRACT_KEY: request.encoded},
    }


def limits_of(*layers: Resources | None) -> Resources | None:
    """Resources of a job: the profile's, with what the job names replaced one by one."""
    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for layer in layers:
        if layer is not None:
            requests |= layer.requests or {}
            limits |= layer.limits or {}
    return Resources(requests=requests or None, limits=limits or None) if requests or limits else None


def _pod_spec(request: JobRequest, defaults: Defaults) -> dict[str, Any]:
    profile = request.profile
    in_map = request.is_long
    names = _volume_names(request)
    volumes = dict(zip(names, map(_input_volume, names, request.inputs), strict=True))
    shared_memory = {"sizeLimit": str(profile.shared_memory)} if profile.shared_memory is not None else {}
    return {
        **parts.ALONE,
        "terminationGracePeriodSeconds": parts.GRACE_SECONDS,
        **({"activeDeadlineSeconds": request.pod_seconds} if request.pod_seconds else {}),
        **({"subdomain": request.service} if request.service else {}),
        "securityContext": parts.as_owner(request.run_as),
        **_placement(request, defaults),
        "containers": [
            {
                "name": wire.CONTAINER,
                "image": request.image,
                "imagePullPolicy": defaults.image_pull_policy,
                "command": list(request.command),
                "env": _environment(request, in_map),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                **({"resources": request.resources.model_dump(exclude_none=True)} if request.resources else {}),
                "securityContext": parts.RESTRICTED,
                "volumeMounts": [
                    parts.WORKSPACE_MOUNT,
                    parts.TMP_MOUNT,
                    {"name": "shm", "mountPath": "/dev/shm"},
                    *map(_input_mount, request.inputs, names),
                    *([{"name": "contract", "mountPath": CONTRACT_FOLDER, "readOnly": True}] if in_map else []),
                    *([_token_mount()] if request.contract.progress else []),
                ],
            }
        ],
        "volumes": [
            parts.workspace_volume(request.claim),
            parts.TMP,
            {"name": "shm", "emptyDir": {"medium": "Memory", **shared_memory}},
            *(volumes[name] for name in volumes if name != parts.WORKSPACE),
            *([{"name": "contract", "configMap": {"name": request.name}}] if in_map else []),
            *([_token_volume()] if request.contract.progress else []),
        ],
    }


def _placement(request: JobRequest, defaults: Defaults) -> dict[str, Any]:
    profile = request.profile
    return parts.placement(
        profile,
        nodeSelector=profile.node_selector,
        affinity=parts.beside_the_others(profile.affinity or {}, request.claim) if request.pinned else profile.affinity,
        priorityClassName=profile.priority_class_name or defaults.priority_class,
        runtimeClassName=profile.runtime_class_name,
        schedulerName=profile.scheduler_name,
    )


def _pods(request: JobRequest) -> dict[str, Any]:
    """How many pods, and what the end of one means: for its piece alone, or for all of them."""
    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    count = request.pieces or len(numbers_in(request.numbers))
    indexed = {"completionMode": "Indexed", "completions": count, "parallelism": count} if count else {}
    if request.contract.shards > 1 and count and not request.pieces:
        rule = {"action": "FailIndex", "onPodConditions": disrupted}
        return {**indexed, "backoffLimitPerIndex": 0, "podFailurePolicy": {"rules": [rule]}}
    rule = {"action": "FailJob", "onPodConditions": disrupted}
    return {"backoffLimit": 0, **indexed, "podFailurePolicy": {"rules": [rule]}}


def _environment(request: JobRequest, in_map: bool) -> list[dict[str, Any]]:
    contract = (
        {"name": wire.CONTRACT_FILE_ENV, "value": f"{CONTRACT_FOLDER}/{CONTRACT_KEY}"}
        if in_map
        else {"name": wire.CONTRACT_ENV, "value": request.encoded}
    )
    return [
        contract,
        parts.from_field(wire.POD_UID_ENV, "metadata.uid"),
        parts.from_field(wire.POD_NAME_ENV, "metadata.name"),
        {"name": wire.IMAGE_ENV, "value": request.image},
        {"name": wire.CONTRACT_DIGEST_ENV, "value": request.digest},
        *([_rendezvous(request)] if request.service else []),
        *(parts.literal(variable.name, variable.value) for variable in request.profile.env or ()),
        *(parts.from_secret(secret.env, secret.name, secret.key) for secret in request.secrets),
    ]


def _rendezvous(request: JobRequest) -> dict[str, Any]:
    """The pods of an Indexed Job are named after it, in the domain of their Service."""
    host = f"{request.name}-0.{request.service}.{request.contract.experiment.namespace}.svc"
    return {"name": wire.RENDEZVOUS_ENV, "value": f"{host}:{wire.RENDEZVOUS_PORT}"}


def _volume_names(request: JobRequest) -> list[str]:
    """By input, the volume that it lies on. One for each claim, the workspace's included: a pod with two of one claim
    is never mounted."""
    of_claim = {request.claim: parts.WORKSPACE}
    return [
        of_claim.setdefault(volume.claim_name, f"input-{number}") if volume.claim_name else f"input-{number}"
        for number, volume in enumerate(request.inputs)
    ]


def _input_mount(volume: InputVolume, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "mountPath": f"{wire.INPUTS}/{volume.name}",
        "readOnly": True,
        **({"subPath": volume.sub_path} if volume.sub_path and volume.claim_name else {}),
    }


def _input_volume(name: str, volume: InputVolume) -> dict[str, Any]:
    source = (
        {"persistentVolumeClaim": {"claimName": volume.claim_name, "readOnly": True}}
        if volume.claim_name
        else {"configMap": {"name": volume.config_map_name}}
    )
    return {"name": name, **source}


def _token_mount() -> dict[str, Any]:
    return {"name": PROGRESS, "mountPath": str(PurePosixPath(wire.PROGRESS_TOKEN).parent), "readOnly": True}


def _token_volume() -> dict[str, Any]:
    """A token that is bound to the pod, and that no server but the operator's endpoint takes."""
    token = {
        "audience": PROGRESS_AUDIENCE,
        "expirationSeconds": TOKEN_SECONDS,
        "path": PurePosixPath(wire.PROGRESS_TOKEN).name,
    }
    return {"name": PROGRESS, "projected": {"sources": [{"serviceAccountToken": token}]}}


def _merge(base: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7396): objects merged, everything else replaced, null removes."""
    out = dict(base)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping):
            current = out.get(key)
            out[key] = _merge(current if isinstance(current, dict) else {}, value)
        else:
            out[key] = value
    return out
