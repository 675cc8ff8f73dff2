# SPDX-License-Identifier: Apache-2.0
"""The embedded node with the operator that Helm installed, for tests of the whole. What was down before is down after."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from tests.node.kubernetes import CLUSTER, REPOSITORY, SYSTEM, Kubernetes, install


@pytest.fixture(scope="session")
def node() -> Iterator[Kubernetes]:
    """The node, up. It is taken down again only when it was not up before."""
    was_up = subprocess.run([CLUSTER, "status"], capture_output=True).returncode == 0
    up = subprocess.run([CLUSTER, "up"], capture_output=True, text=True, timeout=1800)
    assert up.returncode == 0, up.stdout + up.stderr
    exports = subprocess.run([CLUSTER, "env"], capture_output=True, text=True, check=True).stdout
    dump = "import json, os; print(json.dumps(dict(os.environ)))"
    shell = subprocess.run(
        ["bash", "-c", f"{exports}\nexec python3 -c '{dump}'"], capture_output=True, text=True, check=True
    )
    environment = json.loads(shell.stdout)
    environment["PATH"] = f"{REPOSITORY}/.venv/bin:{environment['PATH']}"
    yield Kubernetes(environment)
    if not was_up:
        subprocess.run([CLUSTER, "down"], check=True, timeout=120)


@pytest.fixture(scope="session")
def images(node: Kubernetes) -> dict[str, str]:
    """References of the images of this checkout, in the node's registry."""
    built = node.ok("images/build.sh", "all", seconds=1800)
    return dict(line.split("=", 1) for line in built.splitlines() if "_IMAGE=" in line)


@pytest.fixture(scope="session")
def operator(node: Kubernetes, images: dict[str, str]) -> Iterator[Kubernetes]:
    """The operator of this checkout, installed by Helm as a user installs it."""
    was_there = node.run("helm", "status", "sandbox-operator", "-n", SYSTEM).returncode == 0
    install(node, images)
    yield node
    if not was_there:
        node.ok("helm", "uninstall", "sandbox-operator", "-n", SYSTEM, "--wait")


@pytest.fixture
def namespace(node: Kubernetes, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of one's own, gone afterwards."""
    name = f"t-{os.getpid()}-{abs(hash(request.node.name)) % 10**6}"
    node.ok("kubectl", "create", "namespace", name)
    yield name
    node.ok("kubectl", "delete", "namespace", name, "--wait=false")
