# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl watch` in a terminal: the newest loss of the running hook is on the screen."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from sandbox_api.status import ExperimentStatus
from sandbox_operator.cli.watch import follow
from sandbox_operator.plan.clock import stamp

JOB = {"id": "anonymous/1/execution/0", "hook": "TrainModelHook", "metaName": "train"}


def training(state: str = "Running", **progress: Any) -> ExperimentStatus:
    job = {**JOB, "state": state, **({"progress": progress} if progress else {})}
    return ExperimentStatus.model_validate({"outcome": state, "jobs": [job]})


def at(step: int, loss: float) -> ExperimentStatus:
    eta = stamp(datetime.now(UTC) + timedelta(hours=2, minutes=30, seconds=30))
    return training(step=step, total=500, metrics={"loss": loss, "lr": 0.001}, eta=eta)


async def last_frame(*statuses: ExperimentStatus) -> str:
    """What stands on the screen once these have been seen, and no more came."""
    screen = io.StringIO()

    async def changes() -> AsyncIterator[ExperimentStatus]:
        for status in statuses:
            yield status

    console = Console(file=screen, force_terminal=True, color_system=None, width=160, height=40)
    assert await follow(changes(), console, "demo") == statuses[-1]
    drawn = screen.getvalue()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn[drawn.rindex("demo") :])
    return " ".join(text.split())


async def test_the_newest_loss_of_a_running_hook_is_on_the_screen_until_it_has_ended() -> None:
    first = await last_frame(at(100, 0.5123))
    assert first.startswith("demo Running")
    assert "train TrainModelHook step 100 of 500, loss 0.5123, lr 0.001, about 2 h 30 min left" in first
    second = await last_frame(at(100, 0.5123), at(200, 0.2501))
    assert "train TrainModelHook step 200 of 500, loss 0.2501, lr 0.001" in second
    assert "0.5123" not in second
    ended = await last_frame(at(200, 0.2501), training("Succeeded"))
    assert ended.startswith("demo Succeeded")
    assert "loss" not in ended
