# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one control plane without a node for all tests that want a real API server, a namespace for each test, and
operators as real processes, whose logs are read for mistakes when a test ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.api.controllers import make_node
from tests.api.fakeapi import FakeAPI
from tests.api.lab import MISTAKES, REPOSITORY, Lab, OperatorProcess
from tests.api.played import PLAYER
from tests.api.rights import Installed
from tests.api.warm import Nursery, WarmOperator
from tests.ports import free_ports

from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import Connection, connect
from sandbox_operator.kube.resources import Resource

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
CRDS = sorted((REPOSITORY / "crds").glob("*.yaml"))


@dataclass(frozen=True)
class Plane:
    """A real etcd, kube-apiserver, controller-manager and scheduler, with our CRDs and one played node."""

    folder: Path
    binaries: Path

    @property
    def admin(self) -> Path:
        return self.folder / "etc/admin.kubeconfig"

    @property
    def operator(self) -> Path:
        """For the operator: every request of this user stands in the audit log."""
        return self.folder / "etc/operator.kubeconfig"

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = [self.binaries / "kubectl", f"--kubeconfig={self.admin}", *arguments]
        answer = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert not check or answer.returncode == 0, f"kubectl {' '.join(arguments)}: {answer.stderr}"
        return answer

    def requests(self, namespace: str) -> list[tuple[str, str]]:
        """(verb, resource[/subresource]) of every request that the operator made in a namespace, as audited."""
        found = []
        for line in (self.folder / "log/audit.log").read_text().splitlines():
            entry = json.loads(line)
            about = entry.get("objectRef") or {}
            if about.get("namespace") == namespace:
                plural = about["resource"] + (f"/{about['subresource']}" if "subresource" in about else "")
                found.append((entry["verb"], plural))
        return found


def tool_folder(name: str) -> Path:
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sandbox-operator"
    (found,) = sorted((Path(os.environ.get("SANDBOX_CACHE") or own) / "bin").glob(f"{name}-[0-9]*/"))[-1:]
    return found


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("plane")
    for _ in range(3):  # five ports in a row: another one may take them between the look and the use
        port = free_ports(5)
        environment = {**os.environ, "W": str(folder), "PORT": str(port)}
        up = subprocess.run(
            [REPOSITORY / "cluster/plane", "up"], env=environment, capture_output=True, text=True, check=False
        )
        if up.returncode == 0:
            break
    assert up.returncode == 0, up.stderr
    before = signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a run that is told to end leaves no plane behind
    try:
        made = Plane(folder, tool_folder("kubernetes"))
        for crd in CRDS:
            made.kubectl("apply", "--server-side", "-f", str(crd))
        asyncio.run(_furnish(connect(kubeconfig=str(made.admin))))
        yield made
    finally:
        signal.signal(signal.SIGTERM, before)
        subprocess.run([REPOSITORY / "cluster/plane", "down"], env=environment, capture_output=True, check=True)


async def _furnish(connection: Connection) -> None:
    async with Client(connection, field_manager=PLAYER) as client:
        await make_node(client)
        for _ in range(200):
            crds = (await client.list(DEFINITIONS)).items
            told = [{c["type"]: c["status"] for c in crd["status"].get("conditions") or ()} for crd in crds]
            if len(told) == len(CRDS) and all(conditions.get("Established") == "True" for conditions in told):
                return
            await asyncio.sleep(0.05)
    raise AssertionError(f"the CRDs are not established: {told}")


@contextlib.asynccontextmanager
async def namespace(plane: Plane) -> AsyncIterator[tuple[Connection, str]]:
    """One of its own on the real API server, which goes with the block."""
    name = f"lab-{uuid4().hex[:8]}"
    connection = connect(kubeconfig=str(plane.admin))
    async with Client(connection, field_manager=PLAYER) as client:
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            yield connection, name
        finally:
            await client.delete(NAMESPACES, name)


@pytest.fixture
async def lab(plane: Plane) -> AsyncIterator[Lab]:
    async with namespace(plane) as (connection, name), Lab(connection, name) as made:
        yield made


@pytest.fixture
def installed(plane: Plane, lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Installed]:
    """The chart's rights; with the parameter `namespaced` for the test's namespace alone."""
    made = Installed(plane, lab.namespace, tmp_path, [lab.namespace] if request.param == "namespaced" else [])
    yield made
    made.remove()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where operators start in milliseconds."""
    with Nursery() as made:
        yield made


Operators = Callable[..., OperatorProcess]


@pytest.fixture
def operators(tmp_path: Path) -> Iterator[Operators]:
    """`operators(kubeconfig, **settings)` starts one; all have ended, and told of no mistake, after the test."""
    yield from _started(tmp_path, OperatorProcess)


@pytest.fixture
def warm_operators(tmp_path: Path, nursery: Nursery) -> Iterator[Operators]:
    """The same, of those that start in milliseconds."""
    yield from _started(tmp_path, functools.partial(WarmOperator, nursery))


def _started(folder: Path, make: Operators) -> Iterator[Operators]:
    started: list[OperatorProcess] = []

    def start(kubeconfig: Path, **settings: str) -> OperatorProcess:
        process = make(kubeconfig, folder / f"operator-{len(started)}.log", **settings)
        started.append(process)
        return process.start()

    yield start
    for process in started:
        print(process.log)  # pytest shows it where the test failed
    with contextlib.ExitStack() as stack:
        for process in started:
            stack.callback(process.end)


@pytest.fixture
def operator(plane: Plane, lab: Lab, operators: Operators) -> OperatorProcess:
    """An operator that watches the test's namespace."""
    return operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)


@pytest.fixture
async def api() -> AsyncIterator[FakeAPI]:
    async with FakeAPI() as server:
        server.spared.add(PLAYER)
        yield server


@pytest.fixture
async def fake_lab(api: FakeAPI) -> AsyncIterator[Lab]:
    """A namespace on the fake API server, whose faults meet everyone but the players."""
    async with Lab(Connection(api.url), "lab", fake=True) as made:
        yield made


def kubeconfig(api: FakeAPI, folder: Path) -> Path:
    """A kubeconfig for a fake API server."""
    path = folder / f"{api.url.rsplit(':', 1)[1]}.kubeconfig"
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": api.url}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    }
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def no_mistakes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What the operator's log must not say, whatever the API server does."""
    caplog.set_level("INFO")
    yield
    told = [
        record.getMessage()
        for record in caplog.get_records("call")
        if any(word in record.getMessage() for word in MISTAKES)
    ]
    assert not told, told
