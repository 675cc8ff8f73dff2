# SPDX-License-Identifier: Apache-2.0
"""The proof of a sweep holds for what the operator makes, and finds each thing that was changed afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.sweeps import MIXED, search, some_settings

from sandbox_api.sweep import EarlyTerminate, Method
from sandbox_operator.search.observed import SEEN_AT_MOST
from sandbox_operator.search.verify import Recorded, RungRecord, verify

GRID = {"a": {"values": ["x", "y", "z"]}, "b": {"min": 1, "max": 7}}
HYPERBAND = EarlyTerminate(type="hyperband").model_copy(update={"min_iter": 1, "eta": 2.0})


@pytest.mark.parametrize("method", ["bayes", "random", "sobol", "grid"])
@pytest.mark.parametrize("parallelism", [1, 4])
def test_what_the_search_made_is_verified(method: Method, parallelism: int) -> None:
    settings = some_settings(method, goal="maximize", raw=GRID if method == "grid" else MIXED)
    trials = search(settings, 21, parallelism, order=random.Random(parallelism))

    assert verify(settings, trials) == ()
    assert verify(settings, trials[::-1]) == ()
    assert len({trial.state for trial in trials}) == 3  # ended in each way


BASE = search(some_settings(), 24, parallelism=3)


def changed(number: int, **what: Any) -> Callable[[list[Recorded]], list[Recorded]]:
    return lambda trials: [replace(trial, **what) if trial.number == number else trial for trial in trials]


def other_parameter(name: str, value: Any) -> Callable[[list[Recorded]], list[Recorded]]:
    def change(trials: list[Recorded]) -> list[Recorded]:
        trial = trials[5]
        parameters = (
            {**trial.parameters, name: value}
            if value is not None
            else {k: v for k, v in trial.parameters.items() if k != name}
        )
        return [*trials[:5], replace(trial, parameters=parameters), *trials[6:]]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda trials: [*trials[:7], *trials[8:]], "trial 7: is missing, but later trials are there"),
        (lambda trials: [*trials, replace(trials[3], name="twin")], "trial 3: is there 2 times (sweep-3, twin)"),
        (changed(20, point=(0.5, 0.5, 0.5, 0.5)), "trial 20 (sweep-20): bayes suggests 0."),
        (changed(20, point=(0.5, 0.5)), "trial 20 (sweep-20): it or a trial that it saw has a point that is not 4 numbers in [0, 1]"),
        (changed(20, point=(2.0, 0.5, 0.5, 0.5)), "trial 20 (sweep-20): it or a trial that it saw has a point that is not 4 numbers"),
        (changed(5, value=0.123), "trial 8 (sweep-8): saw that trial 5 (sweep-5) was"),
        (changed(5, state="failed", value=None), "trial 8 (sweep-8): saw that trial 5 (sweep-5) was succeeded with"),
        (changed(20, observed=""), "trial 20 (sweep-20): did not see trial 0, which was begun before it"),
        (changed(20, observed="0=x"), "trial 20 (sweep-20): observed: '0=x' is not"),
        (changed(20, observed="99=1.0"), "trial 20 (sweep-20): observed: there is no trial 99"),
        (changed(20, observed="21=running"), "trial 20 (sweep-20): saw trial 21, which is not before it"),
        (other_parameter("train.lr", 0.5), "trial 5 (sweep-5): has train.lr = 0.5, its point gives"),
        (other_parameter("train.lr", None), "trial 5 (sweep-5): has no train.lr, its point gives"),
        (other_parameter("train.mu", 0.5), "trial 5 (sweep-5): has train.mu = 0.5, which is no parameter of the sweep"),
        (other_parameter("filter.rep_len", True), "trial 5 (sweep-5): has filter.rep_len = True, its point gives"),
        (changed(4, decisions=(RungRecord(1, 0.5, 0, "Continue"),)), "trial 4 (sweep-4): has decisions of early stopping, which the sweep does not ask for"),
    ],
)  # fmt: skip
def test_what_was_changed_is_found(change: Callable[[list[Recorded]], list[Recorded]], said: str) -> None:
    problems = verify(some_settings(), change(list(BASE)))

    assert any(problem.startswith(said) for problem in problems), problems


def test_another_seed_another_goal_or_another_space_is_found() -> None:
    assert verify(some_settings(), BASE) == ()
    assert len(verify(some_settings(seed=2), BASE)) > len(BASE)
    assert any("bayes suggests" in problem for problem in verify(some_settings(goal="maximize"), BASE))
    wider = {**MIXED, "filter.max_ratio": {"min": 0.0, "max": 2.0}}
    assert any("has filter.max_ratio" in problem for problem in verify(some_settings(raw=wider), BASE))


def test_a_number_that_json_made_an_integer_is_the_same() -> None:
    settings = some_settings("grid", raw={"a": {"values": [1.0, 2.5]}})
    trials = search(settings, 2)

    assert verify(settings, [replace(trials[0], parameters={"a": 1}), trials[1]]) == ()


def test_a_point_whose_last_bits_another_processor_rounded_is_the_same() -> None:
    moved = [replace(trial, point=tuple(x + 1e-13 for x in trial.point)) for trial in BASE[:12]]

    assert verify(some_settings(), moved) == ()


def test_a_trial_past_the_end_of_the_grid_is_found() -> None:
    settings = some_settings("grid", raw=GRID)
    trials = search(settings, 21)
    more = [*trials, replace(trials[20], number=21, name="sweep-21")]

    assert verify(settings, more) == (
        "trial 21 (sweep-21): the grid has 21 points, so there is none with the number 21",
    )


def pruned_sweep() -> list[Recorded]:
    """Two trials of three go on at the first rung, one of them at the second."""
    trials = search(some_settings("random"), 3, parallelism=3)
    decisions = [
        (RungRecord(1, 2.0, 0, "Continue"), RungRecord(2, 1.9, 0, "Continue")),
        (RungRecord(1, 1.0, 1, "Continue"), RungRecord(2, 2.5, 1, "Stop")),
        (RungRecord(1, 3.0, 2, "Stop"),),
    ]
    made = [replace(trial, decisions=own) for trial, own in zip(trials, decisions, strict=True)]
    return [made[0], replace(made[1], state="pruned", value=2.5), replace(made[2], state="pruned", value=3.0)]


def test_decisions_of_early_stopping_are_made_again() -> None:
    settings, trials = some_settings("random"), pruned_sweep()

    assert verify(settings, trials, HYPERBAND) == ()
    flipped = replace(trials[2], decisions=(RungRecord(1, 3.0, 2, "Continue"),))
    assert verify(settings, [*trials[:2], flipped], HYPERBAND) == (
        "trial 2 (sweep-2): is pruned, but no decision says so",
        "trial 2: at rung 1 with 3.0 after 2 others, Stop is right, and Continue is recorded",
    )
    other_value = replace(trials[1], value=9.0)
    assert verify(settings, [trials[0], other_value, trials[2]], HYPERBAND) == (
        "trial 1 (sweep-1): counts with 9.0, at its last rung it had 2.5",
    )
    broken = replace(trials[2], state="failed", value=None, decisions=(RungRecord(1, None, 2, "Stop"),))
    assert verify(settings, [*trials[:2], broken], HYPERBAND) == (), "the search sees one without a number as failed"
    counted = replace(broken, state="pruned", value=3.0)
    assert verify(settings, [*trials[:2], counted], HYPERBAND) == (
        "trial 2 (sweep-2): counts with 3.0, at its last rung it had no finite number",
    )
    elsewhere = replace(trials[2], decisions=(RungRecord(3, 3.0, 0, "Stop"),))
    assert "trial 2 (sweep-2): was decided on at 3, which is no rung" in verify(
        settings, [*trials[:2], elsewhere], HYPERBAND
    )


def test_a_window_of_the_newest_is_enough_once_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record has a limit of length: what a suggestion saw begins later, once there are so many."""
    assert SEEN_AT_MOST * len("9999=pruned:-1.2345678901234567e-100 ") < 131_072
    cut = [
        replace(trial, observed=" ".join(trial.observed.split()[-12:])) for trial in search(some_settings("bayes"), 15)
    ]
    unseen = [problem for problem in verify(some_settings(), cut) if "did not see" in problem]
    assert [problem.split(",")[0] for problem in unseen] == [
        "trial 13 (sweep-13): did not see trial 0",
        "trial 14 (sweep-14): did not see trial 0",
        "trial 14 (sweep-14): did not see trial 1",
    ]
    monkeypatch.setattr("sandbox_operator.search.verify.SEEN_AT_MOST", 12)

    assert not any("did not see" in problem for problem in verify(some_settings(), cut))
