# SPDX-License-Identifier: Apache-2.0
"""Hooks of one's own on the real node: a Go program on nothing, a Python package in an image, a wheel in a ConfigMap."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.custom import ROUTES, documents, wheel
from tests.node.kubernetes import Kubernetes, condition, experiment, until

IMAGES = {"own-image": "MIX_BY_SOURCE_IMAGE", "raw-go": "EXACT_DEDUP_IMAGE"}
ROWS = [
    *({"text": f"English row number {n % 40} of the data.", "meta": {"lang": "en"}} for n in range(60)),
    *({"text": f"Une ligne de texte, numéro {n}.", "meta": {"lang": "fr"}} for n in range(25)),
]
"""20 of them are copies: 40 rows in English and 25 in French stay."""
SMALL: dict[str, Any] = {"default": {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}}


@pytest.fixture(scope="module")
def custom_images(node: Kubernetes) -> dict[str, str]:
    """The examples' images in the node's registry, built by their own script."""
    built = node.ok("configs/custom/build.sh", "all", seconds=1800)
    return dict(line.split("=", 1) for line in built.splitlines())


@pytest.fixture
def lab(
    controller: Kubernetes, namespace: str, custom_images: dict[str, str], tmp_path: Path
) -> tuple[Kubernetes, str]:
    """A namespace with the three hooks, the wheel of one of them, and data."""
    made = wheel("entry-point", tmp_path)
    data = gzip.compress("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode())
    controller.apply(
        config_map(namespace, "demo-data", "demo.jsonl.gz", data),
        config_map(namespace, "vocabulary-1.0.0", made.name, made.read_bytes()),
        *(hook(route, namespace, custom_images) for route in ROUTES),
    )
    for name in ("exact-dedup", "mix-by-source", "vocabulary"):
        controller.ok("kubectl", "wait", "--for=condition=Ready", f"sbh/{name}", "-n", namespace, "--timeout=30s")
    return controller, namespace


def config_map(namespace: str, name: str, key: str, content: bytes) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "binaryData": {key: base64.b64encode(content).decode()},
    }


def hook(route: str, namespace: str, images: dict[str, str]) -> dict[str, Any]:
    """A route's SandboxHook as a user applies it: with the reference of their image."""
    (found,) = (document for document in documents(route) if document["kind"] == "SandboxHook")
    spec = {**found["spec"], **({"image": images[IMAGES[route]]} if route in IMAGES else {})}
    return {**found, "metadata": {**found["metadata"], "namespace": namespace}, "spec": spec}


def finished(node: Kubernetes, namespace: str, name: str, seconds: float = 300) -> dict[str, Any]:
    def status() -> dict[str, Any] | None:
        found: dict[str, Any] = node.get("sbx", name, "-n", namespace).get("status") or {}
        return found if found.get("completionTime") else None

    return until(f"{name} ends", status, seconds) or {}


def chain(namespace: str, name: str, runtime: str, **workspace: Any) -> dict[str, Any]:
    """Program, package and wheel, one on the results of the other. The wheel runs on any image with the runtime."""
    (counting,) = (document["spec"] for document in documents("entry-point") if document["kind"] == "SandboxExperiment")
    inputs = counting["inputs"]
    return experiment(
        namespace,
        name,
        **workspace,
        inputs=inputs,
        images={"data": runtime},
        pods={**SMALL, "vocabulary": counting["pods"]["vocabulary"]},
        executionJobConfigs=[
            {"hook": "exact-dedup", "extraConfigs": {"dataset_path": "inputs/raw/demo.jsonl.gz"}},
            {
                "hook": "mix-by-source",
                "extraConfigs": {"source_key": "meta.lang", "shares": {"en": 1, "fr": 1}},
                "input": {"extraConfigs.dataset_path": "anonymous.dedup.dataset"},
            },
        ],
        evaluationJobConfigs=[
            {
                "hook": "vocabulary",
                "pod": "vocabulary",
                "extraConfigs": {"top": 3},
                "input": {"extraConfigs.dataset_path": "anonymous.mix.dataset"},
            }
        ],
    )


def test_program_package_and_wheel_take_each_others_results(
    lab: tuple[Kubernetes, str], operator_image: dict[str, str]
) -> None:
    """And the second time the pinned ones are not run again."""
    node, namespace = lab
    runtime = operator_image["OPERATOR_IMAGE"]
    node.apply(chain(namespace, "first", runtime))
    status = finished(node, namespace, "first")
    assert status["outcome"] == "Succeeded", status["jobs"]
    jobs = {job["metaName"]: job for job in status["jobs"]}
    assert jobs["dedup"]["metrics"] == {"dedup.rows_in": 85, "dedup.rows_out": 65, "dedup.removed": 20}
    assert jobs["dedup"]["message"] == "20 of 85 rows are copies of an earlier one"
    assert jobs["mix"]["metrics"]["mix.rows_out"] == 50
    assert jobs["mix"]["metrics"]["mix.share.fr.after"] == 0.5
    assert jobs["vocabulary"]["metrics"]["vocabulary.rows"] == 50
    assert len(jobs["vocabulary"]["outputs"]["top"]) == 3
    table = node.ok("kubectl", "get", "sbh", "-n", namespace).splitlines()
    assert [line.split()[1:3] for line in table[1:]] == [["True", "raw"], ["True", "runtime"], ["True", "runtime"]]

    claim = {"workspace": {"claimName": status["workspace"]["claimName"]}}
    node.apply(chain(namespace, "second", runtime, **claim))
    again = finished(node, namespace, "second")
    assert {job["metaName"]: job["state"] for job in again["jobs"]} == {
        "dedup": "Cached",
        "mix": "Cached",
        "vocabulary": "Succeeded",
    }, again["jobs"]


def test_mistakes_are_told_before_anything_starts_and_failures_in_the_programs_words(
    lab: tuple[Kubernetes, str], operator_image: dict[str, str]
) -> None:
    node, namespace = lab
    reader = {"data": operator_image["OPERATOR_IMAGE"]}
    raw = [{"name": "raw", "configMapName": "demo-data"}]

    def dedup(name: str, **settings: Any) -> dict[str, Any]:
        job = {"hook": "exact-dedup", "extraConfigs": {"dataset_path": "inputs/raw/demo.jsonl.gz", **settings}}
        return experiment(namespace, name, inputs=raw, pods=SMALL, images=reader, executionJobConfigs=[job])

    node.apply(dedup("wrong", ignore_case="yes"), dedup("absent", text_key="content"), dedup("gone", dataset_path="x"))
    ready = until("the mistake is told", lambda: condition(node.get("sbx", "wrong", "-n", namespace), "Ready"))
    assert ready["message"] == "spec.executionJobConfigs[0].extraConfigs.ignore_case: write true or false, not 'yes'"
    (job,) = finished(node, namespace, "absent")["jobs"]
    assert (job["reason"], job["attempts"]) == ("UserError", 1)
    assert 'demo.jsonl.gz, line 1: has no text under "content"' in job["message"]
    (job,) = finished(node, namespace, "gone")["jobs"]
    assert (job["reason"], job["attempts"]) == ("ConfigError", 1)
    assert "extraConfigs.dataset_path: there is no file" in job["message"]
    assert not [j for j in node.get("jobs", "-n", namespace)["items"] if j["metadata"]["name"].startswith("wrong")]


def test_the_examples_run_as_they_stand(operator: Kubernetes, lab: tuple[Kubernetes, str]) -> None:
    """`kubectl apply` of each folder; the Go program's result is analysed by Data-Juicer."""
    _, namespace = lab
    names = []
    for route in ROUTES:
        (found,) = (document for document in documents(route) if document["kind"] == "SandboxExperiment")
        if route == "own-image":  # the demo's data has Chinese, this has French
            found["spec"]["executionJobConfigs"][0]["extraConfigs"]["shares"] = {"en": 1, "fr": 1}
        names.append(found["metadata"]["name"])
        operator.apply({**found, "metadata": {**found["metadata"], "namespace": namespace}})
    for name in names:
        status = finished(operator, namespace, name, 900)
        assert status["outcome"] == "Succeeded", (name, status["jobs"])
    after = operator.get("sbx", "dedup", "-n", namespace)["status"]["jobs"][1]
    assert after["metrics"]["after.rows"] == 65
