# SPDX-License-Identifier: Apache-2.0
"""What a user changes by Helm on the real node: rights, namespaces, the definition, an operator that comes back."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.node.kubernetes import SYSTEM, Kubernetes, condition, experiment, install, until

CRD = "sandboxexperiments.sandbox.datajuicer.io"


@pytest.fixture
def changeable(operator: Kubernetes, images: dict[str, str]) -> Iterator[Kubernetes]:
    """The operator, which a test may change and remove: afterwards it is there as it was."""
    yield operator
    install(operator, images)


def quick(namespace: str, name: str) -> dict[str, Any]:
    """An experiment that makes its claim and a Job, and ends at once: its data set does not exist."""
    settings = {"dataset_path": "absent.jsonl", "process": [{"text_length_filter": {}}]}
    return experiment(namespace, name, probeJobConfigs=[{"hook": "ProbeViaAnalyzerHook", "djConfigs": settings}])


def ended(node: Kubernetes, namespace: str, name: str) -> dict[str, Any]:
    """The experiment, once it has ended."""

    def found() -> dict[str, Any]:
        item: dict[str, Any] = node.get("sbx", name, "-n", namespace)
        return item if item.get("status", {}).get("completionTime") else {}

    return until(f"{namespace}/{name} ends", found)


def test_helm_test_says_which_right_is_missing(changeable: Kubernetes, images: dict[str, str]) -> None:
    install(changeable, images, "--set", "rbac.create=false")
    assert changeable.run("helm", "test", "sandbox-operator", "-n", SYSTEM).returncode != 0
    log = changeable.ok("kubectl", "logs", "sandbox-operator-test", "-n", SYSTEM)
    assert "may not list sandboxexperiments in the whole cluster: check its Role" in log


def test_a_new_installation_goes_on_without_doing_anything_twice(
    changeable: Kubernetes, namespace: str, images: dict[str, str]
) -> None:
    changeable.apply(quick(namespace, "first"))
    before = ended(changeable, namespace, "first")
    changeable.ok("helm", "uninstall", "sandbox-operator", "-n", SYSTEM, "--wait")
    changeable.apply(quick(namespace, "second"))  # made while nobody was there
    install(changeable, images)
    ended(changeable, namespace, "second")
    assert changeable.get("sbx", "first", "-n", namespace)["status"] == before["status"]
    assert len(changeable.get("jobs", "-n", namespace)["items"]) == 2


def test_the_chart_upgrades_the_definition(changeable: Kubernetes) -> None:
    older = [{"op": "replace", "path": "/spec/versions/0/additionalPrinterColumns", "value": []}]
    changeable.ok("kubectl", "patch", "crd", CRD, "--type=json", "-p", json.dumps(older))
    changeable.ok("helm", "upgrade", "sandbox-operator-crds", "helm/sandbox-operator-crds", "-n", SYSTEM)
    (version,) = changeable.get("crd", CRD)["spec"]["versions"]
    assert "Outcome" in [column["name"] for column in version["additionalPrinterColumns"]]


def test_namespaced_mode_works_there_and_nowhere_else(
    changeable: Kubernetes, namespace: str, images: dict[str, str]
) -> None:
    elsewhere = f"{namespace}-else"
    changeable.ok("kubectl", "create", "namespace", elsewhere)
    try:
        install(changeable, images, "--set", f"watchNamespaces={{{namespace}}}")
        assert changeable.find("clusterrole", "sandbox-operator") is None
        changeable.ok("helm", "test", "sandbox-operator", "-n", SYSTEM)

        changeable.apply(quick(elsewhere, "quick"))
        changeable.apply(quick(namespace, "quick"))
        found = ended(changeable, namespace, "quick")
        assert condition(found, "Succeeded")["reason"] == "ConfigError"
        assert "status" not in changeable.get("sbx", "quick", "-n", elsewhere)

        install(changeable, images)
        ended(changeable, elsewhere, "quick")
    finally:
        changeable.ok("kubectl", "delete", "namespace", elsewhere, "--wait=false")
