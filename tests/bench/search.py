# SPDX-License-Identifier: Apache-2.0
"""Measures how long a suggestion takes with a thousand trials, and prints a table; nothing is asserted. `make bench-search`.

As in a sweep: eight trials at a time over four mixed parameters, and each suggestion sees what began and ended since the
one before. Beside it: a suggestion of a process that has just started, which builds the study first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import numpy as np

from sandbox_operator.search.observed import Seen, encode_observed
from sandbox_operator.search.space import Point, parse_space
from sandbox_operator.search.studies import StudyCache
from sandbox_operator.search.suggest import Settings, suggest

TRIALS, PARALLELISM, SUGGESTIONS, REBUILDS = 1000, 8, 400, 20
PARAMETERS = {
    "filter.max_ratio": {"min": 0.0, "max": 1.0},
    "filter.min_len": {"distribution": "q_log_uniform_values", "min": 256, "max": 8192},
    "filter.rep_len": {"values": [2, 4, 8, 16]},
    "train.lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
}


def main() -> None:
    space, problems = parse_space(PARAMETERS)
    assert space is not None, problems
    settings = Settings("bayes", "minimize", 1, space)
    print(f"{TRIALS} to {TRIALS + SUGGESTIONS} trials, 4 parameters, {PARALLELISM} at a time; milliseconds\n")
    print("| what | p50 | p99 | p99 of CPU time |\n| --- | --- | --- | --- |")
    study = StudyCache()
    for name, taken in (
        ("suggestion", timed(settings, SUGGESTIONS, lambda n, seen: suggest(settings, n, seen, study=study))),
        ("suggestion that builds its study", timed(settings, REBUILDS, lambda n, seen: suggest(settings, n, seen))),
        ("writing down what it saw", timed(settings, REBUILDS, lambda _, seen: encode_observed(seen))),
    ):
        passed, used = zip(*taken, strict=True)
        p50, p99 = np.percentile(passed, [50, 99])
        print(f"| {name} | {p50:.1f} | {p99:.1f} | {np.percentile(used, 99):.1f} |", flush=True)


def timed(settings: Settings, times: int, run: Callable[[int, tuple[Seen, ...]], object]) -> list[tuple[float, float]]:
    """Milliseconds of each call, and those of CPU time; without the first, which builds the study in any case."""
    taken: list[tuple[float, float]] = []
    for number, seen in histories(settings, times + 1):
        begin, used = time.perf_counter(), time.process_time()
        run(number, seen)
        taken.append((1000 * (time.perf_counter() - begin), 1000 * (time.process_time() - used)))
    return taken[1:]


def histories(settings: Settings, times: int) -> Iterator[tuple[int, tuple[Seen, ...]]]:
    """What suggestions see one after another: each time one trial begins, and one of those that run ends."""
    draw = random.Random(1)
    chance = Settings("random", settings.goal, settings.seed, settings.space)

    def begun(number: int) -> Seen:
        return Seen(number, "running", None, suggest(chance, number).point)

    seen = [ended(begun(number), draw) for number in range(TRIALS - PARALLELISM)]
    seen += [begun(number) for number in range(len(seen), TRIALS)]
    for number in range(TRIALS, TRIALS + times):
        yield number, tuple(seen)
        running = draw.choice([each.number for each in seen if each.state == "running"])
        seen[running] = ended(seen[running], draw)
        seen.append(begun(number))


def ended(trial: Seen, draw: random.Random) -> Seen:
    if draw.random() < 0.05:
        return Seen(trial.number, "failed", None, trial.point)
    return Seen(trial.number, "pruned" if draw.random() < 0.2 else "succeeded", bowl(trial.point), trial.point)


def bowl(point: Point) -> float:
    return sum((x - 0.3) ** 2 for x in point)


if __name__ == "__main__":
    main()
