# SPDX-License-Identifier: Apache-2.0
"""`make demo-bench` as a user runs it: each experiment takes from the ones before what they have done, and its thresholds
from their figures.
"""

from typing import Any

import pytest
from tests.node.kubernetes import Kubernetes
from tests.progress import deep_only

NAMESPACE = "sandbox-demo-bench"
pytestmark = deep_only


@pytest.fixture(scope="module")
def demo(operator: Kubernetes) -> Kubernetes:
    """The node after `make demo-bench`."""
    operator.ok("configs/bench/run.sh", seconds=2400)
    return operator


def jobs_of(demo: Kubernetes, name: str) -> dict[str, Any]:
    """Its jobs' statuses by metaName."""
    status = demo.get("sbx", name, "-n", NAMESPACE)["status"]
    assert status["outcome"] == "Succeeded", status["jobs"]
    return {job["metaName"]: job for job in status["jobs"]}


def cached(jobs: dict[str, Any]) -> set[str]:
    return {name for name, job in jobs.items() if job["state"] == "Cached"}


def test_each_takes_from_those_before_what_they_have_done(demo: Kubernetes) -> None:
    one, two, three = (jobs_of(demo, f"bench-{name}") for name in ("single-op", "multi-op", "duplicate"))

    assert cached(one) == set()
    assert cached(two) == {"look"}
    assert cached(three) == {"look", "pool", "select", "chosen"}
    assert three["select"]["outputs"]["dataset"] == two["select"]["outputs"]["dataset"]
    assert three["train"]["metrics"]["train.steps"] == 2 * two["train"]["metrics"]["train.steps"]
    assert two["train"]["outputs"]["model"] != three["train"]["outputs"]["model"]


def test_the_pools_lie_within_the_thirds_of_the_first_analysis(demo: Kubernetes) -> None:
    one, two = (jobs_of(demo, f"bench-{name}") for name in ("single-op", "multi-op"))
    look = one["look"]["metrics"]

    assert one["pool"]["metrics"]["pool.rows_out"] == look["look.rows"] / 3
    assert one["chosen"]["metrics"]["chosen.lang_score.min"] >= look["look.lang_score.66.7%"]
    chosen = two["chosen"]["metrics"]
    assert chosen["chosen.lang_score.min"] >= look["look.lang_score.66.7%"]
    assert chosen["chosen.video_duration.min"] >= look["look.video_duration.33.3%"]
    assert chosen["chosen.video_duration.max"] <= look["look.video_duration.66.7%"]


def test_a_pool_that_is_too_small_is_said(demo: Kubernetes) -> None:
    two = jobs_of(demo, "bench-multi-op")
    rows = two["pool"]["metrics"]["pool.rows_out"]

    assert two["select"]["metrics"]["select.ops.0_random_selector.short"] == 16 - rows > 0
    assert "random_selector.select_num: 16 rows were asked for" in two["select"]["message"]


@pytest.mark.parametrize("name", ["single-op", "multi-op", "duplicate"])
def test_videos_of_all_prompts_are_made_and_judged(demo: Kubernetes, name: str) -> None:
    jobs = jobs_of(demo, f"bench-{name}")

    assert jobs["infer"]["metrics"]["infer.videos"] == 11 * 5
    found = jobs["vbench"]["metrics"]
    assert (found["vbench.videos"], found["vbench.missing"]) == (5, 0)
    assert 0 < found["vbench.temporal_flickering"] <= 1
