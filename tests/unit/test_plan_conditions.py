# SPDX-License-Identifier: Apache-2.0
"""Conditions as kubectl wait, Argo CD and Flux read them (kstatus)."""

import pytest
from tests.unit.builders import NOW, later, written

from sandbox_api.status import Condition, Reason
from sandbox_operator.plan.claim import ClaimDecision
from sandbox_operator.plan.conditions import Headline, conditions_of

BOUND = ClaimDecision("c", True, Reason.CLAIM_BOUND, "the claim c is bound")


def truths(conditions: list[Condition]) -> dict[str, str]:
    return {condition.type: condition.status for condition in conditions}


@pytest.mark.parametrize(
    ("headline", "expected"),
    [
        (Headline("Pending", Reason.PENDING, ""), {"Ready": "False", "Succeeded": "Unknown", "Reconciling": "True"}),
        (Headline("Running", Reason.RUNNING, ""), {"Ready": "False", "Succeeded": "Unknown", "Reconciling": "True"}),
        (Headline("Succeeded", Reason.SUCCEEDED, ""), {"Ready": "True", "Succeeded": "True"}),
        (Headline("Failed", Reason.USER_ERROR, ""), {"Ready": "False", "Succeeded": "False", "Stalled": "True"}),
        (Headline("Stopped", Reason.SUSPENDED, ""), {"Ready": "False", "Succeeded": "False"}),
        (
            Headline("Pending", Reason.INVALID_SPEC, "", stalled=True),
            {"Ready": "False", "Succeeded": "Unknown", "Stalled": "True"},
        ),
        (
            Headline("Running", Reason.SUSPENDED, "", suspended=True),
            {"Ready": "False", "Succeeded": "Unknown", "Suspended": "True"},
        ),
    ],
)
def test_reconciling_and_stalled_stand_there_only_while_they_are_true(
    headline: Headline, expected: dict[str, str]
) -> None:
    assert truths(conditions_of((), headline, None, 1, NOW)) == expected


@pytest.mark.parametrize(
    ("claim", "truth"), [(BOUND, "True"), (ClaimDecision("c", True, Reason.CLAIM_PENDING, "waits"), "False")]
)
def test_storage_is_ready_when_its_claim_is_bound(claim: ClaimDecision, truth: str) -> None:
    conditions = conditions_of((), Headline("Running", Reason.RUNNING, ""), claim, 1, NOW)

    assert truths(conditions)["StorageReady"] == truth


def test_what_is_known_of_the_storage_stays_while_it_is_not_looked_at() -> None:
    first = conditions_of((), Headline("Running", Reason.RUNNING, ""), BOUND, 1, NOW)
    second = conditions_of(first, Headline("Running", Reason.INVALID_SPEC, "", stalled=True), None, 2, later(60))

    assert next(c for c in second if c.type == "StorageReady") == next(
        c for c in first if c.type == "StorageReady"
    ).model_copy(update={"observed_generation": 2})


def test_a_transition_has_its_time_and_new_words_have_not() -> None:
    first = conditions_of((), Headline("Running", Reason.CREATING, "a"), None, 1, NOW)
    words = conditions_of(first, Headline("Running", Reason.RUNNING, "b"), None, 2, later(60))
    end = conditions_of(words, Headline("Succeeded", Reason.SUCCEEDED, "c"), None, 2, later(90))

    def ready(conditions: list[Condition]) -> tuple[str, str, str, int | None]:
        c = next(c for c in conditions if c.type == "Ready")
        return c.last_transition_time, c.reason, c.message, c.observed_generation

    assert ready(words) == (written(NOW), "Running", "b", 2)
    assert ready(end) == (written(later(90)), "Succeeded", "c", 2)


def test_a_very_long_message_is_cut() -> None:
    conditions = conditions_of((), Headline("Failed", Reason.USER_ERROR, "x" * 10_000), None, 1, NOW)

    assert {len(condition.message) for condition in conditions} == {4096}
