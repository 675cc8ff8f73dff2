# SPDX-License-Identifier: Apache-2.0
"""What a user reads in the terminal: while it runs, when it waits, and when it is over."""

from typing import Any

import pytest
from rich.console import Console, RenderableType
from tests.unit.builders import Play, a_claim, a_spec, four_jobs, later, probe, running

from sandbox_api.noise import change
from sandbox_api.status import ExperimentStatus
from sandbox_operator.cli.render import progress_view, report
from sandbox_operator.cli.watch import lines
from sandbox_operator.plan.clock import stamp


def shown(what: RenderableType) -> str:
    console = Console(width=300, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def line_with(text: str, output: str) -> str:
    (line,) = [line for line in output.splitlines() if text in line]
    return " ".join(line.split())


def said(status: ExperimentStatus) -> list[str]:
    """What a pipe gets of one status."""
    return [line for _, line in lines(status, {})]


def a_run() -> Play:
    """The demo, with figures in it."""
    play = Play(four_jobs())
    play.step()
    play.succeed(
        metrics={"analysis.rows": 5000.0, "analysis.text_len.mean": 312.456}, outputs={"overall": "a/overall.csv"}
    )
    refined = "analysis.refineRecipe.refined.text_length_filter.min_len"
    play.succeed(metrics={f"{refined}.before": 10.0, f"{refined}.after": 42.0}, message="1 bound refined")
    play.succeed(outputs={"processed": "c/dataset.jsonl"})
    play.succeed(metrics={"after.rows": 4000.0, "after.text_len.mean": 290.1})
    return play


def test_a_running_experiment_shows_each_job_and_how_long_it_takes() -> None:
    play = Play(four_jobs())
    play.step()
    play.succeed()
    play.pod(**running(play.now))
    play.step(after=1)
    view = shown(progress_view("demo", play.status, later(17)))

    assert line_with("demo", view) == "demo Running 1/4"
    assert line_with("✔", view) == "✔ probe analysis ProbeViaAnalyzerHook 5 s 300 rows analysed"
    assert line_with("▶", view) == "▶ refine analysis RefineRecipeViaKSigmaHook 12 s"
    assert line_with("execution", view) == "execution process ProcessDataHook"


def test_a_running_hook_shows_its_steps_its_newest_figures_and_how_long_it_still_takes() -> None:
    def line(state: str = "Running", seconds: float = 0, **progress: Any) -> str:
        job = {"id": "anonymous/1/execution/0", "hook": "TrainModelHook", "metaName": "train", "state": state}
        status = ExperimentStatus.model_validate({"jobs": [{**job, "progress": progress}]})
        return line_with("execution", shown(progress_view("demo", status, later(seconds))))

    eta = stamp(later(3 * 3600 + 25 * 60))
    full = {"step": 120, "total": 500, "metrics": {"loss": 0.3123456, "lr": 0.0001}, "eta": eta}
    assert line(**full).endswith("TrainModelHook step 120 of 500, loss 0.3123, lr 0.0001, about 3 h 25 min left")
    assert line(seconds=3 * 3600, **full).endswith("about 25 min left")
    assert line(seconds=4 * 3600, **full).endswith("lr 0.0001"), "it is late, and nobody knows by how much"
    assert line(metrics={"rows_done": 300}).endswith("TrainModelHook rows_done 300")
    assert line("Succeeded", **full).endswith("TrainModelHook")


def test_jobs_of_several_items_are_told_apart() -> None:
    each = {"item": "set", "in": ["a.jsonl", "b.jsonl"]}
    play = Play(a_spec(probes=[probe(forEach=each, input={"djConfigs.dataset_path": "item.set"})]))
    play.step()

    view = shown(progress_view("demo", play.status, later(1)))
    assert line_with("probe/0[0]", view).startswith("anonymous/1/probe/0[0] ProbeViaAnalyzerHook")
    assert line_with("probe/0[1]", view)


def test_of_many_jobs_those_are_shown_that_something_happens_with() -> None:
    states = ["Succeeded"] * 60 + ["Running", "Failed"] + ["Pending"] * 60
    jobs = [{"id": f"exps[{n}]/1/probe/0", "hook": "H", "metaName": "m", "state": s} for n, s in enumerate(states)]
    view = shown(progress_view("demo", ExperimentStatus.model_validate({"jobs": jobs}), later(1)))

    assert line_with("exps[60]", view).startswith("▶")
    assert line_with("exps[61]", view).startswith("✘")
    assert line_with("and ", view) == "and 92 more: 60 Succeeded, 32 Pending"
    assert len(view.splitlines()) == 33


def test_why_a_hook_waits_is_shown() -> None:
    play = Play(a_spec())
    play.step()
    play.pod(unschedulable="1 Insufficient nvidia.com/gpu", node=None)
    play.step(after=3)

    view = shown(progress_view("demo", play.status, later(2)))
    assert "InsufficientGPU: spec.pods.default.resources: no node has the GPUs it asks for: 1 Insufficient" in view


def test_what_needs_a_person_is_shown_below() -> None:
    play = Play(a_spec(workspace={"claimName": "mine"}))
    play.step()

    view = shown(progress_view("demo", play.status, later(2)))
    assert "ClaimNotFound: spec.workspace.claimName: there is no claim 'mine'" in view


def test_a_wish_that_came_after_the_end_and_can_not_be_done_is_shown_below() -> None:
    play = a_run()
    assert "InvalidSpec" not in shown(progress_view("demo", play.status, later(2)))
    play.change_spec(rerun={"token": "2", "from": "nobody"})
    play.step(after=1)

    view = shown(progress_view("demo", play.status, later(2)))
    assert "demo  Succeeded" in view
    assert "InvalidSpec: spec.rerun.from: no job has the metaName 'nobody'" in view


@pytest.mark.parametrize("words", ["[/red] list index [0]", "[bold]", "[link=x]y"])
def test_words_that_look_like_markup_are_words(words: str) -> None:
    play = Play(a_spec())
    play.step()
    play.fail(words=words)

    assert words in shown(progress_view("demo", play.status, later(2)))
    assert words in said(play.status)[0]


def test_a_status_that_nobody_has_written_yet_is_shown() -> None:
    assert "demo  Pending" in shown(progress_view("demo", ExperimentStatus(), later(0)))
    page = shown(report("demo", "lab", ExperimentStatus()))
    assert "kubectl -n lab describe sbx demo" in page
    assert "Artifacts" not in page


def test_a_pipe_gets_one_line_for_each_job_that_has_begun() -> None:
    play = Play(four_jobs())
    play.step()
    play.succeed()

    first, second = said(play.status)
    assert first.split() == ["anonymous/1/probe/0", "ProbeViaAnalyzerHook", "Succeeded", "300", "rows", "analysed"]
    assert second.split() == ["anonymous/1/refine/0", "RefineRecipeViaKSigmaHook", "Pending", "Creating"]


def test_a_pipe_hears_of_cached_jobs_of_each_run_and_of_ends_that_came_with_the_next_iteration() -> None:
    jobs = [{"id": "p/1/probe/0", "hook": "H", "metaName": "m", "state": "Cached", "reason": "Cached"}]
    status = ExperimentStatus.model_validate({"jobs": jobs})
    assert said(status)[0].split()[:3] == ["p/1/probe/0", "H", "Cached"]

    begun = {"p/1/probe/0": "p/1/probe/0 H Running", "p/1/probe/1": "p/1/probe/1 H Succeeded"}
    made = {"state": "Succeeded", "result": {"path": "x", "sha256": "0" * 64, "bytes": 1}}
    history = [{"id": f"p/1/probe/{n}", **made} for n in range(3)]
    next_one = [{"id": "p/2/probe/0", "hook": "H", "metaName": "m", "state": "Pending"}]
    status = ExperimentStatus.model_validate({"jobs": next_one, "history": history})
    assert [(about, line.split()[-1]) for about, line in lines(status, begun)] == [("p/1/probe/0", "Succeeded")]


def test_a_pipe_hears_of_skipped_jobs_and_of_what_needs_a_person() -> None:
    play = Play(four_jobs())
    play.step()
    play.fail()
    assert [line.split()[2] for line in said(play.status)] == ["Failed", "Skipped", "Skipped", "Skipped"]

    waiting = Play(a_spec(workspace={"claimName": "mine"}))
    waiting.step()
    assert said(waiting.status)[-1].startswith("ClaimNotFound: ")
    waiting.change(claims={"mine": a_claim("mine", experiment=None)})
    waiting.step()
    assert not any("ClaimNotFound" in line for line in said(waiting.status))


def test_the_report_has_before_and_after_the_bounds_the_artifacts_and_where_to_look() -> None:
    output = shown(report("demo", "lab", a_run().status))

    assert "Before (analysis) and after (after)" in output
    assert line_with("rows", output.split("Refined")[0]) == "│ rows │ 5 000 │ 4 000 │ -20.0% │"
    assert line_with("text_len.mean", output) == "│ text_len.mean │ 312.5 │ 290.1 │ -7.2% │"
    assert line_with("text_length_filter.min_len", output) == "│ text_length_filter.min_len │ 10 │ 42 │"
    assert line_with("analysis.overall", output) == "analysis.overall a/overall.csv"
    assert line_with("process.processed", output) == "process.processed c/dataset.jsonl"
    assert "kubectl -n lab describe sbx demo" in output
    assert "demo-workspace" in output


def test_artifacts_of_items_and_repeats_are_told_apart() -> None:
    ids = [
        "anonymous/1/evaluation/0",
        "anonymous/1/evaluation/1[3]~0",
        "tries[2]/1/evaluation/0",
        "tries[2]/1/evaluation/0~1",
    ]
    jobs = [
        {"id": each, "hook": "H", "metaName": "judge", "state": "Succeeded", "outputs": {"value": number}}
        for number, each in enumerate(ids)
    ]
    output = shown(report("demo", "lab", ExperimentStatus.model_validate({"jobs": jobs})))

    assert [line.split() for line in output.splitlines() if ".value" in line] == [
        ["judge.value", "0"], ["judge[3]~0.value", "1"], ["tries[2].judge.value", "2"], ["tries[2].judge~1.value", "3"],
    ]  # fmt: skip


def test_two_comparisons_are_two_tables() -> None:
    spec = a_spec(
        probes=[probe(metaName="a"), probe(metaName="b")],
        comparison=[{"before": "a", "after": "b"}, {"before": "b", "after": "a"}],
    )
    play = Play(spec)
    play.step()
    play.succeed(metrics={"a.rows": 10.0})
    play.succeed(metrics={"b.rows": 5.0})
    output = shown(report("demo", "lab", play.status))

    assert output.index("Before (a) and after (b)") < output.index("-50.0%")
    assert output.index("Before (b) and after (a)") < output.index("+100.0%")


@pytest.mark.parametrize(
    ("before", "after", "cells"),
    [
        (0.0, 5.0, ["0", "5", "+5"]),
        (1234567.0, 1234567.0, ["1 234 567", "1 234 567", "+0.0%"]),
        (0.123456, 0.2, ["0.1235", "0.2", "+62.0%"]),
        (12345.678, 12345.9, ["12 346", "12 346", "+0.0%"]),
        (-2.0, -1.0, ["-2", "-1", "+50.0%"]),
        (9.3e18, 10.0, ["no limit", "10", "-100.0%"]),
    ],
)
def test_numbers_are_written_for_people(before: float, after: float, cells: list[str]) -> None:
    found = change([before], [after])
    row: dict[str, Any] = {
        "metric": "m", "before": before, "after": after, "change": found.difference, "relative": found.relative,
        "beforeJob": "a", "afterJob": "b",
    }  # fmt: skip
    output = shown(report("demo", "lab", ExperimentStatus.model_validate({"comparison": [row]})))
    (line,) = [line for line in output.splitlines() if line.startswith("│ m")]

    assert [cell.strip() for cell in line.split("│")[2:-1]] == cells


def test_a_ranking_says_what_repeats_can_tell() -> None:
    rows = [
        {"item": "high", "mean": 0.81, "std": 0.014, "repeats": 3, "change": 0.2, "relative": 0.328, "interval": [0.1, 0.3], "tied": True},
        {"item": "low", "mean": 0.80, "std": 0.02, "repeats": 3, "change": 0.19, "relative": 0.311, "interval": [-0.1, 0.48], "tied": True},
        {"item": "random", "mean": 0.61, "std": 0.01, "repeats": 3, "tied": False},
    ]  # fmt: skip
    output = shown(report("demo", "lab", ExperimentStatus.model_validate({"ranking": rows})))

    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "│" in line]
    assert cells == [
        ["1", "high", "0.81 ± 0.014", "3", "+32.8% ± 16.4%", "tied with the second"],
        ["2", "low", "0.8 ± 0.02", "3", "+31.1% ± 47.5% (noise)", "tied with the first"],
        ["3", "random", "0.61 ± 0.01", "3", "", ""],
    ]
