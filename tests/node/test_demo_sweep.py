# SPDX-License-Identifier: Apache-2.0
"""`make demo-sweep` as a user runs it: twelve trials on real data with a real classifier, each proved, the best one exported."""

import pytest
import yaml
from tests.node.kubernetes import Kubernetes
from tests.progress import deep_only

NAMESPACE, NAME = "sandbox-demo-sweep", "hpo"
pytestmark = deep_only


@pytest.fixture(scope="module")
def demo(operator: Kubernetes) -> tuple[Kubernetes, str]:
    """The node after `make demo-sweep`, and what it printed."""
    return operator, operator.ok("configs/hpo/run.sh", seconds=1800)


def test_the_best_trial_s_recipe_holds_its_parameters(demo: tuple[Kubernetes, str]) -> None:
    node, printed = demo
    status = node.get("sbsw", NAME, "-n", NAMESPACE)["status"]
    assert (status["outcome"], status["progress"]) == ("Succeeded", "12/12")
    assert status["objective"] == "quality.mean"
    assert status["counts"]["succeeded"] == 12
    best = status["best"]
    assert best["value"] == max(row["value"] for row in status["trials"])
    text = printed[printed.index("# Written by `sandboxctl export recipe`") :]
    recipe = yaml.safe_load(text[: text.index("\n\n")])
    bounds = {
        f"{op}.{arg}": value for step in recipe["process"] for op, args in step.items() for arg, value in args.items()
    }
    assert {name: bounds[name] for name in best["parameters"]} == best["parameters"]


def test_each_trial_processed_the_rows_by_its_own_values(demo: tuple[Kubernetes, str]) -> None:
    """Those with the same bounds left the same rows; there are several results."""
    node, _ = demo
    trials = node.get("sbx", "-n", NAMESPACE)["items"]
    rows = [
        (item["spec"]["trial"]["parameters"], item["status"]["jobs"][0]["metrics"]["process.rows_out"])
        for item in trials
    ]
    assert len(rows) == 12
    assert len({left for _, left in rows}) > 1
    for parameters, left in rows:
        assert all(left == other for same, other in rows if same == parameters)
