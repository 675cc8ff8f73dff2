# SPDX-License-Identifier: Apache-2.0
"""Images that are not there yet: the status names them, and the same attempt goes on when they are."""

import pytest
from tests.node.kubernetes import condition, until
from tests.node.registry import Image, Registry
from tests.node.toys import Toys, toy, toy_image
from tests.progress import deep_only


@pytest.fixture
def unpushed(registry: Registry, operator_image: dict[str, str]) -> Image:
    """An image whose layers are in the registry, and that nobody can name yet."""
    return toy_image(registry, operator_image["OPERATOR_IMAGE"], {"/etc/made-for": b"a test"})


def test_a_hook_waits_for_its_image_and_goes_on_when_it_is_pushed(toys: Toys, unpushed: Image) -> None:
    missing = unpushed.reference(toys.namespace)
    toys.start("early", [toy("write", "before"), toy("look")], images={"toy": missing})
    job = toys.becomes("early", "the image is named", lambda job: job.get("reason") == "ImageUnavailable")
    assert missing in job["message"]
    assert (job["state"], job["attempts"]) == ("Pending", 1)
    ready = condition(toys.item("early"), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ImageUnavailable")
    assert "ImageUnavailable" in toys.node.ok("kubectl", "get", "sbx", "early", "-n", toys.namespace)
    (first,) = toys.jobs("early")

    assert unpushed.push(toys.namespace) == missing
    jobs = toys.succeeded("early", 300)
    assert [job["attempts"] for job in jobs] == [1, 1], "waiting is not failing"
    assert "failures" not in jobs[0]
    assert toys.jobs("early")[0]["metadata"]["uid"] == first["metadata"]["uid"]
    until(
        "the reason is told as an Event", lambda: [e for e in toys.events("early") if e["reason"] == "ImageUnavailable"]
    )


@deep_only
def test_patience_with_a_missing_image_has_an_end(toys: Toys, unpushed: Image) -> None:
    missing = unpushed.reference("never-pushed")
    toys.start("late", [toy("look"), toy("write")], images={"toy": missing}, timeouts={"pending": "5s"})
    job, later = toys.ended("late")["jobs"]
    assert (job["state"], job["reason"], job["attempts"]) == ("Failed", "PendingTimeout", 1)
    assert missing in job["message"]
    assert later["state"] == "Skipped"
    until("its Job and its pod are gone", lambda: not toys.jobs("late") and not toys.pods("late"))
