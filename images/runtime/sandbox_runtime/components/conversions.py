# SPDX-License-Identifier: Apache-2.0
"""The kinds of GeneralDataExecutorHook: data sets in the format that a trainer reads.

Formats and names are those of Data-Juicer's sandbox; rows are read and written one by one, and keep their ids.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox_api.evaluate import as_list
from sandbox_api.pools import CocoMetaConfig, CocoToDjConfig, ToEasyAnimateConfig

from ..data_juicer.dataset import Media
from ..data_juicer.errors import DatasetError
from ..data_juicer.rows import Row
from ..files import write_json
from ..hooks.base import HookResult
from ..hooks.recipe import counted
from ..pools.pool import checked_rows, line_of, read_placed, text_of, write_lines
from .pools import Manipulator, Written

VIDEO, IMAGE = "<__dj__video>", "<__dj__image>"
"""Data-Juicer's marks for where a medium stands in a text."""
COCO_ROOT = "data/coco/"
"""Where InternVL has the pictures, from its own folder."""

Convert = Callable[[str, Path], int]
"""Makes a file of a data set; returns its rows."""


class Conversion(Manipulator):
    """Each data set becomes a file; one path where `dataset_path` is one."""

    def converted(self, config: Any, written: Written, suffix: str, convert: Convert) -> HookResult:
        paths = as_list(config.dataset_path)
        for path, stem in zip(paths, self.named(paths), strict=True):
            name = f"{stem}{suffix}"
            written.wrote(name, convert(path, self.for_job().out / name))
        output = written.artifacts[0] if isinstance(config.dataset_path, str) else written.artifacts
        message = f"{counted(written.all_rows, 'row')} of {counted(len(paths), 'data set')} converted"
        return written.result(output, message)


class DJToEasyAnimateVideoConversion(Conversion):
    """type: dj_to_easyanimate_video_dataset_conversion.

    Metrics: `pools` (files), `rows`, `rows.<name>`, `without_video` (rows that name none, and were left out).
    """

    def done(self, config: ToEasyAnimateConfig, written: Written) -> HookResult:
        self._without = 0
        done = self.converted(config, written, "_ea_fmt.json", self._convert)
        said = f"; {counted(self._without, 'row')} without a video left out" if self._without else ""
        return replace(done, metrics={**done.metrics, "without_video": self._without}, message=done.message + said)

    def _convert(self, path: str, target: Path) -> int:
        rows = write_array(target, self._rows(path))
        if not rows:
            raise DatasetError(f"no row of {path} names a video", "dataset_path")
        return rows

    def _rows(self, path: str) -> Iterator[tuple[Row, str]]:
        for row, where in checked_rows(path, self.for_job().scratch, look=_check_video):
            if row["videos"]:
                text = row["text"].replace(VIDEO, "").strip()
                yield {**row, "text": text, "file_path": row["videos"][0]}, where
            else:
                self._without += 1


class COCOCaptionToDJConversion(Conversion):
    """type: coco_caption_to_dj_conversion. Names of pictures are absolute in `images`, as they are relative to the data
    set, which the rows leave.

    Metrics: `pools` (files), `rows`, `rows.<name>`.
    """

    def done(self, config: CocoToDjConfig, written: Written) -> HookResult:
        return self.converted(config, written, "_dj_fmt.jsonl", self._convert)

    def _convert(self, path: str, target: Path) -> int:
        return write_lines(target, self._lines(path))

    def _lines(self, path: str) -> Iterator[bytes]:
        media = Media({"dataset_path": path})
        for row, where in checked_rows(path, self.for_job().scratch, look=_check_caption):
            made = media.absolute({**row, "images": [row["image"]], "text": f"{IMAGE} {_caption(row)}"})
            yield line_of(made, where, "dataset_path")


class COCOCaptionMetaGeneration(Conversion):
    """type: coco_caption_meta_generation.

    Metrics: `pools` (files), `rows` (of the data sets), `rows.<name>`.
    """

    def done(self, config: CocoMetaConfig, written: Written) -> HookResult:
        def convert(path: str, target: Path) -> int:
            rows = sum(1 for _ in read_placed(path, "dataset_path"))
            if not rows:
                raise DatasetError(f"{path} holds no rows", "dataset_path")
            meta = {
                "root": COCO_ROOT,
                "annotation": os.path.relpath(path, config.data_root_path),
                "data_augment": False,
                "repeat_time": 1,
                "length": rows,
            }
            write_json(target, {target.stem.removesuffix("_meta"): meta})
            return rows

        return self.converted(config, written, "_meta.json", convert)


def write_array(path: Path, rows: Iterable[tuple[Row, str]]) -> int:
    """Write rows, each with where it stands, as one JSON array, as `json.dump` writes a list; returns how many."""
    written = 0
    with path.open("x", encoding="ascii") as out:
        out.write("[")
        for row, where in rows:
            out.write((", " if written else "") + text_of(row, where, "dataset_path", ascii_only=True))
            written += 1
        out.write("]")
    return written


def _check_video(row: Row, where: str) -> None:
    videos = row.get("videos")
    if not isinstance(videos, list) or not all(isinstance(video, str) for video in videos):
        raise DatasetError(f"{where}: has no list of `videos`; its fields are {', '.join(row)}", "dataset_path")
    if not isinstance(row.get("text"), str):
        raise DatasetError(f"{where}: has no `text`; its fields are {', '.join(row)}", "dataset_path")


def _check_caption(row: Row, where: str) -> None:
    if not isinstance(row.get("image"), str):
        raise DatasetError(f"{where}: has no `image`; its fields are {', '.join(row)}", "dataset_path")
    if not isinstance(_caption(row), str):
        raise DatasetError(f"{where}: has no caption (`value` of the second of its `conversations`)", "dataset_path")


def _caption(row: Row) -> Any:
    turns = row.get("conversations")
    second = turns[1] if isinstance(turns, list) and len(turns) > 1 else None
    return second.get("value") if isinstance(second, dict) else None
