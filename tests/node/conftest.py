# SPDX-License-Identifier: Apache-2.0
"""The embedded node with the operator that Helm installed, for tests of the whole. What was down before is down after.

Two depths: `controller` needs the operator's image alone, `operator` also the data image. Tests with toy hooks take the former.
"""

import json
import os
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.node.kubernetes import CLUSTER, REPOSITORY, SYSTEM, Kubernetes, install
from tests.node.registry import Registry
from tests.node.toys import Toys, toy_image

NODE = pytest.StashKey[Kubernetes]()


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> Iterator[Kubernetes]:
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
    found = pytestconfig.stash[NODE] = Kubernetes(environment)
    yield found
    if not was_up:
        subprocess.run([CLUSTER, "down"], check=True, timeout=120)


@pytest.fixture(scope="session")
def operator_image(node: Kubernetes) -> dict[str, str]:
    """The reference of this checkout's operator image, in the node's registry."""
    return _built(node, "operator")


@pytest.fixture(scope="session")
def images(node: Kubernetes, operator_image: dict[str, str]) -> dict[str, str]:
    """References of all images of this checkout, in the node's registry."""
    return {**operator_image, **_built(node, "data")}


@pytest.fixture(scope="session")
def tracking_image(node: Kubernetes) -> str:
    """The reference of this checkout's exporter image, in the node's registry."""
    return _built(node, "tracking")["TRACKING_IMAGE"]


@pytest.fixture(scope="session")
def controller(node: Kubernetes, operator_image: dict[str, str]) -> Iterator[Kubernetes]:
    """The operator of this checkout, installed by Helm; which images it has for hooks is left as it is."""
    was_there = node.run("helm", "status", "sandbox-operator", "-n", SYSTEM).returncode == 0
    install(node, operator_image, "--reuse-values")
    yield node
    if not was_there:
        node.ok("helm", "uninstall", "sandbox-operator", "-n", SYSTEM, "--wait")


@pytest.fixture(scope="session")
def operator(controller: Kubernetes, images: dict[str, str]) -> Kubernetes:
    """The operator of this checkout, installed by Helm as a user installs it."""
    install(controller, images)
    return controller


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows the cluster as it left it."""
    report = yield
    if report.failed and call.when == "call" and NODE in item.config.stash:
        report.sections.append(("the cluster", item.config.stash[NODE].told()))
    return report


@pytest.fixture(autouse=True)
def no_mistakes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to the operator and its cluster, the operator logs no exception of its own."""
    began = time.monotonic()
    yield
    if "controller" in request.fixturenames:
        node: Kubernetes = request.getfixturevalue("controller")
        since = f"--since={int(time.monotonic() - began) + 1}s"
        log = node.run(
            "kubectl", "logs", "-n", SYSTEM, "-l", "app.kubernetes.io/name=sandbox-operator", "--tail=-1", since
        )
        assert log.returncode == 0, log.stderr
        assert "Traceback" not in log.stdout, log.stdout[max(0, log.stdout.find("Traceback") - 500) :][:5000]


@pytest.fixture(scope="session")
def registry(node: Kubernetes) -> Registry:
    """The node's registry."""
    return Registry(node.environment["SANDBOX_REGISTRY"], node.environment["SANDBOX_REGISTRY_IN_CLUSTER"])


@pytest.fixture(scope="session")
def toy(registry: Registry, operator_image: dict[str, str]) -> str:
    """The image of the toy hooks: the operator's, which has the runtime in it, and a few files."""
    return toy_image(registry, operator_image["OPERATOR_IMAGE"]).push()


@pytest.fixture
def namespace(node: Kubernetes, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of one's own, gone afterwards."""
    yield from _namespace(node, request.node.name)


@pytest.fixture
def toys(controller: Kubernetes, namespace: str, toy: str) -> Toys:
    """Experiments of toy hooks in a namespace of their own."""
    return Toys.of(controller, namespace, toy)


@pytest.fixture(scope="module")
def module_toys(controller: Kubernetes, toy: str, request: pytest.FixtureRequest) -> Iterator[Toys]:
    """The same for a whole module, whose experiments run side by side."""
    for name in _namespace(controller, Path(request.node.name).stem):
        yield Toys.of(controller, name, toy)


def _built(node: Kubernetes, image: str) -> dict[str, str]:
    built = node.ok("images/build.sh", image, seconds=1800)
    return dict(line.split("=", 1) for line in built.splitlines() if "_IMAGE=" in line)


def _namespace(node: Kubernetes, test: str) -> Iterator[str]:
    name = f"t-{os.getpid()}-{abs(hash(test)) % 10**6}"
    node.ok("kubectl", "create", "namespace", name)
    yield name
    node.ok("kubectl", "delete", "namespace", name, "--wait=false")
