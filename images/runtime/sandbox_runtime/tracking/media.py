# SPDX-License-Identifier: Apache-2.0
"""Rows with files: tables, the Analyzer's histograms, a few small videos, and what is told at an experiment's end."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox_api.export import Ending
from sandbox_api.result import Result

from .rows import OWN
from .sources import Entry, images_of, result_at, tables_of, videos_of

MAX_ROWS = 1000
"""Of a table."""
CHANGE = ("metric", "before", "after", "change", "relative", "low", "high", "repeats", "before_job", "after_job")
RANK = ("item", "mean", "std", "repeats", "change", "relative", "low", "high", "tied")


def media_row(root: Path, entry: Entry, ending: Ending | None) -> dict[str, Any]:
    """What is logged for an entry with files; empty where they have gone."""
    if entry.kind == "ending":
        return ending_row(ending) if ending is not None else {}
    result = result_at(root, entry.source)
    if result is None:
        return {}
    makers: dict[str, Callable[[Path, Result], dict[str, Any]]] = {
        "tables": _tables,
        "images": _images,
        "videos": _videos,
    }
    return makers[entry.kind](root, result)


def ending_row(ending: Ending) -> dict[str, Any]:
    """The tables before and after, and of the ranking."""
    import wandb

    row: dict[str, Any] = {}
    if ending.comparison:
        changes = [dict(one) | _bounds(one.interval) for one in ending.comparison]
        row["comparison"] = wandb.Table(columns=list(CHANGE), data=[[one[name] for name in CHANGE] for one in changes])
    if ending.ranking:
        ranks = [dict(one) | _bounds(one.interval) for one in ending.ranking]
        row["ranking"] = wandb.Table(columns=list(RANK), data=[[one[name] for name in RANK] for one in ranks])
    return row


def without_files(entry: Entry) -> dict[str, Any]:
    """The row of an entry whose files can't be told: it keeps its place."""
    return {f"{OWN}.left_out": f"{entry.kind} of {entry.source}"}


def _bounds(interval: list[float] | None) -> dict[str, float | None]:
    low, high = interval if interval is not None and len(interval) == 2 else (None, None)
    return {"low": low, "high": high}


def _tables(root: Path, result: Result) -> dict[str, Any]:
    import wandb

    row: dict[str, Any] = {}
    for path in tables_of(root, result):
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
        if header:
            names = [name or f"column {number}" for number, name in enumerate(header)]
            data = [[_cell(cell) for cell in (line + [""] * len(names))[: len(names)]] for line in lines[:MAX_ROWS]]
            row[f"{result.meta_name}.{path.stem}"] = wandb.Table(columns=names, data=_of_one_kind(data))
    return row


def _cell(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text or None


def _of_one_kind(data: list[list[Any]]) -> list[list[Any]]:
    """A column with a text in it holds texts only: wandb refuses mixtures."""
    mixed = {
        column
        for column in range(len(data[0]) if data else 0)
        if any(isinstance(line[column], str) for line in data) and any(isinstance(line[column], float) for line in data)
    }
    return [
        [str(cell) if column in mixed and cell is not None else cell for column, cell in enumerate(line)]
        for line in data
    ]


def _images(root: Path, result: Result) -> dict[str, Any]:
    import wandb

    return {
        f"{result.meta_name}.histograms": [
            wandb.Image(str(path), caption=path.stem) for path in images_of(root, result)
        ]
    }


def _videos(root: Path, result: Result) -> dict[str, Any]:
    import wandb

    files = videos_of(root, result)
    return {
        f"{result.meta_name}.videos": [
            wandb.Video(str(path), caption=path.stem, format=path.suffix[1:]) for path in files
        ]
    }
