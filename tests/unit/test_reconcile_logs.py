# SPDX-License-Identifier: Apache-2.0
"""What a line in the log is about stands in it, whoever logs it; and one task's subject is never another's."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from sandbox_operator.reconcile.logs import JsonLines, TextLines, about

WALL = logging.getLogger("sandbox_operator.kube.client")


@pytest.fixture
def lines() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """What is logged, as text and as JSON."""
    streams = io.StringIO(), io.StringIO()
    handlers = [logging.StreamHandler(stream) for stream in streams]
    handlers[0].setFormatter(TextLines())
    handlers[1].setFormatter(JsonLines())
    for handler in handlers:
        WALL.addHandler(handler)
    WALL.setLevel(logging.INFO)
    yield streams
    for handler in handlers:
        WALL.removeHandler(handler)


def test_a_line_carries_what_the_blocks_around_it_say(lines: tuple[io.StringIO, io.StringIO]) -> None:
    WALL.info("before")
    with about(namespace="research", experiment="demo"):
        WALL.warning("trying again in %d s", 3)
        with about(job="exps[3]/1/execution/1", attempt=2):
            WALL.info("made")
        WALL.info("after")
    text = [line.split("sandbox_operator.kube.client: ")[1] for line in lines[0].getvalue().splitlines()]
    assert text == [
        "before",
        "research/demo: trying again in 3 s",
        "research/demo exps[3]/1/execution/1 a2: made",
        "research/demo: after",
    ]
    records = [json.loads(line) for line in lines[1].getvalue().splitlines()]
    subjects = [{k: r[k] for k in ("namespace", "experiment", "job", "attempt") if k in r} for r in records]
    demo = {"namespace": "research", "experiment": "demo"}
    assert subjects == [{}, demo, {**demo, "job": "exps[3]/1/execution/1", "attempt": 2}, demo]
    assert {"time", "level", "logger", "message"} <= records[1].keys()
    assert (records[1]["level"], records[1]["message"]) == ("warning", "trying again in 3 s")


def test_an_exception_is_one_object_with_its_traceback(lines: tuple[io.StringIO, io.StringIO]) -> None:
    with about(namespace="research", experiment="demo"):
        try:
            raise ValueError("line one\nline two")
        except ValueError:
            WALL.exception("a mistake")
    (record,) = [json.loads(line) for line in lines[1].getvalue().splitlines()]
    assert record["experiment"] == "demo"
    assert "ValueError: line one\nline two" in record["traceback"]


async def test_workers_beside_each_other_keep_their_subjects_apart(lines: tuple[io.StringIO, io.StringIO]) -> None:
    async def work(name: str) -> None:
        with about(namespace="lab", experiment=name):
            await asyncio.sleep(0)
            WALL.info("%s", name)

    await asyncio.gather(*(work(f"demo-{number}") for number in range(5)))
    records = [json.loads(line) for line in lines[1].getvalue().splitlines()]
    assert len(records) == 5
    assert all(record["experiment"] == record["message"] for record in records)
