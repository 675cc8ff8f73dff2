# SPDX-License-Identifier: Apache-2.0
"""`make demo-full` as a user runs it: clips of real videos are analysed, their recipe refined, a tiny text-to-video model
trained on what is left, videos made with it.
"""

import json
from typing import Any

import pytest
from tests.node.kubernetes import Kubernetes

NAMESPACE, NAME = "sandbox-demo-full", "demo-full"


@pytest.fixture(scope="module")
def demo(operator: Kubernetes) -> Kubernetes:
    """The node after `make demo-full`."""
    operator.ok("configs/demo-full/run.sh", seconds=1500)
    return operator


@pytest.fixture(scope="module")
def figures(demo: Kubernetes) -> dict[str, float]:
    status = demo.get("sbx", NAME, "-n", NAMESPACE)["status"]
    assert status["outcome"] == "Succeeded", status["jobs"]
    found: dict[str, float] = {}
    for job in status["jobs"]:
        found |= job.get("metrics") or {}
    return found


def test_stills_are_left_out_and_every_video_is_there(demo: Kubernetes) -> None:
    log = demo.ok("kubectl", "logs", "-n", NAMESPACE, "job/demo-full-report")
    found: dict[str, Any] = json.loads(log[log.index("{") :])
    assert found["before"]["still"] == 12
    assert found["after"].get("still", 0) == 0
    assert found["after"]["moving"] >= found["before"]["moving"] / 2
    prompts = ("people ride bikes in a street", "a man talks in a car")
    assert found["videos"] == {f"{prompt}-{number}.mp4": [9, 32, 32] for prompt in prompts for number in (0, 1)}


def test_what_was_trained_on_is_what_was_processed_and_the_model_learns(figures: dict[str, float]) -> None:
    rows = figures["process.rows_out"]
    assert figures["train.clips"] == rows - min(4, rows // 10), "a tenth is held out, four at most"
    assert figures["train.steps"] == 20
    assert figures["train.heldout_loss"] < figures["train.heldout_loss_before"]
    assert figures["infer.videos"] == 4
