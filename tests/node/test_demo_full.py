# SPDX-License-Identifier: Apache-2.0
"""`make demo-full` as a user runs it: clips of real videos are analysed, their recipe refined, a tiny text-to-video model
trained on what is left, videos made with it in two pieces; and a training on the same clips whose node is drained.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.node.kubernetes import REPOSITORY, Kubernetes, experiment, until
from tests.node.test_toy_disruptions import evict
from tests.node.toys import Toys

NAMESPACE, NAME = "sandbox-demo-full", "demo-full"


@pytest.fixture(scope="module")
def demo(operator: Kubernetes) -> Kubernetes:
    """The node after `make demo-full`."""
    operator.ok("configs/demo-full/run.sh", seconds=1500)
    return operator


@pytest.fixture(scope="module")
def jobs(demo: Kubernetes) -> dict[str, Any]:
    """Its jobs' statuses by metaName."""
    status = demo.get("sbx", NAME, "-n", NAMESPACE)["status"]
    assert status["outcome"] == "Succeeded", status["jobs"]
    return {job["metaName"]: job for job in status["jobs"]}


@pytest.fixture(scope="module")
def figures(jobs: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for job in jobs.values():
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


def test_it_ends_with_what_has_changed(demo: Kubernetes, figures: dict[str, float]) -> None:
    """Of the clips, by their second analysis; of the model, by its loss on clips that no training saw."""
    rows = {row["metric"]: row for row in demo.get("sbx", NAME, "-n", NAMESPACE)["status"]["comparison"]}
    assert (rows["loss"]["before"], rows["loss"]["after"]) == (figures["base.loss"], figures["trained.loss"])
    assert float(figures["trained.loss"]) < float(figures["base.loss"])
    assert rows["rows"]["after"] == figures["process.rows_out"] < rows["rows"]["before"]
    printed = demo.ok("sandboxctl", "compare", NAME, "-n", NAMESPACE)
    assert all(name in printed for name in ("base", "trained", "processed_clips"))


def test_the_videos_were_made_in_two_pieces(demo: Kubernetes, jobs: dict[str, Any]) -> None:
    infer = jobs["infer"]
    assert infer["shards"] == {"succeeded": 2, "failed": 0, "total": 2, "done": "0-1"}
    assert infer["message"] == "4 videos in 2 pieces"
    specs = [job["spec"] for job in Toys(demo, NAMESPACE).jobs(NAME)]
    assert [spec["completions"] for spec in specs if spec.get("completionMode") == "Indexed"] == [2]


STEPS = 200


def test_a_drained_training_costs_a_preempted_attempt_and_at_most_the_step_at_hand(demo: Kubernetes) -> None:
    """No checkpoint is due before its end: what the second attempt goes on from was saved when the pod was told to end."""
    lab, name = Toys(demo, NAMESPACE), "drained-training"
    spec = yaml.safe_load((REPOSITORY / "configs/demo-full/experiment.yaml").read_text())["spec"]
    (train,) = (job for job in spec["executionJobConfigs"] if job["hook"] == "TrainModelHook")
    del train["input"]
    train["extraConfigs"] |= {
        "dataset_path": "inputs/raw/train.jsonl", "steps": STEPS, "checkpoint_every": STEPS, "heldout_every": STEPS,
        "batch_size": 2, "batch_size_per_gpu": 2, "precision": "fp32",
    }  # fmt: skip
    demo.apply(
        experiment(
            NAMESPACE,
            name,
            workspace=spec["workspace"],
            inputs=spec["inputs"],
            pods=spec["pods"],
            retry={"user": 0, "infra": 0, "backoff": "1s"},
            executionJobConfigs=[train],
        )
    )
    job = lab.becomes(name, "it runs", lambda job: job["state"] == "Running")

    def told(attempt: int) -> list[int]:
        """The steps whose loss an attempt has told."""
        (file,) = lab.attempts(name, job, attempt, "metrics.jsonl")
        whole = file.read_text().split("\n")[:-1]  # the last line may be half written
        return [line["step"] for line in map(json.loads, whole) if "train.loss" in line]

    until(
        "five steps are done",
        lambda: list(lab.attempts(name, job, 1, "metrics.jsonl")) and max(told(1), default=0) >= 5,
    )
    evict(lab, lab.pod(name))
    (job,) = lab.succeeded(name, 600)

    assert (job["attempts"], job["failures"]) == (2, {"user": 0, "infra": 0, "preempted": 1, "final": 0})
    assert any(event["reason"] == "Preempted" for event in lab.events(name))
    first, second = told(1), told(2)
    assert max(first) < STEPS, "it was at work when it was drained"
    assert max(first) <= min(second) <= max(first) + 2, (
        "what was told is not done again but for one step, and none left out"
    )
    assert second == list(range(min(second), STEPS + 1))
    assert job["metrics"]["train.steps"] == STEPS
    made = lab.volume(lab.status(name)["workspace"]["claimName"]) / job["outputs"]["model"]
    assert [path.name for path in Path(made).glob("*.safetensors")] == [f"checkpoint-{STEPS}.safetensors"]
