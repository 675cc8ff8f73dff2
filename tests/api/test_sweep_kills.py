# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of the real process at any moment of a search: no trial lost, none made twice, every suggestion verified, and of
searches that do not look back the same trials as undisturbed.

Thirty trials on the fake API server; in the deep run a thousand on the real one, with fake nodes and pods that end at once.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests.api.conftest import kubeconfig
from tests.api.sweep_lab import a_sweep, fake_sweep_lab, outcome_of_sweep
from tests.api.warm import Nursery, WarmOperator

from sandbox_operator.kube.client import Manifest
from sandbox_operator.plan.sweep_definition import compile_sweep

DEEP = bool(os.environ.get("SANDBOX_DEEP"))
deep_only = pytest.mark.skipif(not DEEP, reason="make test-deep")


async def search(
    nursery: Nursery, folder: Path, spec: Manifest, kills: int, seed: int
) -> tuple[Manifest, tuple[str, ...]]:
    """The end of a sweep whose operator is killed so many times, each time when some more trials are there."""
    chance = random.Random(seed)
    async with fake_sweep_lab() as (api, lab):
        operator = WarmOperator(nursery, kubeconfig(api, folder), folder / f"operator-{seed}.log").start()
        try:
            await lab.apply_sweep("demo", spec)
            marks = sorted(chance.sample(range(2, spec["maxTrials"]), kills))
            for mark in marks:
                await lab.until(lambda mark=mark: len(lab.trials("demo")) >= mark, f"{mark} trials", limit=120)  # type: ignore[misc]
                operator.kill()
                operator.start()
            await lab.sweep_ends("demo", limit=120)
            lab.assert_none_lost_none_twice("demo", spec["maxTrials"])
            lab.assert_never_more_at_a_time("demo", spec["parallelism"])
            lab.assert_no_job_was_made_twice()
            return outcome_of_sweep(lab, "demo"), lab.verified("demo")
        finally:
            print(operator.log)
            operator.end()


@pytest.mark.parametrize("method", ["random", "bayes"])
async def test_killed_at_any_moment_none_is_lost_none_made_twice_and_all_are_verified(
    method: str, nursery: Nursery, tmp_path: Path
) -> None:
    spec = a_sweep(method=method, maxTrials=30, parallelism=4)
    end, problems = await search(nursery, tmp_path, spec, kills=3, seed=1)
    assert problems == ()
    assert end["counts"] == {"total": 30, "running": 0, "succeeded": 30, "failed": 0, "pruned": 0}
    if method == "random":
        compiled = compile_sweep(spec, name="demo", uid="any")  # the seed stands in the spec
        assert compiled.settings is not None
        undisturbed, _ = await search(nursery, tmp_path, spec, kills=0, seed=2)
        assert end == undisturbed


async def test_one_at_a_time_ends_the_same_whatever_happens(nursery: Nursery, tmp_path: Path) -> None:
    """bayes too: with one trial at a time each sees all before it, ended."""
    spec = a_sweep(method="bayes", maxTrials=14, parallelism=1)
    end, problems = await search(nursery, tmp_path, spec, kills=3, seed=3)
    undisturbed, _ = await search(nursery, tmp_path, spec, kills=0, seed=4)
    assert problems == ()
    assert end == undisturbed
