# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it, whole; and the same experiment while the operator is killed in each of its stages."""

import json
import re
from typing import Any

import pytest
import yaml
from tests.node.kubernetes import REPOSITORY, SYSTEM, Kubernetes, experiment, until

NAMESPACE = "sandbox-demo"


@pytest.fixture(scope="module")
def demo(operator: Kubernetes) -> tuple[Kubernetes, str]:
    """The node after `make demo`, and what it printed."""
    return operator, operator.ok("configs/demo/run.sh", seconds=900)


def results(node: Kubernetes, namespace: str, name: str) -> dict[str, Any]:
    """What an experiment found, without times, uids and paths."""
    status = node.get("sbx", name, "-n", namespace)["status"]
    jobs = {
        job["id"]: {key: job.get(key) for key in ("hook", "state", "attempts", "metrics", "message")}
        for job in status["jobs"]
    }
    return {"outcome": status["outcome"], "jobs": jobs, "comparison": status["comparison"]}


def test_the_demo_ends_with_its_tables(demo: tuple[Kubernetes, str]) -> None:
    node, printed = demo
    found = results(node, NAMESPACE, "demo")
    assert found["outcome"] == "Succeeded"
    assert [job["state"] for job in found["jobs"].values()] == ["Succeeded"] * 4
    rows = {row["metric"]: row for row in found["comparison"]}
    assert rows["rows"]["before"] >= 5000
    assert rows["rows"]["after"] < rows["rows"]["before"]
    for figure in ("text_len.mean", "alnum_ratio.mean", "special_char_ratio.mean", "num_words.mean", "lang_score.mean"):
        assert figure in rows, f"{figure} is not compared"
        assert re.search(rf"{re.escape(figure)}\W", printed), f"{figure} was not printed"
    assert "Refined bounds" in printed
    assert "text_length_filter.max_len" in printed
    assert "demo-workspace" in printed


def test_the_demo_catches_noise_and_spares_clean_rows(demo: tuple[Kubernetes, str]) -> None:
    node, _ = demo
    pod = node.get("pods", "-n", NAMESPACE, "-l", "batch.kubernetes.io/job-name=demo-report")["items"][0]
    log = node.ok("kubectl", "logs", "-n", NAMESPACE, pod["metadata"]["name"])
    figures = json.loads(log[log.index("{") :])
    assert figures["noise_recall"] >= 0.6
    assert figures["clean_loss"] <= 0.05


def test_what_kubectl_shows_reads_well(demo: tuple[Kubernetes, str]) -> None:
    node, _ = demo
    header, line = node.ok("kubectl", "get", "sbx", "-n", NAMESPACE).splitlines()
    assert header.split() == ["NAME", "OUTCOME", "REASON", "STAGE", "PROGRESS", "AGE"]
    assert line.split()[:5] == ["demo", "Succeeded", "Succeeded", "evaluation", "4/4"]
    described = node.ok("kubectl", "describe", "sbx", "demo", "-n", NAMESPACE)
    assert "4 jobs done in" in described
    node.ok("kubectl", "wait", "--for=condition=Ready", "sbx/demo", "-n", NAMESPACE, "--timeout=5s")


def test_killing_the_operator_in_each_stage_changes_nothing(demo: tuple[Kubernetes, str], namespace: str) -> None:
    node, _ = demo
    data = node.get("configmap", "demo-data", "-n", NAMESPACE)
    node.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "demo-data", "namespace": namespace}, "binaryData": data["binaryData"]})  # fmt: skip
    spec = yaml.safe_load((REPOSITORY / "configs/demo/experiment.yaml").read_text())["spec"]
    node.apply(experiment(namespace, "demo", **spec))
    killed = set()

    def status() -> dict[str, Any]:
        return node.get("sbx", "demo", "-n", namespace).get("status") or {}

    for stage in ("probe", "refine", "execution", "evaluation"):
        until(f"a job of {stage} runs", lambda stage=stage: _runs(status(), stage))
        pods = node.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=sandbox-operator")["items"]
        killed |= {pod["metadata"]["uid"] for pod in pods}
        node.ok(
            "kubectl",
            "delete",
            "pods",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/name=sandbox-operator",
            "--force",
            "--grace-period=0",
        )
    until("the experiment ends", lambda: status().get("completionTime"), 300)
    assert len(killed) == 4, "each stage was to lose an operator of its own"
    assert results(node, namespace, "demo") == results(node, NAMESPACE, "demo")
    jobs = node.get("jobs", "-n", namespace)["items"]
    assert len(jobs) == 4, "one Job a hook, made once"


def _runs(status: dict[str, Any], stage: str) -> bool:
    job = next((job for job in status.get("jobs", ()) if job["id"].split("/")[2] == stage), None)
    assert job is None or job["state"] not in ("Succeeded", "Failed"), (
        f"{stage} was over before the operator was killed"
    )
    return job is not None and job.get("attempts", 0) > 0  # the k-sigma hook runs for a second: its start counts too
