# SPDX-License-Identifier: Apache-2.0
"""The sandbox's loop for real: analyse, refine by k-sigma, process, analyse again; each job in its own process."""

import csv
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import data_pod
from tests.hook_pod import Ended, job_contract

K = 1.5
RECIPE: list[dict[str, Any]] = [
    {"text_length_filter": {"min_len": 1, "max_len": 100000}},
    {"special_characters_filter": None},
    {"document_deduplicator": None},
]
SETTINGS = {"dataset_path": "inputs/raw/demo.jsonl", "export_path": "outputs/demo.jsonl", "process": RECIPE}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> dict[str, Ended]:
    """The four jobs, one after another on one volume, by name."""
    pod = data_pod(tmp_path_factory.mktemp("chain"), rows)
    probe = pod.run(job_contract("ProbeViaAnalyzerHook", dj=SETTINGS, meta_name="analysis"))
    assert probe.code == 0, probe.log
    refine = pod.run(
        job_contract(
            "RefineRecipeViaKSigmaHook",
            stage="refine",
            meta_name="analysis",
            dj=SETTINGS,
            extra={"k": K, "path_k_sigma_recipe": "outputs/refined.yaml"},
            inputs={"probe": probe.reference("overall")},
            outputs=["refined_recipe"],
        )
    )
    assert refine.code == 0, refine.log
    process = pod.run(
        job_contract(
            "ProcessDataHook",
            stage="execution",
            meta_name="process",
            inputs={"djConfigs": refine.reference("refined_recipe")},
            outputs=["processed"],
        )
    )
    assert process.code == 0, process.log
    again = pod.run(
        job_contract(
            "ProbeViaAnalyzerHook",
            stage="evaluation",
            meta_name="analysis_2",
            dj={"process": RECIPE, "export_original_dataset": True},
            inputs={"djConfigs.dataset_path": process.reference("processed")},
        )
    )
    assert again.code == 0, again.log
    return {"probe": probe, "refine": refine, "process": process, "again": again}


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_figures_of_the_analysis_are_those_of_the_rows(chain: dict[str, Ended], rows: list[dict[str, Any]]) -> None:
    lengths = [len(row["text"]) for row in rows]
    metrics = chain["probe"].result.metrics

    assert metrics["analysis.rows"] == metrics["analysis.text_len.count"] == len(rows)
    assert metrics["analysis.text_len.mean"] == pytest.approx(statistics.mean(lengths))
    assert metrics["analysis.text_len.std"] == pytest.approx(statistics.stdev(lengths))
    assert (metrics["analysis.text_len.min"], metrics["analysis.text_len.max"]) == (min(lengths), max(lengths))
    assert metrics["analysis.text_len.50%"] == statistics.median(lengths)
    assert chain["probe"].message.message == "300 rows analysed, 2 statistics"
    assert chain["probe"].message.metrics == metrics
    assert not chain["probe"].message.truncated


def test_outputs_of_the_analysis(chain: dict[str, Ended], rows: list[dict[str, Any]]) -> None:
    probe = chain["probe"]

    assert set(probe.result.outputs) == {"stats", "overall", "histograms"}
    stats = read_jsonl(probe.output("stats"))
    assert [row["__dj__stats__"]["text_len"] for row in stats] == [len(row["text"]) for row in rows]
    assert len({row["__sandbox_id__"] for row in stats}) == len(rows)
    table = list(csv.reader(probe.output("overall").open()))
    assert "text_len" in table[0]
    assert [line[0] for line in table[1:]] == ["count", "mean", "std", "min", "25%", "50%", "75%", "max"]
    bins = json.loads((probe.output("histograms") / "bins.json").read_text())
    assert sum(bins["text_len"]["counts"]) == len(rows)
    assert (probe.output("histograms") / "text_len-hist.png").stat().st_size > 1000
    link = probe.root / "experiments/demo-1f2e3d4c/outputs/demo_stats.jsonl"
    assert link.resolve() == probe.output("stats").resolve()


def test_bounds_are_k_standard_deviations_about_the_mean(chain: dict[str, Ended], rows: list[dict[str, Any]]) -> None:
    lengths = [len(row["text"]) for row in rows]
    high = statistics.mean(lengths) + K * statistics.stdev(lengths)
    refine = chain["refine"]

    recipe = yaml.safe_load(refine.output("refined_recipe").read_text())
    bounds = recipe["process"][0]["text_length_filter"]
    assert bounds["min_len"] == 0
    assert high <= bounds["max_len"] < high + 1
    assert recipe["dataset_path"] == SETTINGS["dataset_path"]
    ratio = recipe["process"][1]["special_characters_filter"]["max_ratio"]
    metrics = refine.result.metrics
    assert metrics["analysis.refineRecipe.refined.text_length_filter.max_len.before"] == 100000
    assert metrics["analysis.refineRecipe.refined.text_length_filter.max_len.after"] == bounds["max_len"]
    assert metrics["analysis.refineRecipe.refined.special_characters_filter.max_ratio.after"] == ratio
    figures = chain["probe"].result.metrics
    assert ratio == pytest.approx(
        figures["analysis.special_char_ratio.mean"] + K * figures["analysis.special_char_ratio.std"]
    )
    assert set(refine.result.outputs) == {"refined_recipe", "changes", "bounds"}
    told = refine.result.outputs["bounds"].value
    assert (told["text_length_filter.max_len"], told["special_characters_filter.max_ratio"]) == (
        bounds["max_len"],
        ratio,
    )
    published = refine.root / "experiments/demo-1f2e3d4c/outputs/refined.yaml"
    assert published.resolve() == refine.output("refined_recipe").resolve()
    assert len(list(csv.reader(refine.output("changes").open()))) == len(metrics) / 2 + 1


def test_processing_keeps_exactly_the_rows_within_the_bounds(
    chain: dict[str, Ended], rows: list[dict[str, Any]]
) -> None:
    recipe = yaml.safe_load(chain["refine"].output("refined_recipe").read_text())
    longest = recipe["process"][0]["text_length_filter"]["max_len"]
    most = recipe["process"][1]["special_characters_filter"]["max_ratio"]
    special = {
        row["__sandbox_id__"]: row["__dj__stats__"]["special_char_ratio"]
        for row in read_jsonl(chain["probe"].output("stats"))
    }
    expected: dict[str, dict[str, Any]] = {}
    for row, ratio in zip(rows, special.values(), strict=True):
        if len(row["text"]) <= longest and ratio <= most:
            expected.setdefault(row["text"], row)

    process = chain["process"]
    kept = read_jsonl(process.output("processed"))
    assert [{"text": row["text"], "meta": row["meta"]} for row in kept] == list(expected.values())
    assert {row["__sandbox_id__"] for row in kept} <= set(special)
    assert process.result.outputs["processed"].rows == len(expected) < len(rows)
    metrics = process.result.metrics
    assert (metrics["process.rows_in"], metrics["process.rows_out"]) == (len(rows), len(expected))
    names = [f"process.ops.{index}_{next(iter(operator))}" for index, operator in enumerate(RECIPE)]
    counts = [(metrics[f"{name}.rows_in"], metrics[f"{name}.rows_out"]) for name in names]
    assert counts[0][0] == len(rows)
    assert counts[-1][1] == len(expected)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(counts))
    assert all(rows_in > rows_out for rows_in, rows_out in counts)
    assert process.message.message == f"300 -> {len(expected)} rows in 3 operators"
    live = read_jsonl(process.folder / "metrics.jsonl")
    assert [line["step"] for line in live] == [1, 2, 3]
    assert live[0][f"{names[0]}.rows_out"] == counts[0][1]


def test_a_trial_processes_by_its_parameters_and_leaves_the_recipe_with_their_values(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    pod = data_pod(tmp_path, rows)
    recipe = [{"text_length_filter": {"min_len": 1}}, {"special_characters_filter": None}, {"text_length_filter": None}]
    contract = job_contract(
        "ProcessDataHook", stage="execution", meta_name="process", dj={**SETTINGS, "process": recipe}
    )
    shortest, longest = 80, 120
    parameters = {"text_length_filter.min_len": shortest, "text_length_filter#2.max_len": longest, "np": 1}
    configs = contract.configs.model_copy(update={"parameters": parameters})

    ended = pod.run(contract.model_copy(update={"configs": configs}))

    assert ended.code == 0, ended.log
    effective = yaml.safe_load((ended.folder / "recipe.yaml").read_text())
    assert effective == {
        **SETTINGS,
        "process": [
            {"text_length_filter": {"min_len": shortest}},
            {"special_characters_filter": None},
            {"text_length_filter": {"max_len": longest}},
        ],
        "np": 1,
    }
    kept = [row["text"] for row in read_jsonl(ended.output("dataset"))]
    within = [row["text"] for row in rows if shortest <= len(row["text"]) <= longest]
    assert 0 < len(kept) <= len(within) < len(rows)
    assert set(kept) <= set(within)


def test_the_second_analysis_sees_the_processed_rows(chain: dict[str, Ended]) -> None:
    again, metrics = chain["again"], chain["again"].result.metrics

    assert metrics["analysis_2.rows"] == chain["process"].result.metrics["process.rows_out"]
    assert metrics["analysis_2.text_len.std"] < chain["probe"].result.metrics["analysis.text_len.std"]
    processed = {row["__sandbox_id__"] for row in read_jsonl(chain["process"].output("processed"))}
    assert {row["__sandbox_id__"] for row in read_jsonl(again.output("stats"))} == processed
    assert len(read_jsonl(again.output("dataset"))) == again.result.outputs["dataset"].rows == len(processed)


def test_a_finished_attempt_leaves_only_what_it_promised(chain: dict[str, Ended]) -> None:
    for name, ended in chain.items():
        recipe = ["recipe.yaml"] if name == "process" else []
        assert sorted(path.name for path in ended.folder.iterdir()) == [
            "configs.jsonl",
            "events.jsonl",
            "log.txt",
            "metrics.jsonl",
            "out",
            *recipe,
            "result.json",
        ]
        assert sorted(path.name for path in ended.folder.parents[2].iterdir()) == ["attempts", "current"]
        assert ended.result.runtime.versions["py-data-juicer"] == "1.6.1"
        assert (ended.result.runtime.peak_memory_bytes or 0) > 100 * 2**20
