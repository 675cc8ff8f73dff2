# SPDX-License-Identifier: Apache-2.0
"""Plays the rest of a cluster: a node and a volume provisioner on the real API server, the Job controller on the fake.

What stands beside them for real: the scheduler, the volume binder, the Job controller, the garbage collector.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib

from tests.api.played import CLAIMS, JOBS, PODS, now

from sandbox_api.contract import INDEX_ENV
from sandbox_operator.build.names import LABEL_JOB
from sandbox_operator.kube.client import Client, Manifest
from sandbox_operator.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from sandbox_operator.kube.informer import Informer
from sandbox_operator.kube.resources import Resource
from sandbox_operator.reconcile.projections import ANNOTATION_POD_INDEX

VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NODE = "played"


class Follower:
    """Calls `step` for each change of the objects of a kind, one after another; it may await and use the client."""

    def __init__(self, client: Client, namespace: str, *resources: Resource) -> None:
        self.client = client
        self._changes: asyncio.Queue[tuple[Manifest | None, Manifest | None]] = asyncio.Queue()
        self.informers: dict[str, Informer[Manifest]] = {
            resource.plural: Informer(
                client,
                resource,
                namespace=namespace,
                project=lambda item: item,
                on_change=lambda _, old, new: self._changes.put_nowait((old, new)),
            )
            for resource in resources
        }

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for informer in self.informers.values():
                group.create_task(informer.run())
            while True:
                old, new = await self._changes.get()
                try:
                    await self.step(old, new)
                except (NotFound, Conflict):
                    continue
                except ApiError:
                    await asyncio.sleep(0.05)
                    self._changes.put_nowait((old, new))

    async def step(self, old: Manifest | None, new: Manifest | None) -> None:
        raise NotImplementedError


class Provisioner(Follower):
    """Makes a volume for each new claim of a namespace, bound to it; claims named in `refused` stay unbound."""

    def __init__(self, client: Client, namespace: str) -> None:
        super().__init__(client, namespace, CLAIMS)
        self.refused: set[str] = set()

    async def step(self, _: Manifest | None, new: Manifest | None) -> None:
        if new is None or new["spec"].get("volumeName") or new["metadata"]["name"] in self.refused:
            return
        meta = new["metadata"]
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"played-{meta['uid']}"},
            "spec": {
                "accessModes": new["spec"]["accessModes"],
                "capacity": {"storage": new["spec"]["resources"]["requests"]["storage"]},
                "hostPath": {"path": "/nowhere"},
                "claimRef": {key: meta[key] for key in ("name", "namespace", "uid")},
            },
        }
        with contextlib.suppress(AlreadyExists):
            await self.client.create(VOLUMES, volume, repeatable=True)


class JobController(Follower):
    """The pods of each Job, and the Job's condition when they have ended or gone: what batch/v1 does with ours."""

    def __init__(self, client: Client, namespace: str) -> None:
        super().__init__(client, namespace, JOBS, PODS)
        self._made: set[str] = set()

    async def step(self, old: Manifest | None, new: Manifest | None) -> None:
        either = new or old
        assert either is not None
        if LABEL_JOB not in (either["metadata"].get("labels") or {}):
            return
        namespace = either["metadata"]["namespace"]
        if "template" in either["spec"]:
            if new is not None and new["metadata"]["uid"] not in self._made:
                self._made.add(new["metadata"]["uid"])
                for number in range(new["spec"].get("completions", 1)):
                    await self.client.create(PODS, self._pod(new, number), namespace)
            return
        owner = either["metadata"]["ownerReferences"][0]
        if new is None:
            await self._conclude(namespace, owner, "Failed", "BackoffLimitExceeded")
            return
        status = new.get("status") or {}
        if status.get("phase") == "Succeeded":
            await self._conclude(namespace, owner, "Complete", "CompletionsReached")
        elif status.get("phase") == "Failed":
            disruption = any(c["type"] == "DisruptionTarget" for c in status.get("conditions") or ())
            reason = "PodFailurePolicy" if disruption else "BackoffLimitExceeded"
            await self._conclude(namespace, owner, "Failed", reason)

    async def _conclude(self, namespace: str, owner: Manifest, kind: str, reason: str) -> None:
        name = owner["name"]
        job = await self.client.get(JOBS, name, namespace)
        if job["metadata"]["uid"] != owner["uid"] or (job.get("status") or {}).get("conditions"):
            return
        if kind == "Complete" and self._succeeded(owner) < job["spec"].get("completions", 1):
            return
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now()}
        body = {"status": {"conditions": [condition]}}
        await self.client.patch(JOBS, name, body, namespace, subresource="status")

    def _succeeded(self, owner: Manifest) -> int:
        pods = self.informers["pods"].store.values()
        mine = [pod for pod in pods if (pod["metadata"].get("ownerReferences") or [{}])[0].get("uid") == owner["uid"]]
        return sum((pod.get("status") or {}).get("phase") == "Succeeded" for pod in mine)

    @staticmethod
    def _pod(job: Manifest, number: int) -> Manifest:
        meta, template = job["metadata"], job["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        suffix = hashlib.sha256(f"{meta['uid']}/{number}".encode()).hexdigest()[:5]
        spec, annotations = copy.deepcopy(template["spec"]), dict(template["metadata"]["annotations"])
        if job["spec"].get("completionMode") == "Indexed":
            annotations[ANNOTATION_POD_INDEX] = str(number)
            spec["containers"][0]["env"].append({"name": INDEX_ENV, "value": str(number)})
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{meta['name']}-{suffix}",
                "namespace": meta["namespace"],
                "labels": {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": meta["name"]},
                "annotations": annotations,
                "ownerReferences": [owner],
            },
            "spec": spec,
        }


async def make_node(client: Client) -> None:
    """A node that is ready and has no GPU; its heartbeat is never asked for (`cluster/plane`)."""
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Played",
        "lastHeartbeatTime": now(),
        "lastTransitionTime": now(),
    }
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
    await client.patch(NODES, NODE, {"status": status}, subresource="status")
