# SPDX-License-Identifier: Apache-2.0
"""Which values the coordinates of the unit cube stand for, beside W&B's own library, and what a definition may not say."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sweeps import a_space

from sandbox_api.distributions import DISTRIBUTIONS
from sandbox_operator.search.space import parse_space

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/sweep/quantiles.json").read_text())
BY_NAME = {each["name"]: each for each in GOLDEN["parameters"]}


def value(parameter: dict[str, Any], x: float) -> Any:
    space = a_space({"p": parameter})
    return space.values((x,) * space.dimensions)["p"]


def least_and_most(parameter: dict[str, Any]) -> tuple[float, float]:
    """The bounds that the definition itself says."""
    if "min" not in parameter:
        return -math.inf, math.inf
    low, high = parameter["min"], parameter["max"]
    match parameter.get("distribution", ""):
        case "log_uniform" | "q_log_uniform":
            return math.exp(low), math.exp(high)
        case "inv_log_uniform":
            return math.exp(-high), math.exp(-low)
    return low, high


@pytest.mark.parametrize("name", BY_NAME)
def test_each_coordinate_gives_the_value_that_the_library_of_wandb_gives(name: str) -> None:
    case = BY_NAME[name]
    low, high = least_and_most(case["parameter"])
    compared = 0
    for x, theirs in zip(GOLDEN["coordinates"], case["values"], strict=True):
        ours = value(case["parameter"], x)
        if isinstance(theirs, bool | str | None):
            assert ours == theirs
        elif low <= theirs <= high:
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12), x
        else:  # theirs rounds to multiples beyond the bounds, ours does not
            q = case["parameter"].get("q", 1)
            assert low <= ours <= high
            assert abs(ours - theirs) == pytest.approx(q)
            continue
        compared += 1

    assert compared >= 10


def test_there_is_a_golden_case_for_each_distribution() -> None:
    named = {each["parameter"].get("distribution") for each in GOLDEN["parameters"]}

    assert named >= set(DISTRIBUTIONS)


def test_the_definition_of_data_juicer_is_taken_as_it_is() -> None:
    """`distribution: q_log_uniform_values` without q: multiples of 1."""
    space, problems = parse_space(
        yaml.safe_load("""
            character_repetition_filter.rep_len: {values: [2, 4, 8, 16]}
            character_repetition_filter.max_ratio: {values: [0.3, 0.5, 0.7]}
            text_length_filter.min_len: {distribution: q_log_uniform_values, min: 256, max: 8192}
        """)
    )

    assert problems == ()
    assert space is not None
    values = space.values((0.5, 0.9, 0.5))
    assert values == {
        "character_repetition_filter.max_ratio": 0.5,
        "character_repetition_filter.rep_len": 16,
        "text_length_filter.min_len": 1448,
    }
    assert type(values["text_length_filter.min_len"]) is int


def test_nested_parameters_have_flat_names_and_constants_no_dimension() -> None:
    space = a_space(
        {
            "b": {"value": [1, 2]},
            "a": {"parameters": {"z": {"min": 1, "max": 9}, "c": {"parameters": {"d": {"values": [True]}}}}},
        }
    )

    assert [each.name for each in space.parameters] == ["a.c.d", "a.z", "b"]
    assert space.dimensions == 2
    assert space.values((0.5, 1.0)) == {"a.c.d": True, "a.z": 9, "b": [1, 2]}


@pytest.mark.parametrize(("limits", "kind"), [((1, 4), int), ((1.0, 4.0), float), ((1, 4.5), float), ((0.5, 4), float)])
def test_min_and_max_alone_are_integers_when_both_are_written_so(limits: tuple[float, float], kind: type) -> None:
    assert type(value({"min": limits[0], "max": limits[1]}, 0.4)) is kind


def test_a_range_of_two_integers_is_pointed_out() -> None:
    """kubectl makes 0 of 0.0, and a user who wrote `min: 0.0, max: 1.0` would search nothing between."""
    space = a_space({"p": {"min": 0, "max": 1}, "q": {"min": 0, "max": 2}})

    assert len(space.notes) == 1
    assert 'spec.parameters["p"]: is one of the integers 0 and 1' in space.notes[0]


def test_a_quantum_gives_the_numbers_that_one_would_write() -> None:
    assert [value({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1}, x) for x in (0.3, 0.7)] == [0.3, 0.7]
    assert repr(value({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1}, 0.3)) == "0.3"
    assert repr(value({"distribution": "q_uniform", "min": 0, "max": 9, "q": 1.0}, 0.34)) == "3"


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ({"distribution": "log_unifrom_values", "min": 1, "max": 2}, '["p"].distribution: there is no \'log_unifrom_values\'; did you mean log_uniform_values?'),
        ({"distribution": 3}, '["p"].distribution: there is no 3'),
        ({"min": 2, "max": 2}, '["p"]: min 2 must be less than max 2'),
        ({"min": 3}, '["p"]: does not say what its values are'),
        ({"min": 1, "max": 9, "q": 2}, '["p"]: does not say what its values are'),
        ({"mu": 1}, '["p"]: does not say what its values are'),
        ({"distribution": "uniform", "min": 0}, '["p"].max: is missing; uniform needs it'),
        ({"distribution": "uniform", "min": "0", "max": 1}, "[\"p\"].min: must be a finite number, not '0'"),
        ({"distribution": "uniform", "min": math.nan, "max": 1}, '["p"].min: must be a finite number, not nan'),
        ({"distribution": "uniform", "min": False, "max": 1}, '["p"].min: must be a finite number, not False'),
        ({"min": 0, "max": 10**400}, '["p"].max: must be a finite number, not 1000'),
        ({"distribution": "int_uniform", "min": 0.5, "max": 2}, '["p"].min: must be an integer up to 2^53, not 0.5'),
        ({"distribution": "normal", "sigma": 0}, '["p"].sigma: must be more than 0, not 0'),
        ({"distribution": "normal", "min": 0}, '["p"].min: is no key of normal; those are mu, sigma'),
        ({"distribution": "beta", "a": -1}, '["p"].a: must be more than 0, not -1'),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, '["p"].min: must be more than 0 on a logarithmic scale, not 0'),
        ({"distribution": "q_log_uniform", "min": 256, "max": 8192}, '["p"]: q_log_uniform reaches numbers that are too large (min and max are exponents of e); did you mean q_log_uniform_values?'),
        ({"distribution": "q_log_uniform", "min": -1000, "max": 5}, '["p"]: q_log_uniform reaches numbers that are too near to 0 (min and max are exponents of e); make it narrower'),
        ({"distribution": "inv_log_uniform", "min": 1, "max": 800}, '["p"]: inv_log_uniform reaches numbers that are too near to 0 (min and max are exponents of e); did you mean inv_log_uniform_values?'),
        ({"distribution": "log_normal", "mu": -800}, '["p"]: log_normal reaches numbers that are too near to 0; make it narrower'),
        ({"distribution": "uniform", "min": -1e308, "max": 1e308}, '["p"]: uniform reaches numbers that are too large; make it narrower'),
        ({"distribution": "log_normal", "sigma": 1000}, '["p"]: log_normal reaches numbers that are too large; make it narrower'),
        ({"distribution": "q_uniform", "min": 1e-6, "max": 1, "q": 1000}, '["p"].q: no multiple of 1000 lies between 1e-06 and 1'),
        ({"distribution": "q_uniform", "min": 1, "max": 3, "q": 10}, '["p"].q: no multiple of 10 lies between 1 and 3'),
        ({"distribution": "q_uniform", "min": 1, "max": 3, "q": 0}, '["p"].q: must be more than 0, not 0'),
        ({"values": []}, '["p"].values: must be a list of at least one value, not []'),
        ({"values": "abc"}, "[\"p\"].values: must be a list of at least one value, not 'abc'"),
        ({"values": [1, [math.inf]]}, '["p"].values[1][0]: inf is not a finite number'),
        ({"value": {"a": math.nan}}, '["p"].value.a: nan is not a finite number'),
        ({"values": [1, 2], "min": 0}, '["p"].min: is no key of categorical; those are values'),
        ({"values": [1, 2], "probabilities": [1]}, '["p"].probabilities: must be a list of 2, one for each of values, not [1]'),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, '["p"].probabilities: must sum to 1, not to 1.1'),
        ({"values": [1, 2], "probabilities": [-1, 2]}, '["p"].probabilities: must be numbers of at least 0, not [-1, 2]'),
        ({"distribution": "constant"}, '["p"].value: is missing'),
        ({"parameters": {}}, '["p"].parameters: is empty'),
        ({"parameters": {"q": {"min": 2, "max": 1}}}, '["p"].parameters["q"]: min 2 must be less than max 1'),
        ({"parameters": {"q": {"value": 1}}, "value": 2}, '["p"].value: is no key with nested parameters; those are parameters'),
        (0.3, '["p"]: must be a mapping; a constant is `value: 0.3`'),
        ([1, 2], '["p"]: must be a mapping'),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_field(parameter: Any, said: str) -> None:
    space, problems = parse_space({"p": parameter})

    assert space is None
    assert len(problems) == 1
    assert problems[0].startswith(f"spec.parameters{said}")


def test_all_mistakes_are_told_at_once() -> None:
    space, problems = parse_space(
        {
            "a": {"min": 1},
            "b": {"values": []},
            "c": {"value": 1},
            "d.e": {"value": 1},
            "d": {"parameters": {"e": {"value": 2}}},
        }
    )

    assert space is None
    assert [problem.split(":")[0] for problem in problems] == [
        'spec.parameters["a"]',
        'spec.parameters["b"].values',
        "spec.parameters",
    ]
    assert "two parameters are called 'd.e'" in problems[2]


def test_a_search_needs_parameters_and_takes_64_at_the_most() -> None:
    assert parse_space({})[1] == ("spec.parameters: is empty; name at least one parameter",)
    assert parse_space({f"p{i}": {"min": 0, "max": 9} for i in range(65)})[1] == (
        "spec.parameters: has 65 parameters to search, 64 are the most",
    )
    deep: dict[str, Any] = {"value": 1}
    for _ in range(2000):
        deep = {"parameters": {"a": deep}}
    assert "is nested more than 16 deep" in parse_space({"a": deep})[1][0]


def test_a_point_that_does_not_fit_is_refused() -> None:
    space = a_space({"p": {"min": 0.0, "max": 1.0}})

    for point in ((), (0.1, 0.2), (1.1,), (math.nan,)):
        with pytest.raises(ValueError, match="must be 1 numbers in"):
            space.values(point)


finite = st.floats(-1e6, 1e6, allow_subnormal=False)
positive = st.floats(1e-6, 1e6)
NUMERIC = st.one_of(
    st.tuples(st.sampled_from(["uniform", "q_uniform"]), finite, positive, positive),
    st.tuples(st.sampled_from(["log_uniform_values", "q_log_uniform_values", "inv_log_uniform_values"]), positive, positive, positive),
    st.tuples(st.sampled_from(["log_uniform", "q_log_uniform", "inv_log_uniform"]), st.floats(-10, 10), st.floats(0.01, 10), positive),
    st.tuples(st.just("int_uniform"), st.integers(-1000, 1000), st.integers(1, 1000), positive),
    st.tuples(st.sampled_from(["normal", "q_normal"]), st.floats(-100, 100), st.floats(0.01, 100), positive),
    st.tuples(st.sampled_from(["log_normal", "q_log_normal"]), st.floats(-3, 3), st.floats(0.01, 3), positive),
    st.tuples(st.sampled_from(["beta", "q_beta"]), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(1e-3, 1)),
)  # fmt: skip


def built(drawn: tuple[str, float, float, float]) -> dict[str, Any]:
    distribution, first, second, q = drawn
    keys = ("mu", "sigma") if "normal" in distribution else ("a", "b") if "beta" in distribution else ("min", "max")
    parameter = dict(zip(keys, (first, first + second if keys[0] == "min" else second), strict=True))
    return {"distribution": distribution, **parameter, **({"q": q} if distribution.startswith("q_") else {})}


@given(NUMERIC, st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_values_stay_within_bounds_on_the_quantum_and_rise_with_the_coordinate(
    drawn: tuple[str, float, float, float], coordinates: list[float]
) -> None:
    parameter = built(drawn)
    space, problems = parse_space({"p": parameter})
    if space is None:
        assert "no multiple of" in problems[0] or "min" in problems[0] or "too large" in problems[0]
        return
    values = [space.values((x,))["p"] for x in sorted([*coordinates, 0.0, 1.0])]

    low, high = least_and_most(parameter)
    assert all(math.isfinite(each) for each in values)
    assert json.loads(json.dumps(values)) == values
    assert values == sorted(values)
    slack = 1e-9 * max(1, abs(low), abs(high)) if math.isfinite(low) else 0
    assert all(low - slack <= each <= high + slack for each in values)
    if "q" in parameter:
        counts = [each / parameter["q"] for each in values]  # of large ones a float holds no fraction
        assert all(abs(count - round(count)) < max(1e-6, 4 * sys.float_info.epsilon * abs(count)) for count in counts)


GRID = {
    "a": {"values": ["x", "y"]},
    "b": {"min": 3, "max": 5},
    "c": {"distribution": "q_uniform", "min": 0, "max": 0.3, "q": 0.1},
    "k": {"value": 1},
}


def test_a_grid_has_each_combination_once_and_the_last_name_goes_fastest() -> None:
    space = a_space(GRID)
    assert space.grid_size == 24
    made = [tuple(space.values(space.grid_point(n)).values()) for n in range(24)]

    assert made == [(a, b, c, 1) for a in "xy" for b in (3, 4, 5) for c in (0.0, 0.1, 0.2, 0.3)]
    with pytest.raises(IndexError, match="the grid has 24 points"):
        space.grid_point(24)


@given(
    st.one_of(
        st.tuples(st.sampled_from(["q_uniform", "q_log_uniform_values"]), positive, positive, st.floats(0.01, 1e4)),
        st.tuples(st.just("q_log_uniform"), st.floats(-1000, 5), st.floats(0.01, 1000), st.floats(0.01, 1e4)),
        st.tuples(st.just("int_uniform"), st.integers(-1000, 1000), st.integers(1, 1000), positive),
    ),
    st.floats(0, 1),
)
def test_a_grid_reaches_whatever_a_search_could(drawn: tuple[str, float, float, float], x: float) -> None:
    space, _ = parse_space({"p": built(drawn)})
    if space is None or space.grid_size is None or space.grid_size > 2000:
        return
    grid = [space.values(space.grid_point(n))["p"] for n in range(space.grid_size)]

    assert len(set(grid)) == space.grid_size
    assert grid == sorted(grid)
    assert space.values((x,))["p"] in grid


def test_what_can_not_be_counted_has_no_grid() -> None:
    space = a_space(
        {"a": {"values": [1]}, "b": {"distribution": "normal"}, "c": {"values": [1, 2], "probabilities": [0.5, 0.5]}}
    )

    assert space.grid_size is None
    assert [problem.split(":")[0] for problem in space.grid_problems()] == [
        'spec.parameters["b"]',
        'spec.parameters["c"]',
    ]
    with pytest.raises(ValueError, match="a grid needs values that can be counted"):
        space.grid_point(0)
