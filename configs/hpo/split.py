# SPDX-License-Identifier: Apache-2.0
"""Splits the demo's rows: one half teaches a classifier what a good text is, the other is the data of the search.

Only rows in Latin letters, whose words white space separates. Rows that are known to be noise are the bad texts, the
others the good ones.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
LATIN = 0.9
"""Share of ASCII letters in a row that is kept."""


def main(source: Path, folder: Path) -> int:
    rows = [*latin(source)]
    teaching, data = rows[::2], rows[1::2]
    write(folder / "good.jsonl", [row for row in teaching if row["meta"]["noise"] is None])
    write(folder / "bad.jsonl", [row for row in teaching if row["meta"]["noise"] is not None])
    write(folder / "rows.jsonl", data)
    noise = sum(row["meta"]["noise"] is not None for row in data)
    print(f"{folder}: {len(teaching)} rows to learn from, {len(data)} rows of data, {noise} of them noise")
    return 0


def latin(source: Path) -> Iterator[Row]:
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if sum(letter.isascii() for letter in row["text"]) >= LATIN * len(row["text"]):
                yield row


def write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
