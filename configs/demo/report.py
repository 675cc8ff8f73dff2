# SPDX-License-Identifier: Apache-2.0
"""Says how much of each kind of noise a recipe caught, and how many clean rows it lost.

It reads the labels that make_data.py put into the rows, before and after: nothing here knows the recipe. Only the
standard library is used, so it runs in any image with Python.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

CLEAN = "clean"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path, help="data set before, .jsonl or .jsonl.gz")
    parser.add_argument("processed", type=Path, help="data set after")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args(argv)
    try:
        figures = report(count(options.original), count(options.processed))
    except (OSError, ValueError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    print(table(figures))
    if options.json:
        print(json.dumps(figures))
    return 0


def count(path: Path) -> Counter[str]:
    """Rows of each label in a file; ValueError names the line that has none."""
    found: Counter[str] = Counter()
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                found[json.loads(line)["meta"]["noise"] or CLEAN] += 1
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: not a row of the demo's data set") from error
    return found


def report(before: Counter[str], after: Counter[str]) -> dict[str, Any]:
    """Shares are between 0 and 1: `noise_recall` of the noise that is gone, `clean_loss` of the clean rows that are."""
    if before[CLEAN] == 0 or before.total() == before[CLEAN]:
        raise ValueError("the data set before has no clean rows, or no noise: there is nothing to report")
    if more := [kind for kind in after if after[kind] > before[kind]]:
        raise ValueError(f"more rows after than before ({', '.join(more)}): these are not two states of one data set")
    kinds = {kind: {"rows": rows, "caught": rows - after[kind]} for kind, rows in before.items() if kind != CLEAN}
    noise, caught = (sum(kind[what] for kind in kinds.values()) for what in ("rows", "caught"))
    lost = before[CLEAN] - after[CLEAN]
    return {
        "rows_before": before.total(),
        "rows_after": after.total(),
        "noise_rows": noise,
        "noise_caught": caught,
        "noise_recall": caught / noise,
        "clean_rows": before[CLEAN],
        "clean_lost": lost,
        "clean_loss": lost / before[CLEAN],
        "kinds": {kind: {**figures, "recall": figures["caught"] / figures["rows"]} for kind, figures in kinds.items()},
    }


def table(figures: dict[str, Any]) -> str:
    lines = [f"{'noise':<16}{'rows':>7}{'caught':>8}{'share':>8}"]
    for kind, found in sorted(figures["kinds"].items(), key=lambda item: (-item[1]["recall"], item[0])):
        lines.append(f"{kind.replace('_', ' '):<16}{found['rows']:>7}{found['caught']:>8}{found['recall']:>8.0%}")
    noise = f"{figures['noise_rows']:>7}{figures['noise_caught']:>8}{figures['noise_recall']:>8.1%}"
    clean = f"{figures['clean_rows']:>7}{figures['clean_lost']:>8}{figures['clean_loss']:>8.1%}"
    rows = f"{figures['rows_before']:>7} before, {figures['rows_after']} after"
    return "\n".join(
        [
            *lines,
            "-" * 39,
            f"{'all noise':<16}{noise}  caught",
            f"{'clean rows':<16}{clean}  lost",
            f"{'rows':<16}{rows}",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
