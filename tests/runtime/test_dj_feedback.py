# SPDX-License-Identifier: Apache-2.0
"""Model feedback decides: small cases by hand, and what it does over many seeds of noise and of planted cut-offs.

The issue asks for 200 seeds of each; `make test` takes a sample, SANDBOX_DEEP=1 all of them.
"""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from tests.progress import DEEP, Say, long, told

from sandbox_runtime.data_juicer.association import holm, quantile_bins
from sandbox_runtime.data_juicer.bounds import Argument, with_bounds
from sandbox_runtime.data_juicer.errors import DatasetError
from sandbox_runtime.data_juicer.feedback import Decision, Finding, Rule, criteria_of, decide
from sandbox_runtime.data_juicer.scored import read_scores, read_statistics

SEEDS = range(200 if DEEP else 25)
AIM_NOISE, AIM_PLANTED = 0.07, 0.95
WIDE = {"min_value": -1e9, "max_value": 1e9}
ROWS = 2000
DEFAULT = Rule()


def refined(
    statistics: Mapping[str, Any],
    scores: Any,
    rule: Rule = DEFAULT,
    *,
    process: list[dict[str, Any]] | None = None,
    arguments: Mapping[str, Argument] | None = None,
    unfit: Mapping[str, str] | None = None,
    maximize: bool = True,
    seed: int = 1,
) -> tuple[list[dict[str, Any]], Decision]:
    """What comes of a recipe with one filter for each statistic, named as it is; its bounds are wide if not given."""
    columns = {name: np.asarray(values, dtype=float) for name, values in statistics.items()}
    process = process or [{name: dict(WIDE)} for name in columns]
    arguments = arguments or {arg: Argument("float", value) for arg, value in WIDE.items()}
    names = {name: [name] for name in columns}
    criteria = criteria_of(process, columns, unfit or {}, names, dict.fromkeys(columns, arguments))
    decision = decide(criteria, np.asarray(scores, dtype=float), rule, maximize=maximize, seed=seed)
    return with_bounds(process, decision.moved), decision


def finding(decision: Decision, arg: str, name: str = "x") -> Finding:
    return next(found for found in decision.findings if (found.op, found.arg) == (name, arg))


def cut_off(rows: int = ROWS, at: float = 0.3, seed: int = 5) -> tuple[Any, Any]:
    """A statistic that is evenly spread over [0, 1), and scores that are half a standard deviation better above."""
    rng = np.random.default_rng(seed)
    x = rng.permutation(rows) / rows
    return x, rng.normal(size=rows) + 0.5 * (x >= at)


# what it decides


def test_where_the_score_rises_the_lower_bound_follows() -> None:
    x, scores = cut_off()
    process, decision = refined({"x": x}, scores, Rule(max_step=10))

    assert process == [{"x": {"min_value": 0.3, "max_value": 1e9}}]
    evidence = finding(decision, "min_value").evidence
    assert evidence is not None
    assert (evidence.shape, evidence.best_from, evidence.best_to, evidence.rows) == ("up", 0.3, None, ROWS)
    assert evidence.inside == pytest.approx(scores[x >= 0.3].mean())
    assert evidence.outside == pytest.approx(scores[x < 0.3].mean())
    assert evidence.p == evidence.corrected == pytest.approx(1 / 401)  # the least that 400 permutations can give
    assert decision.expected_kept == finding(decision, "min_value").expected_kept == 0.7
    assert finding(decision, "max_value").why == "stays: it is where the score is best"
    assert finding(decision, "min_value").why.startswith("moved: the score is best from 0.3 (mean ")


def test_where_a_loss_rises_the_upper_bound_follows() -> None:
    x, losses = cut_off(at=0.7)
    process, decision = refined({"x": x}, losses, Rule(max_step=10), maximize=False)

    assert process == [{"x": {"min_value": -1e9, "max_value": 0.6995}}]  # the greatest value below the cut-off
    evidence = finding(decision, "max_value").evidence
    assert evidence is not None
    assert (evidence.shape, evidence.best_to) == ("down", 0.6995)
    assert evidence.inside < evidence.outside


def test_where_the_middle_is_best_it_becomes_a_band() -> None:
    x, _ = cut_off()
    scores = np.random.default_rng(5).normal(size=ROWS) + 0.5 * ((x >= 0.2) & (x < 0.8))
    process, decision = refined({"x": x}, scores, Rule(max_step=10))

    assert process == [{"x": {"min_value": 0.2, "max_value": 0.7995}}]
    evidence = finding(decision, "min_value").evidence
    assert evidence is not None
    assert evidence.shape == "band"
    assert decision.expected_kept == 0.6


def test_a_rise_without_a_step_is_no_band() -> None:
    x, _ = cut_off()
    _, decision = refined({"x": x}, np.random.default_rng(5).normal(size=ROWS) + x, Rule(max_step=10))

    evidence = finding(decision, "min_value").evidence
    assert evidence is not None
    assert evidence.shape == "up"


def test_noise_moves_nothing() -> None:
    x, _ = cut_off()
    process, decision = refined({"x": x}, np.random.default_rng(5).normal(size=ROWS))

    assert process == [{"x": WIDE}]
    assert "beyond chance" in finding(decision, "min_value").why
    assert decision.moved == []
    assert decision.expected_kept == decision.kept_before == 1


def test_of_copies_only_one_moves() -> None:
    x, scores = cut_off()
    rng = np.random.default_rng(6)
    statistics = {"noise": rng.normal(size=ROWS), "x": x, "cubed": -((x + rng.normal(0, 0.01, ROWS)) ** 3)}
    process, decision = refined(statistics, scores)

    assert decision.copies == [["x", "cubed"]]
    assert [found.op for found in decision.moved] == ["x"]
    assert finding(decision, "min_value", "cubed").why == "stays: a copy of x of x, which may move"
    assert process[2] == {"cubed": WIDE}


def test_min_kept_stops_a_move_on_its_way_and_before_it() -> None:
    x, scores = cut_off(at=0.7)
    _, decision = refined({"x": x}, scores, Rule(max_step=10))
    assert finding(decision, "min_value").after == 0.5
    assert decision.expected_kept == 0.5
    assert "less than 0.5 of the rows (minKept)" in finding(decision, "min_value").why

    process, decision = refined({"x": x}, scores, Rule(min_kept=0.95))
    assert process == [{"x": WIDE}]
    assert finding(decision, "min_value").why == "stays: the recipe would keep less than 0.95 of the rows (minKept)"


def test_min_kept_is_of_the_whole_recipe() -> None:
    """Two filters that would keep 0.7 each keep half of the rows together; the second gets only what is left."""
    x, scores = cut_off()
    y = np.random.default_rng(8).permutation(ROWS) / ROWS
    scores = scores + 0.5 * (y < 0.7)
    process, decision = refined({"x": x, "y": y}, scores, Rule(max_step=10, min_kept=0.55))

    kept = (x >= process[0]["x"]["min_value"]) & (y <= process[1]["y"]["max_value"])
    assert 0.55 <= kept.mean() < 0.6
    assert decision.expected_kept == pytest.approx(kept.mean())
    assert len(decision.moved) == 2


def test_a_recipe_that_keeps_too_little_may_still_loosen() -> None:
    x, scores = cut_off(at=0.3)
    process, decision = refined({"x": x}, scores, process=[{"x": {"min_value": 0.8, "max_value": 1e9}}])

    assert process == [{"x": {"min_value": 0.7, "max_value": 1e9}}]
    assert (decision.kept_before, decision.expected_kept) == (pytest.approx(0.2), pytest.approx(0.3))


def test_a_bound_moves_one_step_a_run_and_stays_where_it_belongs() -> None:
    x, scores = cut_off(at=0.3)
    process, seen = [{"x": dict(WIDE)}], []
    for _ in range(5):
        process, decision = refined({"x": x}, scores, process=process)
        seen.append(process[0]["x"]["min_value"])
    assert seen == [0.1, 0.2, 0.3, 0.3, 0.3]
    assert decision.moved == []


@pytest.mark.parametrize(("before", "after"), [(0.25, 0.3), (0.35, 0.3), (0.45, 0.4), (0.12, 0.2), (0.3, 0.3)])
def test_a_bound_between_two_edges_goes_to_the_next_one(before: float, after: float) -> None:
    x, scores = cut_off(at=0.3)
    process, _ = refined({"x": x}, scores, process=[{"x": {"min_value": before, "max_value": 1e9}}])
    assert process[0]["x"]["min_value"] == after


@pytest.mark.parametrize(("dropped", "after"), [(0.06, 0.06), (0.02, 0.02)])
def test_a_bound_lets_in_no_rows_for_the_good_ones_beside_them(dropped: float, after: float) -> None:
    """Low ones are best, but for those that the recipe drops: enough of them to be told apart, or too few to judge."""
    x, scores = cut_off(at=0.5)
    scores = -scores - 0.5 * (x < dropped)
    process, decision = refined({"x": x}, scores, process=[{"x": {"min_value": dropped, "max_value": 1e9}}])

    assert process == [{"x": {"min_value": after, "max_value": 0.8995}}]
    assert finding(decision, "min_value").why == "stays: it is where the score is best"


def test_whole_numbers_stay_whole_and_ties_stay_together() -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 6, ROWS)
    scores = rng.normal(size=ROWS) + 0.7 * (x >= 2)
    arguments = {"min_len": Argument("int", 0), "max_len": Argument("int", 2**63 - 1)}
    process, decision = refined({"x": x}, scores, Rule(max_step=10), process=[{"x": {}}], arguments=arguments)

    assert process == [{"x": {"min_len": 2}}]
    assert decision.expected_kept == (x >= 2).mean()


@pytest.mark.parametrize(("arg", "at", "value"), [("min_value", 0.3, 0.3), ("max_value", 0.7, 0.6995)])
def test_open_intervals_keep_the_same_rows(arg: str, at: float, value: float) -> None:
    x, scores = cut_off(at=at)
    settings = {**WIDE, "min_closed_interval": False, "max_closed_interval": False}
    process, decision = refined(
        {"x": x}, scores if arg == "min_value" else -scores, Rule(max_step=10), process=[{"x": settings}]
    )

    bound = process[0]["x"][arg]
    assert bound == pytest.approx(value)
    kept = x > bound if arg == "min_value" else x < bound
    assert kept.mean() == decision.expected_kept == 0.7


def test_a_filter_with_one_bound_moves_that_one() -> None:
    x, scores = cut_off()
    arguments = {"min_value": Argument("float", 0.0)}
    process, _ = refined({"x": x}, scores, process=[{"x": None}], arguments=arguments)
    assert process == [{"x": {"min_value": 0.1}}]

    process, decision = refined({"x": x}, -scores, process=[{"x": None}], arguments=arguments)
    assert process == [{"x": None}]  # the low ones are best, and it can't keep them alone
    assert "beyond chance" in finding(decision, "min_value").why


@pytest.mark.parametrize(
    ("values", "unfit", "settings", "why"),
    [
        (np.ones(ROWS), "", WIDE, "fewer than two bins of 100 scored rows"),
        (np.full(ROWS, math.nan), "rows have several values of it", WIDE, "rows have several values of it"),
        (
            np.arange(ROWS),
            "",
            {"min_value": 1e8, "max_value": 1e9, "reversed_range": True},
            "keeps what is outside of its bounds",
        ),
    ],
)
def test_what_can_not_be_tested_stays_and_says_why(values: Any, unfit: str, settings: dict[str, Any], why: str) -> None:
    x, scores = cut_off()
    unfits = {"odd": unfit} if unfit else {}
    process = [{"odd": settings}, {"x": dict(WIDE)}]
    process, decision = refined({"odd": values, "x": x}, scores, process=process, unfit=unfits)

    assert process == [{"odd": settings}, {"x": {**WIDE, "min_value": 0.1}}]
    assert why in finding(decision, "min_value", "odd").why
    assert finding(decision, "min_value", "odd").evidence is None


def test_few_scored_rows_make_wide_bins_and_too_few_none() -> None:
    x, scores = cut_off()
    scores = np.where(np.arange(ROWS) < 350, scores + (x >= 1 / 3), math.nan)
    process, _ = refined({"x": x}, scores)
    assert process[0]["x"]["min_value"] == np.sort(x[:350])[350 // 3]  # three bins, not ten of 35 rows

    _, decision = refined({"x": x}, np.where(np.arange(ROWS) < 150, scores, math.nan))
    assert "fewer than two bins" in finding(decision, "min_value").why


def test_rows_without_the_statistic_are_kept_and_do_not_decide() -> None:
    x, scores = cut_off()
    x[:500], scores[:500] = math.nan, -100
    _, decision = refined({"x": x}, scores)
    evidence = finding(decision, "min_value").evidence
    assert evidence is not None
    assert evidence.rows == 1500
    assert decision.expected_kept == pytest.approx((500 + 0.9 * 1500) / ROWS)


def test_the_same_seed_decides_the_same_and_equal_scores_nothing() -> None:
    x, scores = cut_off()
    assert refined({"x": x}, scores, seed=3)[1] == refined({"x": x}, scores, seed=3)[1]
    assert refined({"x": x}, np.full(ROWS, 0.1))[1].moved == []


# pieces


def test_bins_have_their_support_and_no_value_is_in_two() -> None:
    rng = np.random.default_rng(2)
    for values in (rng.normal(size=1005), rng.poisson(2, 1005), np.where(rng.random(1005) < 0.9, 0, rng.random(1005))):
        bins = quantile_bins(np.asarray(values, dtype=float), 10, 100)
        assert bins.counts.sum() == 1005
        assert bins.counts.min() >= 100
        assert (bins.starts[1:] > bins.ends[:-1]).all()
    assert len(quantile_bins(rng.normal(size=1005), 10, 100).counts) == 10
    parts = quantile_bins(np.arange(1000.0), 10, 100, apart=[150.0, 990.0])  # the second leaves ten rows: too few
    assert parts.starts.tolist() == [0, 150, 300, 400, 500, 600, 700, 800, 900]


def test_holm_is_as_published() -> None:
    # Holm 1979: m p(1), then (m - 1) p(2), ..., never falling
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_scores_are_read_from_all_that_they_come_in(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    lines = tmp_path / "scores.jsonl"
    lines.write_text(
        '{"__sandbox_id__": "a", "score": 1}\n{"__sandbox_id__": "a", "score": 2}\n{"__sandbox_id__": "b", "score": NaN}\n'
        '{"__sandbox_id__": "c", "score": "high"}\n{"score": 5}\n{"__sandbox_id__": "d", "score": true}\n'
        '{"__sandbox_id__": "e", "score": [0.5]}\n'
    )
    found = read_scores(lines, "score")
    assert found.by_id == {"a": 1.5, "d": 1.0, "e": 0.5}
    assert (found.rows, found.without_number, found.without_id) == (7, 2, 1)

    table = tmp_path / "scores.parquet"
    nested = [{"quality": 0.5}, {"quality": None}]
    pyarrow.parquet.write_table(pyarrow.table({"__sandbox_id__": ["a", "b"], "judge": nested}), table)
    assert read_scores(table, "judge.quality").by_id == {"a": 0.5}
    with pytest.raises(DatasetError, match="is no file that ends in"):
        read_scores(tmp_path / "scores.csv", "score")


def test_statistics_of_an_analysis_are_read_by_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_text(
        '{"__sandbox_id__": "a", "__dj__stats__": {"n": 1, "one": [2.5], "many": [1, 2], "lang": "en", "gone": null}}\n'
        '{"__sandbox_id__": "b", "__dj__stats__": {"n": 2, "one": [], "many": [1], "lang": "de", "gone": 3}}\n'
    )
    found = read_statistics(path, ["n", "one", "many", "lang", "gone", "never"])
    assert found.ids == ["a", "b"]
    assert {name: values.tolist() for name, values in found.values.items() if name != "many"} == {
        "n": [1, 2], "one": [2.5, pytest.approx(math.nan, nan_ok=True)], "gone": [pytest.approx(math.nan, nan_ok=True), 3],
    }  # fmt: skip
    assert np.isnan(found.values["many"]).all()
    assert found.unfit == {"many": "rows have several values of it"}


# what it does over many seeds


def statistics_of(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    """Five statistics as they come: bell-shaped, skewed, whole numbers, mostly zero, and one that hangs on the first."""
    bell = rng.normal(size=rows)
    return {
        "bell": bell,
        "skewed": rng.lognormal(size=rows),
        "whole": rng.poisson(4, rows),
        "sparse": np.where(rng.random(rows) < 0.6, 0, rng.random(rows)),
        "like_bell": 0.8 * bell + 0.6 * rng.normal(size=rows),
    }


def scores_of(rng: np.random.Generator, kind: int, rows: int) -> Any:
    """Bell-shaped, of heavy tails, yes or no, skewed."""
    return [
        lambda: rng.normal(size=rows),
        lambda: rng.standard_t(2, size=rows),
        lambda: (rng.random(rows) < 0.2).astype(float),
        lambda: rng.exponential(size=rows),
    ][kind % 4]()


@long
def test_pure_noise_rarely_changes_a_recipe(counts: Say) -> None:
    found: Counter[str] = Counter({"changed": 0})
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 1])
        scores = scores_of(rng, seed, ROWS)
        scores[rng.random(ROWS) < 0.2] = math.nan
        _, decision = refined(statistics_of(rng, ROWS), scores, maximize=seed % 2 == 0, seed=seed)
        found.update({"runs": 1, "changed": bool(decision.moved)})
    counts(f"model feedback on pure noise: {told(found)}")
    # a sample is too small to see the aim in it: there, no more than a rate of alpha gives in 999 of 1000 samples
    allowed = AIM_NOISE * found["runs"] if DEEP else binom.ppf(0.999, found["runs"], DEFAULT.alpha)
    assert found["changed"] <= allowed


@long
def test_a_planted_cut_off_is_found_within_one_bin(counts: Say) -> None:
    """Scores are half a standard deviation better on one side of it, or between two of them."""
    rule, found = Rule(max_step=10), Counter({"found": 0, "other operators moved": 0})
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 2])
        statistics = statistics_of(rng, ROWS)
        stat = ("bell", "skewed")[seed % 2]
        del statistics["like_bell"]  # it hangs on the score too, and rightly moves
        share = statistics[stat].argsort().argsort() / ROWS
        low, high = [(rng.uniform(0.1, 0.4), 1.0), (0.0, rng.uniform(0.6, 0.9)), (0.2, rng.uniform(0.7, 0.9))][seed % 3]
        scores = rng.normal(size=ROWS) + 0.5 * ((share >= low) & (share < high))
        process, decision = refined(statistics, scores, rule, seed=seed)
        bounds = process[list(statistics).index(stat)][stat]
        kept_from, kept_to = (
            np.mean(statistics[stat] < bounds["min_value"]),
            np.mean(statistics[stat] <= bounds["max_value"]),
        )
        near = abs(kept_from - low) <= 1 / rule.bins and abs(kept_to - high) <= 1 / rule.bins
        others = {move.op for move in decision.moved} - {stat}
        found.update({"runs": 1, "found": bool(near), "other operators moved": len(others)})
    counts(f"model feedback on a planted cut-off: {told(found)}")
    assert found["found"] >= AIM_PLANTED * found["runs"]
