# SPDX-License-Identifier: Apache-2.0
"""A forEach whose list will never be made is skipped with what reads it: an experiment never waits for nothing."""

from typing import Any

from tests.unit.builders import Play, a_spec, lister, lists, pipelines, probe, process


def over(reference: str, **more: Any) -> dict[str, Any]:
    return process(
        metaName="each", forEach={"item": "x", "in": reference}, input={"djConfigs.dataset_path": "item.x"}, **more
    )


def test_the_job_that_makes_the_list_has_failed_and_the_others_go_on() -> None:
    play = Play(
        a_spec(
            probes=[lister(metaName="list", onFailure="Continue")],
            executions=[over("anonymous.list.paths"), process(metaName="other")],
        )
    )
    play.step()
    play.fail_in("anonymous/1/probe/0")
    assert play.states()["anonymous/1/execution/0[*]"] == "Skipped: InputUnavailable"
    play.succeed_in("anonymous/1/execution/1")
    assert play.status.outcome == "Succeeded"


def test_the_job_that_makes_the_list_was_stopped_before_it_began() -> None:
    play = Play(
        a_spec(
            executions=[lister(metaName="list")],
            evaluations=[over("anonymous.list.paths"), probe(metaName="last")],
            stop="AfterEvaluation",
        )
    )
    play.step()
    assert play.states()["anonymous/1/execution/0"] == "Skipped: Stopped"
    assert play.states()["anonymous/1/evaluation/0[*]"] == "Skipped: InputUnavailable"
    play.succeed_in("anonymous/1/evaluation/1")
    assert play.status.outcome == "Stopped"


def test_the_list_of_a_pipelines_own_item_and_that_of_a_pipeline() -> None:
    own = {
        "name": "exps",
        "forEach": {"item": "pool", "in": ["a", "b"]},
        **lists(executions=[lister(metaName="list", onFailure="Continue"), over("exps.list.paths")]),
    }
    whole = {
        "name": "rest",
        "forEach": {"item": "y", "in": "first.list.paths"},
        **lists(executions=[process(metaName="one", input={"djConfigs.dataset_path": "item.y"})]),
    }
    first = {"name": "first", **lists(executions=[lister(metaName="list", onFailure="Continue")])}
    play = Play(pipelines(first, own, whole))
    play.step()
    play.fail_in("first/1/execution/0")
    play.fail_in("exps[0]/1/execution/0")
    play.succeed_in("exps[1]/1/execution/0", outputs={"paths": ["p", "q"]})
    play.succeed_in("exps[1]/1/execution/1[0]", "exps[1]/1/execution/1[1]")
    states = play.states()
    assert states["exps[0]/1/execution/1[*]"] == "Skipped: InputUnavailable"
    assert states["rest[*]/1/execution/0"] == "Skipped: InputUnavailable"
    assert play.status.outcome == "Succeeded"
