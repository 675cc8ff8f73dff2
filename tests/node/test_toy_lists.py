# SPDX-License-Identifier: Apache-2.0
"""forEach on a real node: as many pods at a time as it says, results in the order of the items, one failure among them."""

from typing import Any

from tests.node.kubernetes import until
from tests.node.toys import Toys, hold, toy
from tests.progress import deep_only

TOGETHER = {"input": {"extraConfigs.read": "anonymous.each.first"}}


def _each(items: list[Any], most: int) -> dict[str, Any]:
    return {"forEach": {"item": "word", "in": items, "maxParallel": most}, "input": {"extraConfigs.until": "item.word"}}


def test_items_run_as_many_at_a_time_as_allowed_and_are_gathered_in_order(toys: Toys) -> None:
    words = ["go-0", "go-1", "go-2"]
    toys.start("fan", [hold("each", job=_each(words, 2)), toy("look", "all", job=TOGETHER)])
    ids = [f"anonymous/1/execution/0[{number}]" for number in range(3)]

    def states() -> dict[str, tuple[str, int]]:
        return {job["id"]: (job["state"], job["attempts"]) for job in toys.status("fan").get("jobs", ())}

    until("two run", lambda: [states().get(i, ("", 0))[0] for i in ids[:2]] == ["Running", "Running"])
    assert states()[ids[2]] == ("Pending", 0)
    toys.let_go("fan", "go-1")  # the second ends first
    until("the third runs", lambda: states()[ids[2]] == ("Running", 1))
    assert states()[ids[0]] == ("Running", 1)
    toys.let_go("fan", "go-2")
    toys.let_go("fan", "go-0")
    *each, together = toys.succeeded("fan")
    assert [job["id"] for job in each] == ids
    assert together["outputs"]["first"]["read"] == [["attempt-1"]] * 3
    assert len(toys.jobs("fan")) == 4


@deep_only
def test_a_list_that_a_job_makes_is_spread_when_it_is_there(toys: Toys) -> None:
    each = {"forEach": {"item": "name", "in": "anonymous.words.first"}, "input": {"extraConfigs.read": "item.name"}}
    jobs = [
        toy("list", "words", items=["a", "b", "c"]),
        toy("look", "each", job=each),
        toy("look", "all", job=TOGETHER),
    ]
    toys.start("later", jobs)
    words, *each_job, together = toys.succeeded("later")
    assert words["outputs"]["first"] == ["a", "b", "c"]
    assert [job["outputs"]["first"]["read"] for job in each_job] == ["a", "b", "c"]
    assert [item["read"] for item in together["outputs"]["first"]["read"]] == ["a", "b", "c"]


@deep_only
def test_one_item_that_fails_ends_the_others_only_if_it_should(toys: Toys) -> None:
    each = {"forEach": {"item": "what", "in": ["write", "fail", "look"]}, "input": {"extraConfigs.do": "item.what"}}
    several = toy("write", "each", say="this one", job={**each, "onFailure": "Continue"})
    toys.start("mixed", [several, toy("write", "free"), toy("look", "all", job=TOGETHER)])
    status = toys.ended("mixed")
    *items, free, together = status["jobs"]
    assert [job["state"] for job in items] == ["Succeeded", "Failed", "Succeeded"]
    assert free["state"] == "Succeeded"
    assert (together["state"], together["reason"]) == ("Skipped", "InputUnavailable")
