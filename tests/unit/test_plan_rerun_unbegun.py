# SPDX-License-Identifier: Apache-2.0
"""An experiment that was stopped before anything of it began can be run by a rerun token like any that has ended."""

from tests.unit.builders import Play, a_spec, created


def test_stopped_before_it_began_a_new_token_runs_it() -> None:
    play = Play(a_spec(stop="Now"))
    play.step()
    assert (play.status.outcome, play.status.start_time) == ("Stopped", None)
    play.change_spec(stop=None, rerun={"token": "again"})
    assert len(created(play.step())) == 1
    play.succeed()
    assert (play.status.outcome, play.status.rerun_token) == ("Succeeded", "again")


def test_a_token_that_it_had_from_the_beginning_runs_nothing_again() -> None:
    play = Play(a_spec(stop="Now", rerun={"token": "first"}))
    play.step()
    play.change_spec(stop=None)
    assert not created(play.step())
    assert play.status.outcome == "Stopped"


def test_a_token_that_comes_while_it_is_still_stopped_is_seen_and_over() -> None:
    play = Play(a_spec(stop="Now"))
    play.step()
    play.change_spec(rerun={"token": "again"})
    assert not created(play.step())
    assert (play.status.outcome, play.status.rerun_token) == ("Stopped", "again")
