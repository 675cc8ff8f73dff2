# SPDX-License-Identifier: Apache-2.0
"""Model feedback for real: Data-Juicer analyses, a file of scores comes in, the recipe is refined and run; each job in
its own process.
"""

import csv
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from conftest import data_pod, sentence
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl

HOOK = "RefineRecipeViaModelFeedbackHook"
COUNT, SCORED, BEST_FROM = 1200, 1100, 250
RECIPE: list[dict[str, Any]] = [
    {"text_length_filter": {"min_len": 120, "max_len": 100000}},
    {"average_line_length_filter": None},
    {"special_characters_filter": {"max_ratio": 0.9}},
    {"document_deduplicator": None},
]
SETTINGS = {"dataset_path": "inputs/raw/demo.jsonl", "process": RECIPE}
SCORES = "inputs/raw/scores.jsonl"
Rows = list[dict[str, Any]]


def read_jsonl(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text().splitlines()]


def changes_of(refine: Ended) -> Rows:
    with refine.output("changes").open(newline="") as file:
        return list(csv.DictReader(file))


def refine_contract(probe: Ended, *, inputs: dict[str, Any] | None = None, **more: Any) -> Any:
    settings = {"dj": SETTINGS, "stage": "refine", "meta_name": "analysis", **more}
    return job_contract(HOOK, inputs={"probe": probe.reference("stats"), **(inputs or {})}, **settings)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> HookPod:
    """Texts of one line each, so that the average length of lines is a copy of the text's length."""
    random = Random(11)
    texts = [sentence(random, random.randint(4, 90)) for _ in range(COUNT)]
    rows = [{"text": text + "!" * int(random.uniform(0, 0.3) * len(text))} for text in texts]
    return data_pod(tmp_path_factory.mktemp("feedback"), rows)


@pytest.fixture(scope="module")
def probe(pod: HookPod) -> Ended:
    ended = pod.run(job_contract("ProbeViaAnalyzerHook", dj=SETTINGS, meta_name="analysis"))
    assert ended.code == 0, ended.log
    return ended


@pytest.fixture(scope="module")
def chain(pod: HookPod, probe: Ended) -> dict[str, Ended]:
    """A model likes texts of BEST_FROM characters and more; some rows it never saw, one has no number."""
    random = Random(12)
    scores: Rows = []
    for row in read_jsonl(probe.output("stats"))[:SCORED]:
        likes = row["__dj__stats__"]["text_len"] >= BEST_FROM
        scores.append({"__sandbox_id__": row["__sandbox_id__"], "score": random.gauss(0.6 if likes else 0.3, 0.3)})
    scores[0]["score"] = float("nan")
    random.shuffle(scores)
    write_jsonl(pod.inputs / "raw" / "scores.jsonl", [*scores, {"__sandbox_id__": "nobody", "score": 1.0}])
    extra = {"path_scores": SCORES, "goal": "maximize", "maxStep": 3, "path_feedback_recipe": "outputs/refined.yaml"}
    refine = pod.run(refine_contract(probe, extra=extra, outputs=["refined_recipe"]))
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
    return {"refine": refine, "process": process}


def test_the_bound_moves_to_where_the_model_likes_the_rows(chain: dict[str, Ended], probe: Ended) -> None:
    refine = chain["refine"]
    recipe = yaml.safe_load(refine.output("refined_recipe").read_text())
    bound = recipe["process"][0]["text_length_filter"]["min_len"]

    lengths = sorted(row["__dj__stats__"]["text_len"] for row in read_jsonl(probe.output("stats")))
    between = sum(min(bound, BEST_FROM) <= length < max(bound, BEST_FROM) for length in lengths)
    assert bound > 120
    assert between <= COUNT / 10  # a bin
    assert recipe["process"][0]["text_length_filter"]["max_len"] == 100000
    assert recipe["process"][1:] == RECIPE[1:]
    assert recipe["dataset_path"] == SETTINGS["dataset_path"]
    metrics = refine.result.metrics
    name = "analysis.refineRecipe.refined.text_length_filter.min_len"
    assert (metrics[f"{name}.before"], metrics[f"{name}.after"]) == (120, bound)
    assert [key for key in metrics if ".refined." in key] == [f"{name}.before", f"{name}.after"]
    published = refine.root / "experiments/demo-1f2e3d4c/outputs/refined.yaml"
    assert published.resolve() == refine.output("refined_recipe").resolve()


def test_the_table_says_of_every_bound_why(chain: dict[str, Ended]) -> None:
    refine = chain["refine"]
    changes = changes_of(refine)
    places = [(line["name"], line["argument"], line["after"] != line["before"]) for line in changes]
    assert places == [
        ("text_length_filter", "min_len", True),
        ("text_length_filter", "max_len", False),
        ("average_line_length_filter", "min_len", False),
        ("average_line_length_filter", "max_len", False),
        ("special_characters_filter", "min_ratio", False),
        ("special_characters_filter", "max_ratio", False),
    ]
    moved = changes[0]
    assert moved["why"].startswith("moved: the score is best from ")
    assert (moved["direction"], int(moved["support"])) == ("up", SCORED - 1)
    assert float(moved["p"]) <= float(moved["p_corrected"]) <= 0.05
    assert float(moved["mean_score_inside"]) > float(moved["mean_score_outside"])
    assert float(moved["expected_kept"]) == refine.result.metrics["analysis.refineRecipe.expected_kept"]
    assert changes[2]["why"] == "stays: a copy of text_len of text_length_filter, which may move"
    assert changes[5]["why"].startswith("stays: no range of it has better scores beyond chance")
    assert refine.result.outputs["copies"].value == [["text_len", "avg_line_length"]]


def test_what_could_not_be_joined_is_said(chain: dict[str, Ended]) -> None:
    refine = chain["refine"]
    assert refine.result.metrics["analysis.refineRecipe.rows_scored"] == SCORED - 1
    assert refine.message.message.startswith("1 bound of 1 operator moved, expected to keep ")
    assert refine.message.message.endswith(
        "; copies of one another: text_len = avg_line_length; 1 099 scores for 1 200 rows,"
        " 1 score of no analysed row, 1 score without a number"
    )


def test_the_refined_recipe_keeps_the_share_that_was_expected(chain: dict[str, Ended], probe: Ended) -> None:
    refine, process = chain["refine"], chain["process"]
    recipe = yaml.safe_load(refine.output("refined_recipe").read_text())
    bound = recipe["process"][0]["text_length_filter"]["min_len"]
    expected = {
        row["__sandbox_id__"]
        for row in read_jsonl(probe.output("stats"))
        if row["__dj__stats__"]["text_len"] >= bound and row["__dj__stats__"]["special_char_ratio"] <= 0.9
    }

    assert {row["__sandbox_id__"] for row in read_jsonl(process.output("processed"))} == expected
    share = process.result.metrics["process.rows_out"] / process.result.metrics["process.rows_in"]
    assert refine.result.metrics["analysis.refineRecipe.expected_kept"] == pytest.approx(share)
    assert refine.result.metrics["analysis.refineRecipe.kept_before"] > share


def test_scores_may_be_a_figure_of_an_earlier_job_and_low_ones_good(pod: HookPod, probe: Ended) -> None:
    """Here Data-Juicer's own ratio of special characters, from the probe itself: it is its own best cut-off."""
    refine = pod.run(
        refine_contract(
            probe,
            inputs={"extraConfigs.path_scores": probe.reference("stats")},
            extra={"score": "__dj__stats__.special_char_ratio", "goal": "minimize"},
            meta_name="second",
        )
    )

    assert refine.code == 0, refine.log
    ratio = changes_of(refine)[5]
    assert (ratio["direction"], int(ratio["support"])) == ("down", COUNT)
    assert float(ratio["mean_score_inside"]) < float(ratio["mean_score_outside"])
    assert float(ratio["after"]) < 0.9
    assert refine.result.metrics["second.refined.special_characters_filter.max_ratio.after"] == float(ratio["after"])


@pytest.mark.parametrize(
    ("rows", "extra", "sentence_"),
    [
        ([{"__sandbox_id__": "x", "score": 1}], {}, "none of its 1 scored row is among the 1200 of the analysis"),
        ([{"id": 1, "score": 1}], {}, "no row has a __sandbox_id__ to join it by"),
        ([{"__sandbox_id__": "x", "loss": 1}], {}, "has no number in 'score'; its columns are __sandbox_id__, loss"),
        ([], {}, "has no number in 'score', and no rows at all"),
        (None, {"path_scores": "inputs/raw/no.jsonl"}, "extraConfigs.path_scores: there is no file or folder"),
        (None, {"path_scores": "outputs/no.jsonl"}, "extraConfigs.path_scores: outputs/no.jsonl is no file"),
        (None, {"goal": None}, "extraConfigs.goal: input should be 'maximize' or 'minimize'; it is None"),
        (None, {"minKept": 2}, "extraConfigs.minKept: input should be less than or equal to 1; it is 2"),
    ],
)
def test_scores_that_can_not_be_used_are_named(
    pod: HookPod, probe: Ended, rows: Rows | None, extra: dict[str, Any], sentence_: str
) -> None:
    path = write_jsonl(pod.inputs / "raw" / "bad.jsonl", rows or [])
    assert path.exists()
    ended = pod.run(refine_contract(probe, extra={"path_scores": "inputs/raw/bad.jsonl", "goal": "maximize", **extra}))

    assert ended.code == 2, ended.log
    assert ended.message.error is not None
    assert sentence_ in ended.message.error.message


def test_without_a_probe_or_with_a_table_for_one_it_says_what_to_do(pod: HookPod, probe: Ended) -> None:
    extra = {"path_scores": "inputs/raw/demo.jsonl", "goal": "maximize"}
    without = pod.run(job_contract(HOOK, stage="refine", dj=SETTINGS, extra=extra))
    assert without.code == 2
    assert without.message.error is not None
    assert without.message.error.message.startswith("probe: there is no probe to refine from")

    table = {"probe": probe.reference("overall")}
    wrong = pod.run(job_contract(HOOK, stage="refine", dj=SETTINGS, extra=extra, inputs=table))
    assert wrong.code == 2
    assert wrong.message.error is not None
    assert "the output 'overall' of job anonymous/1/probe/0 is no analysis of rows" in wrong.message.error.message
