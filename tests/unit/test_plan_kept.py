# SPDX-License-Identifier: Apache-2.0
"""What of a result goes into the status: as much as fits, and always what is needed."""

from sandbox_api.status import JobStatus
from sandbox_operator.plan.metrics import OUTPUT_BYTES, kept_outputs


def job(**outputs: object) -> JobStatus:
    return JobStatus(id="a", hook="h", meta_name="m", outputs=outputs)


def test_what_does_not_fit_is_left_to_the_result_on_the_volume() -> None:
    outputs = {"long": "x" * (OUTPUT_BYTES + 1), "short": "y", "list": ["z"]}

    assert kept_outputs(outputs, {}, ()) == {"short": "y", "list": ["z"]}


def test_what_is_needed_stays_and_comes_first() -> None:
    half = "x" * (OUTPUT_BYTES // 2)
    outputs = {"first": half + half, "needed": half + half}

    assert kept_outputs(outputs, {}, ("needed",)) == {"needed": half + half}


def test_the_outputs_of_all_jobs_share_the_room() -> None:
    half = "x" * (OUTPUT_BYTES // 2)

    assert kept_outputs({"path": half}, {"a": job(path=half)}, ()) == {}
    assert kept_outputs({"path": "p"}, {"a": job(path=half)}, ()) == {"path": "p"}
