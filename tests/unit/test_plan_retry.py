# SPDX-License-Identifier: Apache-2.0
"""Whether a failed job gets another attempt, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import UID

from sandbox_api.experiment import Retry
from sandbox_api.result import ErrorClass
from sandbox_api.status import Failures
from sandbox_operator.plan.retry import BUDGET_OF, Budgets, budgets_of, counted, delay, may_retry

DEFAULT = Budgets()


@pytest.mark.parametrize(
    ("error", "failures", "again"),
    [
        ("User", Failures(user=1), False),
        ("OutOfMemory", Failures(user=1), False),
        ("Timeout", Failures(user=1), False),
        ("Config", Failures(), False),
        ("Input", Failures(), False),
        ("Infra", Failures(infra=1), True),
        ("Infra", Failures(infra=3), True),
        ("Infra", Failures(infra=4), False),
        ("Infra", Failures(user=9, infra=3, preempted=900), True),
        ("Preempted", Failures(preempted=100), True),
        ("Preempted", Failures(preempted=101), False),
        ("Preempted", Failures(user=9, infra=9, preempted=1), True),
    ],
)
def test_each_class_has_a_budget_of_its_own(error: ErrorClass, failures: Failures, again: bool) -> None:
    assert may_retry(failures, error, DEFAULT) is again


@pytest.mark.parametrize("error", ["Config", "Input"])
def test_what_is_wrong_stays_wrong_whatever_the_budgets(error: ErrorClass) -> None:
    generous = Budgets(user=100, infra=100, preempted=100)

    assert not may_retry(Failures(), error, generous)


def test_a_failure_is_counted_in_its_own_class() -> None:
    failures = Failures()
    for error in ("User", "OutOfMemory", "Timeout", "Config", "Input", "Infra", "Infra", "Preempted"):
        failures = counted(failures, error)  # type: ignore[arg-type]

    assert failures == Failures(user=3, infra=2, preempted=1, final=2)


def test_a_jobs_own_budgets_override_the_experiments_one_by_one() -> None:
    whole = Retry.model_validate({"user": 1, "infra": 5, "backoff": "30s"})
    own = Retry.model_validate({"user": 2, "maxBackoff": "1h"})

    assert budgets_of(None, None) == DEFAULT
    assert budgets_of(whole, own) == Budgets(user=2, infra=5, preempted=100, backoff=30, max_backoff=3600)


@pytest.mark.parametrize(
    ("attempt", "failures", "error", "seconds"),
    [
        (1, Failures(infra=1), "Infra", 8.876569),
        (2, Failures(infra=2), "Infra", 18.795590),
        (3, Failures(infra=2, preempted=1), "Preempted", 10.347580),
        (3, Failures(preempted=40, user=1), "User", 10.347580),
        (8, Failures(preempted=8), "Preempted", 526.719976),
        (9, Failures(preempted=100), "Preempted", 577.445357),
    ],
)
def test_the_wait_is_part_of_the_contract(attempt: int, failures: Failures, error: ErrorClass, seconds: float) -> None:
    """Golden values: another version of the operator must decide the same."""
    wait = delay(UID, "anonymous/1/probe/0", attempt, failures, error, DEFAULT)

    assert wait == pytest.approx(seconds, abs=1e-6)


def test_those_who_have_waited_longest_do_not_all_come_back_at_once() -> None:
    waits = {delay(f"uid-{n}", "j", 9, Failures(infra=9), "Infra", DEFAULT) for n in range(50)}

    assert len(waits) == 50
    assert all(400 <= wait < 600 for wait in waits)


counts = st.integers(0, 200)
some_failures = st.builds(Failures, user=counts, infra=counts, preempted=counts)
some_budgets = st.builds(
    Budgets, user=counts, infra=counts, preempted=counts,
    backoff=st.integers(0, 4000), max_backoff=st.integers(0, 4000),
)  # fmt: skip


@given(some_failures, st.sampled_from(sorted(BUDGET_OF)), some_budgets)
def test_more_failures_never_give_more_attempts(failures: Failures, error: ErrorClass, budgets: Budgets) -> None:
    if may_retry(counted(failures, error), error, budgets):
        assert may_retry(failures, error, budgets)


@given(some_failures, some_budgets, st.integers(1, 500))
def test_the_wait_is_never_longer_than_was_asked_for_and_never_shorter_than_it_was(
    failures: Failures, budgets: Budgets, attempt: int
) -> None:
    wait = delay(UID, "j", attempt, failures, "Infra", budgets)
    one_more = delay(UID, "j", attempt, counted(failures, "Infra"), "Infra", budgets)

    assert 0 <= wait <= budgets.max_backoff
    assert one_more >= wait
