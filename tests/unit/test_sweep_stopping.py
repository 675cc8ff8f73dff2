# SPDX-License-Identifier: Apache-2.0
"""Early stopping: where the rungs are, who goes on, and that the records say all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_api.rungs import rungs_of, stopping_problems
from sandbox_api.sweep import EarlyTerminate
from sandbox_operator.search.stopping import Arrival, Goal, arrive, decide, replay

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/sweep/quantiles.json").read_text())


def early(type_: str = "hyperband", **keys: Any) -> EarlyTerminate:
    return EarlyTerminate(type="hyperband").model_copy(update={"type": type_, "min_iter": 1, **keys})


@pytest.mark.parametrize("case", GOLDEN["bands"], ids=lambda case: str(case["early_terminate"]))
def test_the_rungs_are_those_of_the_library_of_wandb(case: dict[str, Any]) -> None:
    keys = {"min_iter": None, **case["early_terminate"]}
    distinct = sorted(set(case["bands"]))

    assert list(rungs_of(early(**keys)))[: len(distinct)] == distinct


def test_the_file_of_data_juicer_has_rungs_at_3_and_9() -> None:
    assert rungs_of(early(min_iter=None, max_iter=27, s=2)) == (3, 9)


@pytest.mark.parametrize(
    ("keys", "rungs"),
    [
        ({"min_iter": 5, "max_iter": 100}, (5, 15, 45)),
        ({"min_iter": 5, "max_iter": 45}, (5, 15)),
        ({"min_iter": 1, "eta": 1.5}, (1, 2, 3, 5, 7)),
        ({"min_iter": None, "max_iter": 27, "s": 9}, (1, 3, 9)),
        ({"min_iter": 10, "max_iter": 10}, ()),
    ],
)
def test_rungs_rise_and_end_before_the_end_of_the_way(keys: dict[str, Any], rungs: tuple[int, ...]) -> None:
    assert rungs_of(early(**keys))[: len(rungs) or 1] == rungs


@given(st.integers(1, 10**9), st.floats(1.001, 100))
def test_a_trial_has_at_most_64_rungs(first: int, eta: float) -> None:
    rungs = rungs_of(early(min_iter=first, eta=eta))

    assert 1 <= len(rungs) <= 64
    assert list(rungs) == sorted(set(rungs))
    assert rungs[0] == first


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"min_iter": None}, "spec.earlyTerminate: does not say where the rungs are; give min_iter, or max_iter and s"),
        ({"min_iter": None, "max_iter": 9}, "spec.earlyTerminate: does not say where the rungs are"),
        (
            {"min_iter": None, "max_iter": 2, "s": 3, "eta": 3},
            "spec.earlyTerminate: no rung lies between 1 and max_iter 2",
        ),
        ({"min_iter": 9, "max_iter": 9}, "spec.earlyTerminate.max_iter: must be more than min_iter 9"),
        ({"min_iter": 9}, None),
    ],
)
def test_a_definition_without_rungs_is_told(keys: dict[str, Any], said: str | None) -> None:
    problems = stopping_problems(early(**keys), "spec.earlyTerminate")

    assert [problem.startswith(said or "") for problem in problems] == ([True] if said else [])


@pytest.mark.parametrize(
    ("type_", "value", "earlier", "decision"),
    [
        ("hyperband", 9.0, [], "Continue"),
        ("hyperband", 9.0, [1.0], "Stop"),
        ("hyperband", 0.5, [1.0], "Continue"),  # the best always goes on
        ("hyperband", 1.0, [1.0], "Continue"),  # as good as the best
        ("hyperband", 2.0, [1.0, 3.0, 4.0, 5.0], "Stop"),  # second of 5, and 5/3 is less than 2
        ("hyperband", 2.0, [1.0, 3.0, 4.0, 5.0, 6.0], "Continue"),  # second of 6
        ("hyperband", 2.0, [1.0, 2.0, 2.0, 5.0, 6.0], "Continue"),  # three are second
        ("hyperband", None, [], "Stop"),
        ("hyperband", None, [None], "Stop"),
        ("hyperband", 9.0, [None], "Continue"),
        ("hyperband", 2.0, [1.0, None, None, None, None], "Continue"),
        ("median", 9.0, [], "Continue"),
        ("median", 2.0, [1.0, 2.0, 3.0], "Continue"),
        ("median", 2.1, [1.0, 2.0, 3.0], "Stop"),
        ("median", 1.5, [1.0, 2.0], "Continue"),
        ("median", 1.6, [1.0, 2.0], "Stop"),
        ("median", None, [], "Stop"),
        ("median", 5.0, [1.0, None], "Continue"),  # the median of 1 and worse than any
    ],
)
def test_who_goes_on(type_: str, value: float | None, earlier: list[float | None], decision: str) -> None:
    assert decide(early(type_), "minimize", value, earlier) == decision
    mirrored = [None if each is None else -each for each in (value, *earlier)]
    assert decide(early(type_), "maximize", mirrored[0], mirrored[1:]) == decision


def test_only_without_strict_does_an_earlier_value_of_the_trial_help_it() -> None:
    assert decide(early(), "minimize", 5.0, [1.0], best=0.5) == "Stop"
    assert decide(early(strict=False), "minimize", 5.0, [1.0], best=0.5) == "Continue"
    assert decide(early(strict=False), "minimize", 5.0, [1.0], best=None) == "Stop"


@given(
    st.sampled_from(["hyperband", "median"]),
    st.lists(st.floats(-10, 10), max_size=12),
    st.floats(-10, 10),
    st.floats(0, 5),
)
def test_a_better_value_never_fares_worse(type_: str, earlier: list[float], value: float, gain: float) -> None:
    if decide(early(type_), "minimize", value, earlier) == "Continue":
        assert decide(early(type_), "minimize", value - gain, earlier) == "Continue"


def climbed(
    definition: EarlyTerminate, goal: Goal, order: tuple[int, ...], values: Mapping[tuple[int, int], float | None]
) -> list[Arrival]:
    """Trials come to the first rung in this order, those that go on to the second, and so on."""
    recorded: list[Arrival] = []
    alive = list(order)
    for rung in (1, 3, 9):
        for trial in list(alive):
            recorded.append(arrive(definition, goal, recorded, trial, rung, values[trial, rung]))
            if recorded[-1].decision == "Stop":
                alive.remove(trial)
    return recorded


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
@pytest.mark.parametrize("type_", ["hyperband", "median"])
def test_whatever_the_order_of_four_trials_their_decisions_follow_from_the_records(
    type_: str, order: tuple[int, ...]
) -> None:
    values = {(trial, rung): 4.0 - trial - rung / 10 for trial in range(4) for rung in (1, 3, 9)}  # 3 is the best
    definition = early(type_, eta=2)
    recorded = climbed(definition, "minimize", order, values)

    first = [each for each in recorded if each.rung == 1]
    assert [each.trial for each in first] == list(order)
    assert [each.seen for each in first] == [0, 1, 2, 3]
    assert all(each.decision == "Continue" for each in recorded if each.trial == 3)
    expected = [order[0]]  # by hand: at the first rung of two
    for place, trial in enumerate(order[1:], start=1):
        better = sum(other > trial for other in order[:place])
        if type_ == "hyperband" and (better == 0 or (better + 1) * 2 <= place + 1):
            expected.append(trial)
        if type_ == "median" and trial >= median(order[:place]):
            expected.append(trial)
    assert [each.trial for each in first if each.decision == "Continue"] == expected

    backwards = tuple(reversed(recorded))  # the records carry the order themselves
    assert replay(definition, "minimize", backwards) == ()
    for index, each in enumerate(recorded):
        flipped = replace(each, decision="Stop" if each.decision == "Continue" else "Continue")
        assert replay(definition, "minimize", [*recorded[:index], flipped, *recorded[index + 1 :]]) != ()


def test_what_does_not_follow_is_told() -> None:
    definition = early(eta=2)
    a = Arrival(0, 1, 2.0, 0, "Continue")
    b = Arrival(1, 1, 1.0, 1, "Continue")
    c = Arrival(2, 1, 3.0, 2, "Stop")
    assert replay(definition, "minimize", [a, b, c]) == ()

    wrong = replace(c, decision="Continue")
    assert replay(definition, "minimize", [a, b, wrong]) == (
        "trial 2: at rung 1 with 3.0 after 2 others, Stop is right, and Continue is recorded",
    )
    assert replay(definition, "minimize", [a, c]) == ("trial 2: at rung 1 it has seen 2 others, but 1 came before it",)
    assert replay(definition, "minimize", [a, replace(b, seen=0)]) == (
        "trial 1: at rung 1 it has seen 0 others, but 1 came before it",
    )
    again = [a, b, c, Arrival(2, 3, 1.0, 0, "Continue")]
    assert replay(definition, "minimize", again) == ("trial 2: went on to rung 3 after it was stopped at rung 1",)
    assert "trial 0: was decided on twice at rung 1" in replay(definition, "minimize", [a, replace(a, seen=1)])


def test_a_value_that_is_no_number_is_replayed_too() -> None:
    definition = early()
    recorded = climbed(
        definition, "maximize", (0, 1), {(t, r): None if t == 0 else 1.0 for t in (0, 1) for r in (1, 3, 9)}
    )

    assert [(each.trial, each.decision) for each in recorded] == [
        (0, "Stop"),
        (1, "Continue"),
        (1, "Continue"),
        (1, "Continue"),
    ]
    assert replay(definition, "maximize", recorded) == ()
    wrong = replace(recorded[0], decision="Continue")
    assert replay(definition, "maximize", [wrong, *recorded[1:]]) == (
        "trial 0: at rung 1 with no finite number after 0 others, Stop is right, and Continue is recorded",
    )


def test_an_earlier_good_value_saves_nobody_whose_figure_is_no_number() -> None:
    assert decide(early(strict=False), "minimize", None, [1.0], best=0.5) == "Stop"
