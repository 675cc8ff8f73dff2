# SPDX-License-Identifier: Apache-2.0
"""A namespace in which the operator's real process meets experiments: apply, wait, look at what was made, kill it.

The same on the fake and on the real API server; who plays the rest of the cluster stands in `played.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tests.api.controllers import JobController, Provisioner
from tests.api.played import CLAIMS, EVENTS, JOBS, PLAYER, PODS, Gate, Kubelet, Table
from tests.ports import free_ports

from sandbox_api.base import API_VERSION
from sandbox_operator.build.names import ANNOTATION_JOB_ID, LABEL_ATTEMPT, LABEL_TASK
from sandbox_operator.kube.client import Client, Manifest
from sandbox_operator.kube.config import Connection
from sandbox_operator.kube.informer import Informer, Key
from sandbox_operator.kube.resources import Resource
from sandbox_operator.reconcile.resources import EXPERIMENTS

REPOSITORY = Path(__file__).parents[2]
OPERATOR = Path(sys.executable).parent / "sandbox-operator"
LIMIT = 40.0
MISTAKES = ("made a mistake", "Traceback", "can't be read", "skipping what is no object")

FILTER = [{"text_length_filter": {"min_len": 10}}]


def road(*, claim_name: str | None = None, **more: Any) -> Manifest:
    """The spec of the guide's demo as far as data goes: probe, refine, process, probe what was processed."""
    workspace = {"claimName": claim_name} if claim_name else {"claim": {"size": "1Gi"}}
    return {
        "workspace": workspace,
        "retry": {"backoff": "1s"},
        "cache": "Never",  # experiments of a test share a claim and ask for the same
        "probeJobConfigs": [
            {
                "hook": "ProbeViaAnalyzerHook",
                "metaName": "before",
                "djConfigs": {"dataset_path": "data/demo.jsonl", "process": FILTER},
            }
        ],
        "refineRecipeJobConfigs": [
            {
                "hook": "RefineRecipeViaKSigmaHook",
                "metaName": "refine",
                "probe": "before",
                "djConfigs": {"dataset_path": "data/demo.jsonl", "process": FILTER},
                "extraConfigs": {"path_k_sigma_recipe": "outputs/refined.yaml"},
                "output": ["refined_recipe"],
            }
        ],
        "executionJobConfigs": [
            {
                "hook": "ProcessDataHook",
                "metaName": "process",
                "input": {"djConfigs": "-1.refined_recipe"},
                "output": ["processed"],
            }
        ],
        "evaluationJobConfigs": [
            {
                "hook": "ProbeViaAnalyzerHook",
                "metaName": "after",
                "djConfigs": {"process": FILTER},
                "input": {"djConfigs.dataset_path": "anonymous.process.processed"},
            }
        ],
        **more,
    }


def probes(*names: str, claim_name: str | None = None, **more: Any) -> Manifest:
    """A spec with one probe for each name: the shortest that shows an order."""
    job = {"hook": "ProbeViaAnalyzerHook", "djConfigs": {"dataset_path": "data/demo.jsonl"}}
    return {
        "workspace": {"claimName": claim_name} if claim_name else {"claim": {"size": "1Gi"}},
        "retry": {"backoff": "1s"},
        "cache": "Never",  # experiments of a test share a claim and ask for the same
        "probeJobConfigs": [{**job, "metaName": name} for name in names],
        **more,
    }


def experiment(name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": "SandboxExperiment", "metadata": {"name": name}, "spec": spec}


class Process(Protocol):
    """What `subprocess.Popen` has of it."""

    def poll(self) -> int | None: ...
    def kill(self) -> None: ...
    def send_signal(self, number: int) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class OperatorProcess:
    """`sandbox-operator run` as a process beside the cluster. Its log goes on through restarts."""

    def __init__(self, kubeconfig: Path, log: Path, **settings: str) -> None:
        self.log_path = log
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SANDBOX_", "KUBE"))},
            "KUBECONFIG": str(kubeconfig),
            "SANDBOX_IMAGES": '{"data": "registry.example/data:1"}',
            "SANDBOX_METRICS_PORT": "0",
            **settings,
        }
        self._process: Process | None = None

    def start(self) -> Self:
        assert self._process is None, "it runs already"
        self._process = self._spawn({"SANDBOX_LIVENESS_PORT": str(free_ports()), **self._environment})
        return self

    def _spawn(self, environment: dict[str, str]) -> Process:
        with self.log_path.open("ab") as log:
            return subprocess.Popen([OPERATOR, "run"], env=environment, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    @property
    def code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll() if self._process is not None else None

    def kill(self) -> None:
        """As the node does: at once, no last words."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """As the kubelet does: SIGTERM, and the exit code. Fails when it does not end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        process, self._process = self._process, None
        try:
            return process.wait(60)  # two thirds of a second of work; 24 s were seen where others want the cores
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the operator does not end on SIGTERM:\n{self.log}") from None

    def end(self) -> None:
        """Teardown: nothing runs any more, and the log tells no mistake."""
        if self._process is not None and self._process.poll() is None:
            code = self.stop()
            assert code in (0, -signal.SIGTERM), f"ended with {code}:\n{self.log}"
        told = [line for line in self.log.splitlines() if any(word in line for word in MISTAKES)]
        assert not told, "the operator's log tells of a mistake:\n" + self.log


class Lab:
    """`async with Lab(connection, namespace) as lab`: a namespace with its player, and eyes on all that happens in it.

    `made` holds the uids of all Jobs seen by (experiment, job id, attempt), those that went included; `history` each
    status that an experiment had, in order.
    """

    def __init__(
        self, connection: Connection, namespace: str, table: Table | None = None, *, fake: bool = False
    ) -> None:
        self.namespace = namespace
        self.client = Client(connection, field_manager=PLAYER)
        self.kubelet = Kubelet(self.client, namespace, table, needs_node=not fake)
        self.provisioner = None if fake else Provisioner(self.client, namespace)
        self.job_controller = JobController(self.client, namespace) if fake else None
        self.made: dict[tuple[str, str, int], set[str]] = defaultdict(set)
        self.history: dict[str, list[Manifest]] = defaultdict(list)
        self.experiments: Informer[Manifest] = Informer(
            self.client, EXPERIMENTS, namespace=namespace, project=lambda item: item, on_change=self._experiment_changed
        )
        self.jobs: Informer[Manifest] = Informer(
            self.client, JOBS, namespace=namespace, project=lambda item: item, on_change=self._job_changed
        )
        self.pods: Informer[Manifest] = Informer(
            self.client, PODS, namespace=namespace, project=lambda item: item, on_change=self._noticed
        )
        self.watched: tuple[Informer[Manifest], ...] = (self.experiments, self.jobs, self.pods)
        self._news = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.client)
        await self._stack.enter_async_context(self.kubelet)
        runners = [informer.run() for informer in self.watched]
        runners += [follower.run() for follower in (self.provisioner, self.job_controller) if follower is not None]
        self._tasks = [asyncio.create_task(runner) for runner in runners]
        await asyncio.gather(*(informer.synced.wait() for informer in self.watched))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.__aexit__(kind, error, trace)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and kind is None:
                raise outcome

    def _experiment_changed(self, key: Key, _: Manifest | None, new: Manifest | None) -> None:
        if new is not None and new.get("status"):
            self.history[key[1]].append(new["status"])
        self._noticed()

    def _job_changed(self, _: Key, __: Manifest | None, new: Manifest | None) -> None:
        if new is not None and (new["metadata"].get("labels") or {}).get(LABEL_TASK) == "run":
            meta = new["metadata"]
            owner = next(iter(meta.get("ownerReferences") or [{"name": ""}]))["name"]
            identity = (owner, meta["annotations"][ANNOTATION_JOB_ID], int(meta["labels"][LABEL_ATTEMPT]))
            self.made[identity].add(meta["uid"])
        self._noticed()

    def _noticed(self, *_: object) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # what a user does

    async def apply(self, name: str, spec: Manifest) -> Manifest:
        return await self.client.create(EXPERIMENTS, experiment(name, spec), self.namespace)

    async def change(self, name: str, spec: Manifest) -> Manifest:
        """Merge something into the spec of an experiment."""
        return await self.client.patch(EXPERIMENTS, name, {"spec": spec}, self.namespace)

    async def delete(self, name: str) -> None:
        await self.client.delete(EXPERIMENTS, name, self.namespace)
        await self.until(lambda: (self.namespace, name) not in self.experiments.store, f"{name} is gone")

    async def make_claim(self, name: str, storage_class: str | None = None, **labels: str) -> Manifest:
        wanted = {"storageClassName": storage_class} if storage_class else {}
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "labels": labels},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, **wanted},
        }
        return await self.client.create(CLAIMS, body, self.namespace)

    async def make_bound_claim(self, name: str) -> None:
        await self.make_claim(name)
        await self.claim_is(name, lambda claim: claim.get("status", {}).get("phase") == "Bound", "is bound")

    # what can be seen

    def status(self, name: str) -> Manifest:
        return dict((self.experiments.store.get((self.namespace, name)) or {}).get("status") or {})

    def job(self, name: str, meta_name: str) -> Manifest:
        """The status of one job; empty while there is none."""
        return next((j for j in self.status(name).get("jobs") or () if j["metaName"] == meta_name), {})

    def condition(self, name: str, kind: str) -> Manifest:
        return next((c for c in self.status(name).get("conditions") or () if c["type"] == kind), {})

    def jobs_of(self, name: str) -> list[Manifest]:
        return [
            job
            for job in self.jobs.store.values()
            if any(owner["name"] == name for owner in job["metadata"].get("ownerReferences") or ())
        ]

    def pods_of(self, name: str) -> list[Manifest]:
        jobs = {job["metadata"]["name"] for job in self.jobs_of(name)}
        return [
            pod
            for pod in self.pods.store.values()
            if (pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-name") in jobs
        ]

    async def claim(self, name: str) -> Manifest | None:
        found = await self.client.list(CLAIMS, self.namespace, field_selector=f"metadata.name={name}")
        return found.items[0] if found.items else None

    async def log_says(self, operator: OperatorProcess, words: str) -> None:
        for _ in range(int(LIMIT / 0.05)):
            if words in operator.log:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the operator's log does not say {words!r}:\n{operator.log}")

    async def owned(self, claim: str) -> None:
        """Wait until a claim has an owner."""
        await self.claim_is(claim, lambda found: found["metadata"].get("ownerReferences"), "has an owner")

    async def claim_is(self, name: str, condition: Callable[[Manifest], object], what: str) -> None:
        """Wait for a claim, which no watch of ours tells of."""
        selector = f"metadata.name={name}"
        await self.listed(CLAIMS, selector, condition, f"the claim {name} {what}")

    async def event(self, name: str, reason: str, words: str = "") -> Manifest:
        """Wait for an Event about an experiment or a sweep that says this: they are sent off the hot path."""
        selector = f"involvedObject.name={name},reason={reason}"
        what = f"an Event {reason} about {name} says {words!r}"
        return await self.listed(EVENTS, selector, lambda event: words in event["message"], what)

    async def listed(
        self, resource: Resource, selector: str, condition: Callable[[Manifest], object], what: str
    ) -> Manifest:
        """Wait for an object of which no watch of ours tells."""
        for _ in range(int(LIMIT / 0.05)):
            found = (await self.client.list(resource, self.namespace, field_selector=selector)).items
            if fitting := [item for item in found if condition(item)]:
                return fitting[0]
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {LIMIT:.0f} s: {what}: {found}\n{self.told()}")

    async def until(self, condition: Callable[[], object], what: str, limit: float = LIMIT) -> None:
        """Return as soon as `condition()` is true, looking at each change; fail after `limit` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        while not condition():
            for task in self._tasks:
                if task.done():
                    task.result()
            left = deadline - loop.time()
            if left <= 0:
                raise AssertionError(f"not within {limit:.0f} s: {what}\n{self.told()}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left, 0.5))

    async def finished(self, *names: str, limit: float = LIMIT) -> None:
        await self.until(
            lambda: all(self.status(name).get("completionTime") for name in names), f"{', '.join(names)} end", limit
        )

    async def reason(self, name: str, reason: str, *, kind: str = "Ready", limit: float = LIMIT) -> str:
        """Wait for the reason of a condition; its message."""
        await self.until(
            lambda: self.condition(name, kind).get("reason") == reason, f"{name}: {kind} has the reason {reason}", limit
        )
        return str(self.condition(name, kind)["message"])

    async def reached(self, gate: Gate, what: str) -> None:
        try:
            await asyncio.wait_for(gate.arrived.wait(), LIMIT)
        except TimeoutError:
            raise AssertionError(f"not within {LIMIT:.0f} s: {what}\n{self.told()}") from None

    def told(self) -> str:
        """All statuses, for a failing test."""
        lines = []
        for (_, name), item in self.experiments.store.items():
            status = item.get("status") or {}
            ready = self.condition(name, "Ready")
            lines.append(f"{name}: {status.get('outcome')} {ready.get('reason')}: {ready.get('message')}")
            lines += [
                f"  {job['id']} {job['state']} a{job.get('attempts', 0)} {job.get('reason')}: {job.get('message')}"
                for job in status.get("jobs") or ()
            ]
        lines += [f"pod {key[1]}: {json.dumps(pod.get('status'))[:300]}" for key, pod in self.pods.store.items()]
        return "\n".join(lines)

    def steps(self, *names: str) -> str:
        """How each job's status went, for a failing test."""
        lines = []
        for name in names:
            for status in self.history[name]:
                jobs = [f"{j['metaName']}:{j['state']}/a{j['attempts']}/{j.get('reason')}" for j in status["jobs"]]
                lines.append(f"{name}: {' '.join(jobs)}")
        return "\n".join(lines)

    # what must always hold

    def assert_no_job_was_made_twice(self) -> None:
        twice = {identity: uids for identity, uids in self.made.items() if len(uids) != 1}
        assert not twice, f"more than one Job for an attempt: {twice}\n{self.told()}"

    def assert_status_only_went_forward(self, name: str) -> None:
        """No attempt is forgotten, and what is over stays as it was."""
        known: dict[str, Manifest] = {}
        for status in self.history[name]:
            for job in status["jobs"]:
                before = known.get(job["id"], {"attempts": 0, "state": "Pending"})
                assert job["attempts"] >= before["attempts"], self.steps(name)
                assert before["state"] not in ("Succeeded", "Failed", "Skipped") or job == before, self.steps(name)
                known[job["id"]] = job

    def assert_pods_ran_once(self) -> None:
        seen = [(uid, job, attempt) for uid, job, attempt, _ in self.kubelet.pods]
        assert len(seen) == len(set(seen)), f"more than one pod for an attempt: {self.kubelet.pods}"


def outcome_of(status: Manifest) -> Manifest:
    """What must be the same whatever happened on the way: no times, no names, no uids."""
    return {
        "outcome": status.get("outcome"),
        "progress": status.get("progress"),
        "jobs": [
            {key: job.get(key) for key in ("id", "state", "attempts", "failures", "reason", "metrics")}
            for job in status["jobs"]
        ],
        "comparison": status.get("comparison"),
        "ready": [c["status"] for c in status["conditions"] if c["type"] == "Ready"],
    }
