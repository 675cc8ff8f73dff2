# SPDX-License-Identifier: Apache-2.0
"""A search on the real node: what its trials computed, and whose large files are left when it has ended."""

from tests.node.kubernetes import condition, until
from tests.node.toys import SMALL, Object, Toys, toy

VALUES = [3, 1, 4, 2]


def sweep_of(toys: Toys, name: str) -> Object:
    found: Object = toys.node.get("sandboxsweep", name, "-n", toys.namespace)
    return found


def test_a_grid_ends_with_its_best_trial_and_only_that_keeps_its_large_file(
    toys: Toys, operator_image: dict[str, str]
) -> None:
    template = {
        "workspace": {"claim": {"size": "1Gi"}},
        "pods": {"default": {"resources": SMALL}},
        # The runtime is in both; that of the helpers is what removes files.
        "images": {"data": operator_image["OPERATOR_IMAGE"]},
        "executionJobConfigs": [toy("weigh", "work", value=0, mebibytes=2)],
    }
    spec = {
        "method": "grid", "metric": {"name": "work.score", "goal": "maximize"}, "parallelism": 2, "maxTrials": 4,
        "parameters": {"work.extraConfigs.value": {"values": VALUES}}, "keep": {"bestTrials": 1}, "template": template,
    }  # fmt: skip
    sweep = {"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxSweep", "spec": spec}
    toys.node.apply({**sweep, "metadata": {"name": "grid", "namespace": toys.namespace}})
    toys.node.ok(
        "kubectl",
        "wait",
        "sandboxsweep/grid",
        "-n",
        toys.namespace,
        "--for=condition=Ready",
        "--timeout=240s",
        seconds=260,
    )

    status = sweep_of(toys, "grid")["status"]
    assert status["counts"] == {"total": 4, "running": 0, "succeeded": 4, "failed": 0, "pruned": 0}
    best = VALUES.index(max(VALUES))
    assert (status["best"]["trial"], status["best"]["value"]) == (best, 4.0)
    assert status["best"]["parameters"] == {"work.extraConfigs.value": 4}

    until("files are removed", lambda: condition(sweep_of(toys, "grid"), "Trimmed").get("reason") == "Trimmed")
    assert sweep_of(toys, "grid")["status"]["trimmed"] == 3
    left = {}
    for number in range(4):
        (attempt,) = toys.attempts(name := f"grid-{number:04d}", toys.job(name))
        assert (attempt / "result.json").exists()
        left[number] = (attempt / "out" / "ballast").exists()
    assert left == {number: number == best for number in range(4)}
    told = toys.node.ok("kubectl", "get", "sandboxsweep", "grid", "-n", toys.namespace)
    assert "Succeeded" in told, told
