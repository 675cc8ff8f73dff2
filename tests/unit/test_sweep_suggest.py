# SPDX-License-Identifier: Apache-2.0
"""Suggestions: the same from the same record in any process, with and without what is remembered, and good ones."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from tests.progress import deep_only
from tests.unit.sweeps import MIXED, a_space, bowl, search, some_settings

from sandbox_api.sweep import Method
from sandbox_operator.search.observed import Seen, decode_observed, encode_observed
from sandbox_operator.search.space import Point
from sandbox_operator.search.studies import Studies
from sandbox_operator.search.suggest import STARTUP, Settings, suggest

METHODS: tuple[Method, ...] = ("bayes", "random", "sobol", "grid")
GRID = {"a": {"values": ["x", "y", "z"]}, "b": {"min": 1, "max": 7}}
ROOT = Path(__file__).parents[2]
AGAIN = """
import json, sys
from sandbox_operator.search.observed import decode_observed
from sandbox_operator.search.suggest import suggest
from tests.unit.sweeps import some_settings
for method, raw, number, observed, points in json.load(sys.stdin):
    seen = decode_observed(observed, {int(n): tuple(point) for n, point in points.items()})
    made = suggest(some_settings(method, raw=raw), number, seen)
    print(json.dumps([made.point, made.values]))
"""


def test_another_process_suggests_the_same_bits() -> None:
    asked, here = [], []
    for method in METHODS:
        raw = GRID if method == "grid" else MIXED
        trials = search(some_settings(method, raw=raw), 20, parallelism=3, order=random.Random(5))
        points = {trial.number: trial.point for trial in trials}
        for trial in (trials[0], trials[7], trials[19]):
            asked.append([method, raw, trial.number, trial.observed, points])
            here.append(json.dumps([trial.point, trial.parameters]))
    done = subprocess.run(
        [sys.executable, "-c", AGAIN], input=json.dumps(asked), capture_output=True, text=True, check=True, cwd=ROOT,
        env={"PYTHONPATH": ":".join(["crds", "operator", "."]), "PYTHONHASHSEED": "7"},
    )  # fmt: skip

    assert done.stdout.splitlines() == here


@pytest.mark.parametrize("method", ["random", "sobol", "grid"])
def test_what_sees_nothing_suggests_the_same_whatever_happens(method: Method) -> None:
    settings_ = some_settings(method, raw=GRID)
    stormy = search(settings_, 21, parallelism=5, order=random.Random(1))
    calm = search(settings_, 21)

    assert [trial.parameters for trial in stormy] == [trial.parameters for trial in calm]


def test_a_search_at_random_or_evenly_spread_begins_otherwise_with_another_seed() -> None:
    for method in ("random", "sobol", "bayes"):
        first = [suggest(some_settings(method, seed=seed), 0).point for seed in (1, 2, 2**53)]
        assert len(set(first)) == 3, method


def test_sobols_points_are_the_sequence_and_fill_the_cube_evenly() -> None:
    settings_ = some_settings("sobol", raw={"a": {"min": 0.0, "max": 1.0}, "b": {"min": 0.0, "max": 1.0}})
    points = [suggest(settings_, number).point for number in range(64)]

    cells = {(math.floor(a * 8), math.floor(b * 8)) for a, b in points}
    assert len(cells) == 64  # one in each


def test_a_grid_ends() -> None:
    with pytest.raises(IndexError, match="the grid has 21 points"):
        suggest(some_settings("grid", raw=GRID), 21)


@pytest.mark.parametrize("method", METHODS)
def test_a_space_of_constants_alone_has_one_point(method: Method) -> None:
    made = suggest(some_settings(method, raw={"a": {"value": 1}}), 0)

    assert made.point == ()
    assert made.values == {"a": 1}


def seen_from(draw: random.Random, count: int, dimensions: int) -> list[Seen]:
    return [Seen(n, "running", None, tuple(draw.random() for _ in range(dimensions))) for n in range(count)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from(["minimize", "maximize"]), st.booleans())
def test_what_is_remembered_changes_nothing(seed: int, steps: int, goal: str, forgetful: bool) -> None:
    """Trials begin and end in any order, some are left out, some come late; two sweeps share what is remembered."""
    draw = random.Random(seed)
    settings_ = some_settings("bayes", goal=goal, seed=seed)  # type: ignore[arg-type]
    studies = Studies(size=1 if forgetful else 8)
    history = seen_from(draw, STARTUP, 4)
    for _ in range(steps):
        index = draw.randrange(len(history))
        old = history[index]
        if old.state == "running" or draw.random() < 0.05:  # the odd one changes after it ended
            state = draw.choice(["failed", "pruned", "succeeded", "succeeded"])
            value = None if state == "failed" else draw.choice([0.0, 1.0, draw.gauss(0, 1)])
            history[index] = Seen(old.number, state, value, old.point)
        if draw.random() < 0.5:
            history.append(Seen(len(history), "running", None, tuple(draw.random() for _ in range(4))))
        observed = tuple(each for each in history if draw.random() > 0.02)
        shuffled = tuple(draw.sample(observed, len(observed)))
        if draw.random() < 0.3:
            key = draw.choice(["one", "two"])
            made = suggest(settings_, len(history), shuffled, studies=studies, key=key)
            assert made == suggest(settings_, len(history), observed)


def test_the_whole_of_a_search_is_the_same_with_and_without_what_is_remembered() -> None:
    remembered = search(some_settings(), 60, parallelism=6, order=random.Random(3))
    anew = search(some_settings(), 60, parallelism=6, order=random.Random(3), remembers=False)

    assert remembered == anew


def test_suggestions_made_at_the_same_time_keep_apart() -> None:
    """The liar: a trial that runs counts as a bad one, so the next does not go to the same place."""
    settings_ = some_settings(raw={"a": {"min": 0.0, "max": 1.0}, "b": {"min": 0.0, "max": 1.0}})
    past = [
        Seen(n, "succeeded", bowl(point), point)
        for n in range(30)
        for point in [suggest(some_settings("random", raw={"a": {"min": 0.0, "max": 1.0}, "b": {"min": 0.0, "max": 1.0}}), n).point]
    ]  # fmt: skip

    def nearest(tells: bool) -> float:
        seen, made = list(past), []
        for n in range(30, 46):
            point = suggest(settings_, n, tuple(seen)).point
            made.append(point)
            if tells:
                seen.append(Seen(n, "running", None, point))
        return float(np.mean([min(math.dist(a, b) for b in made if b is not a) for a in made]))

    assert nearest(tells=True) > 1.3 * nearest(tells=False)


def test_failed_trials_do_not_count_and_pruned_ones_rank_behind_those_that_ended() -> None:
    draw = random.Random(1)
    ended = [Seen(s.number, "succeeded", bowl(s.point), s.point) for s in seen_from(draw, 20, 4)]
    point = (0.9, 0.9, 0.9, 0.9)

    def suggested(more: Seen | None) -> Point:
        return suggest(some_settings(), 30, tuple([*ended, more] if more else ended)).point

    assert suggested(Seen(20, "failed", None, point)) == suggested(None)
    assert suggested(Seen(20, "pruned", 1e9, point)) != suggested(None)
    assert suggested(Seen(20, "pruned", -1.0, point)) != suggested(Seen(20, "succeeded", -1.0, point))


states = st.one_of(
    st.tuples(st.sampled_from(["failed", "running"]), st.none()),
    st.tuples(st.sampled_from(["pruned", "succeeded"]), st.floats(allow_nan=False, allow_infinity=False)),
)


@given(st.dictionaries(st.integers(0, 10_000), states, max_size=30))
def test_what_was_seen_is_written_so_that_it_reads_back_bit_for_bit(drawn: dict[int, tuple[str, float | None]]) -> None:
    seen = tuple(Seen(n, state, value, (n / 10_000,)) for n, (state, value) in sorted(drawn.items()))  # type: ignore[arg-type]
    text = encode_observed(reversed(seen))

    again = decode_observed(text, {each.number: each.point for each in seen})
    assert again == seen
    assert [math.copysign(1, each.value or 0.0) for each in again] == [
        math.copysign(1, each.value or 0.0) for each in seen
    ]


def test_the_line_reads_as_people_write_it() -> None:
    points = dict.fromkeys(range(4), (0.5,))
    seen = decode_observed("0=0.5 1=failed 2=running 3=pruned:0.4", points)

    assert [(each.number, each.state, each.value) for each in seen] == [
        (0, "succeeded", 0.5), (1, "failed", None), (2, "running", None), (3, "pruned", 0.4),
    ]  # fmt: skip
    assert decode_observed("", {}) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0=0.5 0=0.5", "trial 0 comes after trial 0; each stands once, rising"),
        ("1=0.5 0=0.5", "trial 0 comes after trial 1"),
        ("9=0.5", "there is no trial 9"),
        ("0=nan", "'0=nan' is not `<trial>=<value>`"),
        ("0=inf", "'0=inf' is not `<trial>=<value>`"),
        ("0=1e999", "trial 0: one that is succeeded has a finite value, not inf"),
        ("0=1.2.3", "'1.2.3' is not a number"),
        ("0=stopped", "'0=stopped' is not `<trial>=<value>`"),
        ("0", "'0' is not `<trial>=<value>`"),
        ("00=1", "'00=1' is not"),
    ],
)
def test_a_line_that_is_none_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        decode_observed(text, {0: (0.5,), 1: (0.5,)})


def branin(x: float, y: float) -> float:
    """Dixon and Szego 1978, on its usual square; its least is 0.397887."""
    a, b = 15 * x - 5, 15 * y
    return (
        (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10
    )


_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P = 1e-4 * np.array([
    [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
])  # fmt: skip


def hartmann6(*point: float) -> float:
    """Hartmann's function in six dimensions; its least is -3.32237."""
    return -float(np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-(_A * (np.array(point) - _P) ** 2).sum(axis=1)))


def test_the_test_functions_are_what_their_names_say() -> None:
    assert branin((math.pi + 5) / 15, 2.275 / 15) == pytest.approx(0.397887, abs=1e-6)
    assert hartmann6(0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573) == pytest.approx(-3.32237, abs=1e-5)


def bests(method: Method, seeds: range, trials: int, name: str) -> list[float]:
    """The best of a search with each seed, four trials at a time."""
    function, dimensions = (branin, 2) if name == "branin" else (hartmann6, 6)
    space = a_space({f"x{axis}": {"distribution": "uniform", "min": 0, "max": 1} for axis in range(dimensions)})

    def value(point: Point) -> float:
        return function(*point)

    return [
        min(
            trial.value or 0.0
            for trial in search(Settings(method, "minimize", seed, space), trials, parallelism=4, objective=value)
        )
        for seed in seeds
    ]


def test_bayes_finds_more_than_random_on_hartmanns_function() -> None:
    """A sample of the test below: five seeds."""
    tpe, chance = bests("bayes", range(5), 60, "hartmann6"), bests("random", range(5), 60, "hartmann6")

    assert np.median(tpe) < np.median(chance) - 0.2


@deep_only
@pytest.mark.parametrize("name", ["branin", "hartmann6"])
def test_bayes_finds_more_than_random_with_thirty_seeds(name: str) -> None:
    """Mann-Whitney's test, one-sided."""
    tpe, chance = bests("bayes", range(30), 80, name), bests("random", range(30), 80, name)

    assert mannwhitneyu(tpe, chance, alternative="less").pvalue < 0.01
