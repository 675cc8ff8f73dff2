# SPDX-License-Identifier: Apache-2.0
"""What a pod tells of its way, and what the operator answers: JSON over HTTP, with the token of `PROGRESS_TOKEN`.

Nothing hangs on a report that is lost: `metrics.jsonl` on the volume is the truth. A rung of a trial is told again
until it is acknowledged.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import ContractModel

PROGRESS_AUDIENCE = "sandbox.datajuicer.io/progress"
"""Of the tokens for the operator's endpoint: no other server takes them, and it takes no others."""
PROGRESS_PATH = "/v1/progress"
MAX_REPORT = 16 * 1024
"""Bytes."""
MAX_FIGURES = 8
MAX_RUNGS = 64
COUNTABLE = 2**53 - 1

Figure = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=COUNTABLE)]


class RungValue(ContractModel):
    rung: Count
    """One of the contract's `progress.rungs.at`."""
    value: Figure | None
    """The metric when the resource was there first; null where it was no finite number."""


class ProgressReport(ContractModel):
    """One report, pod -> operator."""

    pod: Annotated[str, Field(max_length=64)]
    """Uid of the pod, which its token must name too."""
    job: Annotated[str, Field(max_length=512)]
    """Job id of its contract."""
    attempt: Annotated[int, Field(ge=1)]
    tellers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Pods of the attempt that tell; more than one where it is divided."""
    step: Count | None = None
    """Steps done: the newest `step` of its metrics.jsonl."""
    total: Count | None = None
    """Steps in all, where the hook knows."""
    metrics: Annotated[dict[Annotated[str, Field(max_length=128)], Figure], Field(max_length=MAX_FIGURES)] = {}
    """Newest figures without the metaName, the newest first."""
    t: float | None = None
    """Seconds since 1970 by the pod's clock, of the newest line."""
    seconds_left: Annotated[float, Field(ge=0, le=10 * 366 * 86400)] | None = None
    """Until the last step, as fast as the last ones went."""
    rungs: Annotated[list[RungValue], Field(max_length=MAX_RUNGS)] = []
    """Of a trial that may be ended early: those that are not acknowledged yet, in the order in which it came there."""


class ProgressAnswer(ContractModel):
    """What a report is answered with, operator -> pod."""

    interval: float
    """Seconds after which the pod may tell again; of a rung that it reaches it may tell at once."""
    acknowledged: list[int] = []
    """Rungs that need not be told again."""
