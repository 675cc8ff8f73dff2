# SPDX-License-Identifier: Apache-2.0
"""Settings of the hooks that cut, combine, rank and convert data sets: Data-Juicer's sandbox's keys."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictInt
from pydantic_core import PydanticCustomError

from .extra import SAID, ComponentConfig, Settings, without_surroundings

FIGURES = ("pools", "rows", "rows.*")
"""Of hooks that write data sets: how many, the rows of all, and of each by its name."""
MAX_POOLS = 1024
MAX_COMBINED = 10
"""Pools whose intersections are made: 2^N - 1 of them."""

Path = Annotated[str, Field(min_length=1)]
Paths = Path | Annotated[list[Path], Field(min_length=1, max_length=MAX_POOLS)]
Seed = Annotated[StrictInt, Field(ge=0)]


def _ratio(value: float | str) -> float | str:
    try:
        ratio = float(Fraction(value))
    except (ValueError, ZeroDivisionError, OverflowError):
        ratio = 0
    if not 0 < ratio < 1:
        raise PydanticCustomError(SAID, f"{value!r} is no share between 0 and 1; write e.g. 0.333, or '1/3'")
    return value


def _rising(values: list[float | str]) -> list[float | str]:
    if any(Fraction(first) >= Fraction(second) for first, second in pairwise(values)):
        raise PydanticCustomError(SAID, "the shares must rise, each a border between two pools")
    return values


Ratio = Annotated[float | str, AfterValidator(_ratio)]


class PoolsConfig(ComponentConfig):
    """What every kind has."""

    dataset_path: Paths
    """One data set or several: .jsonl, .json (also .gz, .zst) or .parquet files, or folders of such files."""
    export_path: Path | None = None
    """The folder in which the results are published, each under its own name."""


class ConstructionConfig(PoolsConfig):
    """Cuts a data set into pools by each of its statistics: the lowest, the middle, the highest.

    Results: `<statistic>/<name>_<statistic>_<i>.jsonl`, i = 0 for the lowest pool, its rows in rising order; with
    `ignore_stats` `<name>_ignore_stats_<i>.jsonl`, in the data set's order.
    """

    split_ratios: Annotated[list[Ratio], Field(min_length=1, max_length=99), AfterValidator(_rising)] = ["1/3", "2/3"]
    """Where to cut, in shares of the rows: numbers, or fractions as text."""
    split_num: Annotated[StrictInt, Field(ge=1)] | None = None
    """Rows of a pool instead, the last one gets what is left."""
    ignore_stats: bool = False
    """Cut in the data set's own order."""
    stats: Annotated[list[Path], Field(max_length=256)] = []
    """Only by these statistics; default: all that are numbers, or lists of numbers, whose mean counts."""
    random_pool: bool = False
    """Make a pool of rows drawn at random as well, with the pools' mean size (`<name>_random.jsonl`): what the others
    are compared with."""
    shuffle_seed: Seed = 42
    """Decides which rows those are."""


class CombinationConfig(PoolsConfig):
    """The intersections of pools, all 2^N - 1 of them, those of one pool included; empty ones are left out.

    Results: `<common prefix>_top_<places of the pools>_num_<rows>.jsonl`. A row is the same in two pools if its id is.
    """

    dataset_path: Path | Annotated[list[Path], Field(min_length=1, max_length=MAX_COMBINED)]
    """The pools, the best one first, as `data_pool_ranking` returns them."""


class DuplicationConfig(PoolsConfig):
    """Repeats the rows of pools. Results: `<name>_x<times>.jsonl`, of each pool one for each number of times."""

    duplicating_times: Annotated[list[Annotated[StrictInt, Field(ge=1)]], Field(min_length=1, max_length=64)]
    """How often each row shall be there, e.g. [2, 4, 8]."""
    shuffle: bool = False
    """Mix the rows; otherwise the pool follows itself."""
    shuffle_seed: Seed = 42
    """Decides their order."""


class DownsamplingConfig(PoolsConfig):
    """Draws the same number of rows from each pool. Results: `<name>_<number>.jsonl`."""

    target_num_samples: Annotated[StrictInt, Field(ge=1)] | None = None
    """How many; default: as many as the smallest pool has. A smaller pool is taken whole, and said."""
    shuffle_seed: Seed = 42
    """Decides which rows they are, and their order: by the seed and the place of a row in its pool."""


class MergingConfig(PoolsConfig):
    """One data set of several pools, one after another. Result: `<common prefix>_merged.jsonl`."""


class CartesianJoinConfig(ComponentConfig):
    """Joins each row of a pool with each row of another. Results: `<common prefixes>_cartesian_join_<i>_<j>.jsonl`, of
    pool i of the first list and pool j of the second."""

    dataset_path_1: Paths
    """The pools whose rows come first."""
    dataset_path_2: Paths
    """The pools that they are joined with; no field may stand in both."""
    export_path: Path | None = None
    """The folder in which the results are published, each under its own name."""


class RankingConfig(ComponentConfig):
    """Ranks data sets by figures that others have found for them."""

    dataset_path: Annotated[list[Path], Field(min_length=1, max_length=MAX_POOLS)]
    """The data sets."""
    metrics: Annotated[list[Any], Field(min_length=1, max_length=MAX_POOLS)]
    """Of each of them, in the same order: a number, or figures by name, such as the `report` of an evaluation. Twice as
    many (or N times) are those of two (or N) repeats, one repeat after the other; their means count."""
    ranking_keys: Annotated[list[Path], Field(max_length=64)] = []
    """Which figures decide, the first one first; dots lead into nested ones. Not needed where `metrics` are numbers."""
    descending: bool = True
    """Whether the highest figure is the best."""
    top_n: Annotated[StrictInt, Field(ge=1)] | None = None
    """Return only that many, the best."""
    by_statistic: bool = False
    """Return only the best of the pools that `data_pool_construction` has cut by one statistic, and no pool that none
    has cut, such as the random one: what is then combined differs in kind."""


class ToEasyAnimateConfig(PoolsConfig):
    """Video data sets of Data-Juicer as EasyAnimate reads them: a row gets `file_path`, its first video, and its `text`
    has no `<__dj__video>` any more. Results: `<name>_ea_fmt.json`, a JSON array. Rows without a video are left out, and
    counted."""


class CocoToDjConfig(PoolsConfig):
    """InternVL's COCO captions as Data-Juicer reads them: a row gets `images` (its `image`) and `text` (`<__dj__image>`
    and the second turn of its `conversations`). Results: `<name>_dj_fmt.jsonl`."""


class CocoMetaConfig(PoolsConfig):
    """The file by which InternVL's training finds a data set. Results: `<name>_meta.json`."""

    data_root_path: Path | None = None
    """The folder that `annotation` in it is relative to: where InternVL has its `data/coco`. Default: the experiment's
    folder."""


def downsampling_settings(given: Mapping[str, Any]) -> Settings:
    """Without the key `seed`, which stands in a configuration of Data-Juicer's sandbox and does nothing there."""
    settings = without_surroundings(given)
    if "seed" not in settings.values:
        return settings
    values = {key: value for key, value in settings.values.items() if key != "seed"}
    note = "seed is not used, as in Data-Juicer's sandbox; which rows are drawn shuffle_seed decides (42)"
    return Settings(values, (*settings.notes, note))
