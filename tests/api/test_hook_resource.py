# SPDX-License-Identifier: Apache-2.0
"""SandboxHook on a real API server: what it refuses, what it keeps, what its users see; and who says that it is Ready."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.api.conftest import Plane
from tests.api.fakeapi import FakeAPI

from sandbox_api.base import API_VERSION
from sandbox_api.hook_resource import HookStatus
from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import Connection, connect
from sandbox_operator.kube.informer import Informer, Key
from sandbox_operator.kube.queue import KeyedQueue
from sandbox_operator.reconcile.hooks import HookReconciler
from sandbox_operator.reconcile.projections import HookFact, hook_fact
from sandbox_operator.reconcile.resources import HOOKS

Spec = dict[str, Any]
NAMESPACE = "hooks"
RAW: Spec = {"image": "registry.example/dedup:1", "contract": "raw", "command": ["/dedup"]}
SETTINGS: Spec = {
    "defaults": {"k": 3, "deep": {"list": [1, 2.5, None, {"a": True}], "none": None}},
    "schema": {"type": "object", "properties": {"k": {"type": "number", "maximum": 5}}, "x-note": {"$defs": None}},
}


def hook(name: str, **spec: Any) -> Spec:
    return {"apiVersion": API_VERSION, "kind": "SandboxHook", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def cluster(plane: Plane) -> Iterator[Plane]:
    plane.kubectl("create", "namespace", NAMESPACE)
    yield plane
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def apply(plane: Plane, manifest: Spec) -> None:
    plane.kubectl("apply", "-n", NAMESPACE, "--validate=strict", "-f", "-", stdin=json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "spec"),
    [("own-image", {"image": "a"}), ("named", {"imageName": "data"}), ("raw", RAW), ("settings", {**RAW, **SETTINGS})],
)
def test_what_the_language_allows_is_accepted(cluster: Plane, name: str, spec: Spec) -> None:
    manifest = json.dumps(hook(name, **spec))
    cluster.kubectl("create", "-n", NAMESPACE, "--dry-run=server", "--validate=strict", "-f", "-", stdin=manifest)


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("h", {}, "spec.image: Invalid value: \"object\": give either image (a reference) or imageName"),
        ("h", {"image": "a", "imageName": "b"}, "give either image (a reference) or imageName"),
        ("h", {"imageName": "a", "contract": "raw", "command": ["/a"]}, "contract: raw needs an image of its own"),
        ("h", {"image": "a", "contract": "raw"}, 'spec.command: Invalid value: "object": contract: raw needs a command'),
        ("h", {"image": "a", "command": ["/a"]}, "contract: runtime has none, the runtime is started"),
        ("h", {"image": "a", "contract": "wasm"}, 'spec.contract: Unsupported value: "wasm"'),
        ("h", {"image": "a", "outputs": ["a.b"]}, "spec.outputs[0]: Invalid value"),
        ("h", {"image": "a", "figures": ["a*b*c*d"]}, "spec.figures[0]: Invalid value"),
        ("h", {"image": "a", "schema": []}, "spec.schema: Invalid value"),
        ("h", {"image": "a", "imagename": "b"}, 'unknown field "spec.imagename"'),
        ("a.b", {"image": "a"}, 'metadata: Invalid value: "object": jobs name the hook by it'),
        ("1a", {"image": "a"}, "jobs name the hook by it: at most 63 lower-case letters, digits and '-', a letter first"),
        ("a" * 64, {"image": "a"}, "jobs name the hook by it"),
    ],
)  # fmt: skip
def test_a_mistake_of_form_is_refused_with_its_field(cluster: Plane, name: str, spec: Spec, words: str) -> None:
    manifest = json.dumps(hook(name, **spec))
    answer = cluster.kubectl("create", "-n", NAMESPACE, "--dry-run=server", "-f", "-", stdin=manifest, check=False)
    assert answer.returncode != 0, f"accepted: {answer.stdout}"
    assert words in answer.stderr


def test_schema_and_defaults_come_back_as_they_were_written(cluster: Plane) -> None:
    """Client-side apply alone drops what is null; the page on hooks says so."""
    manifest = json.dumps(hook("kept", **RAW, **SETTINGS))
    cluster.kubectl("apply", "--server-side", "-n", NAMESPACE, "-f", "-", stdin=manifest)
    stored = json.loads(cluster.kubectl("get", "sbh", "kept", "-n", NAMESPACE, "-o", "json").stdout)["spec"]
    assert {key: stored[key] for key in SETTINGS} == SETTINGS


def test_explain_knows_the_settings(cluster: Plane) -> None:
    for field, words in (
        ("spec.schema", "JSON schema (2020-12)"),
        ("spec.contract", "any program"),
        ("status", "Whether"),
    ):
        answer = ""
        for _ in range(100):  # the server publishes a new kind's schema a moment after it serves the kind
            found = cluster.kubectl("explain", f"sbh.{field}", check=False)
            answer = " ".join(found.stdout.split())
            if found.returncode == 0:
                break
        assert words in answer


# The status ----------------------------------------------------------------------------------------------------------


class Watched:
    """An informer of hooks and who writes their status, as the operator's process has them."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.queue: KeyedQueue[Key] = KeyedQueue(first_retry=0.01)
        self.informer: Informer[HookFact] = Informer(
            client,
            HOOKS,
            namespace=namespace,
            project=hook_fact,
            on_change=lambda key, _old, _new: self.queue.add(key),
        )
        self.reconciler = HookReconciler(client, self.informer.store.get, self.queue, lambda: datetime.now(UTC))

    async def status(self, name: str, generation: int, seconds: float = 20) -> HookStatus:
        """The status once it speaks of that generation."""
        async with asyncio.timeout(seconds):
            while True:
                item = await self.client.get(HOOKS, name, NAMESPACE)
                status = HookStatus.model_validate(item.get("status") or {})
                if status.observed_generation == generation:
                    return status
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def watched(connection: Connection) -> AsyncIterator[Watched]:
    async with Client(connection, field_manager="sandbox-operator") as client:
        made = Watched(client, NAMESPACE)
        tasks = [asyncio.create_task(made.informer.run()), asyncio.create_task(made.reconciler.work())]
        try:
            await made.informer.synced.wait()
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def said(status: HookStatus) -> dict[str, tuple[str, str, str]]:
    return {c.type: (c.status, c.reason, c.message) for c in status.conditions}


async def test_a_hook_says_whether_jobs_can_use_it(cluster: Plane) -> None:
    good, bad = hook("good", **RAW, **SETTINGS), hook("bad", **RAW, schema={"properties": {"k": {"minumum": 1}}})
    async with watched(connect(kubeconfig=str(cluster.admin))) as hooks:
        apply(cluster, good)
        apply(cluster, bad)
        status = await hooks.status("good", 1)
        message = "jobs can use it as hook: good; it runs on registry.example/dedup:1"
        assert said(status) == {"Ready": ("True", "Valid", message)}
        wrong = "spec.schema.properties.k.minumum: there is no such keyword here; did you mean 'minimum'?"
        status = await hooks.status("bad", 1)
        assert said(status) == {
            "Ready": ("False", "InvalidSpec", wrong),
            "Stalled": ("True", "InvalidSpec", wrong),
        }
        since = status.conditions[0].last_transition_time

        bad["spec"]["schema"]["properties"]["k"] = {"maximum": "5"}
        apply(cluster, bad)
        status = await hooks.status("bad", 2)
        assert status.conditions[0].last_transition_time == since, "it was not Ready all the time"
        assert "spec.schema.properties.k.maximum: write a number, not '5'" in status.conditions[0].message

        bad["spec"]["schema"]["properties"]["k"] = {"maximum": 5}
        apply(cluster, bad)
        assert said(await hooks.status("bad", 3)).keys() == {"Ready"}, "what is mended is not Stalled"
    cluster.kubectl("wait", "--for=condition=Ready", "sbh/bad", "-n", NAMESPACE, "--timeout=5s")
    lines = cluster.kubectl("get", "sbh", "good", "-n", NAMESPACE).stdout.splitlines()
    assert lines[0].split() == ["NAME", "READY", "CONTRACT", "IMAGE", "IMAGE", "NAME", "AGE"]
    assert lines[1].split()[:4] == ["good", "True", "raw", "registry.example/dedup:1"]


async def test_a_status_that_says_it_already_is_not_written_again(api: FakeAPI) -> None:
    async with watched(Connection(api.url)) as hooks:
        await hooks.client.create(HOOKS, {"metadata": {"name": "h", "namespace": NAMESPACE}, "spec": RAW}, NAMESPACE)
        await hooks.status("h", 1)
    async with watched(Connection(api.url)) as hooks:  # a restarted operator looks at all of them
        await hooks.reconciler.reconcile((NAMESPACE, "h"))
    assert [verb for verb, plural, *_ in api.requests if plural == "sandboxhooks/status"] == ["patch"]


@pytest.mark.usefixtures("no_mistakes")
async def test_faults_of_the_api_server_only_delay_it(api: FakeAPI) -> None:
    async with watched(Connection(api.url)) as hooks:
        api.fail("patch", plural="sandboxhooks", code=500, times=8)
        await hooks.client.create(HOOKS, {"metadata": {"name": "h", "namespace": NAMESPACE}, "spec": RAW}, NAMESPACE)
        assert said(await hooks.status("h", 1))["Ready"][0] == "True"
