# SPDX-License-Identifier: Apache-2.0
"""A run on the real node: the hook's pod tells how far it is, an exporter's pod beside it tells Weights & Biases."""

from typing import Any

from tests.exports import records, rows_in
from tests.fake_wandb import FakeWandb
from tests.node.kubernetes import condition, until
from tests.node.toys import Toys, toy

LOSSES = [0.9, 0.8, 0.7, 0.6, 0.5]


def training(**extra: Any) -> dict[str, Any]:
    return toy("train", losses=LOSSES, **extra)


def exported(toys: Toys, name: str) -> dict[str, Any]:
    """The condition of an experiment whose exporter has told all."""

    def look() -> dict[str, Any]:
        found = condition(toys.item(name), "Tracking")
        return found if found.get("reason") == "Exported" else {}

    try:
        return until(f"{name} is exported", look)
    except AssertionError as error:
        raise AssertionError(f"{error}; its conditions are {toys.status(name)['conditions']}") from None


def test_a_training_is_seen_while_it_runs(toys: Toys, tracking_image: str) -> None:
    key = {"name": "wandb", "key": "api-key"}
    toys.node.ok(
        "kubectl", "create", "secret", "generic", "wandb", "-n", toys.namespace, "--from-literal=api-key=" + "k" * 40
    )
    with FakeWandb(toys.node.environment["SANDBOX_MACHINE"]).serving() as server:
        toys.start(
            "seen", [training(at=3, after="go")], images={"tracking": tracking_image},
            tracking={"wandb": {"apiKeySecretRef": key, "baseUrl": server.url}},
        )  # fmt: skip
        job = toys.becomes("seen", "three steps are told", lambda job: (job.get("progress") or {}).get("step") == 3)
        assert (job["progress"]["total"], job["progress"]["metrics"]) == (len(LOSSES), {"loss": LOSSES[2]})
        wide = toys.node.ok("kubectl", "get", "sbx", "seen", "-n", toys.namespace, "-o", "wide")
        assert "train 3/5 loss 0.7" in wide
        server.until(lambda: server.runs and server.run.values("train.loss") == LOSSES[:3], limit=240)
        assert server.run.exit_code is None, "the experiment has not ended"

        toys.let_go("seen", "go")
        (job,) = toys.succeeded("seen")
        assert "progress" not in job
        assert exported(toys, "seen")["status"] == "True"
    assert server.run.values("train.step") == [1, 2, 3, 4, 5]
    assert server.run.values("train.loss") == [*LOSSES, LOSSES[-1]], "each line once, and the result's figure"
    assert server.run.exit_code == 0
    assert (set(server.keys), server.bad_offsets) == ({"k" * 40}, [])


def test_offline_the_run_lies_on_the_volume(toys: Toys, tracking_image: str) -> None:
    toys.start("kept", [training()], images={"tracking": tracking_image}, tracking={"wandb": {"mode": "offline"}})
    toys.succeeded("kept")
    exported(toys, "kept")
    (file,) = toys.folder("kept").glob("wandb/run/wandb/offline-run-*/run-*.wandb")
    assert [row["train.step"] for row in rows_in(file) if "train.step" in row] == [1, 2, 3, 4, 5]
    assert [record.WhichOneof("record_type") for record in records(file)].count("exit") == 1
