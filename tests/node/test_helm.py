# SPDX-License-Identifier: Apache-2.0
"""The charts on the real node: the installed operator tests itself, and removing it leaves what belongs to users."""

import json
from collections.abc import Iterator

import pytest
from tests.node.kubernetes import SYSTEM, Kubernetes, experiment, install, until


@pytest.fixture
def reinstalled(operator: Kubernetes, images: dict[str, str]) -> Iterator[Kubernetes]:
    """The operator, there again after a test that removed it."""
    yield operator
    install(operator, images)


def test_helm_test_passes(operator: Kubernetes) -> None:
    assert "Phase:          Succeeded" in operator.ok(
        "helm", "test", "sandbox-operator", "-n", SYSTEM, "--timeout", "2m"
    )


def test_the_operator_serves_metrics_with_bounded_labels(operator: Kubernetes) -> None:
    text = operator.ok(
        "kubectl",
        "get",
        "--raw",
        f"/api/v1/namespaces/{SYSTEM}/services/sandbox-operator:metrics/proxy/metrics",
    )
    assert 'sandbox_operator_api_requests_total{code="200",resource="jobs",verb="watch"}' in text
    assert 'sandbox_operator_reconciles_total{outcome="mistake"} 0.0' in text


def test_uninstall_leaves_experiments_claims_and_definitions(reinstalled: Kubernetes, namespace: str) -> None:
    node = reinstalled
    row = {"text": "One ordinary line of English text."}
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data", "namespace": namespace}, "data": {"x.jsonl": json.dumps(row)}}  # fmt: skip
    job = {"hook": "ProbeViaAnalyzerHook", "djConfigs": {"dataset_path": "inputs/raw/x.jsonl", "process": [{"text_length_filter": {}}]}}  # fmt: skip
    node.apply(
        data,
        experiment(namespace, "kept", inputs=[{"name": "raw", "configMapName": "data"}], probeJobConfigs=[job]),
    )
    until("it ends", lambda: node.get("sbx", "kept", "-n", namespace).get("status", {}).get("completionTime"), 300)
    before = node.get("sbx", "kept", "-n", namespace)

    node.ok("helm", "uninstall", "sandbox-operator", "-n", SYSTEM, "--wait")
    node.ok("helm", "uninstall", "sandbox-operator-crds", "-n", SYSTEM, "--wait")

    after = node.get("sbx", "kept", "-n", namespace)
    assert (after["spec"], after["status"]) == (before["spec"], before["status"])
    assert node.get("pvc", "kept-workspace", "-n", namespace)["status"]["phase"] == "Bound"
    assert not node.get("clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/name=sandbox-operator")["items"]
    node.ok("kubectl", "delete", "sbx", "kept", "-n", namespace, "--timeout=30s")  # no finalizer of ours holds it
