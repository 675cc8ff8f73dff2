# SPDX-License-Identifier: Apache-2.0
"""Which videos are to be made: prompts from VBench's info file, from jsonl or given; numbered, batched, divided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data_juicer.errors import DatasetError
from ..data_juicer.rows import read_json
from ..errors import ConfigError, InputError

KEYS = ("prompt_en", "prompt", "text")


@dataclass(frozen=True)
class Video:
    """One video to be made: it is decided by the prompt, the index and the seed."""

    prompt: str
    index: int


def read_prompts(path: Path) -> list[str]:
    """Prompts of a file, each once, in order: VBench's info file (a list of `prompt_en`), or rows with `prompt` or
    `text`.

    Raises InputError when the file can't be read, ConfigError when it holds no prompts.
    """
    if not path.is_file():
        raise InputError(f"prompt_info_path: there is no file {path}")
    try:
        if path.suffix == ".json":
            found = json.loads(path.read_text(encoding="utf-8"))
            rows: Iterable[Any] = found if isinstance(found, list) else [found]
        else:
            rows = list(read_json(path))
    except (ValueError, DatasetError) as error:
        raise InputError(f"prompt_info_path: {path.name} is not JSON: {error}") from error
    return unique(_prompt(row, number, path.name) for number, row in enumerate(rows))


def unique(prompts: Iterable[str]) -> list[str]:
    """Each prompt once. Raises ConfigError when there is none."""
    found = list(dict.fromkeys(prompts))
    if not found:
        raise ConfigError("prompts: there is none; give prompts or prompt_info_path")
    return found


def batches_of(prompts: Sequence[str], videos_each: int, batch_size: int) -> list[tuple[Video, ...]]:
    """All videos in batches. They don't depend on how the work is divided, so that no video does."""
    videos = [Video(prompt, index) for prompt in prompts for index in range(videos_each)]
    return [tuple(videos[start : start + batch_size]) for start in range(0, len(videos), batch_size)]


def share(batches: Sequence[tuple[Video, ...]], number: int, count: int) -> list[tuple[Video, ...]]:
    """The batches of one of `count` workers."""
    return list(batches[number::count])


def _prompt(row: Any, number: int, name: str) -> str:
    if isinstance(row, str):
        row = {"prompt": row}
    found = next((row[key] for key in KEYS if isinstance(row, dict) and row.get(key)), None)
    if not isinstance(found, str) or not found.strip():
        raise ConfigError(f"prompt_info_path: entry {number} of {name} has no text under {', '.join(KEYS)}")
    return found
