# SPDX-License-Identifier: Apache-2.0
"""From a pool back to the recipe that selects it: in plain numbers, and by the real Analyzer and the real filters."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_run_local import Shell
from tests.hook_pod import write_jsonl
from tests.progress import deep_only

from sandbox_runtime.data_juicer.bounds import Argument
from sandbox_runtime.data_juicer.pool_recipe import Selection, selection_of

pytestmark = pytest.mark.timeout(600)

PROCESS = [{"text_length_filter": {"min_len": 1}}, {"special_characters_filter": {}}, {"words_num_filter": {}}]
OP_STATS = {
    "text_length_filter": ["text_len"],
    "special_characters_filter": ["special_char_ratio"],
    "words_num_filter": ["num_words"],
}
OP_ARGS = {
    "text_length_filter": {"min_len": Argument("int", 10), "max_len": Argument("int", 1000)},
    "special_characters_filter": {"min_ratio": Argument("float", 0.0), "max_ratio": Argument("float", 0.25)},
    "words_num_filter": {"min_num": Argument("int", 10), "max_num": Argument("int", 10000)},
}
CHANCE = np.random.default_rng(5)
COLUMNS = {
    "text_len": CHANCE.permutation(300).astype(float),
    "special_char_ratio": CHANCE.random(300),
    "num_words": CHANCE.integers(1, 50, 300).astype(float),
}


def selected(inside: "np.ndarray[Any, np.dtype[np.bool_]]", columns: dict[str, Any] = COLUMNS) -> Selection:
    return selection_of(PROCESS, columns, inside, OP_STATS, OP_ARGS)


def test_a_pool_cut_by_one_statistic_is_selected_by_it_alone() -> None:
    found = selected(COLUMNS["text_len"] >= 200)

    assert found.stats == ("text_len",)
    assert found.kept == 100
    assert [(one.op, one.arg, one.before, one.after) for one in found.moved] == [
        ("text_length_filter", "min_len", 1, 200)
    ]


def test_an_intersection_is_selected_by_all_that_it_was_cut_by() -> None:
    low = COLUMNS["special_char_ratio"] < np.quantile(COLUMNS["special_char_ratio"], 0.5)
    found = selected((COLUMNS["text_len"] >= 150) & low)

    assert set(found.stats) == {"text_len", "special_char_ratio"}
    assert found.kept == int(((COLUMNS["text_len"] >= 150) & low).sum())
    ratio = COLUMNS["special_char_ratio"][(COLUMNS["text_len"] >= 150) & low]
    assert {one.arg: one.after for one in found.moved} == {"min_len": 150, "max_ratio": ratio.max()}


def test_better_rows_than_the_analysed_ones_are_not_thrown_away() -> None:
    """Long and clean texts win, of statistics that go together; longer and cleaner ones are in all data."""
    length = np.arange(300.0)
    columns = {
        "text_len": length,
        "special_char_ratio": (0.3 - length / 2000 + CHANCE.normal(0, 0.02, 300)).round(4),
        "num_words": np.ceil(length / 5 + CHANCE.normal(0, 1, 300)),
    }
    inside = (length >= 200) & (columns["special_char_ratio"] <= np.quantile(columns["special_char_ratio"], 0.25))
    found = selected(inside, columns)

    assert found.kept == int(inside.sum())
    ratio = columns["special_char_ratio"][inside].max()
    assert {one.arg: one.after for one in found.moved} == {"min_len": length[inside].min(), "max_ratio": ratio}


def test_a_bound_is_left_out_that_later_ones_have_made_needless() -> None:
    """The number of words keeps most rows out, yet length and signs select the pool without it."""
    columns = {
        "text_len": np.array([6.0, 6, 6, 1, 1, 1, 5, 6]),
        "special_char_ratio": np.array([0.9, 0.9, 0.9, 0.2, 0.2, 0.2, 0.2, 0.3]),
        "num_words": np.array([1.0, 1, 6, 1, 1, 6, 5, 6]),
    }
    found = selected(np.arange(8) >= 6, columns)

    assert set(found.stats) == {"text_len", "special_char_ratio"}
    assert {one.arg: one.after for one in found.moved} == {"min_len": 5, "max_ratio": 0.3}
    assert found.kept == 2


def test_the_other_side_moves_only_where_it_would_keep_rows_of_the_pool_out() -> None:
    """The default of special_characters_filter's max_ratio is 0.25, and the pool has all that is above 0.1."""
    found = selected(COLUMNS["special_char_ratio"] >= 0.1)

    ratio = COLUMNS["special_char_ratio"][COLUMNS["special_char_ratio"] >= 0.1]
    assert {one.arg: one.after for one in found.moved} == {"min_ratio": ratio.min(), "max_ratio": ratio.max()}


def test_a_pool_of_everything_and_one_without_the_statistic_bound_nothing() -> None:
    assert selected(np.ones(300, bool)).moved == ()
    columns = {**COLUMNS, "text_len": np.where(COLUMNS["text_len"] == 250, np.nan, COLUMNS["text_len"])}
    assert "text_len" not in selected(COLUMNS["text_len"] >= 200, columns).stats


def experiment() -> dict[str, Any]:
    recipe = {"process": [{"text_length_filter": {}}, {"special_characters_filter": {}}]}
    look = {
        "hook": "ProbeViaAnalyzerHook",
        "metaName": "look",
        "djConfigs": {
            **recipe,
            "dataset_path": "inputs/raw/rows.jsonl",
            "export_path": "outputs/rows.jsonl",
            "export_original_dataset": True,
        },
    }
    cut = {
        "hook": "DataPoolManipulationHook",
        "metaName": "cut",
        "type": "data_pool_construction",
        "input": {"extraConfigs.dataset_path": "single.look.dataset"},
        "extraConfigs": {},
    }
    judge = {
        "hook": "EvaluateDataHook",
        "metaName": "judge",
        "type": "mse",
        "input": {"extraConfigs.predicted_dataset_path": "item.pool"},
        "extraConfigs": {"predicted_value_key": "guess", "ground_truth_value_key": "truth"},
    }
    rank = {
        "hook": "GeneralProbeHook",
        "metaName": "rank",
        "type": "data_pool_ranking",
        "input": {"extraConfigs.dataset_path": "single.cut.paths", "extraConfigs.metrics": "tries.judge.value"},
        "extraConfigs": {"descending": False, "top_n": 1},
    }
    refine = {
        "hook": "RefineRecipeViaPoolHook",
        "metaName": "winner",
        "probe": "look",
        "input": {"extraConfigs.pool_path": "last.rank.ranked"},
        "djConfigs": {**recipe, "dataset_path": "inputs/raw/rows.jsonl"},
        "extraConfigs": {"path_pool_recipe": "outputs/winner.yaml"},
    }
    process = {
        "hook": "ProcessDataHook",
        "metaName": "all",
        "input": {"djConfigs": "last.winner.recipe"},
    }
    spec = {
        "workspace": {"claim": {"size": "1Gi"}},
        "inputs": [{"name": "raw", "claimName": "raw"}],
        "pipelines": [
            {"name": "single", "probeJobConfigs": [look], "executionJobConfigs": [cut]},
            {"name": "tries", "forEach": {"item": "pool", "in": "single.cut.paths"}, "evaluationJobConfigs": [judge]},
            {
                "name": "last", "probeJobConfigs": [rank], "refineRecipeJobConfigs": [refine],
                "executionJobConfigs": [process],
            },
        ],
    }  # fmt: skip
    return {
        "apiVersion": "sandbox.datajuicer.io/v1alpha1",
        "kind": "SandboxExperiment",
        "metadata": {"name": "winner"},
        "spec": spec,
    }


def test_the_recipe_of_the_best_pool_selects_just_its_rows(tmp_path: Path) -> None:
    """The middle pool by length is made the best; the recipe, run on all data, gives that pool."""
    rows = [{"text": "x" * (3 * n + 20), "truth": 0, "guess": 0 if 10 <= n < 20 else 1, "n": n} for n in range(30)]
    write_jsonl(tmp_path / "raw" / "rows.jsonl", rows)
    (tmp_path / "winner.yaml").write_text(yaml.safe_dump(experiment()))
    shell = Shell(tmp_path / "winner.yaml", tmp_path / "run", tmp_path / "raw")
    code, output = shell.run()
    assert code == 0, output

    job = shell.job("winner", "refine")
    assert job["message"] == "text_len bounded: 10 rows of the pool are kept"
    assert (job["metrics"]["winner.rows_pool"], job["metrics"]["winner.rows_kept"]) == (10, 10)
    assert job["outputs"]["bounds"] == {"text_length_filter.min_len": 50, "text_length_filter.max_len": 77}
    changes = shell.folder / "workspace" / job["outputs"]["changes"]
    with changes.open() as file:
        assert [(row["argument"], row["after"]) for row in csv.DictReader(file)] == [
            ("min_len", "50"),
            ("max_len", "77"),
        ]
    kept = (shell.folder / "workspace" / shell.job("all", "execution")["outputs"]["dataset"]).read_text()
    assert [json.loads(line)["n"] for line in kept.splitlines()] == list(range(10, 20))


@deep_only
def test_rows_at_the_edge_of_the_pool_are_kept_though_statistics_are_rounded(tmp_path: Path) -> None:
    """Thirtieths have no end in decimal; ten digits of them are all that the Analyzer's file and the filter see."""
    order = np.random.default_rng(3).permutation(30).tolist()
    rows = [{"text": "!" * n + "x" * (30 - n), "truth": 0, "guess": 0 if 10 <= n < 20 else 1, "n": n} for n in order]
    write_jsonl(tmp_path / "raw" / "rows.jsonl", rows)
    (tmp_path / "winner.yaml").write_text(yaml.safe_dump(experiment()))
    shell = Shell(tmp_path / "winner.yaml", tmp_path / "run", tmp_path / "raw")
    code, output = shell.run()
    assert code == 0, output

    assert shell.job("winner", "refine")["message"] == "special_char_ratio bounded: 10 rows of the pool are kept"
    kept = (shell.folder / "workspace" / shell.job("all", "execution")["outputs"]["dataset"]).read_text()
    assert sorted(json.loads(line)["n"] for line in kept.splitlines()) == list(range(10, 20))
