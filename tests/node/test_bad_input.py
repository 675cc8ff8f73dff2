# SPDX-License-Identifier: Apache-2.0
"""Bad input on the real node: each ends with a sentence that names the field or the file; nothing crashes, nothing loops.

What the planner alone finds is proven in tests/unit; here are the mistakes that only a pod or the cluster can see.
"""

import gzip
import json
from typing import Any

import pytest
from tests.node.kubernetes import Kubernetes, condition, experiment, until

ROWS = [json.dumps({"text": f"A line of ordinary English text, number {n}."}) for n in range(50)]
FILTER: list[dict[str, Any]] = [{"text_length_filter": {"min_len": 5}}]


def files(namespace: str, **content: str) -> dict[str, Any]:
    """A ConfigMap of data files."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "data", "namespace": namespace},
        "data": {name.replace("__", "."): text for name, text in content.items()},
    }


def probe(path: Any, **job: Any) -> list[dict[str, Any]]:
    """A probe job over one data set."""
    configs = {"dataset_path": path, "process": FILTER}
    return [{"hook": "ProbeViaAnalyzerHook", "metaName": "probe", "djConfigs": configs, **job}]


def process(**configs: Any) -> list[dict[str, Any]]:
    return [{"hook": "ProcessDataHook", "metaName": "process", "djConfigs": configs}]


def test_each_mistake_ends_with_a_sentence_about_it(operator: Kubernetes, namespace: str) -> None:
    raw = [{"name": "raw", "configMapName": "data"}]
    small = {"default": {"resources": {"requests": {"cpu": "100m"}}}}
    broken = "\n".join([*ROWS[:3], '{"text": "cut off', *ROWS[4:]])
    recipe = json.dumps({"dataset_path": "../../../etc/passwd", "process": FILTER})
    operator.apply(
        files(namespace, good__jsonl="\n".join(ROWS), empty__jsonl="", broken__jsonl=broken, escape__json=recipe)
    )
    cases: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
        "missing-data": (
            {"probeJobConfigs": probe("inputs/raw/none.jsonl")}, "ConfigError", ("djConfigs.dataset_path", "none.jsonl")
        ),
        "empty-data": ({"probeJobConfigs": probe("inputs/raw/empty.jsonl")}, "", ("empty",)),
        "broken-data": ({"probeJobConfigs": probe("inputs/raw/broken.jsonl")}, "", ("broken.jsonl", "line 4")),
        "escape": (
            {"executionJobConfigs": [{"hook": "ProcessDataHook", "djConfigs": "inputs/raw/escape.json"}]},
            "ConfigError",
            ("dataset_path", "etc/passwd"),
        ),
        "unknown-key": (
            {"executionJobConfigs": [{"hook": "ProcessDataHook", "djConfigs": "inputs/raw/none.yaml"}]},
            "ConfigError",
            ("djConfigs", "none.yaml"),
        ),
        "failing-operator": (
            {
                "executionJobConfigs": process(
                    dataset_path="inputs/raw/good.jsonl", text_keys="nothing_of_that_name", process=FILTER
                )
            },
            "",
            ("nothing_of_that_name",),
        ),
    }  # fmt: skip
    operator.apply(
        *(experiment(namespace, name, inputs=raw, pods=small, **spec) for name, (spec, _, _) in cases.items())
    )
    for name, (_, reason, words) in cases.items():
        status = until(f"{name} ends", lambda name=name: _finished(operator, namespace, name), 300)
        (job,) = status["jobs"]
        assert status["outcome"] == "Failed", name
        assert job["state"] == "Failed", name
        for word in words:
            assert word in job["message"], f"{name}: {word!r} is not in {job['message']!r}"
        assert not reason or job["reason"] == reason, f"{name}: {job['reason']}: {job['message']}"
        assert job["attempts"] == 1, f"{name} was tried again"


def test_dollars_arrive_as_they_were_written(operator: Kubernetes, namespace: str) -> None:
    """The kubelet expands `$(HOME)` and `$$` in plain environment values; a configuration must not notice."""
    row = json.dumps({"text": "keep $(HOME) and $$ and $(X) as they are"})
    operator.apply(
        files(namespace, good__jsonl="\n".join([*ROWS, row])),
        experiment(
            namespace,
            "dollars",
            inputs=[{"name": "raw", "configMapName": "data"}],
            executionJobConfigs=process(
                dataset_path="inputs/raw/good.jsonl",
                process=[{"replace_content_mapper": {"pattern": "number", "repl": "$(HOME) $$ $(X)"}}],
                export_path="outputs/dollars.jsonl",
            ),
        ),
    )
    status = until("the experiment ends", lambda: _finished(operator, namespace, "dollars"), 300)
    assert status["outcome"] == "Succeeded", status["jobs"]
    log = _read(operator, namespace, status, f"/workspace/{status['workspace']['path']}/outputs/dollars.jsonl")
    assert "English text, $(HOME) $$ $(X) 7." in log
    assert "keep $(HOME) and $$ and $(X) as they are" in log


def test_a_deleted_experiment_takes_its_pods_and_leaves_its_claim(operator: Kubernetes, namespace: str) -> None:
    rows = gzip.compress("\n".join(ROWS * 2000).encode())
    assert rows
    operator.apply(
        files(namespace, good__jsonl="\n".join(ROWS)),
        experiment(
            namespace,
            "gone",
            inputs=[{"name": "raw", "configMapName": "data"}],
            probeJobConfigs=probe("inputs/raw/good.jsonl"),
        ),
    )
    until("its hook runs", lambda: _first_job(operator, namespace, "gone").get("state") == "Running")
    operator.ok("kubectl", "delete", "sbx", "gone", "-n", namespace)
    until("its Jobs and pods are gone", lambda: not operator.get("jobs,pods", "-n", namespace)["items"])
    claim = operator.get("pvc", "gone-workspace", "-n", namespace)
    assert "deletionTimestamp" not in claim["metadata"]
    assert claim["status"]["phase"] == "Bound"


@pytest.mark.parametrize(
    ("name", "spec", "reason", "words"),
    [
        (
            "no-image",
            {"images": {"data": "registry.local:5000/nobody/nothing:1"}, "probeJobConfigs": probe("inputs/raw/x.jsonl")},
            "ImageUnavailable",
            "nobody/nothing:1",
        ),
        (
            "no-gpu",
            {"probeJobConfigs": probe("inputs/raw/x.jsonl", resources={"limits": {"nvidia.com/gpu": 64}})},
            "InsufficientGPU",
            "nvidia.com/gpu",
        ),
        (
            "no-claim",
            {"workspace": {"claimName": "nobody-made-it"}, "probeJobConfigs": probe("inputs/raw/x.jsonl")},
            "ClaimNotFound",
            "nobody-made-it",
        ),
        (
            "no-volume",
            {"workspace": {"claim": {"storageClassName": "nowhere"}}, "probeJobConfigs": probe("inputs/raw/x.jsonl")},
            "VolumeUnbound",
            'storageclass.storage.k8s.io "nowhere" not found',
        ),
    ],
)  # fmt: skip
def test_why_it_waits_is_in_the_status(
    operator: Kubernetes, namespace: str, name: str, spec: dict[str, Any], reason: str, words: str
) -> None:
    data = files(namespace, x__jsonl="\n".join(ROWS))
    operator.apply(data, experiment(namespace, name, inputs=[{"name": "raw", "configMapName": "data"}], **spec))
    until("the reason is told", lambda: _ready(operator, namespace, name, reason, words))
    line = operator.ok("kubectl", "get", "sbx", name, "-n", namespace).splitlines()[1]
    assert reason in line


def test_a_quota_that_refuses_the_pod_is_told_and_lifted(operator: Kubernetes, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    data = files(namespace, x__jsonl="\n".join(ROWS))
    operator.apply(quota, data)
    operator.apply(
        experiment(
            namespace,
            "quota",
            inputs=[{"name": "raw", "configMapName": "data"}],
            probeJobConfigs=probe("inputs/raw/x.jsonl"),
        )
    )
    ready = until("the quota is named", lambda: _ready(operator, namespace, "quota", "QuotaExceeded"))
    assert "exceeded quota: none" in ready["message"]
    operator.ok("kubectl", "delete", "resourcequota", "none", "-n", namespace)
    status = until("it goes on by itself", lambda: _finished(operator, namespace, "quota"), 300)
    assert status["outcome"] == "Succeeded", status["jobs"]


def _finished(node: Kubernetes, namespace: str, name: str) -> dict[str, Any] | None:
    status = node.get("sbx", name, "-n", namespace).get("status") or {}
    return status if status.get("completionTime") else None


def _first_job(node: Kubernetes, namespace: str, name: str) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = (node.get("sbx", name, "-n", namespace).get("status") or {}).get("jobs") or [{}]
    return jobs[0]


def _ready(node: Kubernetes, namespace: str, name: str, reason: str, words: str = "") -> dict[str, Any] | None:
    found = condition(node.get("sbx", name, "-n", namespace), "Ready")
    return found if found.get("reason") == reason and words in found["message"] else None


def _read(node: Kubernetes, namespace: str, status: dict[str, Any], path: str) -> str:
    """A file on an experiment's volume, read by a pod as a user would."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reader", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "reader",
                    "image": status["resolved"]["images"]["data"],
                    "command": ["cat", path],
                    "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}],
                }
            ],
            "volumes": [
                {"name": "workspace", "persistentVolumeClaim": {"claimName": status["workspace"]["claimName"]}}
            ],
        },
    }
    node.apply(pod)
    until(
        "the reader ends",
        lambda: node.get("pod", "reader", "-n", namespace)["status"]["phase"] in ("Succeeded", "Failed"),
    )
    return node.ok("kubectl", "logs", "reader", "-n", namespace)
