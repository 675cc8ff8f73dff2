# SPDX-License-Identifier: Apache-2.0
"""The machine under load: a control plane with fake nodes, an operator beside it, and what each process has used.

Every load gets a plane of its own that starts empty, so no load pays for what an earlier one left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import yaml

from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import Connection, connect
from sandbox_operator.kube.resources import Resource
from sandbox_operator.reconcile.resources import CLAIMS

REPOSITORY = Path(__file__).parents[3]
CRDS = sorted((REPOSITORY / "crds").glob("*.yaml"))
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
NAMESPACE = "default"
CLAIM = "shared"
"""All experiments of a load work on one claim, as those of a team would: the claims' own cost is not the operator's."""
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
FAKE_NODES = 50
LONGEST_START = 120.0
TICKS = os.sysconf("SC_CLK_TCK")

Rates = Literal["raised", "default"]


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> dict[str, float]:
    """Resident memory of a process in MiB: `now` and `peak`."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"now": int(lines["VmRSS"].split()[0]) / 1024, "peak": int(lines["VmHWM"].split()[0]) / 1024}


@dataclass(frozen=True)
class Plane:
    """A control plane that is up; `admin` is the user of those who load it."""

    folder: Path
    port: int
    admin: Connection

    def cpu(self) -> Counter[str]:
        """CPU seconds of each part so far, and of this process as `load`."""
        pids = {part: int((self.folder / "run" / part).read_text().split()[0]) for part in PARTS}
        used = Counter({part: cpu_seconds(pid) for part, pid in pids.items()})
        used["load"] = cpu_seconds(os.getpid())
        return used

    def requests(self) -> Counter[str]:
        """What the operator has asked for so far, from the audit log: `create jobs`, `patch .../status 409`, ..."""
        found: Counter[str] = Counter()
        with (self.folder / "log/audit.log").open() as log:
            for line in log:
                entry = json.loads(line)
                about = entry.get("objectRef") or {"resource": entry["requestURI"]}
                plural = about["resource"] + (f"/{about['subresource']}" if "subresource" in about else "")
                code = (entry.get("responseStatus") or {}).get("code", 0)
                if entry["verb"] != "watch" or entry["stage"] == "ResponseStarted":
                    found[f"{entry['verb']} {plural}" + (f" {code}" if code >= 400 else "")] += 1
        return found


@contextlib.asynccontextmanager
async def raised(folder: Path, port: int, rates: Rates) -> AsyncIterator[Plane]:
    """A new control plane with our CRDs, fake nodes that are ready, and one bound claim."""
    environment = {**os.environ, "W": str(folder), "PORT": str(port), "RATES": rates}
    environment["KWOK"] = str(Path(__file__).with_name("kwok.yaml"))
    script = REPOSITORY / "cluster/plane"
    try:
        subprocess.run(
            [script, "down"], env=environment, check=True, stdout=subprocess.DEVNULL
        )  # of a run that was killed
        up = subprocess.run([script, "up"], env=environment, capture_output=True, text=True, check=False)
        if up.returncode:
            raise RuntimeError(up.stderr.strip())
        plane = Plane(folder, port, connect(kubeconfig=str(folder / "etc/admin.kubeconfig")))
        async with Client(plane.admin, field_manager="load") as client:
            await _furnish(client)
        await _at_rest(plane)
        yield plane
    finally:
        subprocess.run([script, "down"], env=environment, check=True, stdout=subprocess.DEVNULL)


async def _furnish(client: Client) -> None:
    for path in CRDS:
        await client.create(DEFINITIONS, yaml.safe_load(path.read_text()))
    for number in range(FAKE_NODES):
        labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": f"fake-{number}"}
        await client.create(NODES, {"metadata": {"name": f"fake-{number}", "labels": labels}})
    await client.create(VOLUMES, volume())
    await client.create(CLAIMS, claim(), NAMESPACE)
    deadline = time.monotonic() + 60
    while missing := await _missing(client):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the control plane is not ready: {missing}")
        await asyncio.sleep(0.2)


async def _at_rest(plane: Plane) -> None:
    """The API server works for seconds after new CRDs (it writes its OpenAPI documents anew): no load shall pay that."""
    used = plane.cpu()["kube-apiserver"]
    for _ in range(60):
        await asyncio.sleep(1)
        before, used = used, plane.cpu()["kube-apiserver"]
        if used - before < 0.15:
            return
    raise RuntimeError("the API server does not come to rest")


async def _missing(client: Client) -> str | None:
    """What a load has to wait for, or None."""
    crds = (await client.list(DEFINITIONS)).items
    if not all(_condition(crd, "Established") for crd in crds):
        return "the CRDs are not established"
    nodes = (await client.list(NODES)).items
    ready = sum(_condition(node, "Ready") and not node["spec"].get("taints") for node in nodes)
    if ready < FAKE_NODES:
        return f"{FAKE_NODES - ready} nodes are not ready"
    if (await client.get(CLAIMS, CLAIM, NAMESPACE)).get("status", {}).get("phase") != "Bound":
        return "the claim is not bound"
    return None


def _condition(item: dict[str, Any], kind: str) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def volume() -> dict[str, Any]:
    return {
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": NAMESPACE, "name": CLAIM},
        },
    }


def claim() -> dict[str, Any]:
    return {
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "",
            "volumeName": CLAIM,
        },
    }


def service_account(plane: Plane) -> Path:
    """The files that a pod of the operator would find mounted."""
    folder = plane.folder / "account"
    folder.mkdir(mode=0o700, exist_ok=True)
    config = json.loads((plane.folder / "etc/operator.kubeconfig").read_text())
    (folder / "token").write_text(config["users"][0]["user"]["token"])
    shutil.copy(plane.folder / "pki/ca.crt", folder / "ca.crt")
    return folder


class OperatorProcess:
    """`async with OperatorProcess(plane)`: the operator with its default settings, or some others, ready."""

    def __init__(self, plane: Plane, **settings: str) -> None:
        self._plane = plane
        self._settings = settings
        self._health = f"http://127.0.0.1:{plane.port + 7}/readyz"
        self.log = plane.folder / "log/operator.log"

    async def __aenter__(self) -> OperatorProcess:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")}
        environment |= {
            "SANDBOX_IMAGES": '{"data": "registry.example/data:1"}',
            "SANDBOX_LIVENESS_PORT": str(self._plane.port + 7),
            "SANDBOX_METRICS_PORT": str(self._plane.port + 8),
            **self._settings,
        }
        account = service_account(self._plane)
        self.began = time.monotonic()
        with self.log.open("wb") as log:
            command = [sys.executable, Path(__file__).with_name("as_in_a_pod.py"), account, str(self._plane.port)]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            await self._ready()
        except BaseException:
            self._process.kill()
            raise
        return self

    async def _ready(self) -> None:
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < self.began + LONGEST_START:
                self.alive()
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(self._health) as answer:
                        if answer.status == 200:
                            self.ready_after = time.monotonic() - self.began
                            return
                await asyncio.sleep(0.05)
        raise RuntimeError(f"the operator is not ready after {LONGEST_START:.0f} s: {self.log}")

    async def __aexit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, 30)
        finally:
            self._process.kill()
            self._process.wait()
        for word in ("made a mistake", "Traceback"):
            if word in self.log.read_text():
                raise RuntimeError(f"the operator's log tells of a mistake: {self.log}")

    def alive(self) -> None:
        """Raises RuntimeError when it has ended."""
        if (code := self._process.poll()) is not None:
            raise RuntimeError(f"the operator ended with {code}: {self.log}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu(self) -> float:
        return cpu_seconds(self.pid)

    def memory(self) -> dict[str, float]:
        return memory(self.pid)
