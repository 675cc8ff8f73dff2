# SPDX-License-Identifier: Apache-2.0
"""Prints the trials of a SandboxSweep, given as JSON on the standard input: the best one is marked."""

from __future__ import annotations

import json
import sys
from typing import Any


def table(sweep: dict[str, Any]) -> list[str]:
    """A line a trial, headings first."""
    status = sweep["status"]
    best = (status.get("best") or {}).get("trial")
    names = sorted({name for row in status["trials"] for name in row["parameters"]})
    rows = [["trial", "state", status.get("objective") or "value", *names]]
    for row in status["trials"]:
        value = f"{row['value']:.4f}" if row.get("value") is not None else "-"
        mark = " *" if row["number"] == best else ""
        values = [str(row["parameters"].get(name, "-")) for name in names]
        rows.append([f"{row['number']}{mark}", row["state"], value, *values])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


if __name__ == "__main__":
    print("\n".join(table(json.load(sys.stdin))))
