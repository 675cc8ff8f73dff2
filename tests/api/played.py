# SPDX-License-Identifier: Apache-2.0
"""Plays the kubelet: no container runs in these tests.

A played hook does no work. It reads its job contract as a real pod would and reports what a table says: `succeeds()`,
`fails(...)`, `exits(...)`, `lacks_image()`, ... by experiment, metaName and attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from sandbox_api.contract import (
    CONTAINER,
    CONTRACT_ENV,
    CONTRACT_FILE_ENV,
    INDEX_ENV,
    JobContract,
    attempt_folder,
    contract_digest,
    decode_contract,
    experiment_folder,
)
from sandbox_api.ranges import numbers_in
from sandbox_api.result import EXIT_CODES, ErrorClass, Output, Result, ResultError, encode_message, message_of
from sandbox_operator.build.names import ANNOTATION_NUMBERS, LABEL_JOB
from sandbox_operator.kube.client import Client, Manifest
from sandbox_operator.kube.errors import NotFound
from sandbox_operator.kube.informer import Informer, Key
from sandbox_operator.kube.resources import Resource
from sandbox_operator.reconcile.projections import ANNOTATION_POD_INDEX

PODS = Resource("", "v1", "pods", "Pod")
JOBS = Resource("batch", "v1", "jobs", "Job")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
EVENTS = Resource("", "v1", "events", "Event")

PLAYER = "player"
"""Field manager and user agent of those who play."""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Pod:
    """One pod, as the behaviour of its hook sees it."""

    client: Client
    manifest: Manifest
    contract: JobContract
    began: str = field(default_factory=now)

    @property
    def key(self) -> Key:
        return self.manifest["metadata"]["namespace"], self.manifest["metadata"]["name"]

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"]["uid"])

    async def report(self, phase: str, state: Manifest, *conditions: Manifest, **more: Any) -> None:
        """Write the pod's status, as a kubelet does: the whole of it, conditions of others kept."""
        container = {
            "name": CONTAINER, "state": state, "ready": False, "restartCount": 0, "imageID": "",
            "image": self.manifest["spec"]["containers"][0]["image"],
        }  # fmt: skip
        kept = {c["type"]: c for c in (self.manifest.get("status") or {}).get("conditions") or ()}
        kept |= {c["type"]: {"lastTransitionTime": now(), **c} for c in conditions}
        status = {"phase": phase, "containerStatuses": [container], "conditions": list(kept.values()), **more}
        namespace, name = self.key
        self.manifest = await self.client.patch(PODS, name, {"status": status}, namespace, subresource="status")

    async def warn(self, reason: str, words: str) -> None:
        """A Warning Event about the pod, as the kubelet writes it."""
        namespace, name = self.key
        about = {"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": namespace, "uid": self.uid}
        event = {
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{name}.{reason.lower()}"}, "type": "Warning",
            "involvedObject": about, "reason": reason, "message": words, "lastTimestamp": now(),
            "source": {"component": "kubelet"},
        }  # fmt: skip
        await self.client.create(EVENTS, event, namespace)

    async def runs(self) -> None:
        self.began = now()
        await self.report("Running", {"running": {"startedAt": self.began}})

    async def ends(self, code: int, message: str = "", reason: str = "", **more: Any) -> None:
        ended = {
            "exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error"), "message": message,
            "startedAt": self.began, "finishedAt": now(),
        }  # fmt: skip
        await self.report("Succeeded" if code == 0 else "Failed", {"terminated": ended}, **more)

    def message(self, **more: Any) -> str:
        """The termination message of the real runtime for this attempt."""
        contract = self.contract
        result = Result(
            job=contract.job.id,
            attempt=contract.attempt,
            pod_uid=self.uid,
            contract=contract_digest(contract),
            started_at=self.began,
            finished_at=now(),
            cache_key=contract.cache_key,
            meta_name=contract.job.meta_name,
            rank=self.number if contract.nodes > 1 and contract.task == "run" else 0,
            shard=self.number if contract.shards > 1 and contract.task == "run" else None,
            **more,
        )
        text = result.model_dump_json()
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        message = message_of(result, path=f"{self.folder}/result.json", sha256=sha256, size=len(text))
        return encode_message(message, needs=contract.needed)

    @property
    def piece(self) -> int:
        """Which piece of a long result a reader's pod is to give, from 1; 0 where it is to give the result."""
        (hook,) = [c for c in self.manifest["spec"]["containers"] if c["name"] == CONTAINER]
        return next((int(v["value"]) + 1 for v in hook["env"] if v["name"] == INDEX_ENV), 0)

    @property
    def number(self) -> int:
        """Its rank or piece, where its Job has several."""
        annotations = self.manifest["metadata"].get("annotations") or {}
        numbers = numbers_in(annotations.get(ANNOTATION_NUMBERS, "")) or (0,)
        return numbers[int(annotations.get(ANNOTATION_POD_INDEX) or 0)] if len(numbers) > 1 else numbers[0]

    @property
    def folder(self) -> str:
        experiment = self.contract.experiment
        folder = experiment_folder(experiment.name, experiment.uid)
        return attempt_folder(folder, self.contract.job.id, self.contract.attempt, self.uid)


Behaviour = Callable[[Pod], Awaitable[None]]


def succeeds(**metrics: float) -> Behaviour:
    """Runs and ends with a valid result: its declared outputs, and these metrics or some that the job decides."""

    async def behave(pod: Pod) -> None:
        await pod.runs()
        job = pod.contract.job
        figures = metrics or {"rows": 100.0 + job.index, "text_len.mean": 1.5 + len(job.stage)}
        outputs = {name: Output(kind="path", path=f"{pod.folder}/out/{name}") for name in pod.contract.outputs}
        told = {f"{job.meta_name}.{name}": value for name, value in figures.items()}
        message = pod.message(outcome="Succeeded", message="100 rows", outputs=outputs, metrics=told)
        await pod.ends(0, message)

    return behave


def fails(error: ErrorClass, kind: str, words: str, code: int | None = None) -> Behaviour:
    """Runs and tells how it failed, with the exit code of that class."""

    async def behave(pod: Pod) -> None:
        await pod.runs()
        told = ResultError(class_=error, type=kind, message=words)  # type: ignore[call-arg]  # alias or name: both do
        await pod.ends(EXIT_CODES[error] if code is None else code, pod.message(outcome="Failed", error=told))

    return behave


def exits(code: int, words: str = "", reason: str = "") -> Behaviour:
    """Runs and ends without a result of ours; `words` are the end of its log."""

    async def behave(pod: Pod) -> None:
        await pod.runs()
        await pod.ends(code, words, reason)

    return behave


def lies(behaviour: Behaviour, **changes: Any) -> Behaviour:
    """Reports in the name of another contract: another attempt's, another job's."""

    async def behave(pod: Pod) -> None:
        real, pod.contract = pod.contract, pod.contract.model_copy(update=changes)
        try:
            await behaviour(pod)
        finally:
            pod.contract = real

    return behave


def waits(reason: str, words: str, event: str = "") -> Behaviour:
    """Its container does not start, for this reason in the kubelet's language; `event` says it in a Warning Event."""

    async def behave(pod: Pod) -> None:
        if event:
            await pod.warn(event, words)
        await pod.report("Pending", {"waiting": {"reason": reason} | ({} if event else {"message": words})})
        await asyncio.Event().wait()

    return behave


def lacks_image(words: str = "pull access denied") -> Behaviour:
    """Its image can't be pulled: at first the container says why, later only the Event does, until the pod goes."""

    async def behave(pod: Pod) -> None:
        await pod.report("Pending", {"waiting": {"reason": "ErrImagePull", "message": words}})
        await pod.warn("Failed", f"Failed to pull image: {words}")
        backing_off = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
        await pod.report("Pending", {"waiting": backing_off})
        await asyncio.Event().wait()

    return behave


def finds_no_place(words: str) -> Behaviour:
    """The scheduler's refusal, where there is no scheduler."""

    async def behave(pod: Pod) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        await pod.report("Pending", {}, condition)
        await asyncio.Event().wait()

    return behave


def disrupted(
    reason: str = "PreemptionByScheduler", words: str = "preempted for a pod of higher priority"
) -> Behaviour:
    """Runs, is marked for disruption and killed: what preemption and eviction by API look like."""

    async def behave(pod: Pod) -> None:
        await pod.runs()
        condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": words}
        await pod.report("Running", {"running": {"startedAt": pod.began}}, condition)
        await pod.ends(143)

    return behave


@dataclass
class Gate:
    """Holds a hook at a point of its life until the test opens it."""

    behaviour: Behaviour
    running: bool = True
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, pod: Pod) -> None:
        if self.running:
            await pod.runs()
        self.arrived.set()
        await self.opened.wait()
        await self.behaviour(pod)


Table = dict[tuple[str | int, ...], Behaviour]
"""Behaviours by (experiment, metaName, attempt), (experiment, metaName), (metaName, attempt) or (metaName,); those of one
of several pods by (metaName, attempt, number); those of pods that read, check or merge results by (experiment, metaName,
task) or (metaName, task)."""


class Kubelet:
    """`async with Kubelet(client, namespace) as kubelet`: every hook pod that has a node is played by `table`.

    `pods` holds (experiment uid, job id, attempt, pod uid) of each pod that was begun, in order.
    """

    def __init__(self, client: Client, namespace: str, table: Table | None = None, *, needs_node: bool = True) -> None:
        self.table: Table = dict(table or {})
        self.pods: list[tuple[str, str, int, str]] = []
        self.deaf = False
        """Whether it ends no pods, as on a node that has gone silent."""
        self.dying_seconds = 0.0
        """How long a hook takes to end after SIGTERM."""
        self._client = client
        self._needs_node = needs_node
        self._informer: Informer[Manifest] = Informer(
            client,
            PODS,
            namespace=namespace,
            label_selector=LABEL_JOB,
            project=lambda pod: pod,
            on_change=self._changed,
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: set[str] = set()
        self._loop_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._loop_task = asyncio.create_task(self._informer.run())
        await asyncio.wait_for(self._informer.synced.wait(), 30)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._loop_task, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and kind is None:
                raise outcome

    def _changed(self, key: Key, old: Manifest | None, new: Manifest | None) -> None:
        if new is None:
            if old is not None:
                self._end(old["metadata"]["uid"])
            return
        uid = new["metadata"]["uid"]
        if "deletionTimestamp" in new["metadata"]:
            if uid not in self._ended and not self.deaf:
                self._ended.add(uid)
                self._end(uid)
                self._tasks[uid] = asyncio.create_task(self._terminate(new), name=f"terminate-{key[1]}")
        elif uid not in self._tasks and (new["spec"].get("nodeName") or not self._needs_node):
            phase = (new.get("status") or {}).get("phase", "Pending")
            if phase == "Pending":
                self._tasks[uid] = asyncio.create_task(self._play(new), name=f"pod-{key[1]}")

    def _end(self, uid: str) -> None:
        if (task := self._tasks.pop(uid, None)) is not None:
            task.cancel()

    async def _play(self, manifest: Manifest) -> None:
        with contextlib.suppress(NotFound):
            pod = Pod(self._client, manifest, await self._contract(manifest))
            contract = pod.contract
            if contract.task == "run":
                self.pods.append((contract.experiment.uid, contract.job.id, contract.attempt, pod.uid))
                alone = self.table.get((contract.job.meta_name, contract.attempt, pod.number))
                await (alone or self.behaviour(contract))(pod)
            else:
                await self._helper(contract)(pod)

    async def _terminate(self, manifest: Manifest) -> None:
        """SIGTERM, and the pod's end: the runtime tells a preemption, then the kubelet lets the object go."""
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        with contextlib.suppress(NotFound):
            await asyncio.sleep(self.dying_seconds)
            containers = (manifest.get("status") or {}).get("containerStatuses") or [{"state": {}}]
            if "running" in containers[0]["state"]:
                pod = Pod(self._client, manifest, await self._contract(manifest))
                told = ResultError(class_="Preempted", type="SIGTERM", message="ended by SIGTERM")  # type: ignore[call-arg]
                await pod.ends(143, pod.message(outcome="Failed", error=told))
            path = PODS.path(namespace=namespace, name=name)
            await self._client.request(("delete", "pods"), "DELETE", path, body={"gracePeriodSeconds": 0})

    async def _contract(self, manifest: Manifest) -> JobContract:
        container = next(c for c in manifest["spec"]["containers"] if c["name"] == CONTAINER)
        environment = {variable["name"]: variable.get("value") for variable in container["env"]}
        if CONTRACT_FILE_ENV not in environment:
            return decode_contract(str(environment[CONTRACT_ENV]))
        volume = next(v for v in manifest["spec"]["volumes"] if v["name"] == "contract")
        name, key = volume["configMap"]["name"], str(environment[CONTRACT_FILE_ENV]).rsplit("/", 1)[1]
        config_map = await self._client.get(CONFIG_MAPS, name, manifest["metadata"]["namespace"])
        return decode_contract(config_map["data"][key])

    def _helper(self, contract: JobContract) -> Behaviour:
        """By default there is no volume: what is lost is lost, what was cached is no hit. Pieces are taken on trust."""
        if contract.task == "merge":
            return self.table.get((contract.job.meta_name, "merge")) or succeeds()
        lost = fails("Infra", "ResultsLost", "no result on the volume")
        missed = lost if contract.task == "read" else fails("Input", "NoHit", "it has changed")
        key = (contract.job.meta_name, contract.task)
        return self.table.get((contract.experiment.name, *key)) or self.table.get(key) or missed

    def behaviour(self, contract: JobContract) -> Behaviour:
        experiment, name, attempt = contract.experiment.name, contract.job.meta_name, contract.attempt
        for key in ((experiment, name, attempt), (experiment, name), (name, attempt), (name,)):
            if key in self.table:
                return self.table[key]
        return succeeds()
