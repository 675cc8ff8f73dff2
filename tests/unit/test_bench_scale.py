# SPDX-License-Identifier: Apache-2.0
"""What is made of the bench's measurements: shares of the floor, aims, ranges. The measuring itself is tests/api's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.bench.scale import progress, ranges
from tests.bench.scale.idle import spread
from tests.bench.scale.report import markdown, rows, table


def load(a_minute: float, *, operator: float | None = None, chains: int = 100, hooks: int = 1) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "jobs": chains * hooks, "chains": chains, "seconds": 60.0, "jobs a minute": a_minute,
        "chains a minute": a_minute / hooks, "cpu ms a job": {"kube-apiserver": 20.0},
    }  # fmt: skip
    if operator is not None:
        figures["cpu ms a job"]["operator"] = operator
        figures |= {
            "operator s a 1000 hooks": operator, "memory": {"now": 80.0, "peak": 90.0}, "writes": chains * 4,
            "reads": 0, "requests": {"create jobs": chains},
        }  # fmt: skip
    return figures


def a_run(a_minute: float = 750.0) -> dict[str, Any]:
    return {"loads": {"floor one hook": load(1000.0), "one hook": load(a_minute, operator=3.0)}}


def by_name(result: dict[str, Any]) -> dict[str, Any]:
    return {row.name: row for row in rows(result["loads"])}


def test_a_load_is_told_as_a_share_of_the_floor_of_the_same_run() -> None:
    found = by_name(a_run())
    share = found["one hook: share of the floor"]
    assert (share.value, share.aim, share.is_met) == (0.75, ">= 0.7", True)
    assert found["one hook: Jobs"].floor == 1000.0
    assert found["one hook: writes"].value == 4
    assert found["one hook: CPU of everything"].floor == 20.0
    assert not by_name(a_run(690.0))["one hook: share of the floor"].is_met


def test_a_load_that_was_not_run_is_not_told() -> None:
    assert list(rows({})) == []
    assert [row.name for row in rows({"one hook": load(700.0, operator=3.0)}) if "share" in row.name] == []


def test_an_aim_that_is_missed_says_so() -> None:
    assert table(a_run(600.0)).count("missed") == markdown(a_run(600.0)).count("missed") == 1
    assert "missed" not in table(a_run())


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(ranges, "RANGES", tmp_path / "ranges.yaml")
    paths = [tmp_path / f"run-{number}.json" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_text(json.dumps(a_run(750.0 + 10 * number)))
    return paths


def test_ranges_hold_what_five_runs_gave_and_a_fifth_on_either_side(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ranges.calibrate(runs)
    assert ranges.check(runs) == 0
    runs[0].write_text(json.dumps(a_run(750.0 * 0.79)))
    assert ranges.check(runs[:1]) == 1
    assert "OUTSIDE one hook: share of the floor" in capsys.readouterr().out


def test_times_are_checked_too_but_with_more_room(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    ranges.calibrate(runs)
    runs[0].write_text(json.dumps(a_run(75.0)))
    assert ranges.check(runs[:1]) == 1
    outside = [line for line in capsys.readouterr().out.splitlines() if line.startswith("OUTSIDE")]
    assert any("one hook: Jobs" in line for line in outside)
    runs[0].write_text(json.dumps(a_run(400.0)))
    ranges.check(runs[:1])
    assert "OUTSIDE one hook: Jobs" not in capsys.readouterr().out


def test_a_figure_that_is_missing_is_no_success(runs: list[Path]) -> None:
    ranges.calibrate(runs)
    runs[0].write_text(json.dumps({"loads": {}}))
    assert ranges.check(runs[:1]) == 1


def test_fewer_than_five_runs_are_no_range(runs: list[Path]) -> None:
    with pytest.raises(SystemExit, match="five runs; 4 were named"):
        ranges.calibrate(runs[:4])


def test_a_run_that_was_never_made_is_told(runs: list[Path]) -> None:
    ranges.calibrate(runs)
    with pytest.raises(SystemExit, match="make bench-scale"):
        ranges.check([runs[0].with_name("none.json")])


def test_ranks_are_values_that_were_measured() -> None:
    told = spread([float(value) for value in range(200)])
    assert (told["p50"], told["p99"], told["least"], told["most"], told["count"]) == (100, 198, 0, 199, 200)
    assert spread([7.0])["p99"] == 7.0


def test_the_bench_of_progress_says_where_waiting_became_longer_than_it_may() -> None:
    def shape(share: float) -> dict[str, Any]:
        quiet, busy = {"ms": {"p50": 20.0, "p99": 50.0}}, {"ms": {"p50": 20.0, "p99": 50.0 * share}}
        return {
            "pods": 2000,
            "quiet": quiet,
            "progress": {**busy, "progress writes a second": 20.0},
            "p99 share": share,
            "p99 share, 95 %": [share - 0.05, share + 0.05],
        }

    told = progress.table({"shapes": {"one experiment": shape(1.05), "one pod each": shape(1.2)}}).splitlines()
    assert "more than" not in told[1]
    assert told[2].endswith("more than 1.1")
    assert "1.15 to 1.25" in told[2]


def test_of_the_share_of_two_p99s_the_bench_says_how_sure_it_is() -> None:
    same = [float(value) for value in range(300)]
    least, most = progress.shares(same, same)
    assert least < 1 < most
    assert progress.shares([2 * value for value in same], same)[0] > most
