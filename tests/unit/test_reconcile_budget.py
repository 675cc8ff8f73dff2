# SPDX-License-Identifier: Apache-2.0
"""Whose progress is written when: a clock that the test turns, and nothing else."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise

import pytest

from sandbox_operator.kube.informer import Key
from sandbox_operator.reconcile.budget import LONGEST_DEBT, PAUSE, WRITES_A_SECOND, Budget
from sandbox_operator.reconcile.push import interval_for


def key(number: int) -> Key:
    return "lab", f"e-{number:04d}"


class Writers:
    """Experiments that have something new to tell whenever they may, and are written whenever it is their turn."""

    def __init__(self, count: int) -> None:
        self.budget = Budget()
        self.now = 0.0
        self.written: dict[Key, list[float]] = defaultdict(list)
        for number in range(count):
            self.budget.ask(key(number), self.now)

    def run(self, seconds: float, decided: float = 0.0, takes: float = 0.0) -> None:
        """`decided`: statuses a second that workers write meanwhile. `takes`: seconds that a write is under way."""
        end, decision = self.now + seconds, self.now if decided else math.inf
        while self.now < end:
            if (turn := self.budget.turn(self.now)) is not None:
                self.written[turn].append(self.now)
                self.budget.written(turn, self.now)
                self.now += takes
                self.budget.took(takes, self.now)
                self.budget.ask(turn, self.now)
            wait = self.budget.seconds_to_next(self.now)
            assert wait is not None
            self.now = min(self.now + max(wait, 1e-6), decision, end)
            if self.now == decision:
                self.budget.decided(self.now)
                decision += 1 / decided


@pytest.mark.parametrize(("count", "rate"), [(1, 0.1), (50, 5.0), (400, WRITES_A_SECOND)])
def test_no_experiment_is_written_twice_in_ten_seconds_nor_all_together_more_than_twenty_times_a_second(
    count: int, rate: float
) -> None:
    writers = Writers(count)
    writers.run(60)
    times = sorted(at for found in writers.written.values() for at in found)
    assert len(times) == pytest.approx(60 * rate, rel=0.05, abs=1)
    assert all(b - a >= 1 / WRITES_A_SECOND - 1e-9 for a, b in pairwise(times)), "no burst either"
    for found in writers.written.values():
        assert all(b - a >= PAUSE - 1e-9 for a, b in pairwise(found))


def test_all_have_their_turn_before_one_has_another() -> None:
    writers = Writers(400)
    writers.run(1.5 * 400 / WRITES_A_SECOND)
    assert {len(found) for found in writers.written.values()} <= {1, 2}
    assert len(writers.written) == 400


def test_progress_only_takes_what_decisions_leave() -> None:
    writers = Writers(1000)
    writers.run(30, decided=15)
    assert sum(map(len, writers.written.values())) == pytest.approx(30 * 5, rel=0.1)
    before = sum(map(len, writers.written.values()))
    writers.run(30, decided=40)
    assert sum(map(len, writers.written.values())) - before <= 1, "nothing is left"
    writers.run(10 + LONGEST_DEBT)
    after = sum(map(len, writers.written.values())) - before
    assert after >= 10 * WRITES_A_SECOND * 0.9, "and soon after the burst it goes on"


@pytest.mark.parametrize(("takes", "rate"), [(0.001, WRITES_A_SECOND), (0.02, 5.0), (0.5, 0.2), (5.0, 1 / (PAUSE + 5))])
def test_a_write_is_under_way_for_a_tenth_of_the_time_and_one_that_takes_long_has_its_pause(
    takes: float, rate: float
) -> None:
    writers = Writers(1000)
    writers.run(120, takes=takes)
    assert sum(map(len, writers.written.values())) == pytest.approx(120 * rate, rel=0.05, abs=1)


def test_decisions_do_not_shorten_the_rest_after_a_write_that_took_long() -> None:
    budget = Budget()
    budget.ask(key(1), 0.0)
    budget.took(0.5, 0.0)
    budget.decided(0.1)
    assert budget.seconds_to_next(0.1) == pytest.approx(4.4)


def test_who_has_nothing_to_tell_is_not_written_and_who_was_forgotten_neither() -> None:
    budget = Budget()
    assert (budget.turn(5.0), budget.seconds_to_next(5.0)) == (None, None)
    budget.ask(key(1), 5.0)
    budget.ask(key(1), 5.0)
    assert budget.seconds_to_next(5.0) == 0.0
    assert budget.turn(5.0) == key(1)
    budget.written(key(1), 5.0)
    assert budget.turn(6.0) is None, "asking twice is asking once"
    budget.ask(key(1), 6.0)
    assert budget.seconds_to_next(6.0) == pytest.approx(9.0)
    assert len(budget) == 1
    budget.forget(key(1))
    assert (budget.turn(60.0), budget.seconds_to_next(60.0), len(budget)) == (None, None, 0)
    budget.ask(key(1), 61.0)
    assert budget.turn(61.0) == key(1), "and may begin anew"


@pytest.mark.parametrize(("pods", "seconds"), [(0, 10), (1, 10), (200, 10), (201, 11), (2000, 100)])
def test_pods_are_told_an_interval_at_which_together_they_fill_the_budget(pods: int, seconds: float) -> None:
    assert interval_for(pods) == seconds
