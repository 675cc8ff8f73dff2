# SPDX-License-Identifier: Apache-2.0
"""k-sigma: the golden vector, the bounds an operator accepts, and that the real library names the right
statistics.
"""

import math
import sys

import pytest
from dj_data import VARIABLES

from sandbox_runtime.data_juicer import operators
from sandbox_runtime.data_juicer.bounds import NON_NEGATIVE, PROPORTIONS, Argument, number
from sandbox_runtime.data_juicer.k_sigma import refine

assert VARIABLES

SIGNED = {"audio_nmf_snr", "in_context_influence"}  # statistics that may be negative, and so are in no table
LENGTH = {"min_len": Argument("int", 10), "max_len": Argument("int", sys.maxsize)}
RATIO = {
    "min_ratio": Argument("float", 0.25),
    "max_ratio": Argument("float", 1.0),
    "tokenization": Argument("bool", False),
}


def test_the_golden_vector_comes_out_before_rounding_and_clamping():
    process = [
        {"text_length_filter": {"min_len": 10, "max_len": 10000}},
        {"alphanumeric_filter": {"min_ratio": 0.25, "max_ratio": 0.9}},
    ]
    overall = {
        "text_len": {"mean": 307.87, "std": 398.1677346501},
        "alnum_ratio": {"mean": 0.8339409049, "std": 0.0850306419},
    }
    refined, changes = refine(
        process,
        overall,
        {"text_length_filter": ["text_len"], "alphanumeric_filter": ["alnum_ratio"]},
        {"text_length_filter": LENGTH, "alphanumeric_filter": RATIO},
    )
    bounds = {(change.op, change.arg): change.bound for change in changes}
    assert bounds[("text_length_filter", "min_len")] == pytest.approx(-886.6332039503, abs=1e-9)
    assert bounds[("text_length_filter", "max_len")] == pytest.approx(1502.3732039503, abs=1e-9)
    # the vector's ten digits of mean and std give nine of the bounds
    assert bounds[("alphanumeric_filter", "min_ratio")] == pytest.approx(0.5788489792, abs=1e-9)
    assert bounds[("alphanumeric_filter", "max_ratio")] == pytest.approx(1.0890328306, abs=1e-9)
    assert refined[0]["text_length_filter"] == {"min_len": 0, "max_len": 1503}
    assert refined[1]["alphanumeric_filter"]["max_ratio"] == 1.0
    assert process[0]["text_length_filter"] == {"min_len": 10, "max_len": 10000}


def test_a_width_is_bounded_by_widths_and_a_height_by_heights():
    arguments = {f"{side}_{what}": Argument("int", 1) for side in ("min", "max") for what in ("width", "height")}
    overall = {"video_width": {"mean": 640.0, "std": 100.0}, "video_height": {"mean": 360.0, "std": 10.0}}
    refined, _ = refine(
        [{"video_resolution_filter": None}],
        overall,
        {"video_resolution_filter": {"video_width", "video_height"}},
        {"video_resolution_filter": arguments},
        k=2,
    )
    assert refined == [
        {"video_resolution_filter": {"min_width": 440, "max_width": 840, "min_height": 340, "max_height": 380}}
    ]


def test_bounds_left_at_their_default_are_refined_and_other_arguments_stay():
    refined, changes = refine(
        [{"alphanumeric_filter": {"tokenization": False}}],
        {"alnum_ratio": {"mean": 0.5, "std": 0.1}},
        {"alphanumeric_filter": {"alnum_ratio"}},
        {"alphanumeric_filter": RATIO},
        k=1,
    )
    assert refined == [{"alphanumeric_filter": {"tokenization": False, "min_ratio": 0.4, "max_ratio": 0.6}}]
    assert [(change.arg, change.before) for change in changes] == [("min_ratio", 0.25), ("max_ratio", 1.0)]


@pytest.mark.parametrize("std", [math.nan, math.inf, None])
def test_a_statistic_without_spread_figures_changes_nothing(std):
    process = [{"text_length_filter": {"min_len": 3}}]
    overall = {"text_len": {"mean": 5.0} if std is None else {"mean": 5.0, "std": std}}
    assert refine(process, overall, {"text_length_filter": {"text_len"}}, {"text_length_filter": LENGTH}) == (
        process,
        [],
    )


def test_equal_values_stay_within_their_own_bounds():
    value = 0.1 + 0.2  # the mean of rows may differ from each row in the last digit
    refined, _ = refine(
        [{"alphanumeric_filter": None}],
        {"alnum_ratio": {"mean": 0.3, "std": 0.0}},
        {"alphanumeric_filter": {"alnum_ratio"}},
        {"alphanumeric_filter": RATIO},
    )
    bounds = refined[0]["alphanumeric_filter"]
    assert bounds["min_ratio"] <= value <= bounds["max_ratio"]


def test_sizes_and_aspect_ratios_stay_text_that_the_operators_read():
    from fractions import Fraction

    from data_juicer.utils.mm_utils import size_to_bytes

    process = [
        {"image_size_filter": {"max_size": "1TB"}},
        {"video_aspect_ratio_filter": {"min_ratio": "9/21", "max_ratio": "21/9"}},
    ]
    refined, changes = refine(
        process,
        {"image_sizes": {"mean": 5000.5, "std": 2000.0}, "video_aspect_ratios": {"mean": 1.5, "std": 0.25}},
        *operators.op_statistics(process),
        k=1,
    )
    sizes, ratios = refined[0]["image_size_filter"], refined[1]["video_aspect_ratio_filter"]
    assert (size_to_bytes(sizes["min_size"]), size_to_bytes(sizes["max_size"])) == (3000, 7001)
    assert (Fraction(ratios["min_ratio"]), Fraction(ratios["max_ratio"])) == (Fraction("1.25"), Fraction("1.75"))
    assert changes[-1].before == "21/9"


@pytest.mark.parametrize("size", ["0", "700", "20KB", "20 kib", "3MB", "1TB"])
def test_sizes_are_read_as_the_operators_read_them(size):
    from data_juicer.utils.mm_utils import size_to_bytes

    assert number(size) == size_to_bytes(size)


@pytest.mark.parametrize("k", [0, -1, math.nan, math.inf])
def test_k_must_be_a_positive_number(k):
    with pytest.raises(ValueError, match="k must be a positive number"):
        refine([], {}, {}, {}, k=k)


TEXT_FILTERS = [
    {"text_length_filter": {}},
    {"alphanumeric_filter": {"tokenization": False}},
    {"special_characters_filter": {}},
    {"words_num_filter": {"tokenization": False}},
    {"word_repetition_filter": {"tokenization": False}},
    {"character_repetition_filter": {}},
    {"average_line_length_filter": {}},
    {"maximum_line_length_filter": {}},
]


def test_the_statistics_named_are_those_that_the_operators_write():
    from data_juicer.ops import load_ops
    from data_juicer.utils.constant import Fields

    named, _ = operators.op_statistics(TEXT_FILTERS)
    for operator in load_ops([dict(entry) for entry in TEXT_FILTERS]):
        rows = {"text": ["A line of text.\nAnother one, a little longer."], Fields.stats: [{}], Fields.context: [{}]}
        written = operator.compute_stats_batched(rows)[Fields.stats][0]
        assert set(written) == set(named[operator._name]), operator._name


def test_every_filter_with_bounds_has_a_statistic_that_can_set_them():
    """A statistic of the library that no table knows would be left unclamped; a bound that no statistic fits,
    untouched.
    """
    from data_juicer.ops import Filter

    bounded = {
        name: [arg for arg in operators.own_arguments(operator) if arg.startswith(("min_", "max_"))]
        for name, operator in operators.registry().items()
        if issubclass(operator, Filter)
    }
    _, op_args = operators.op_statistics([{name: None} for name in bounded])
    # values that no refinement gives, so that whatever is refined shows as a change
    process = [
        {name: {arg: "7" if op_args[name][arg].type == "str" else 7 for arg in arguments}}
        for name, arguments in bounded.items()
        if name in op_args
    ]
    op_stats, op_args = operators.op_statistics(process)
    figures = {"mean": 0.5, "std": 0.1}
    numeric = {stat for stats in op_stats.values() for stat in stats if stat in PROPORTIONS | NON_NEGATIVE | SIGNED}
    _, changes = refine(process, dict.fromkeys(numeric, figures), op_stats, op_args)
    touched = {(change.op, change.arg) for change in changes}
    untouched = {(op, arg) for op, arguments in bounded.items() for arg in arguments} - touched
    assert untouched == {
        # bounds on a field of the user's rows, not on a statistic
        ("specified_numeric_field_filter", "min_value"),
        ("specified_numeric_field_filter", "max_value"),
        # settings of the detector, not bounds on what it finds
        ("image_subplot_filter", "min_line_length"),
        ("image_subplot_filter", "max_line_gap"),
        ("video_motion_score_filter", "max_size"),
        ("video_motion_score_raft_filter", "max_size"),
        ("video_motion_score_ptlflow_filter", "max_size"),
    }
