# SPDX-License-Identifier: Apache-2.0
"""A hook that draws a sample in which each source of a data set has the share it should have.

What a hook needs to know of the sandbox is in here: `HookContext`, `HookResult`, `Artifact`, and the classes of errors.
Everything else (the contract, inputs and their digests, the result, exit codes) is the runtime's.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sandbox_runtime.errors import ConfigError, UserError
from sandbox_runtime.hooks.base import Artifact, HookContext, HookResult


class Settings(BaseModel):
    """`extraConfigs`. The SandboxHook's schema is `Settings.model_json_schema()`, so both say the same."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    dataset_path: str
    """The data set, .jsonl or .jsonl.gz."""
    source_key: str = "meta.source"
    """Where a row says its source, with dots between keys."""
    shares: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Sources and their shares, in any unit; rows of other sources are left out."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Rows to draw; default: as many as the scarcest source allows."""
    export_path: str | None = None
    """Where the sample is published."""


class MixBySource:
    """Outputs: dataset (jsonl, rows in their old order), report (csv).

    Metrics: `rows_in`, `rows_out`, `share.<source>.before`, `.after` (of all rows, 0 to 1).
    """

    extra = Settings

    def run(self, context: HookContext) -> HookResult:
        settings: Settings = context.extra
        path = Path(settings.dataset_path)  # relative paths start in the experiment's folder, where we are
        before = Counter(source for _, source in rows_of(path, settings.source_key))
        wanted = targets(before, settings)
        chosen = {
            source: set(Random(f"{context.seed} {source}").sample(range(before[source]), count))
            for source, count in wanted.items()
        }
        sample = context.out / "dataset.jsonl"
        seen: Counter[str] = Counter()
        with sample.open("w", encoding="utf-8") as file:
            for line, source in rows_of(path, settings.source_key):
                if seen[source] in chosen.get(source, ()):
                    file.write(line.rstrip("\n") + "\n")
                seen[source] += 1
        after = Counter(wanted)
        report = context.out / "report.csv"
        report.write_text(
            "source,rows_before,rows_after\n"
            + "".join(f"{json.dumps(source)},{before[source]},{after[source]}\n" for source in sorted(before))
        )
        return HookResult(
            outputs=[
                Artifact(sample, rows=after.total(), publish=context.user_path("extraConfigs.export_path")),
                Artifact(report, rows=len(before)),
            ],
            metrics={"rows_out": after.total(), "rows_in": before.total(), **shares(before, after, settings.shares)},
            message=f"{after.total()} of {before.total()} rows in the shares asked for",
            tables=[report],
        )


def targets(found: Mapping[str, int], settings: Settings) -> dict[str, int]:
    """Rows to take of each source. Raises ConfigError when the data can't give the shares or the rows asked for."""
    missing = [source for source in settings.shares if not found.get(source)]
    if missing:
        there = ", ".join(f"{name!r} ({count} rows)" for name, count in Counter(found).most_common(8))
        raise ConfigError(f"extraConfigs.shares: no row is of {missing[0]!r}; the sources are {there or 'none'}")
    total = sum(settings.shares.values())
    share = {source: part / total for source, part in settings.shares.items()}
    most = int(min(found[source] / part for source, part in share.items()) + 1e-9)
    if settings.rows is not None and settings.rows > most:
        raise ConfigError(f"extraConfigs.rows: {settings.rows} rows in these shares are more than the {most} there are")
    rows = settings.rows if settings.rows is not None else most
    exact = {source: part * rows for source, part in share.items()}
    taken = {source: int(value) for source, value in exact.items()}
    rest = sorted(share, key=lambda source: (taken[source] - exact[source], source))  # largest remainders first
    for source in rest[: rows - sum(taken.values())]:
        taken[source] = min(taken[source] + 1, found[source])
    return taken


def shares(before: Counter[str], after: Counter[str], of: Mapping[str, float]) -> dict[str, float]:
    """Each source's part of all rows, before and after."""
    figures: dict[str, float] = {}
    for source in of:
        figures[f"share.{source}.after"] = after[source] / max(after.total(), 1)
        figures[f"share.{source}.before"] = before[source] / max(before.total(), 1)
    return figures


def rows_of(path: Path, key: str) -> Iterator[tuple[str, str]]:
    """Each line with its source, an empty one where it has none. Raises ConfigError and UserError with the place."""
    if not path.is_file():
        raise ConfigError(f"extraConfigs.dataset_path: there is no file {path}")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value: Any = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path.name}, line {number}: is not JSON: {error}") from error
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            yield line, value if isinstance(value, str) else ""
