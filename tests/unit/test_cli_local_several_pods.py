# SPDX-License-Identifier: Apache-2.0
"""Jobs of several pods in a local run: as many processes at once, which meet on the loopback."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.local_lab import LocalLab, toy, toys

WORDS = ["one", "two", "three", "four", "five"]


def several(do: str, **more: Any) -> dict[str, Any]:
    """A job of the toy hook that has two results."""
    return toy(do, metaName="w", **more) | {"hook": "toy"}


@pytest.fixture
def lab(tmp_path: Path) -> LocalLab:
    return LocalLab(tmp_path / "run")


async def test_pieces_are_processes_those_that_failed_run_again_and_all_are_merged(lab: LocalLab) -> None:
    extra = {"words": WORDS, "broken": [1]}
    status = await lab.run(toys(several("share", shards=3, extra=extra), retry={"user": 1, "backoff": "1s"}))

    assert status.outcome == "Succeeded"
    job = lab.job("w")
    assert (job.attempts, job.reason) == (2, "Completed")
    assert job.shards is not None
    assert (job.shards.succeeded, job.shards.done) == (3, "0-2")
    assert lab.text_at(lab.folder.workspace / (job.outputs or {})["words"]).split() == WORDS
    names = sorted(folder.name.rpartition("-a")[2] for folder in lab.folder.jobs.iterdir())
    assert names == ["1", "2", "2-merge"]


async def test_pods_that_work_as_one_meet(lab: LocalLab) -> None:
    status = await lab.run(toys(several("meet", nodes=3)))

    assert status.outcome == "Succeeded"
    assert (lab.job("w").outputs or {})["words"] == ["1", "2"]


async def test_one_that_fails_ends_the_others_and_all_begin_again(lab: LocalLab) -> None:
    spec = toys(several("meet", nodes=3, extra={"fails": 2}), retry={"user": 1, "backoff": "1s"})
    status = await asyncio.wait_for(lab.run(spec), 120)

    assert status.outcome == "Succeeded"
    job = lab.job("w")
    assert job.attempts == 2
    assert job.failures is not None
    assert (job.failures.user, job.failures.preempted, job.failures.infra) == (1, 0, 0)
