# SPDX-License-Identifier: Apache-2.0
"""Small sweeps for tests: spaces, settings, and histories as an operator would record them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from sandbox_api.sweep import Method
from sandbox_operator.search.observed import Seen, encode_observed
from sandbox_operator.search.space import Point, Space, parse_space
from sandbox_operator.search.studies import StudyCache
from sandbox_operator.search.suggest import Goal, Settings, suggest
from sandbox_operator.search.verify import Recorded

MIXED: Mapping[str, Any] = {
    "filter.max_ratio": {"min": 0.0, "max": 1.0},
    "filter.min_len": {"distribution": "q_log_uniform_values", "min": 256, "max": 8192},
    "filter.rep_len": {"values": [2, 4, 8, 16]},
    "train.lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
}


def a_space(raw: Mapping[str, Any] = MIXED) -> Space:
    space, problems = parse_space(raw)
    assert space is not None, problems
    return space


def some_settings(
    method: Method = "bayes", goal: Goal = "minimize", seed: int = 1, raw: Mapping[str, Any] = MIXED
) -> Settings:
    return Settings(method, goal, seed, a_space(raw))


def bowl(point: Point) -> float:
    """Lowest in one place inside the cube."""
    return sum((x - 0.3) ** 2 for x in point)


def search(
    settings: Settings,
    trials: int,
    parallelism: int = 1,
    objective: Callable[[Point], float] = bowl,
    order: random.Random | None = None,
    remembers: bool = True,
) -> list[Recorded]:
    """A whole sweep as the operator leaves it: some of its trials, as `order` has it, fail or are pruned, in any order."""
    study = StudyCache() if remembers else None
    state: dict[int, Seen] = {}
    recorded: list[Recorded] = []
    running: list[int] = []

    def end(number: int) -> None:
        point = state[number].point
        fate = order.random() if order else 1.0
        if fate < 0.1:
            state[number] = Seen(number, "failed", None, point)
        elif fate < 0.25:
            state[number] = Seen(number, "pruned", objective(point) + 0.1, point)
        else:
            state[number] = Seen(number, "succeeded", objective(point), point)

    for number in range(trials):
        while len(running) >= parallelism or (order and running and order.random() < 0.3):
            end(running.pop(order.randrange(len(running)) if order else 0))
        observed = tuple(state.values())
        made = suggest(settings, number, observed, study=study)
        recorded.append(
            Recorded(number, f"sweep-{number}", made.point, made.values, encode_observed(observed), "running")
        )
        state[number] = Seen(number, "running", None, made.point)
        running.append(number)
    for number in running:
        end(number)
    return [
        Recorded(each.number, each.name, each.point, each.parameters, each.observed, seen.state, seen.value)
        for each, seen in zip(recorded, state.values(), strict=True)
    ]
