# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are judged and ranked: how they are named and found, and what is told of them.

What a checkpoint is judged by is a component's business. One whose figures are not finite, or that can't be judged at
all, is ranked last with the reason, so that the others' figures are not lost; where that is so with all, the job fails.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandbox_api.digest import sha256_of
from sandbox_api.evaluate_model import Goal, RankedConfig

from ..errors import ConfigError, UserError
from ..files import write_atomic
from ..hooks.base import HookContext, HookResult
from ..hooks.recipe import counted
from .hub import HUB_ID


@dataclass(frozen=True)
class Checkpoint:
    given: str
    """As the configuration has it."""
    name: str
    """Of its figures: the folder's or file's, and the checkpoint's place where others are called the same."""
    path: Path | None
    """Its folder or file; None for a model of a hub."""

    @property
    def source(self) -> str:
        """What a library loads it from."""
        return str(self.path) if self.path else self.given


@dataclass(frozen=True)
class Measured:
    figures: Mapping[str, float]
    basis: str = ""
    """What they were measured on: figures can be compared where it is equal."""


@dataclass(frozen=True)
class Judged:
    checkpoint: Checkpoint
    figures: Mapping[str, float] = field(default_factory=dict)
    why_not: str = ""
    """Where there are no figures that count: the reason, in words."""


@dataclass(frozen=True)
class Ranked:
    judged: Judged
    rank: int | None = None
    """From 1; equal figures have equal ranks. None: there is no figure."""
    equal: bool = False
    """Whether another one has exactly the same figure."""


def checkpoints(context: HookContext, config: RankedConfig, *, hub: bool = True) -> list[Checkpoint]:
    """Folders of the configuration, in its order. hub: whether ids of a model hub may be among them. Raises ConfigError
    where a folder is missing."""
    key = key_of(config)
    paths = [_folder(context, each, key, hub=hub) for each in config.checkpoints]
    return named_checkpoints(config.checkpoints, paths)


def key_of(config: RankedConfig) -> str:
    """The setting that names them."""
    return next(f"extraConfigs.{name}" for name in ("ckpt_paths", "models", "model") if getattr(config, name, None))


def named_checkpoints(given: Sequence[str], paths: Sequence[Path | None]) -> list[Checkpoint]:
    """Each with a name of its own."""
    labels = [_label(_stem(path) if path else each) for each, path in zip(given, paths, strict=True)]
    numbered = [f"{label}_{place}" for place, label in enumerate(labels, 1)]
    often = Counter(labels)
    names = [number if often[label] > 1 else label for number, label in zip(numbered, labels, strict=True)]
    if len(set(names)) < len(names):  # a folder is called as another one would be by its place
        names = numbered
    return [Checkpoint(*each) for each in zip(given, names, paths, strict=True)]


def _folder(context: HookContext, given: str, where: str, *, hub: bool) -> Path | None:
    path = context.workspace.inside(given, where)
    if path.is_dir():
        return path
    if path.exists():
        raise ConfigError(f"{where}: {given} is a file; a checkpoint is a folder")
    if hub and HUB_ID.fullmatch(given):
        return None
    raise ConfigError(f"{where}: there is no folder {given}")


def _stem(path: Path) -> str:
    """A folder's name, or a file's without its suffix."""
    found = path.resolve()
    return found.stem if found.is_file() else found.name


def _label(name: str) -> str:
    """A name that references can hold: dots in it would be parts of theirs."""
    return re.sub(r"[^\w-]+", "_", name.rpartition("/")[2]).strip("_") or "model"


def ranked(found: Sequence[Judged], metric: str, goal: Goal) -> list[Ranked]:
    """Each with its rank, in the order in which they are given."""
    sign = -1 if goal == "maximize" else 1
    values = [None if each.why_not else sign * each.figures[metric] for each in found]
    known = [value for value in values if value is not None]
    return [
        Ranked(each)
        if value is None
        else Ranked(each, 1 + sum(other < value for other in known), known.count(value) > 1)
        for each, value in zip(found, values, strict=True)
    ]


def judge(
    context: HookContext,
    config: RankedConfig,
    chosen: Sequence[Checkpoint],
    measure: Callable[[Checkpoint], Measured],
    goal: Goal,
    differ: Callable[[str, str], str] = "{} and {} can't be compared".format,
) -> HookResult:
    """Judge all, one after another, and rank them. What an earlier attempt has measured is not measured again.

    measure: raises UserError for a checkpoint that can't be judged, which does not end the job while there are others.
    differ: says of two that were measured on different things why they can't be ranked, and what to do; it is raised as
    ConfigError.
    """
    found: list[Judged] = []
    first: tuple[str, str] | None = None
    for place, checkpoint in enumerate(chosen, 1):
        try:
            measured = _kept(context, config, checkpoint, measure)
        except UserError as error:
            found.append(Judged(checkpoint, why_not=str(error)))
            print(f"{checkpoint.name}: {error}", flush=True)
            continue
        first = first or (checkpoint.given, measured.basis)
        if measured.basis != first[1]:
            raise ConfigError(f"extraConfigs.metric: {differ(first[0], checkpoint.given)}")
        found.append(_judged(checkpoint, measured.figures, config.metric))
        print(f"{checkpoint.name}: {_told(measured.figures)}", flush=True)
        context.metrics.log(
            {f"{checkpoint.name}.{name}": value for name, value in measured.figures.items()}, step=place
        )
    return result_of(context, found, config.metric, goal)


def _kept(
    context: HookContext, config: RankedConfig, checkpoint: Checkpoint, measure: Callable[[Checkpoint], Measured]
) -> Measured:
    data = [context.workspace.inside(each, "extraConfigs") for each in config.data]
    seen = [_seen(path) for path in (checkpoint.path, *data) if path is not None]
    key = sha256_of([config.model_dump(mode="json"), checkpoint.source, seen])
    path = context.state / f"judged-{key[:16]}.json"
    if path.exists():
        print(f"{checkpoint.name}: an earlier attempt has judged it", flush=True)
        return Measured(**json.loads(path.read_text()))
    measured = measure(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(measured)).encode())
    return measured


def _seen(path: Path) -> list[Any]:
    """What the file system says of a file, or of all below a folder: it changes when one of them is written."""
    files = sorted(file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
    looks = [(file, file.stat()) for file in files]
    return [[str(file), look.st_size, look.st_mtime_ns] for file, look in looks]


def _judged(checkpoint: Checkpoint, figures: Mapping[str, float], metric: str) -> Judged:
    """With the reason why it can't be ranked, where its figure is not finite. Raises ConfigError where there is none of
    that name."""
    if metric not in figures:
        known = ", ".join(figures) or "none"
        raise ConfigError(f"extraConfigs.metric: there is no figure {metric!r}; there is: {known}")
    value = figures[metric]
    return Judged(
        checkpoint, figures, "" if math.isfinite(value) else f"its {metric} is {value}, which is no finite number"
    )


def result_of(context: HookContext, found: Sequence[Judged], metric: str, goal: Goal) -> HookResult:
    """Outputs: best (the checkpoint), ranking (the best first), value (the best one's figure), results (in the order of
    the configuration). Metrics: the value, all figures of the best one, those of each by its name. Raises UserError
    where no checkpoint has the figure."""
    results = ranked(found, metric, goal)
    ranking = sorted(results, key=lambda each: each.rank or len(results) + 1)  # equal ones stay in their order
    best = ranking[0]
    if best.rank is None:
        raise UserError("; ".join(f"{each.checkpoint.given}: {each.why_not}" for each in found))
    chosen, figures = best.judged.checkpoint, best.judged.figures
    value = figures[metric]
    each = {f"{one.checkpoint.name}.{name}": number for one in found for name, number in one.figures.items()}
    return HookResult(
        outputs=[
            context.workspace.as_output(chosen.path, chosen.given) if chosen.path else chosen.given,
            [_row(context, one) for one in ranking],
            value,
            [_row(context, one) for one in results],
        ],
        metrics={"": value, metric: value, **figures, **each},
        message=_message(ranking, metric, goal),
    )


def _row(context: HookContext, one: Ranked) -> dict[str, Any]:
    judged = one.judged
    path = judged.checkpoint.path
    return {
        "name": judged.checkpoint.name,
        "model": context.workspace.user_name(path) if path else judged.checkpoint.given,
        "rank": one.rank,
        **({"equal": one.equal} if one.rank else {}),
        **{name: value if math.isfinite(value) else None for name, value in judged.figures.items()},
        **({"error": judged.why_not} if judged.why_not else {}),
    }


def _message(ranking: Sequence[Ranked], metric: str, goal: Goal) -> str:
    best, names = ranking[0], [each.judged.checkpoint.name for each in ranking]
    if len(ranking) == 1:
        return f"{names[0]}: {_told(best.judged.figures)}"
    way = "largest" if goal == "maximize" else "smallest"
    value = f"{metric} {best.judged.figures[metric]:.6g}"
    words = [f"{counted(len(ranking), 'checkpoint')}, the {way} {metric} first: {names[0]}, {value}"]
    places = range(1, len(ranking))
    if equal := [names[place] for place in places if ranking[place].rank == best.rank]:
        words.append(f"{', '.join(equal)} equal to it, so the first in the list is taken")
    if others := [names[place] for place in places if ranking[place].equal and ranking[place].rank != best.rank]:
        words.append(f"among {', '.join(others)} are equal ones")
    words += [f"{names[place]} is last: {ranking[place].judged.why_not}" for place in places if not ranking[place].rank]
    return "; ".join(words)


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
