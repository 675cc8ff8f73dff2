# SPDX-License-Identifier: Apache-2.0
"""How far hooks are, told by pods with real tokens of the real API server, under the rights that the chart gives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import yaml
from tests.api.conftest import Operators, Plane
from tests.api.lab import Lab, OperatorProcess, probes
from tests.api.played import PODS, Gate, Pod, succeeds
from tests.api.rights import ACCOUNT, Installed
from tests.api.waiting import eventually
from tests.ports import free_ports
from tests.unit.charts import IMAGE, KUBE_VERSION, OPERATOR, helm, settings

from sandbox_api.contract import PROGRESS_TOKEN
from sandbox_api.progress import PROGRESS_AUDIENCE
from sandbox_operator.kube.client import Manifest
from sandbox_operator.kube.errors import NotFound
from sandbox_operator.kube.resources import Resource
from sandbox_operator.reconcile.resources import ENDPOINT_SLICES

TOKENS = Resource("", "v1", "serviceaccounts/default/token", "TokenRequest")
SERVICE = f"{ACCOUNT}-progress"
NAMESPACED = pytest.mark.parametrize("installed", ["namespaced"], indirect=True)


async def token_of(lab: Lab, pod: Manifest, audience: str = PROGRESS_AUDIENCE) -> str:
    """As the kubelet asks for it when it projects one into a pod."""
    meta = pod["metadata"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    spec = {"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = await lab.client.create(TOKENS, body, lab.namespace)
    return str(answer["status"]["token"])


class Held(Gate):
    """A hook that runs until the test opens it."""

    def __init__(self) -> None:
        super().__init__(succeeds(loss=0.5))
        self._pod: Pod | None = None

    async def __call__(self, pod: Pod) -> None:
        self._pod = pod
        await super().__call__(pod)

    @property
    def pod(self) -> Pod:
        assert self._pod is not None, "it has not begun"
        return self._pod


class Endpoint:
    """An operator's, as its pods find it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        return {"SANDBOX_PROGRESS_PORT": str(self.port), "SANDBOX_PROGRESS_URL": self.url}

    async def post(self, token: str, report: Manifest) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.url}/v1/progress", json=report, headers={"Authorization": f"Bearer {token}"}
            ) as answer,
        ):
            return answer.status, await answer.text()

    async def tell(self, pod: Pod, **report: Any) -> tuple[int, str]:
        """As the pod's runtime does."""
        who = {"pod": pod.uid, "job": pod.contract.job.id, "attempt": pod.contract.attempt}
        return await self.post(await token_of(self.lab, pod.manifest), {**who, **report})

    async def taken(self, pod: Pod, **report: Any) -> Manifest:
        """Tell it until it is taken: the operator may not have heard of the pod yet, or of its turn."""
        for _ in range(200):
            try:
                status, text = await self.tell(pod, **report)
            except aiohttp.ClientError as error:
                status, text = 0, str(error)
            if status == 200:
                return dict(json.loads(text))
            await asyncio.sleep(0.1)
        raise AssertionError(f"it is not taken: {status} {text}")


@NAMESPACED
async def test_what_a_pod_tells_stands_in_the_status_while_its_hook_runs(
    lab: Lab,
    plane: Plane,
    installed: Installed,
    operators: Operators,
) -> None:
    endpoint, gate = Endpoint(lab), Held()
    lab.kubelet.table[("demo", "a")] = gate
    operator = operators(installed.kubeconfig, SANDBOX_NAMESPACES=lab.namespace, **endpoint.settings)
    await lab.apply("demo", probes("a", "b"))
    await lab.reached(gate, "the first hook runs")
    pod = gate.pod
    assert pod.contract.progress is not None
    assert pod.contract.progress.url == f"{endpoint.url}/v1/progress"
    assert projected(pod.manifest) == {"audience": PROGRESS_AUDIENCE, "expirationSeconds": 3600, "path": "token"}
    assert pod.manifest["spec"]["automountServiceAccountToken"] is False

    answer = await endpoint.taken(pod, step=120, total=500, metrics={"loss": 0.31, "lr": 0.1}, secondsLeft=60)
    assert answer == {"interval": 10.0, "acknowledged": []}
    await lab.until(lambda: lab.job("demo", "a").get("progress"), "the status tells how far it is")
    progress = lab.job("demo", "a")["progress"]
    assert progress.pop("eta").endswith("Z")
    assert progress == {"step": 120, "total": 500, "metrics": {"loss": 0.31, "lr": 0.1}}
    wide = plane.kubectl("get", "sbx", "demo", "-n", lab.namespace, "-o", "wide").stdout
    assert "a 120/500 loss 0.31" in wide
    gate.opened.set()
    await lab.finished("demo")
    status = lab.status("demo")
    assert status["outcome"] == "Succeeded"
    assert "live" not in status
    assert not [job for job in status["jobs"] if "progress" in job]
    lab.assert_status_only_went_forward("demo")
    assert (await endpoint.tell(pod, step=121))[0] == 403, "its hook has ended"
    assert "orbidden" not in operator.log


def projected(pod: Manifest) -> Manifest:
    """The token that is put where the runtime looks for it."""
    (container,) = pod["spec"]["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"] if mount.get("readOnly")}
    name = mounts[PROGRESS_TOKEN.rpartition("/")[0]]
    (volume,) = (volume for volume in pod["spec"]["volumes"] if volume["name"] == name)
    (source,) = volume["projected"]["sources"]
    return dict(source["serviceAccountToken"])


@NAMESPACED
async def test_a_pod_may_tell_of_itself_alone_and_strangers_of_nothing(
    lab: Lab,
    installed: Installed,
    operators: Operators,
) -> None:
    endpoint, first, second = Endpoint(lab), Held(), Held()
    lab.kubelet.table |= {("one", "a"): first, ("two", "a"): second}
    operators(installed.kubeconfig, SANDBOX_NAMESPACES=lab.namespace, **endpoint.settings)
    await lab.apply("one", probes("a"))
    await lab.apply("two", probes("a"))
    for gate in (first, second):
        await lab.reached(gate, "both hooks run")
    mine, other = first.pod, second.pod
    await endpoint.taken(mine, step=1)
    await endpoint.taken(other, step=1)
    report = {"pod": mine.uid, "job": mine.contract.job.id, "attempt": 1, "step": 666}

    async def refused(token: str, said: Manifest = report) -> tuple[int, str]:
        return await endpoint.post(token, said)

    status, text = await refused(await token_of(lab, other.manifest))
    assert (status, text.partition(":")[0]) == (403, "pod"), text
    status, text = await refused(await token_of(lab, mine.manifest), {**report, "attempt": 2})
    assert (status, text.partition(":")[0]) == (403, "attempt"), text
    status, text = await refused(await token_of(lab, mine.manifest, "https://kubernetes.default.svc"))
    assert (status, "audience" in text) == (401, True), text
    stranger = await lab.client.create(PODS, plain_pod("stranger"), lab.namespace)
    status, text = await refused(await token_of(lab, stranger))
    assert (status, "none that works for an experiment" in text) == (403, True), text
    # A pod that only looks like ours: our labels, the name of a Job of ours, and no Job that made it.
    labels = mine.manifest["metadata"]["labels"]
    disguised = await lab.client.create(PODS, plain_pod("disguised", labels), lab.namespace)
    await lab.until(lambda: (lab.namespace, "disguised") in lab.pods.store, "it is there")
    status, text = await refused(await token_of(lab, disguised), {**report, "pod": disguised["metadata"]["uid"]})
    assert status == 403, text
    status, text = await refused("")
    assert status == 401
    for gate in (first, second):
        gate.opened.set()
    await lab.finished("one", "two")
    jobs = [job for status in (*lab.history["one"], *lab.history["two"]) for job in status["jobs"]]
    assert jobs
    assert 666 not in [(job.get("progress") or {}).get("step") for job in jobs]


def plain_pod(name: str, labels: dict[str, str] | None = None) -> Manifest:
    pause = {"name": "hook", "image": "registry.example/pause:1"}
    spec = {"containers": [pause], "automountServiceAccountToken": False, "nodeSelector": {"no": "node"}}
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@NAMESPACED
async def test_only_the_operator_that_works_is_behind_the_service_and_pods_go_on_with_the_next(
    lab: Lab,
    plane: Plane,
    installed: Installed,
    operators: Operators,
) -> None:
    """The leader is killed. Nothing of what it had in memory is needed: the pod tells its rung again."""
    make_service(plane, lab)
    gate, places = Held(), {"10.9.0.1": Endpoint(lab), "10.9.0.2": Endpoint(lab)}
    lab.kubelet.table[("demo", "a")] = gate
    replicas: dict[str, OperatorProcess] = {}

    async def start(address: str) -> None:
        replicas[address] = operators(
            installed.kubeconfig, SANDBOX_NAMESPACES=lab.namespace, SANDBOX_LEASE=f"{lab.namespace}/{ACCOUNT}",
            SANDBOX_IDENTITY=address, SANDBOX_PROGRESS_SERVICE=f"{lab.namespace}/{SERVICE}", SANDBOX_POD_IP=address,
            **places[address].settings,
        )  # fmt: skip

    await start("10.9.0.1")
    await behind(lab, "10.9.0.1", places["10.9.0.1"].port)
    await start("10.9.0.2")
    await eventually(lambda: "experiments are there" in replicas["10.9.0.2"].log, limit=60)
    await lab.apply("demo", probes("a"))
    await lab.reached(gate, "the hook runs")
    told: dict[str, Any] = {"step": 5, "rungs": [{"rung": 4, "value": 2.0}]}
    assert (await places["10.9.0.1"].taken(gate.pod, **told))["acknowledged"] == []
    status, text = await places["10.9.0.2"].tell(gate.pod, **told)
    assert (status, text) == (503, "this operator stands by; another one works\n")
    await lab.until(lambda: lab.status("demo").get("live") == "a 5", "the leader writes it")

    replicas["10.9.0.1"].kill()
    await behind(lab, "10.9.0.2", places["10.9.0.2"].port)
    await places["10.9.0.2"].taken(gate.pod, **{**told, "step": 9})
    await lab.until(lambda: lab.status("demo").get("live") == "a 9", "the next one goes on")
    gate.opened.set()
    await lab.finished("demo")
    lab.assert_status_only_went_forward("demo")
    assert "orbidden" not in replicas["10.9.0.2"].log


def make_service(plane: Plane, lab: Lab) -> None:
    """That of the chart."""
    where = ("template", ACCOUNT, str(OPERATOR), "-n", lab.namespace, KUBE_VERSION, "--skip-tests")
    found = yaml.safe_load_all(helm(*where, *settings(image=IMAGE)).stdout)
    (service,) = (m for m in found if m and m["kind"] == "Service" and m["metadata"]["name"] == SERVICE)
    plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(service))


async def behind(lab: Lab, address: str, port: int, limit: float = 60) -> None:
    """Wait until this operator, and no other, is behind the Service."""

    async def now() -> tuple[list[str], list[int], list[str]]:
        try:
            found = await lab.client.get(ENDPOINT_SLICES, SERVICE, lab.namespace)
        except NotFound:
            return [], [], []
        owners = [owner["name"] for owner in found["metadata"]["ownerReferences"]]
        addresses = [address for endpoint in found["endpoints"] for address in endpoint["addresses"]]
        return addresses, [entry["port"] for entry in found["ports"]], owners

    deadline = asyncio.get_running_loop().time() + limit
    while (seen := await now()) != ([address], [port], [SERVICE]):
        assert asyncio.get_running_loop().time() < deadline, seen
        await asyncio.sleep(0.1)
