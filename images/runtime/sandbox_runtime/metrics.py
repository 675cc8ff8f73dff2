# SPDX-License-Identifier: Apache-2.0
"""Figures while a hook runs: `metrics.jsonl`, one JSON object a line, durable line by line.

It is the truth for live metrics: whoever follows it sees every line that was written, even after the machine stopped.
The final figures of a hook stand in its result instead.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOT_FINITE = "_notFinite"
"""Names, in a line, the figures that were no finite numbers there."""


class MetricsLog:
    """Appends lines `{"t": seconds since 1970, "step": n, "total": n, "<prefix>.<figure>": number, ...}`;
    figures that are no finite number are named under `_notFinite`."""

    def __init__(self, path: Path, prefix: str) -> None:
        self.prefix = prefix
        self._total: int | None = None
        self._file = path.open("a", encoding="utf-8")

    def expect(self, total: int) -> None:
        """How many steps there are in all: it stands in the lines that follow, so that others see how far they are."""
        self._total = total

    def log(self, figures: Mapping[str, float], *, step: int | None = None) -> None:
        """Write one line. Figures that are not finite are only named in it, and in the job's log."""
        finite = finite_metrics(figures, f"metrics.jsonl at step {step}")
        left_out = [f"{self.prefix}.{name}" for name in figures if name not in finite]
        self.line({f"{self.prefix}.{name}": value for name, value in finite.items()}, step=step, not_finite=left_out)

    def line(
        self,
        figures: Mapping[str, float],
        *,
        step: int | None = None,
        values: Mapping[str, Any] | None = None,
        tables: Mapping[str, str] | None = None,
        not_finite: Sequence[str] = (),
    ) -> None:
        """Write one line of whole keys and finite numbers.

        values: what is no number, by key, under `_values`. tables: paths relative to the volume's root, under
        `_tables`. not_finite: keys whose numbers JSON can't hold, under `_notFinite`.
        """
        line: dict[str, Any] = {"t": round(time.time(), 3)}
        if step is not None:
            line |= {"step": step, **({} if self._total is None else {"total": self._total})}
        line |= figures
        line |= {name: dict(more) for name, more in (("_values", values), ("_tables", tables)) if more}
        line |= {NOT_FINITE: list(not_finite)} if not_finite else {}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def finite_metrics(figures: Mapping[str, float], told: str) -> dict[str, float]:
    """Figures that JSON and a comparison can hold; the others are named in the job's log."""
    kept = {name: float(value) for name, value in figures.items() if math.isfinite(value)}
    left_out = [name for name in figures if name not in kept]
    if left_out:
        print(f"{told}: left out, not finite: {', '.join(left_out)}", flush=True)
    return kept
