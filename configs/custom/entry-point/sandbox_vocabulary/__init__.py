# SPDX-License-Identifier: Apache-2.0
"""A probe that counts the words of a data set: how many, how many different ones, which are the most frequent.

One file of plain Python, so that its wheel can travel in a ConfigMap and run on an image that the cluster has already.
It has no model of its settings: the SandboxHook's schema has checked them, and its defaults are in them.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sandbox_runtime.errors import ConfigError, UserError
from sandbox_runtime.hooks.base import Artifact, HookContext, HookResult

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
PROGRESS_ROWS = 1000


class Vocabulary:
    """Outputs: words (csv, word and count, the most frequent first), top (list of the `top` most frequent words).

    Metrics: `rows`, `words`, `distinct`, `distinct_share` (of all words), `once_share` (distinct words seen once only).
    """

    def run(self, context: HookContext) -> HookResult:
        settings = context.extra
        counts: Counter[str] = Counter()
        rows = 0
        for text in texts_of(Path(settings["dataset_path"]), settings["text_key"]):
            counts.update(WORD.findall(text.lower() if settings["lowercase"] else text))
            rows += 1
            if rows % PROGRESS_ROWS == 0:
                context.metrics.log({"rows": rows, "distinct": len(counts)}, step=rows)
        if not counts:
            raise UserError(f"extraConfigs.text_key: no row has a word under {settings['text_key']!r}")
        table = context.out / "words.csv"
        ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        table.write_text("word,count\n" + "".join(f"{word},{count}\n" for word, count in ordered), encoding="utf-8")
        once = sum(count == 1 for count in counts.values())
        return HookResult(
            outputs=[Artifact(table, rows=len(counts)), [word for word, _ in ordered[: settings["top"]]]],
            metrics={
                "words": counts.total(),
                "distinct": len(counts),
                "distinct_share": len(counts) / counts.total(),
                "once_share": once / len(counts),
                "rows": rows,
            },
            message=f"{counts.total()} words in {rows} rows, {len(counts)} different ones",
            tables=[table],
        )


def texts_of(path: Path, key: str) -> Iterator[str]:
    """The text of each row. Raises ConfigError and UserError with the place."""
    if not path.is_file():
        raise ConfigError(f"extraConfigs.dataset_path: there is no file {path}")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path.name}, line {number}: is not JSON: {error}") from error
            text = row.get(key) if isinstance(row, dict) else None
            if not isinstance(text, str):
                raise UserError(f"{path.name}, line {number}: has no text under {key!r}")
            yield text
