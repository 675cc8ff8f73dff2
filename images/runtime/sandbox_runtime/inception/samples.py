# SPDX-License-Identifier: Apache-2.0
"""Which videos there are, and which of their frames are taken.

What is taken of a video depends on the seed, the run, its name and its ordinal among equal names: not on the order of
rows, nor on other videos. No frame is decoded here.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from sandbox_api.inception import Metric

from ..easyanimate.clips import BrokenClip, Probe, probe
from .ahead import ahead

SUFFIXES = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif"))
LOOKING = 8
"""Videos that are looked at together: on a network's volume that is waiting, most of all."""
Look = Callable[[str], Probe | BrokenClip]
PIECE = 32
"""Single frames of a video that are held in memory together."""


@dataclass(frozen=True)
class Video:
    name: str
    """As its row or its folder names it."""
    ordinal: int
    """Among videos of the same name."""
    path: str


@dataclass(frozen=True)
class Take:
    """Frames of one video that are decoded together: one clip, or single frames."""

    video: int
    """Its place in the list of videos."""
    path: str
    times: tuple[int, ...]
    """Presentation times in the stream's unit, ascending."""
    first: int
    """Number of its first sample; of single frames the others follow."""
    weight: float = 1.0
    """Of each sample."""
    copies: int = 1
    """How many samples a clip is."""


@dataclass
class Samples:
    """What is taken of one side."""

    takes: list[Take] = field(default_factory=list)
    count: int = 0
    videos: int = 0
    """Of which something is taken."""
    looked: int = 0
    """Videos that were looked at."""
    broken: list[str] = field(default_factory=list)
    """Names of those that can't be used, with the reason."""

    def add_clip(self, video: int, path: str, times: Sequence[int], copies: int = 1) -> None:
        self.takes.append(Take(video, path, tuple(times), self.count, copies=copies))
        self.count += copies

    def add_frames(self, video: int, path: str, times: Sequence[int], weight: float = 1.0) -> None:
        self.takes.append(Take(video, path, tuple(times), self.count, weight))
        self.count += len(times)


def videos_of(rows: Iterable[Mapping[str, Any]], roots: Sequence[Path]) -> list[Video]:
    """The videos that rows name, each of them all of its `videos`. A relative name is looked for in each of the roots
    in turn. A row that names none is a video without a path."""
    found: list[tuple[str, str]] = []
    for number, row in enumerate(rows, 1):
        named = _names(row)
        found += [(name, _found(name, roots)) for name in named] or [(f"row {number}", "")]
    return _numbered(found)


def look_at(path: str) -> Probe | BrokenClip:
    """Count the frames of a video without decoding them; what is wrong where that can't be done."""
    try:
        if not path:
            raise BrokenClip("names no video")
        if not Path(path).is_file():
            raise BrokenClip("is not there")
        return probe(path)
    except BrokenClip as error:
        return error


def videos_in(folder: Path) -> list[Video]:
    """All videos below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return _numbered((path.relative_to(folder).as_posix(), str(path)) for path in files)


def standard_samples(metric: Metric, videos: Sequence[Video], look: Look, seed: int, run: int) -> Samples:
    """One clip of each video, at a drawn place; or single frames, each drawn from one of the equal parts of the video.

    look: counts the frames of a video. Videos are taken in a drawn order, until there are as many samples as the metric
    has at most.
    """
    samples = Samples()
    for video, found in _usable(metric, videos, look, (seed, run), samples):
        if metric.span > 1:
            samples.add_clip(video, videos[video].path, _clip(metric, found, _part(videos[video], seed, run)))
        else:
            frames = len(found.times)
            parts = min(metric.per_video, frames, metric.samples - samples.count)
            begins = [part * frames // parts for part in range(parts + 1)]
            drawn = [
                begin + int(_part(videos[video], seed, run, part) * (end - begin))
                for part, (begin, end) in enumerate(pairwise(begins))
            ]
            taken = [found.times[frame] for frame in drawn]
            samples.add_frames(video, videos[video].path, taken)
    return samples


def compatible_samples(metric: Metric, videos: Sequence[Video], look: Look, seed: int, run: int) -> Samples:
    """As upstream takes them: videos are used again, at other drawn places, until there are as many clips as the metric
    asks for; or every frame of each video, which together weigh as much as those of any other one."""
    samples = Samples()
    usable = []
    for video, found in _usable(metric, videos, look, (seed, run), samples):
        if metric.span > 1:
            usable.append((video, found))
            samples.count += 1
        else:
            times = found.times[: metric.samples - samples.count]
            for start in range(0, len(times), PIECE):
                samples.add_frames(video, videos[video].path, times[start : start + PIECE], weight=1 / len(times))
    if usable:
        samples.count = 0
        turns = [(*usable[number % len(usable)], number // len(usable)) for number in range(metric.samples)]
        clips = Counter(
            (video, tuple(_clip(metric, found, _part(videos[video], seed, run, *([turn] if turn else [])))))
            for video, found, turn in turns
        )
        for (video, times), copies in clips.items():
            samples.add_clip(video, videos[video].path, times, copies)
    return samples


def _usable(
    metric: Metric, videos: Sequence[Video], look: Look, name: tuple[int, int], samples: Samples
) -> Iterator[tuple[int, Probe]]:
    """Videos that can be used, in the order that the draw gives them; the others are noted."""
    order = sorted(range(len(videos)), key=lambda place: _digest(videos[place], "order", *name))
    with closing(ahead(lambda place: look(videos[place].path), order, LOOKING)) as looked:
        for place, found in looked:
            samples.looked += 1
            if isinstance(found, Probe) and len(found.times) < metric.span:
                found = BrokenClip(f"is too short: it has {len(found.times)} frames, a clip takes {metric.span}")
            if isinstance(found, BrokenClip):
                samples.broken.append(f"{videos[place].name} {found}")
                continue
            samples.videos += 1
            yield place, found
            if samples.count >= metric.samples:
                return


def _clip(metric: Metric, found: Probe, place: float) -> list[int]:
    first = int(place * (len(found.times) - metric.span + 1))
    return list(found.times[first : first + metric.span : metric.stride])


def _part(video: Video, *name: int) -> float:
    """A number from 0 to below 1 that depends on the video and these names."""
    return int.from_bytes(_digest(video, "place", *name)[:8], "big") / math.ldexp(1.0, 64) * (1 - 2**-53)


def _digest(video: Video, *name: str | int) -> bytes:
    words = "\0".join(map(repr, (video.name, video.ordinal, *name)))
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()


def _numbered(found: Iterable[tuple[str, str]]) -> list[Video]:
    seen: Counter[str] = Counter()
    videos = []
    for name, path in found:
        videos.append(Video(name, seen[name], path))
        seen[name] += 1
    return videos


def _names(row: Mapping[str, Any]) -> list[str]:
    named = row.get("videos")
    return [name for name in (named if isinstance(named, (list, tuple)) else [named]) if isinstance(name, str) and name]


def _found(name: str, roots: Sequence[Path]) -> str:
    candidates = [root / name for root in roots]
    return str(next((path for path in candidates if path.is_file()), candidates[0]))
