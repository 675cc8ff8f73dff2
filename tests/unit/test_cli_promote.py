# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl promote`: the recipe of a finished ranking, frozen, on all the data; what is in doubt is said."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sandbox_api.status import ExperimentStatus, JobStatus, RankRow, ResultRef
from sandbox_operator.cli.experiments import Ended
from sandbox_operator.cli.main import app
from sandbox_operator.cli.offline import read_files
from sandbox_operator.cli.promote import Asked, Origin, Promoted, promoted
from sandbox_operator.cli.values import read_values
from sandbox_operator.plan.compile import compile_spec

BENCH = Path(__file__).resolve().parents[2] / "configs" / "bench"
BOUNDS = {
    "video_motion_score_filter.min_score": 0.6251,
    "video_motion_score_filter.max_score": 2.75,
    "video_duration_filter.min_duration": 1,
}
POOL = "experiments/leaderboard-6f1a/jobs/combine/out/clips_top_0_1_num_5.jsonl"
RANDOM = RankRow(item="clips_random", mean=1.5, std=0.1, repeats=2)
FIRST = RankRow(
    item="clips_top_0_1_num_5", mean=1.2, std=0.1, repeats=2, change=-0.3, relative=-0.2, interval=[-0.4, -0.2],
    tied=False,
)  # fmt: skip


def result(content: str | None = "c0ffee") -> ResultRef:
    return ResultRef(path="experiments/x/result.json", sha256="abc", bytes=1, content=content)


def refined(**more: Any) -> JobStatus:
    outputs = {"recipe": "experiments/x/recipe.yaml", "changes": "experiments/x/changes.csv", "bounds": BOUNDS}
    entry = JobStatus(
        id="recipe/1/refine/0", hook="RefineRecipeViaPoolHook", meta_name="winner", state="Succeeded",
        outputs=outputs, result=result(),
    )  # fmt: skip
    return entry.model_copy(update=more)


def status(*jobs: JobStatus, ranking: tuple[RankRow, ...] = (FIRST, RANDOM), outcome: Any = "Succeeded") -> Any:
    best = JobStatus(
        id="recipe/1/probe/0", hook="GeneralProbeHook", meta_name="best", state="Succeeded", outputs={"ranked": [POOL]}
    )
    return ExperimentStatus(outcome=outcome, jobs=[best, *(jobs or (refined(),))], ranking=[*ranking])


def spec() -> dict[str, Any]:
    documents = read_files([BENCH / "leaderboard.yaml"], BENCH / "leaderboard-tiny.yaml")
    found: dict[str, Any] = json.loads(json.dumps(documents.experiments[0].spec))
    return found


def origin(**more: Any) -> Origin:
    return replace(Origin("leaderboard", "bench", "6f1a-uid", 3, spec(), status()), **more)


def asked(**more: Any) -> Asked:
    return replace(Asked("inputs/data/all.jsonl", {}), **more)


def said(source: Origin, wanted: Asked | None = None) -> str:
    with pytest.raises(Ended) as told:
        promoted(source, wanted or asked())
    return str(told.value)


def jobs_of(found: Promoted) -> dict[str, dict[str, Any]]:
    """By metaName."""
    lists = ("probeJobConfigs", "refineRecipeJobConfigs", "executionJobConfigs", "evaluationJobConfigs")
    pipelines = found.manifest["spec"]["pipelines"]
    return {job["metaName"]: job for pipeline in pipelines for name in lists for job in pipeline.get(name, ())}


def test_the_recipe_is_frozen_and_its_data_takes_the_items_place() -> None:
    found = promoted(origin(), asked())

    jobs = jobs_of(found)
    assert [*jobs] == ["before", "process", "after", "train", "judge"]
    process = [
        {"video_duration_filter": {"video_backend": "av", "min_duration": 1}},
        {"video_motion_score_filter": {"sampling_fps": 8, "min_score": 0.6251, "max_score": 2.75}},
    ]
    assert jobs["process"]["djConfigs"] == {"dataset_path": "inputs/data/all.jsonl", "process": process}
    assert jobs["before"]["djConfigs"] == jobs["process"]["djConfigs"]
    assert jobs["after"] == {
        "hook": "ProbeViaAnalyzerHook", "metaName": "after",
        "input": {"djConfigs.dataset_path": "data.process.dataset"}, "djConfigs": {"process": process},
    }  # fmt: skip
    assert jobs["train"]["input"] == {"extraConfigs.dataset_path": "data.process.dataset"}
    assert jobs["judge"]["input"] == {"extraConfigs.lora_path": "again.train.model"}
    assert found.manifest["spec"]["comparison"] == [{"before": "before", "after": "after"}]
    assert {"rank", "repeats"}.isdisjoint(found.manifest["spec"])
    assert all("forEach" not in pipeline for pipeline in found.manifest["spec"]["pipelines"])
    assert found.doubts == ()


def test_it_says_where_it_comes_from() -> None:
    metadata = promoted(origin(), asked(name="large")).manifest["metadata"]

    assert (metadata["name"], metadata["namespace"]) == ("large", "bench")
    assert {key.partition("/")[2]: text for key, text in metadata["annotations"].items()} == {
        "experiment": "bench/leaderboard",
        "uid": "6f1a-uid",
        "generation": "3",
        "recipe-job": "recipe/1/refine/0 (winner)",
        "recipe": "experiments/x/recipe.yaml",
        "recipe-digest": "c0ffee",
        "result-digest": "abc",
        "winner": "clips_top_0_1_num_5: judge.loss 1.2, the mean of 2, -20.00% against clips_random,"
        " 95 % interval of the difference -0.4 to -0.2",
    }


def test_values_are_in_it() -> None:
    values = {"spec": {"repeats": 3, "inputs": [{"name": "all", "claimName": "clips"}]},
              "jobs": {"train": {"extraConfigs": {"base_model": "inputs/all/model", "steps": None, "epochs": 2}},
                       "judge": {"extraConfigs": {"base_model": "inputs/all/model",
                                                  "dataset_path": "inputs/all/heldout.jsonl"}}}}  # fmt: skip
    found = promoted(origin(), asked(dataset="inputs/all/clips.jsonl", values=values))

    train = jobs_of(found)["train"]["extraConfigs"]
    assert (train["epochs"], train["batch_size"], "steps" in train) == (2, 4, False)
    assert compile_spec(found.manifest["spec"]).problems == ()
    assert said(origin(), asked(values={"jobs": {"trian": {}}})) == (
        "jobs.trian: no job has that metaName; did you mean 'train'?"
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"interval": [-0.7, 0.1]}, "clips_top_0_1_num_5 is tied with the baseline clips_random: the difference may be chance; more repeats tell more"),
        ({"interval": None}, "clips_top_0_1_num_5 differs from the baseline clips_random by the same in all repeats: whether by chance, nobody can tell"),
        ({"interval": None, "repeats": 1}, "clips_top_0_1_num_5 was trained once: whether it is better than the baseline clips_random, nobody can tell"),
        ({"change": 0.2, "relative": 0.1}, "clips_top_0_1_num_5 is not better than the baseline clips_random"),
        ({"change": None, "relative": None, "interval": None}, "clips_top_0_1_num_5 was compared with no baseline: none of the items is named 'clips_random' (spec.rank.baseline)"),
    ],
)  # fmt: skip
def test_what_the_ranking_leaves_in_doubt_is_said(row: Mapping[str, Any], words: str) -> None:
    found = promoted(origin(status=status(ranking=(FIRST.model_copy(update=row), RANDOM))), asked())

    assert found.doubts == (words,)
    assert [text for key, text in found.manifest["metadata"]["annotations"].items() if key.endswith("/doubts")] == [
        words
    ]


def test_a_recipe_of_another_item_than_the_first_is_said() -> None:
    higher = RankRow(item="clips_top_0_num_8", mean=1.1, repeats=2, change=-0.4, interval=[-0.5, -0.3])
    found = promoted(origin(status=status(ranking=(higher, FIRST, RANDOM))), asked())
    assert found.doubts == (
        "the recipe was made from clips_top_0_1_num_5, which has place 2; the first is clips_top_0_num_8",
    )
    found = promoted(origin(status=status(ranking=(RANDOM,))), asked())
    assert found.doubts == (
        "the recipe was made from clips_top_0_1_num_5, which is not in the ranking",
        "clips_random is the baseline itself: nothing was better",
    )


def test_the_second_operator_of_a_name_gets_its_own_bounds_and_texts_stay_texts() -> None:
    source = spec()
    refine = source["pipelines"][-1]["refineRecipeJobConfigs"][0]
    refine["djConfigs"] = {
        "text_keys": "text", "export_path": "outputs/a.jsonl",
        "process": [{"text_length_filter": {"min_len": 1}}, {"video_aspect_ratio_filter": None}, {"text_length_filter": {}}],
    }  # fmt: skip
    bounds = {"text_length_filter_2.max_len": 30, "video_aspect_ratio_filter.min_ratio": "1.3333"}
    entry = refined(outputs={"recipe": "r.yaml", "bounds": bounds})
    found = promoted(origin(spec=source, status=status(entry)), asked())

    assert jobs_of(found)["process"]["djConfigs"] == {
        "dataset_path": "inputs/data/all.jsonl", "text_keys": "text",
        "process": [
            {"text_length_filter": {"min_len": 1}}, {"video_aspect_ratio_filter": {"min_ratio": "1.3333"}},
            {"text_length_filter": {"max_len": 30}},
        ],
    }  # fmt: skip


def test_a_recipe_that_keeps_more_than_the_pool_is_said() -> None:
    figures = {"winner.rows_pool": 8.0, "winner.rows_kept": 11.0}
    found = promoted(origin(status=status(refined(metrics=figures))), asked())
    assert found.doubts == ("the recipe keeps 11 rows of the sample, of which the pool has 8",)
    found = promoted(origin(status=status(refined(outputs={"recipe": "r", "bounds": {}}))), asked())
    assert found.doubts == ("the recipe's job has set no bound: it is what stands in its djConfigs",)


def with_refine(*jobs: Mapping[str, Any], **first: Any) -> dict[str, Any]:
    source = spec()
    (own,) = source["pipelines"][-1]["refineRecipeJobConfigs"]
    source["pipelines"][-1]["refineRecipeJobConfigs"] = [{**own, **first}, *({**own, **job} for job in jobs)]
    return source


def test_of_several_recipes_one_is_named() -> None:
    source = with_refine({"metaName": "other", "extraConfigs": {}})
    other = refined(id="recipe/1/refine/1", meta_name="other", outputs={"recipe": "r", "bounds": {}})
    both = origin(spec=source, status=status(refined(), other))

    assert said(both) == (
        "has 2 refine jobs: winner (recipe/1/refine/0), other (recipe/1/refine/1); name one with --recipe"
    )
    assert said(both, asked(recipe="oter")) == "--recipe: no refine job has the metaName 'oter'; did you mean 'other'?"
    found = promoted(both, asked(recipe="other"))
    assert jobs_of(found)["process"]["djConfigs"]["process"][0] == {"video_duration_filter": {"video_backend": "av"}}


def test_what_cant_be_promoted_is_told_in_sentences() -> None:
    assert said(origin(status=status(outcome="Failed"))) == "is Failed; only what has Succeeded can be promoted"
    assert said(origin(status=ExperimentStatus())) == "is Pending; only what has Succeeded can be promoted"
    nothing = spec()
    del nothing["pipelines"][-1]["refineRecipeJobConfigs"]
    assert said(origin(spec=nothing)).startswith("has no refine job, so no recipe; add a RefineRecipeViaPoolHook job")
    unranked = spec()
    del unranked["rank"]
    assert said(origin(spec=unranked)).startswith("has no spec.rank, which says what trains and judges a model")
    assert said(origin(status=status(ranking=()))).startswith("its ranking is empty")
    assert said(origin(status=status(refined(state="Skipped", result=None)))) == (
        "winner (recipe/1/refine/0) is Skipped; a recipe comes from one refine job that is done"
    )
    assert said(origin(status=status(refined(outputs={"recipe": "r"})))) == (
        "spec.pipelines[5].refineRecipeJobConfigs[0]: its result does not tell the bounds; run it again:"
        " sandboxctl rerun --from recipe/1/refine/0"
    )
    assert said(origin(spec=with_refine(djConfigs="inputs/raw/recipe.yaml"))) == (
        "spec.pipelines[5].refineRecipeJobConfigs[0]: its recipe is not known, because it does not stand in djConfigs"
        " itself; write its process there, and run it again"
    )
    assert said(origin(), asked(name="Large")) == (
        "--name: 'Large' can't be an experiment's name; take at most 52 of a-z, 0-9 and -"
    )


def test_a_trial_is_not_promoted_without_what_its_parameters_set() -> None:
    trial = {"sweep": "hpo", "number": 1, "metric": "x", "parameters": {"np": 2}}
    assert "is a trial of the sweep hpo" in said(origin(spec={**spec(), "trial": trial}))


@pytest.mark.parametrize("dataset", ["inputs/raw/train.jsonl", "inputs/data", "outputs/a.jsonl", "https://a.example/b"])
def test_a_data_set_outside_the_inputs_is_refused(dataset: str) -> None:
    assert said(origin(), asked(dataset=dataset)).splitlines()[:2] == [
        "what would be written is no sound experiment:",
        f"--dataset: {dataset!r} is not among the inputs (inputs/data/..., inputs/models/...); write inputs/<name>/<path>, and name a further"
        " volume in spec.inputs of the values",
    ]


def test_a_job_that_reads_what_is_not_taken_along_is_refused_with_its_address() -> None:
    source = spec()
    source["pipelines"][4]["evaluationJobConfigs"][0]["input"]["extraConfigs.base_model"] = "sample.sample.dataset"

    assert said(origin(spec=source)).splitlines()[1:] == [
        'spec.pipelines[1].evaluationJobConfigs[0].input["extraConfigs.base_model"]: no job before this one has the'
        " metaName 'sample' in the pipeline 'sample'"
    ]


def stored(folder: Path, source: Origin) -> Path:
    """As `run --local` leaves it."""
    meta = {"name": source.name, "namespace": "local", "uid": source.uid, "generation": source.generation}
    (folder / "experiment.json").write_text(json.dumps({"metadata": meta, "spec": source.spec}))
    (folder / "status.json").write_text(source.status.model_dump_json(exclude_none=True))
    return folder


def test_the_command_reads_a_local_run_and_writes_what_plan_takes(tmp_path: Path) -> None:
    tied = status(ranking=(FIRST.model_copy(update={"interval": [-0.7, 0.1]}), RANDOM))
    folder = stored(tmp_path, origin(status=tied))
    values, out = BENCH / "promoted-tiny.yaml", tmp_path / "large.yaml"
    arguments = ["promote", "leaderboard", "-f", str(folder), "--dataset", "inputs/data/all.jsonl"]

    ended = CliRunner().invoke(app, [*arguments, "--values", str(values), "-o", str(out)])
    assert ended.exit_code == 0, ended.output
    assert "warning: clips_top_0_1_num_5 is tied with the baseline clips_random" in ended.stderr.replace("\n", " ")
    manifest = yaml.safe_load(out.read_text())
    assert manifest["metadata"]["name"] == "leaderboard-promoted"
    assert "namespace" not in manifest["metadata"]
    assert CliRunner().invoke(app, ["plan", str(out)]).exit_code == 0
    printed = CliRunner().invoke(app, [*arguments, "--values", str(values)])
    assert yaml.safe_load(printed.stdout) == manifest

    missing = CliRunner().invoke(app, [*arguments, "--values", str(tmp_path / "none.yaml")])
    assert (missing.exit_code, f"{tmp_path}/none.yaml" in missing.stderr) == (1, True)
    other = CliRunner().invoke(app, ["promote", "other", *arguments[2:], "--values", str(values)])
    assert (other.exit_code, "holds a run of 'leaderboard'" in other.stderr) == (1, True)


@pytest.mark.parametrize("size", ["tiny", "gpu"])
def test_promoted_sizes_fit_the_leaderboard_of_that_size(size: str) -> None:
    documents = read_files([BENCH / "leaderboard.yaml"], BENCH / f"leaderboard-{size}.yaml")
    (experiment,) = documents.experiments
    assert compile_spec(experiment.spec).problems == ()

    values = read_values(BENCH / f"promoted-{size}.yaml")
    found = promoted(origin(spec=experiment.spec), asked(values=values))
    assert compile_spec(found.manifest["spec"]).problems == ()
