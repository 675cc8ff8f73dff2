# SPDX-License-Identifier: Apache-2.0
"""Which videos belong to which prompts, which are missing, which are there besides; and whether they can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_api.vbench import DIMENSIONS

from ..easyanimate.names import NAMES
from ..errors import ConfigError, UserError

SUFFIX = ".mp4"
EACH, BEFORE_FILTER = 5, 25
"""Videos of a prompt that count; and those of which VBench's static filter chooses them."""
NUMBERED = re.compile(r"-\d+$")
SHOWN = 5

Entry = dict[str, Any]
"""A prompt of an info file: `prompt_en`, `dimension`, perhaps `auxiliary_info`; with `video_list` when matched."""


@dataclass(frozen=True)
class Matched:
    """The videos of one dimension."""

    entries: list[Entry]
    missing: list[str]
    """Names of videos that should be there."""

    @property
    def videos(self) -> list[str]:
        return [video for entry in self.entries for video in entry["video_list"]]


def read_info(path: Path, named: str) -> list[Entry]:
    """The prompts of an info file. Raises ConfigError where it is none; `named`: as its user calls it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"extraConfigs.full_json_dir: there is no file {named}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"extraConfigs.full_json_dir: {named} can't be read as JSON: {error}") from error
    if not isinstance(found, list) or not found:
        raise ConfigError(f"extraConfigs.full_json_dir: {named} holds no list of prompts, as VBench's info file does")
    for number, entry in enumerate(found):
        fits = isinstance(entry, dict) and isinstance(entry.get("prompt_en"), str)
        if not fits or not isinstance(entry.get("dimension"), list) or not set(entry["dimension"]) <= set(DIMENSIONS):
            raise ConfigError(
                f"extraConfigs.full_json_dir: entry {number} of {named} has no prompt_en and no dimension with names of"
                " VBench's dimensions"
            )
    return found


def names_in(folder: Path, named: str) -> dict[str, str]:
    """Files of videos by the name that they have after their prompts (`<prompt>-<i>`), as `names.json` says or as they
    are called. Raises ConfigError for a folder that is none or holds no video."""
    if not folder.is_dir():
        raise ConfigError(f"extraConfigs.videos_path: there is no folder {named}")
    try:
        listed = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        renamed = {file: f"{each['prompt']}-{each['index']}" for file, each in listed.items()}
    except FileNotFoundError:
        renamed = {}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"extraConfigs.videos_path: {named}/{NAMES} can't be read: {error!r}") from error
    found = {
        renamed.get(path.name, path.name.removesuffix(SUFFIX)): path.name
        for path in sorted(folder.iterdir())
        if path.name.endswith(SUFFIX) and not path.is_dir()
    }
    if not found:
        raise ConfigError(f"extraConfigs.videos_path: {named} holds no {SUFFIX} file")
    return found


def match(
    info: Sequence[Entry], found: Mapping[str, str], dimension: str, *, folder: Path, each: int = EACH
) -> Matched:
    """The videos of one dimension's prompts."""
    entries, missing = [], []
    for entry in info:
        if dimension not in entry["dimension"]:
            continue
        wanted = [f"{entry['prompt_en']}-{index}" for index in range(each)]
        entries.append({**entry, "video_list": [str(folder / found[name]) for name in wanted if name in found]})
        missing += [f"{name}{SUFFIX}" for name in wanted if name not in found]
    return Matched(entries, missing)


def match_all(found: Mapping[str, str], dimension: str, *, folder: Path) -> Matched:
    """Every video, whatever its prompt is (mode custom_input)."""
    return Matched(
        [
            {"prompt_en": NUMBERED.sub("", name), "dimension": [dimension], "video_list": [str(folder / file)]}
            for name, file in found.items()
        ],
        [],
    )


def extra_videos(info: Sequence[Entry], found: Mapping[str, str], *, filtered: bool) -> list[str]:
    """Files that belong to no prompt of the info file, or are more than count."""
    known = set()
    for entry in info:
        each = BEFORE_FILTER if filtered and "temporal_flickering" in entry["dimension"] else EACH
        known |= {f"{entry['prompt_en']}-{index}" for index in range(each)}
    return [file for name, file in found.items() if name not in known]


def frames_in(path: str) -> int:
    """How many frames of a video can be decoded; 0 also for what is no video."""
    import cv2

    reader, frames = cv2.VideoCapture(path), 0
    try:
        while reader.grab():
            frames += 1
    finally:
        reader.release()
    return frames


def check_videos(videos: Iterable[str], processes: int) -> None:
    """Raises UserError that names the videos which can't be read, or have less than the two frames that VBench
    compares."""
    paths = sorted(set(videos))
    with ThreadPoolExecutor(processes) as pool:
        frames = dict(zip(paths, pool.map(frames_in, paths), strict=True))
    wrong = [
        f"{Path(path).name} {'has one frame' if count else 'has no frame that can be read'}"
        for path, count in frames.items()
        if count < 2
    ]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(
            f"videos_path: VBench can't score {len(wrong)} of {len(paths)} videos: {'; '.join(wrong[:SHOWN])}{more}"
        )
