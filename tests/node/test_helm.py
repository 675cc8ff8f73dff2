# SPDX-License-Identifier: Apache-2.0
"""Helm on a real node: install, `helm test`, namespaced mode, removal, and what outlives it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.node.kubernetes import SYSTEM, Kubernetes, condition, experiment, install, until

CRD = "sandboxexperiments.sandbox.datajuicer.io"


@pytest.fixture
def installed(operator: Kubernetes, images: dict[str, str]) -> Iterator[Kubernetes]:
    """The operator, which a test may change and remove: afterwards it is there as it was."""
    yield operator
    install(operator, images)


def quick(namespace: str, name: str) -> dict[str, Any]:
    """An experiment that makes its claim and a Job, and ends at once: its data set does not exist."""
    probe = {"hook": "ProbeViaAnalyzerHook", "djConfigs": {"dataset_path": "absent.jsonl", "process": [{"text_length_filter": {}}]}}  # fmt: skip
    return experiment(namespace, name, probeJobConfigs=[probe])


def ended(node: Kubernetes, namespace: str, name: str) -> dict[str, Any]:
    return until(
        f"{namespace}/{name} ends",
        lambda: (
            found if (found := node.get("sbx", name, "-n", namespace)).get("status", {}).get("completionTime") else {}
        ),
    )


def test_helm_test_passes_and_leaves_no_pod(installed: Kubernetes) -> None:
    installed.ok("helm", "test", "sandbox-operator", "-n", SYSTEM)
    assert installed.find("pod", "sandbox-operator-test", "-n", SYSTEM) is None


def test_helm_test_says_which_right_is_missing(installed: Kubernetes, images: dict[str, str]) -> None:
    install(installed, images, "--set", "rbac.create=false")
    assert installed.run("helm", "test", "sandbox-operator", "-n", SYSTEM).returncode != 0
    log = installed.ok("kubectl", "logs", "sandbox-operator-test", "-n", SYSTEM)
    assert "may not list sandboxexperiments in the whole cluster: check its Role" in log


def test_data_results_and_definitions_outlive_helm(
    installed: Kubernetes, namespace: str, images: dict[str, str]
) -> None:
    installed.apply(quick(namespace, "kept"))
    before = ended(installed, namespace, "kept")
    claim = before["status"]["workspace"]["claimName"]

    installed.ok("helm", "uninstall", "sandbox-operator", "-n", SYSTEM, "--wait")
    installed.ok("helm", "uninstall", "sandbox-operator-crds", "-n", SYSTEM, "--wait")
    assert installed.find("crd", CRD) is not None
    assert installed.find("clusterrole", "sandbox-operator") is None
    assert installed.get("sbx", "kept", "-n", namespace)["status"] == before["status"]
    assert installed.get("pvc", claim, "-n", namespace)["status"]["phase"] == "Bound"

    install(installed, images)
    installed.apply(quick(namespace, "later"))  # the new operator is at work when this one has ended
    ended(installed, namespace, "later")
    assert installed.get("sbx", "kept", "-n", namespace)["status"] == before["status"]


def test_the_chart_upgrades_the_definition(installed: Kubernetes, images: dict[str, str]) -> None:
    columns = "/spec/versions/0/additionalPrinterColumns"
    installed.ok(
        "kubectl", "patch", "crd", CRD, "--type=json", f"-p={json.dumps([{'op': 'replace', 'path': columns, 'value': []}])}"
    )  # fmt: skip
    installed.ok("helm", "upgrade", "sandbox-operator-crds", "helm/sandbox-operator-crds", "-n", SYSTEM)
    names = [column["name"] for column in installed.get("crd", CRD)["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert "Outcome" in names


def test_namespaced_mode_works_there_and_nowhere_else(
    installed: Kubernetes, namespace: str, images: dict[str, str]
) -> None:
    elsewhere = f"{namespace}-else"
    installed.ok("kubectl", "create", "namespace", elsewhere)
    try:
        install(installed, images, "--set", f"watchNamespaces={{{namespace}}}")
        assert installed.find("clusterrole", "sandbox-operator") is None
        installed.ok("helm", "test", "sandbox-operator", "-n", SYSTEM)

        installed.apply(quick(elsewhere, "quick"))
        installed.apply(quick(namespace, "quick"))
        found = ended(installed, namespace, "quick")
        assert condition(found, "Succeeded")["reason"] == "ConfigError"
        assert "status" not in installed.get("sbx", "quick", "-n", elsewhere)

        install(installed, images)
        ended(installed, elsewhere, "quick")
    finally:
        installed.ok("kubectl", "delete", "namespace", elsewhere, "--wait=false")
