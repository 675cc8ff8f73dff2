# SPDX-License-Identifier: Apache-2.0
"""The kind of GeneralProbeHook: data sets ranked by figures that others have found for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from sandbox_api.pools import RankingConfig

from ..data_juicer.rows import value_at
from ..errors import ConfigError
from ..hooks.base import HookResult
from ..hooks.recipe import counted
from .base import BaseDataPoolManipulator

MISSING = object()
Figures = tuple[float, ...] | None
"""Those that decide, the first one first; None where one of them is not known."""


class DataPoolRanking(BaseDataPoolManipulator):
    """type: data_pool_ranking. Ranked: the paths, the best one first; equal ones in their own order; with
    `by_statistic` only the best of those that one statistic has cut.

    Metrics: `pools` (that were ranked), `unranked` (whose figure is null or NaN: they come last), `rank.<place>` with
    numbers, `rank.<place>.<key>` with keys; the best has place 1.
    """

    def run(self) -> HookResult:
        config: RankingConfig = self.for_job().extra
        paths, metrics = config.dataset_path, config.metrics
        if len(metrics) % len(paths):
            raise ConfigError(
                f"extraConfigs.metrics: {counted(len(metrics), 'figure')} can't rank {counted(len(paths), 'data set')};"
                " give one for each, in the same order"
            )
        every = [figures_of(each, config.ranking_keys, place) for place, each in enumerate(metrics)]
        found = [mean_of(every[place :: len(paths)]) for place in range(len(paths))]
        places = ranked(found, descending=config.descending)
        if config.by_statistic:
            places = best_of_each(places, paths)
        kept = places[: config.top_n]
        figures: dict[str, float] = {"pools": len(paths), "unranked": found.count(None)}
        for rank, place in enumerate(kept, 1):
            for key, value in zip(config.ranking_keys or [""], found[place] or (), strict=False):
                figures[f"rank.{rank}.{key}" if key else f"rank.{rank}"] = value
        return HookResult([[self._path(paths[place]) for place in kept]], figures, _message(config, paths, found, kept))

    def _path(self, named: str) -> Path | str:
        """What the result says of a data set. Raises ConfigError where it is not there."""
        workspace = self.for_job().workspace
        path = workspace.inside(named, "extraConfigs.dataset_path")
        if not path.exists():
            raise ConfigError(f"extraConfigs.dataset_path: there is no file or folder {named}")
        return workspace.as_output(path, named)


def figures_of(metrics: Any, keys: list[str], place: int) -> Figures:
    """What decides on a data set's rank. Raises ConfigError where it is missing or no number."""
    told = f"extraConfigs.metrics[{place}]"
    if not isinstance(metrics, Mapping):
        if keys:
            raise ConfigError(f"{told}: is {metrics!r}, which has no figure {keys[0]!r}; leave ranking_keys out")
        return _all_known((_number(metrics, told),))
    if not keys:
        raise ConfigError(
            f"extraConfigs.ranking_keys: name what to rank by; metrics have: {', '.join(map(str, metrics))}"
        )
    values = []
    for key in keys:
        value = value_at(dict(metrics), key, MISSING)
        if value is MISSING:
            known = ", ".join(map(str, metrics)) or "none"
            raise ConfigError(f"extraConfigs.ranking_keys: {told} has no figure {key!r}; it has: {known}")
        values.append(_number(value, f"{told}.{key}"))
    return _all_known(tuple(values))


def ranked(found: list[Figures], *, descending: bool) -> list[int]:
    """Places of the data sets, the best one first; those without figures last. Equal ones stay in their order."""
    known = [place for place, figures in enumerate(found) if figures is not None]
    known.sort(key=lambda place: found[place] or (), reverse=descending)
    return known + [place for place, figures in enumerate(found) if figures is None]


def mean_of(repeats: list[Figures]) -> Figures:
    """What decides, over repeats; None where one of them is not known."""
    known = [figures for figures in repeats if figures is not None]
    return tuple(map(fmean, zip(*known, strict=True))) if len(known) == len(repeats) else None


def best_of_each(places: list[int], paths: list[str]) -> list[int]:
    """Of ranked places the first of each statistic. Raises ConfigError when no pool was cut by one."""
    best: dict[str, int] = {}
    for place in places:
        if (statistic := statistic_of(paths[place])) is not None:
            best.setdefault(statistic, place)
    if not best:
        raise ConfigError(
            "extraConfigs.by_statistic: none of the data sets is a pool that a statistic has cut"
            " (<statistic>/<name>_<statistic>_<i>.jsonl); take the paths of a data_pool_construction, or leave it out"
        )
    return [*best.values()]


def statistic_of(named: str) -> str | None:
    """What cut a pool, by the name that `data_pool_construction` gives it."""
    path = Path(named)
    stem, _, number = path.stem.rpartition("_")
    statistic = path.parent.name
    return statistic if statistic and number.isdigit() and stem.endswith(f"_{statistic}") else None


def _number(value: Any, told: str) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise ConfigError(f"{told}: {value!r} is no number; ranks need one")
    return float(value)


def _all_known(values: tuple[float, ...]) -> Figures:
    return None if any(map(math.isnan, values)) else values


def _message(config: RankingConfig, paths: list[str], found: list[Figures], kept: list[int]) -> str:
    way = "highest" if config.descending else "lowest"
    by = ", then ".join(config.ranking_keys) or "figure"
    words = [f"{counted(len(paths), 'data set')}, the {way} {by} first: {Path(paths[kept[0]]).name}"]
    if (repeats := len(config.metrics) // len(paths)) > 1:
        words.append(f"by the mean of {repeats} repeats")
    if unranked := found.count(None):
        words.append(f"{counted(unranked, 'data set')} without it come last")
    if config.top_n and config.top_n > len(kept):
        words.append(f"top_n is {config.top_n}, but there are only {len(kept)}")
    return "; ".join(words)
