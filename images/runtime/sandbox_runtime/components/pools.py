# SPDX-License-Identifier: Apache-2.0
"""The kinds of DataPoolManipulationHook: data sets cut, combined, repeated, drawn from, merged and joined.

What comes out, its names and the rows' order are those of Data-Juicer's sandbox, for the same seed the same rows. What
differs: nothing is held in memory, nothing is left out in silence, and a row is known by its id, not by all it holds.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from sandbox_api.evaluate import as_list
from sandbox_api.pools import (
    CartesianJoinConfig,
    CombinationConfig,
    ConstructionConfig,
    DownsamplingConfig,
    DuplicationConfig,
    MergingConfig,
)

from ..configs import EXTRA
from ..data_juicer.errors import DatasetError
from ..data_juicer.row_ids import ROW_ID
from ..data_juicer.rows import Row
from ..errors import ConfigError
from ..hooks.base import Artifact, HookContext, HookResult
from ..hooks.recipe import addressed_errors, counted
from ..pools.combine import combined, memberships
from ..pools.pool import Look, Pool, checked_rows, drawn, line_of, read_pool, stems, write_lines
from ..pools.statistics import Statistics, borders
from .base import BaseDataPoolManipulator

NO_PREFIX = "default_prefix"
"""What stands for a common prefix where names have none."""


@dataclass
class Written:
    """The data sets that a job writes, and what to tell of them."""

    context: HookContext
    artifacts: list[Artifact] = field(default_factory=list)
    rows: dict[str, float] = field(default_factory=dict)
    _folder: Path | None = None

    def __post_init__(self) -> None:
        self._folder = self.context.user_path("extraConfigs.export_path")

    def add(self, name: str, lines: Iterable[bytes]) -> None:
        """Write a file, `name` with its folder."""
        rows = write_lines(self.context.out / name, lines)
        self.wrote(name, rows)

    def wrote(self, name: str, rows: int) -> None:
        publish = self._folder / name if self._folder else None
        self.artifacts.append(Artifact(self.context.out / name, rows=rows, publish=publish))
        self.rows[f"rows.{Path(name).stem}"] = rows
        print(f"{name}: {counted(rows, 'row')}", flush=True)

    @property
    def all_rows(self) -> int:
        return int(sum(self.rows.values()))

    def result(self, output: Any, message: str, **figures: float) -> HookResult:
        metrics = {"pools": len(self.artifacts), "rows": self.all_rows, **figures, **self.rows}
        return HookResult([output], metrics, message)


class Manipulator(BaseDataPoolManipulator):
    """One of ours: reads with addresses, in the job's own folder."""

    def run(self) -> HookResult:
        with addressed_errors(self.for_job(), EXTRA):
            return self.done(self.for_job().extra, Written(self.for_job()))

    def done(self, config: Any, written: Written) -> HookResult:
        raise NotImplementedError

    def named(self, paths: str | list[str]) -> list[str]:
        """What results are named after: data sets as they were published, else as their files are called."""
        return stems([published_name(self.for_job(), path) for path in as_list(paths)])

    def pool(self, path: str, key: str = "dataset_path", look: Look | None = None) -> Pool:
        return read_pool(path, Path(mkdtemp(dir=self.for_job().scratch)), key, look)


class DataPoolConstruction(Manipulator):
    """type: data_pool_construction. Paths: of each data set, of each statistic, the pools from the lowest to the
    highest; the random pool of a data set last.

    Metrics: `pools`, `rows` (of all pools), `rows.<name>` of each.
    """

    def done(self, config: ConstructionConfig, written: Written) -> HookResult:
        read, left_out = 0, dict[str, None]()
        for path, stem in zip(as_list(config.dataset_path), self.named(config.dataset_path), strict=True):
            statistics = Statistics(config.stats)
            pool = self.pool(path, look=None if config.ignore_stats else statistics.add)
            ends = borders(len(pool), config.split_ratios, config.split_num)
            _refuse_empty(ends, pool)
            if config.ignore_stats:
                for i, (begin, end) in enumerate(pairwise(ends)):
                    written.add(f"{stem}_ignore_stats_{i}.jsonl", pool.lines(np.arange(begin, end)))
            else:
                left_out |= dict.fromkeys(statistics.others)
                for statistic, order in statistics.orders():
                    name = re.sub(r"[^\w.-]", "_", statistic).lstrip(".")
                    for i, (begin, end) in enumerate(pairwise(ends)):
                        written.add(f"{name}/{stem}_{name}_{i}.jsonl", pool.lines(order[begin:end]))
            if config.random_pool:
                size = max(1, len(pool) // (len(ends) - 1))
                written.add(f"{stem}_random.jsonl", pool.lines(drawn(len(pool), config.shuffle_seed)[:size]))
            read += len(pool)
            forget(pool)
        left = f"; not by {', '.join(left_out)}, which are no numbers" if left_out else ""
        message = f"{counted(read, 'row')} cut into {counted(len(written.artifacts), 'pool')}{left}"
        return written.result(written.artifacts, message)


class DataPoolCombination(Manipulator):
    """type: data_pool_combination. Paths: the pools alone, then the intersections of two, three, ..., each with the
    rows in the order of its best pool; empty ones are left out.

    Metrics: `pools`, `rows`, `rows.<name>` of each, `empty` (intersections without a row).
    """

    def done(self, config: CombinationConfig, written: Written) -> HookResult:
        paths = as_list(config.dataset_path)
        prefix = common_prefix(self.named(paths)) or NO_PREFIX
        pools = [self.pool(path) for path in paths]
        masks = memberships(pools, self.for_job().scratch)
        empty = 0
        for places in combined(len(pools)):
            wanted = sum(1 << place for place in places)
            rows = np.flatnonzero(masks[places[0]] & wanted == wanted)
            if len(rows):
                name = f"{prefix}_top_{'_'.join(map(str, places))}_num_{len(rows)}.jsonl"
                written.add(name, pools[places[0]].lines(rows))
            empty += not len(rows)
        message = f"{counted(len(pools), 'pool')} combined to {len(written.artifacts)}"
        return written.result(
            written.artifacts,
            f"{message}; {counted(empty, 'combination')} without a row" if empty else message,
            empty=empty,
        )


class DataPoolDuplication(Manipulator):
    """type: data_pool_duplication. Paths: of each pool, one for each number of times. Copies of a row have its id.

    Metrics: `pools`, `rows`, `rows.<name>` of each.
    """

    def done(self, config: DuplicationConfig, written: Written) -> HookResult:
        for path, stem in zip(as_list(config.dataset_path), self.named(config.dataset_path), strict=True):
            pool = self.pool(path)
            for times in dict.fromkeys(config.duplicating_times):
                if config.shuffle:
                    lines = pool.lines(drawn(len(pool) * times, config.shuffle_seed) % len(pool))
                else:
                    lines = (line for _ in range(times) for line in pool.lines())
                written.add(f"{stem}_x{times}.jsonl", lines)
            forget(pool)
        return written.result(written.artifacts, f"{counted(len(written.artifacts), 'pool')} of repeated rows")


class DataPoolDownsampling(Manipulator):
    """type: data_pool_downsampling. Paths: of each pool one; one path where `dataset_path` is one.

    Metrics: `pools`, `rows`, `rows.<name>` of each, `short` (rows that smaller pools lack).
    """

    def done(self, config: DownsamplingConfig, written: Written) -> HookResult:
        paths = as_list(config.dataset_path)
        pools = [self.pool(path) for path in paths]
        target = config.target_num_samples or min(map(len, pools))
        short = [(pool.told, target - len(pool)) for pool in pools if len(pool) < target]
        missing = sum(rows for _, rows in short)
        for pool, stem in zip(pools, self.named(paths), strict=True):
            order = drawn(len(pool), config.shuffle_seed)[:target]
            written.add(f"{stem}_{target}.jsonl", pool.lines(order))
        for told, rows in short:
            print(
                f"warning: {told} holds {counted(target - rows, 'row')}, {rows} fewer than target_num_samples"
                f" ({target}); it is taken whole",
                flush=True,
            )
        message = f"{counted(len(pools), 'pool')} with {counted(target, 'row')} each"
        if short:
            message = (
                f"target_num_samples is {target}; too few rows in {len(short)} of {counted(len(pools), 'pool')}, taken"
                f" whole: {counted(missing, 'row')} missing"
            )
        output = written.artifacts[0] if isinstance(config.dataset_path, str) else written.artifacts
        return written.result(output, message, short=missing)


class DataPoolMerging(Manipulator):
    """type: data_pool_merging. Dataset: all rows, pool after pool.

    Metrics: `pools` (1), `rows`, `rows.<name>`.
    """

    def done(self, config: MergingConfig, written: Written) -> HookResult:
        paths = as_list(config.dataset_path)
        prefix = common_prefix(self.named(paths)) or NO_PREFIX
        written.add(f"{prefix}_merged.jsonl", self._lines(paths))
        (merged,) = written.artifacts
        return written.result(merged, f"{counted(len(paths), 'pool')} merged, {counted(merged.rows or 0, 'row')}")

    def _lines(self, paths: Iterable[str]) -> Iterator[bytes]:
        for path in paths:
            for row, where in checked_rows(path, self.for_job().scratch):
                yield line_of(row, where, "dataset_path")


class DataPoolCartesianJoin(Manipulator):
    """type: data_pool_cartesian_join. Paths: each pool of the first list joined with each of the second one. The id of
    a joined row is made of both ids.

    Metrics: `pools`, `rows`, `rows.<name>` of each.
    """

    def done(self, config: CartesianJoinConfig, written: Written) -> HookResult:
        first, second = as_list(config.dataset_path_1), as_list(config.dataset_path_2)
        prefix = "_".join(common_prefix(self.named(names)) for names in (first, second))
        prefix = NO_PREFIX if prefix == "_" else prefix
        pools = [self.pool(path, "dataset_path_1") for path in first]
        others = [self.pool(path, "dataset_path_2") for path in second]
        for i, pool in enumerate(pools):
            for j, other in enumerate(others):
                written.add(f"{prefix}_cartesian_join_{i}_{j}.jsonl", _joined(pool, other))
        return written.result(written.artifacts, f"{len(pools)} times {counted(len(others), 'pool')} joined")


def _joined(pool: Pool, other: Pool) -> Iterator[bytes]:
    for number, row in enumerate(pool.rows(), 1):
        for beside, added in enumerate(other.rows(), 1):
            both = (row.keys() & added.keys()) - {ROW_ID}
            if both:
                raise DatasetError(
                    f"row {beside} of {other.told} and row {number} of {pool.told} both have"
                    f" {', '.join(map(repr, sorted(both)))}; rename it in one of them",
                    "dataset_path_2",
                )
            yield line_of({**row, **added, ROW_ID: _joined_id(row, added)}, pool.told, "dataset_path_1")


def _joined_id(row: Row, added: Row) -> str:
    pair = f"{row[ROW_ID]}\n{added[ROW_ID]}"
    return hashlib.blake2b(pair.encode(), digest_size=12).hexdigest()


def common_prefix(names: Sequence[str]) -> str:
    """The letters with which all of them begin."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


def published_name(context: HookContext, path: str) -> str:
    """What the user has called a file: another job's has a name of its own, and the one it was published under."""
    for found in context.inputs.values():
        for output in found.producer.outputs.values() if found.producer else ():
            if output.path and output.published and context.workspace.root / output.path == Path(path):
                return output.published
    return path


def _refuse_empty(ends: Sequence[int], pool: Pool) -> None:
    for i, (begin, end) in enumerate(pairwise(ends)):
        if begin == end:
            raise ConfigError(
                f"extraConfigs.split_ratios: {pool.told} holds {counted(len(pool), 'row')}, too few for"
                f" {counted(len(ends) - 1, 'pool')}: number {i} would be empty"
            )


def forget(pool: Pool) -> None:
    """Its copy is no longer needed, and a volume has an end."""
    shutil.rmtree(pool.path.parent)
