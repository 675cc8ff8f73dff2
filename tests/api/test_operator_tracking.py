# SPDX-License-Identifier: Apache-2.0
"""The exporter on a real API server: one Job with a reference to the Secret, and an experiment that waits for none of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.api.conftest import Operators, Plane
from tests.api.inprocess import Death, fresh, running
from tests.api.lab import LIMIT, Lab, probes
from tests.api.played import JOBS, PODS, Gate, Pod, lacks_image, now, succeeds
from tests.progress import DEEP
from typer.testing import CliRunner

from sandbox_api.contract import CONTAINER
from sandbox_operator.build.names import LABEL_TASK
from sandbox_operator.cli.main import app
from sandbox_operator.kube.client import Manifest
from sandbox_operator.kube.errors import NotFound
from sandbox_operator.kube.informer import Informer, Key

IMAGES = json.dumps({"data": "registry.example/data:1", "tracking": "registry.example/tracking:1"})
TRACKING = {"wandb": {"apiKeySecretRef": {"name": "wandb", "key": "api-key"}}}
EXPORTERS = f"{LABEL_TASK}=export"


def exporters(lab: Lab) -> list[Manifest]:
    return [job for job in lab.jobs_of("demo") if job["metadata"]["labels"][LABEL_TASK] == "export"]


def tracking(lab: Lab) -> tuple[str, str]:
    found = lab.condition("demo", "Tracking")
    return found.get("status", ""), found.get("reason", "")


class Pods:
    """Plays the kubelet for exporters' pods: each does nothing, or ends as `code` says."""

    def __init__(self, lab: Lab) -> None:
        self.code: int | None = None
        self.words = ""
        self.seen: dict[str, set[str]] = defaultdict(set)
        """Uids of exporters' Jobs by name."""
        self._lab = lab
        self._jobs: Informer[Manifest] = Informer(
            lab.client,
            JOBS,
            namespace=lab.namespace,
            label_selector=EXPORTERS,
            project=lambda job: job,
            on_change=self._job,
        )

    def _job(self, key: Key, _: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self.seen[key[1]].add(new["metadata"]["uid"])

    async def run(self) -> None:
        watching = asyncio.create_task(self._jobs.run())
        try:
            while True:
                for pod in (await self._lab.client.list(PODS, self._lab.namespace, label_selector=EXPORTERS)).items:
                    with contextlib.suppress(NotFound):
                        await self._look_at(pod)
                await asyncio.sleep(0.1)
        finally:
            watching.cancel()

    async def _look_at(self, pod: Manifest) -> None:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        if "deletionTimestamp" in pod["metadata"]:
            path = PODS.path(namespace=self._lab.namespace, name=name)
            await self._lab.client.request(("delete", "pods"), "DELETE", path, body={"gracePeriodSeconds": 0})
        elif self.code is not None and status.get("phase", "Pending") in ("Pending", "Running"):
            ended = {
                "exitCode": self.code,
                "reason": "Error",
                "message": self.words,
                "startedAt": now(),
                "finishedAt": now(),
            }
            container = {
                "name": CONTAINER, "state": {"terminated": ended}, "ready": False, "restartCount": 0, "imageID": "",
                "image": "registry.example/tracking:1",
            }  # fmt: skip
            phase = "Succeeded" if self.code == 0 else "Failed"
            body = {"status": {"phase": phase, "containerStatuses": [container]}}
            await self._lab.client.patch(PODS, name, body, self._lab.namespace, subresource="status")


@contextlib.asynccontextmanager
async def played(lab: Lab) -> AsyncIterator[Pods]:
    pods = Pods(lab)
    task = asyncio.create_task(pods.run())
    try:
        yield pods
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def first_pod(lab: Lab) -> Manifest:
    async with asyncio.timeout(LIMIT):
        while True:
            for pod in (await lab.client.list(PODS, lab.namespace, label_selector=EXPORTERS)).items:
                return pod
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def lacking_its_image(lab: Lab, words: str) -> AsyncIterator[None]:
    """The exporter's pod, as the kubelet tells of it meanwhile."""
    pod = Pod(lab.client, await first_pod(lab), contract=None)  # type: ignore[arg-type]  # it is no hook's
    waiting = asyncio.ensure_future(lacks_image(words)(pod))
    try:
        yield
    finally:
        waiting.cancel()


async def test_an_experiment_has_one_exporter_and_ends_whatever_becomes_of_it(
    lab: Lab, plane: Plane, operators: Operators
) -> None:
    operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace, SANDBOX_IMAGES=IMAGES)
    gate = lab.kubelet.table[("two",)] = Gate(succeeds())
    async with played(lab) as pods:
        await lab.apply("demo", probes("one", "two", tracking=TRACKING))
        await lab.reached(gate, "the second hook")
        await lab.until(lambda: exporters(lab), "an exporter")
        (live,) = exporters(lab)
        (container,) = live["spec"]["template"]["spec"]["containers"]
        (key,) = [entry for entry in container["env"] if entry["name"] == "WANDB_API_KEY"]
        assert key["valueFrom"] == {"secretKeyRef": {"name": "wandb", "key": "api-key"}}
        assert container["image"] == "registry.example/tracking:1"
        async with lacking_its_image(lab, "no such tag"):
            words = "the image can't be pulled: Failed to pull image: no such tag"  # the kubelet's Event knows it alone
            await lab.until(lambda: words in lab.condition("demo", "Tracking").get("message", ""), "what its pod lacks")
            assert tracking(lab) == ("False", "ExporterFailed")
        pods.code, pods.words = 2, "refused: invalid api key"
        refused = "refused: invalid api key"
        await lab.until(lambda: refused in lab.condition("demo", "Tracking")["message"], "the refusal in the status")
        assert tracking(lab) == ("False", "ExporterFailed")
        pods.code = None
        gate.opened.set()
        await lab.finished("demo")
        assert lab.status("demo")["outcome"] == "Succeeded"
        assert lab.condition("demo", "Ready")["status"] == "True"
        await lab.until(
            lambda: [job["metadata"]["name"] for job in exporters(lab)] not in ([], [live["metadata"]["name"]]),
            "the exporter of the end, when the first has gone",
        )
        (last,) = exporters(lab)
        assert last["metadata"]["name"].startswith(f"{live['metadata']['name']}-")
        pods.code, pods.words = 0, "https://wandb.example/lab/run"
        await lab.until(lambda: tracking(lab) == ("True", "Exported"), "the end of the export in the status")
        assert "https://wandb.example/lab/run" in lab.condition("demo", "Tracking")["message"]
        assert {name: len(uids) for name, uids in pods.seen.items()} == {
            live["metadata"]["name"]: 1,
            last["metadata"]["name"]: 1,
        }
        assert [job["state"] for job in lab.status("demo")["jobs"]] == ["Succeeded", "Succeeded"]
        lab.assert_no_job_was_made_twice()

        # Once more by hand, as often as one likes.
        arguments = ["--kubeconfig", str(plane.admin), "-n", lab.namespace, "wandb", "sync", "demo"]
        for _ in range(2):
            answer = await asyncio.to_thread(CliRunner().invoke, app, arguments)
            assert answer.exit_code == 0, answer.output
            assert "https://wandb.example/lab/run" in answer.output
        assert [uids for name, uids in pods.seen.items() if name.endswith("-sync")]

        # One that can't begin says so when its time is over, and leaves nothing behind.
        pods.code = None
        late = [*arguments, "--secret", "nope/key", "--timeout", "3"]
        answer = await asyncio.to_thread(CliRunner().invoke, app, late)
        assert answer.exit_code == 1
        assert "-sync has not ended in 3 s: the pod" in answer.output.replace("\n", " ")
        await lab.until(
            lambda: not [job for job in exporters(lab) if job["metadata"]["name"].endswith("-sync")], "no Job is left"
        )


async def die_once(number: int, moment: str) -> dict[str, int]:
    """Kill the operator at a write, let another go on; how many Jobs each exporter's name has had."""

    def is_left_to_the_last(lab: Lab) -> bool:
        ended = bool(lab.status("demo").get("completionTime"))
        return ended and [job["metadata"]["name"][-7:-6] for job in exporters(lab)] == ["-"]

    async with fresh() as (api, lab), played(lab) as pods:
        spec: dict[str, Any] = probes("one", tracking=TRACKING, images={"tracking": "registry.example/tracking:1"})
        death = api.on_write = Death(number, moment)
        async with running(api):
            await lab.apply("demo", spec)
            dying = asyncio.create_task(death.dying.wait())
            over = asyncio.create_task(lab.until(lambda: is_left_to_the_last(lab), "the exporter of the end"))
            await asyncio.wait([dying, over], return_when=asyncio.FIRST_COMPLETED)
            for task in (dying, over):
                task.cancel()
        api.on_write = None
        death.dead.set()
        async with running(api):
            await lab.until(lambda: is_left_to_the_last(lab), "the exporter of the end", limit=60)
        lab.assert_no_job_was_made_twice()
        return {name: len(uids) for name, uids in pods.seen.items()}


@pytest.mark.usefixtures("no_mistakes")
async def test_an_operator_killed_at_any_write_makes_no_second_exporter() -> None:
    for number in range(1, 12) if DEEP else range(3, 10, 2):
        for moment in ("before", "after"):
            made = await die_once(number, moment)
            assert set(made.values()) == {1}, (number, moment, made)
            assert len(made) <= 2, (number, moment, made)  # it may have ended while no operator was there
