# SPDX-License-Identifier: Apache-2.0
"""Jobs of several pods on a real node: pieces that are merged, pods that find each other by name, drains in between."""

from tests.node.test_toy_disruptions import evict
from tests.node.toys import Toys, toy

WORDS = ["one", "two", "three", "four", "five"]


def test_pieces_run_apart_the_one_that_failed_again_and_are_merged(toys: Toys) -> None:
    share = toy("share", job={"shards": 3}, words=WORDS, broken=[1])
    toys.start("pieces", [share, toy("write", "later")], retry={"user": 1, "infra": 0})
    job, later = toys.succeeded("pieces")

    assert job["attempts"] == 2
    assert job["shards"] == {"succeeded": 3, "failed": 0, "total": 3, "done": "0-2"}
    assert (toys.folder("pieces").parents[1] / job["outputs"]["first"]).read_text().split() == WORDS
    specs = [made["spec"] for made in toys.jobs("pieces")]
    assert sorted(spec["completions"] for spec in specs if spec["completionMode"] == "Indexed") == [1, 3]
    assert later["attempts"] == 1


def test_a_drained_piece_alone_is_done_again(toys: Toys) -> None:
    toys.start(
        "drained-piece", [toy("share", job={"shards": 2}, words=WORDS, waits=[1])], retry={"user": 0, "infra": 0}
    )
    toys.becomes("drained-piece", "piece 0 is done", lambda job: (job.get("shards") or {}).get("done") == "0")
    evict(toys, toys.pod("drained-piece"))
    job = toys.becomes("drained-piece", "the eviction is counted", lambda job: job.get("failures"))
    assert job["failures"] == {"user": 0, "infra": 0, "preempted": 1, "final": 0}
    job = toys.becomes("drained-piece", "piece 1 is begun again", lambda job: job["attempts"] == 2)
    assert job["shards"]["done"] == "0"


def test_pods_that_work_as_one_find_each_other_by_name(toys: Toys) -> None:
    toys.start("together", [toy("meet", job={"nodes": 3}), toy("write", "later")])
    job, later = toys.succeeded("together")

    assert (job["attempts"], job["outputs"]["first"]) == (1, ["1", "2"])
    assert later["attempts"] == 1


def test_what_fails_one_pod_is_told_of_all_and_all_begin_again(toys: Toys) -> None:
    toys.start("one-fails", [toy("meet", job={"nodes": 2}, fails=1)], retry={"user": 1, "infra": 0, "preempted": 0})
    (job,) = toys.succeeded("one-fails")

    assert (job["attempts"], job["failures"]) == (2, {"user": 1, "infra": 0, "preempted": 0, "final": 0})
