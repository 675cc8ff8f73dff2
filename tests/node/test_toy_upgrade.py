# SPDX-License-Identifier: Apache-2.0
"""The operator is upgraded by Helm while experiments are under way, from one version of the contracts to the next; or dies.

The other build is this checkout's with both contract versions changed by one, in the operator as in the hooks' image.
Running experiments keep the image that they began with, so the newer operator has to get along with older runtimes.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from tests.node.kubernetes import REPOSITORY, SYSTEM, Kubernetes, install, until
from tests.node.registry import Registry
from tests.node.toys import SITE_PACKAGES, Toys, hold, reads, toy, toy_image
from tests.progress import DEEP, deep_only

VERSIONS = {"crds/sandbox_api/contract.py": "CONTRACT_VERSION", "crds/sandbox_api/result.py": "RESULT_VERSION"}
Files = dict[str, bytes]


def this() -> Files:
    """Nothing is different."""
    return {}


def older() -> Files:
    """A build whose contracts are one version older."""
    return {path: _replaced(path, rf"^({name} = )(\d+)$", -1) for path, name in VERSIONS.items()}


def newer() -> Files:
    """A build whose contracts are one version newer, and that says more in the job contract."""
    files = {path: _replaced(path, rf"^({name} = )(\d+)$", +1) for path, name in VERSIONS.items()}
    contract, asks = "crds/sandbox_api/contract.py", "operator/sandbox_operator/plan/contracts.py"
    field = files[contract].replace(
        b"    keep_attempts: bool = False\n", b"    keep_attempts: bool = False\n    novelty: str = ''\n"
    )
    assert field != files[contract]
    said = (REPOSITORY / asks).read_bytes()
    says_more = said.replace(b"return wire.JobContract(", b"return wire.JobContract(novelty='unheard of',")
    assert says_more != said
    return {**files, contract: field, asks: says_more}


def _replaced(path: str, pattern: str, step: int) -> bytes:
    source = (REPOSITORY / path).read_text()
    changed, count = re.subn(pattern, lambda found: f"{found[1]}{int(found[2]) + step}", source, flags=re.MULTILINE)
    assert count == 1, f"{path} does not say its version as it did"
    return changed.encode()


def _in_image(files: Files) -> Files:
    """Files of the checkout by their place in an image."""
    return {f"{SITE_PACKAGES}/{path.partition('/')[2]}": content for path, content in files.items()}


@pytest.fixture
def upgrade(
    controller: Kubernetes, registry: Registry, operator_image: dict[str, str], namespace: str
) -> Iterator[Callable[[Files], Toys]]:
    """Puts another build's operator in charge and gives its toys. Afterwards this checkout's is, as it was."""
    base = operator_image["OPERATOR_IMAGE"]

    def to(files: Files) -> Toys:
        files = _in_image(files)
        image = registry.put_on(base, "sandbox-operator/operator", files).push()
        old = _operators(controller)
        install(controller, {"OPERATOR_IMAGE": image}, "--reuse-values")
        until(
            "the old operator is gone",
            lambda: len(_operators(controller)) == 1 and (not files or not old & _operators(controller)),
        )
        return Toys.of(controller, namespace, toy_image(registry, base, files).push())

    yield to
    install(controller, operator_image, "--reuse-values")


@pytest.mark.parametrize(("before", "after"), [(older, this), *([(this, newer)] if DEEP else [])])
def test_an_upgrade_in_the_middle_runs_nothing_twice(
    upgrade: Callable[[Files], Toys], before: Callable[[], Files], after: Callable[[], Files]
) -> None:
    toys = upgrade(before())
    four = [toy("write", "first"), hold("second"), toy("look", "third", job=reads("first")), toy("write", "fourth")]
    toys.start("running", four)
    toys.start("ending", [toy("write"), hold("second")])
    toys.start("failing", [hold(), toy("fail", say="no")], retry={"user": 1, "backoff": "20s"})
    toys.start("going-on", [hold(), toy("write")])
    toys.start("suspended", [toy("write"), toy("look")], suspend=True)
    toys.start("ended", [toy("write")])
    toys.succeeded("ended")
    toys.began("running", "second")
    toys.began("ending", "second")
    toys.began("going-on")
    toys.began("failing")
    toys.let_go("failing", "go")
    toys.becomes("failing", "it waits for its next attempt", lambda job: job.get("reason") == "Backoff", "fail")
    status_before = {name: toys.status(name) for name in ("running", "ended")}
    jobs_before = _uids(toys)

    upgrade(after())
    toys.let_go("running", "go")
    toys.let_go("ending", "go")
    toys.change("suspended", suspend=False)
    toys.node.ok("kubectl", "delete", "pod", toys.pod("going-on"), "-n", toys.namespace)
    toys.began("going-on", attempt=2)
    toys.let_go("going-on", "go")

    jobs = toys.succeeded("running")
    assert [job["attempts"] for job in jobs] == [1, 1, 1, 1]
    assert jobs[0] == status_before["running"]["jobs"][0]
    assert jobs[1]["outputs"]["first"] == ["attempt-1"]
    assert jobs[2]["outputs"]["first"]["read"].endswith(jobs[0]["outputs"]["first"])
    assert [job["attempts"] for job in toys.succeeded("ending")] == [1, 1]
    assert [job["attempts"] for job in toys.succeeded("suspended")] == [1, 1]
    resumed, _ = toys.succeeded("going-on")
    # What a newer build says beyond the default is another job's state; else the state is found again.
    assert resumed["outputs"]["first"] == ["attempt-1", "attempt-2"] or after is newer
    failed = toys.ended("failing")
    assert [(job["state"], job["attempts"]) for job in failed["jobs"]] == [("Succeeded", 1), ("Failed", 2)]
    assert failed["jobs"][1]["reason"] == "UserError"
    assert toys.status("ended") == status_before["ended"]
    jobs_after = _uids(toys)
    assert jobs_before.items() <= jobs_after.items(), "a Job was replaced"
    assert len(jobs_after) == 4 + 2 + 3 + 3 + 2 + 1


@pytest.fixture
def two_replicas(controller: Kubernetes, operator_image: dict[str, str]) -> Iterator[Kubernetes]:
    """The operator twice; afterwards once, as it was."""
    install(controller, operator_image, "--reuse-values", "--set", "replicas=2")
    until("both are there", lambda: len(_operators(controller)) == 2)
    yield controller
    install(controller, operator_image, "--reuse-values", "--set", "replicas=1")


@deep_only
def test_the_other_replica_goes_on_when_the_leader_is_killed(two_replicas: Kubernetes, toys: Toys) -> None:
    node = two_replicas

    def leader() -> str:
        (lease,) = node.get("lease", "-n", SYSTEM)["items"]
        return str(lease["spec"]["holderIdentity"])

    names = {pod["metadata"]["name"] for pod in node.get("pods", "-n", SYSTEM)["items"]}
    toys.start("led", [hold(), toy("look"), toy("write")])
    toys.began("led")
    first = leader()
    (killed,) = (name for name in names if name in first)
    node.ok("kubectl", "delete", "pod", killed, "-n", SYSTEM, "--force", "--grace-period=0")
    toys.let_go("led", "go")
    jobs = toys.succeeded("led")
    assert [job["attempts"] for job in jobs] == [1, 1, 1]
    assert len(toys.jobs("led")) == 3
    assert leader() != first


def _uids(toys: Toys) -> dict[str, str]:
    """The uid of each Job by its name."""
    found = toys.node.get("jobs", "-n", toys.namespace)["items"]
    return {job["metadata"]["name"]: job["metadata"]["uid"] for job in found}


def _operators(node: Kubernetes) -> set[str]:
    found = node.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=sandbox-operator")["items"]
    return {pod["metadata"]["uid"] for pod in found}
