# SPDX-License-Identifier: Apache-2.0
"""What there is to export in an experiment's folder, in small pieces that are found again by their names.

Pure but for reading. A file that can't be read now is looked at again later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from sandbox_api.result import Result

from ..workspace import CONFIGS, METRICS, RESULT, attempts_in

Kind = Literal["start", "lines", "result", "tables", "images", "videos", "ending"]
MAX_TABLES = 4
"""Of one result. Bounds: what an experiment exports beside its figures stays small."""
MAX_TABLE_BYTES = 1 << 20
MAX_IMAGES = 16
MAX_IMAGE_BYTES = 1 << 20
MAX_VIDEOS = 4
"""Of one result."""
MAX_VIDEO_BYTES = 4 << 20
MAX_RECIPE_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """Something that becomes rows of the run: `count` lines of a metrics file from line `begin`, or one row."""

    kind: Kind
    source: str = ""
    """The attempt's folder, relative to the volume's root; of a result of another experiment, that one's."""
    begin: int = 0
    count: int = 1

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": self.kind, "source": self.source}
        return found | ({"begin": self.begin, "count": self.count} if self.kind == "lines" else {})

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Entry:
        return cls(item["kind"], item["source"], int(item.get("begin", 0)), int(item.get("count", 1)))

    @property
    def is_media(self) -> bool:
        """Whether it has files, whose upload a row alone does not prove."""
        return self.kind in ("tables", "images", "videos", "ending")


class Known(Protocol):
    """What has its rows already."""

    @property
    def lines(self) -> Mapping[str, int]:
        """How many lines of each metrics file, by source."""

    @property
    def results(self) -> Collection[str]:
        """Sources of results."""


@dataclass(frozen=True)
class Attempt:
    """A pod's folder."""

    job: str
    number: int
    pod: str


def attempt_of(source: str) -> Attempt:
    """Whose folder it is: `.../jobs/<job as folders>/attempts/<n>/<pod>`."""
    _, _, below = source.partition("/jobs/")
    job, _, rest = below.rpartition("/attempts/")
    number, _, pod = rest.partition("/")
    return Attempt(re.sub(r"\.([0-9]+)", r"[\1]", job), int(number) if number.isdigit() else 0, pod)


def whole_lines(path: Path, begin: int = 0) -> list[bytes]:
    """Lines of a file from a number on; a last one without its end is still being written."""
    try:
        return path.read_bytes().split(b"\n")[begin:-1]
    except OSError:
        return []


class Sizes:
    """Which files have changed since they were looked at last."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, int]] = {}

    def changed(self, path: Path) -> bool:
        """Whether it is there and not as it was at the last call."""
        try:
            status = path.stat()
        except OSError:
            return False
        now = status.st_size, status.st_mtime_ns
        was, self._known[path] = self._known.get(path), now
        return was != now


def new_entries(root: Path, experiment: Path, known: Known, committed: Iterable[str], sizes: Sizes) -> Iterator[Entry]:
    """What is not known yet. committed: paths of results that count, also of other experiments."""
    sources = [folder.relative_to(root).as_posix() for folder in sorted(attempts_in(experiment))]
    for source in sources:
        if sizes.changed(root / source / METRICS):
            begin = known.lines.get(source, 0)
            if count := len(whole_lines(root / source / METRICS, begin)):
                yield Entry("lines", source, begin, count)
    for source in dict.fromkeys([*sources, *(str(Path(path).parent) for path in committed)]):
        if source in known.results or not sizes.changed(root / source / RESULT):
            continue
        result = result_at(root, source)
        if result is None or result.outcome != "Succeeded":
            continue
        yield Entry("result", source)
        if tables_of(root, result):
            yield Entry("tables", source)
        if images_of(root, result):
            yield Entry("images", source)
        if videos_of(root, result):
            yield Entry("videos", source)


def result_at(root: Path, source: str) -> Result | None:
    try:
        return Result.model_validate_json((root / source / RESULT).read_bytes())
    except (OSError, ValidationError):
        return None


def metrics_line(line: bytes) -> dict[str, Any]:
    """A line's object; what is none is an empty one, which keeps its place."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def configs_in(experiment: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Lines of all configs files with their sources, older attempts first."""
    for folder in sorted(attempts_in(experiment), key=lambda folder: (str(folder.parent.parent), _number(folder))):
        for line in whole_lines(folder / CONFIGS):
            yield folder.as_posix(), metrics_line(line)


def _number(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def tables_of(root: Path, result: Result) -> list[Path]:
    """Tables for people that are small enough."""
    found = [root / path for path in result.tables if path.endswith(".csv")]
    return [path for path in found if _size(path) <= MAX_TABLE_BYTES][:MAX_TABLES]


def images_of(root: Path, result: Result) -> list[Path]:
    """Pictures in the output `histograms`: the Analyzer's."""
    return _files(root, result, ["histograms"], (".png", ".jpg"), MAX_IMAGE_BYTES)[:MAX_IMAGES]


def videos_of(root: Path, result: Result) -> list[Path]:
    """A few small videos among the outputs."""
    return _files(root, result, list(result.outputs), (".mp4", ".gif", ".webm"), MAX_VIDEO_BYTES)[:MAX_VIDEOS]


def recipes_of(root: Path, result: Result) -> list[Path]:
    """Refined recipes: outputs that are YAML files and by their name recipes."""
    found = _files(root, result, list(result.outputs), (".yaml", ".yml"), MAX_RECIPE_BYTES)
    return [
        path
        for path in found
        if any("recipe" in name and out.path and root / out.path == path for name, out in result.outputs.items())
    ]


def _files(root: Path, result: Result, names: list[str], endings: tuple[str, ...], most: int) -> list[Path]:
    paths: list[Path] = []
    for name in names:
        output = result.outputs.get(name)
        if output is None:
            continue
        if output.kind == "path" and output.path is not None:
            paths.append(root / output.path)
        paths += [root / output.value[element.index] for element in output.elements or ()]
    files: list[Path] = []
    for path in paths:
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [
        file
        for file in dict.fromkeys(files)
        if file.suffix.lower() in endings and file.is_file() and 0 < _size(file) <= most
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return MAX_VIDEO_BYTES + 1
