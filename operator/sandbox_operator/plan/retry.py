# SPDX-License-Identifier: Apache-2.0
"""Decides whether a failed job gets another attempt, and when. Nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from sandbox_api.base import seconds
from sandbox_api.experiment import Retry
from sandbox_api.result import ErrorClass
from sandbox_api.status import Failures

Budget = Literal["user", "infra", "preempted"]
WITHOUT_BUDGET = "final"
"""Where failures are counted that are never tried again."""

BUDGET_OF: dict[ErrorClass, Budget | None] = {
    "User": "user",
    "OutOfMemory": "user",
    "Timeout": "user",
    "Infra": "infra",
    "Preempted": "preempted",
    "Config": None,
    "Input": None,
}
"""The budget that a failure uses up; None is never tried again."""


@dataclass(frozen=True)
class Budgets:
    """Further attempts by class, and the wait between them in seconds."""

    user: int = 0
    infra: int = 3
    preempted: int = 100
    backoff: int = 10
    max_backoff: int = 600


def budgets_of(*layers: Retry | None) -> Budgets:
    """Budgets from the operator's defaults, overridden by each layer in turn (experiment, then job)."""
    given: dict[str, int] = {}
    for layer in layers:
        if layer is not None:
            for name, value in layer.model_dump(exclude_none=True).items():
                given[name] = seconds(value) if isinstance(value, str) else value
    return Budgets(**given)


def counted(failures: Failures, error: ErrorClass) -> Failures:
    """The failures so far with one more of this class."""
    budget = BUDGET_OF[error] or WITHOUT_BUDGET
    return failures.model_copy(update={budget: getattr(failures, budget) + 1})


def may_retry(failures: Failures, error: ErrorClass, budgets: Budgets) -> bool:
    """Whether `failures`, this one counted, leave another attempt. Each class has a budget of its own."""
    budget = BUDGET_OF[error]
    return budget is not None and getattr(failures, budget) <= getattr(budgets, budget)


def delay(uid: str, job_id: str, attempt: int, failures: Failures, error: ErrorClass, budgets: Budgets) -> float:
    """Seconds from a failed attempt to the next one.

    Doubles with each failure on the same budget, times a jitter in [0.8, 1.2) that is a function of (experiment uid,
    job id, attempt), so that a restarted operator decides the same; never more than `max_backoff`.
    """
    count = getattr(failures, BUDGET_OF[error] or WITHOUT_BUDGET)
    digest = hashlib.sha256(f"{uid}/{job_id}/{attempt}".encode()).digest()
    jitter = 0.8 + 0.4 * int.from_bytes(digest[:4], "big") / 2**32
    doubled = float(budgets.backoff << min(max(count - 1, 0), 30))
    return min(doubled, budgets.max_backoff / 1.2) * jitter
