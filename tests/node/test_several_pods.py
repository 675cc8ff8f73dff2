# SPDX-License-Identifier: Apache-2.0
"""Jobs of several pods on a real node with the real libraries: a Ray over two pods gives the rows of one."""

import json
from typing import Any

from tests.node.kubernetes import Kubernetes, experiment
from tests.node.toys import Toys

ROWS = [{"text": f"row {number} " + "x" * (number % 17), "n": number} for number in range(400)]
RECIPE: list[dict[str, Any]] = [
    {"text_length_filter": {"min_len": 12}},
    {"python_lambda_mapper": {"lambda_str": "lambda row: {**row, 'text': row['text'].upper()}"}},
]


def process(name: str, executor: str, **more: Any) -> dict[str, Any]:
    configs = {"dataset_path": "inputs/raw/rows.jsonl", "process": RECIPE, "executor_type": executor}
    return {"hook": "ProcessDataHook", "metaName": name, "djConfigs": configs, **more}


def test_a_ray_over_two_pods_gives_the_rows_of_one(operator: Kubernetes, namespace: str) -> None:
    lab = Toys(operator, namespace)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    operator.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "raw", "namespace": namespace},
            "data": {"rows.jsonl": lines},
        },
        experiment(
            namespace,
            "ray",
            inputs=[{"name": "raw", "configMapName": "raw"}],
            pods={
                "default": {
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "512Mi"},
                        "limits": {"cpu": "1", "memory": "2Gi"},
                    }
                }
            },
            executionJobConfigs=[process("one", "default"), process("two", "ray", nodes=2)],
        ),
    )
    one, two = lab.succeeded("ray", 700)

    specs = [job["spec"] for job in lab.jobs("ray")]
    assert [spec["completions"] for spec in specs if spec.get("completionMode") == "Indexed"] == [2]
    volume = lab.volume(lab.status("ray")["workspace"]["claimName"])
    made = [volume / job["outputs"]["dataset"] for job in (one, two)]
    assert made[1].read_bytes() == made[0].read_bytes()
    kept = [row["n"] for row in ROWS if len(row["text"]) >= 12]
    assert [json.loads(row)["n"] for row in made[0].read_text().splitlines()] == kept
    assert (two["attempts"], two["metrics"]["two.rows_out"]) == (1, len(kept))
    logs = [path.read_text() for path in lab.attempts("ray", two, 1, "log.txt")]
    assert len(logs) == 2, "a folder for each pod"
