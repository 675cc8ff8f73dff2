# SPDX-License-Identifier: Apache-2.0
"""The operator is upgraded by Helm while experiments are under way: from a build that speaks an older contract to this one.

The older build is this checkout's with both contract versions one lower, in the operator as in the hooks' image. Running
experiments keep the image that they began with, so the new operator has to get along with old runtimes.
"""

import re
from collections.abc import Iterator

import pytest
from tests.node.kubernetes import REPOSITORY, SYSTEM, Kubernetes, install, until
from tests.node.registry import Registry
from tests.node.toys import SITE_PACKAGES, Toys, hold, reads, toy, toy_image

VERSIONS = {"contract.py": "CONTRACT_VERSION", "result.py": "RESULT_VERSION"}


def older() -> dict[str, bytes]:
    """The files of a build whose contracts are one version older, by their place in an image."""
    files = {}
    for name, constant in VERSIONS.items():
        source = (REPOSITORY / "crds" / "sandbox_api" / name).read_text()
        ours = re.search(rf"^{constant} = (\d+)$", source, re.MULTILINE)
        assert ours, f"{constant} is not where it was"
        lowered = source.replace(ours[0], f"{constant} = {int(ours[1]) - 1}")
        files[f"{SITE_PACKAGES}/sandbox_api/{name}"] = lowered.encode()
    return files


@pytest.fixture
def upgradable(
    controller: Kubernetes, registry: Registry, operator_image: dict[str, str], namespace: str
) -> Iterator[Toys]:
    """Toys of the older build, and its operator in charge. Afterwards this checkout's is, as it was."""
    base = operator_image["OPERATOR_IMAGE"]
    operator = registry.put_on(base, "sandbox-operator/operator", older()).push()
    image = toy_image(registry, base, older()).push()
    install(controller, {"OPERATOR_IMAGE": operator}, "--reuse-values")
    yield Toys.of(controller, namespace, image)
    install(controller, operator_image, "--reuse-values")


def test_an_upgrade_in_the_middle_runs_nothing_twice(upgradable: Toys, operator_image: dict[str, str]) -> None:
    toys = upgradable
    four = [toy("write", "first"), hold("second"), toy("look", "third", job=reads("first")), toy("write", "fourth")]  # fmt: skip
    toys.start("running", four)
    toys.start("between", [toy("write"), hold("second")], suspend=False)
    toys.start("failing", [hold(), toy("fail", say="no")], retry={"user": 1, "backoff": "20s"})
    toys.start("suspended", [toy("write"), toy("look")], suspend=True)
    toys.start("ended", [toy("write")])
    toys.succeeded("ended")
    toys.began("running", "second")
    toys.began("between", "second")
    toys.let_go("failing", "go") if toys.began("failing") else None
    toys.becomes("failing", "it waits for its next attempt", lambda job: job.get("reason") == "Backoff", "fail")
    before = {name: toys.status(name) for name in ("running", "ended")}
    jobs_before = _uids(toys)
    old = _operators(toys.node)

    install(toys.node, operator_image, "--reuse-values")
    until("the old operator is gone", lambda: not old & _operators(toys.node))
    toys.let_go("running", "go")
    toys.let_go("between", "go")
    toys.change("suspended", suspend=False)

    jobs = toys.succeeded("running")
    assert [job["attempts"] for job in jobs] == [1, 1, 1, 1]
    assert jobs[0] == before["running"]["jobs"][0]
    assert jobs[1]["outputs"]["first"] == ["attempt-1"]
    assert jobs[2]["outputs"]["first"]["read"].endswith(jobs[0]["outputs"]["first"])
    assert [job["attempts"] for job in toys.succeeded("between")] == [1, 1]
    assert [job["attempts"] for job in toys.succeeded("suspended")] == [1, 1]
    failed = toys.ended("failing")
    assert [(job["state"], job["attempts"]) for job in failed["jobs"]] == [("Succeeded", 1), ("Failed", 2)]
    assert failed["jobs"][1]["reason"] == "UserError"
    assert toys.status("ended") == before["ended"]
    after = _uids(toys)
    assert jobs_before.items() <= after.items(), "a Job was replaced"
    assert len(after) == 4 + 2 + 3 + 2 + 1


def _uids(toys: Toys) -> dict[str, str]:
    """The uid of each Job by its name."""
    found = toys.node.get("jobs", "-n", toys.namespace)["items"]
    return {job["metadata"]["name"]: job["metadata"]["uid"] for job in found}


def _operators(node: Kubernetes) -> set[str]:
    found = node.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=sandbox-operator")["items"]
    return {pod["metadata"]["uid"] for pod in found}
