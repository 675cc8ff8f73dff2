# SPDX-License-Identifier: Apache-2.0
"""A hook in ModelScope's sense: it tells figures while the training goes on, keeps what a later attempt goes on from,
and ends the training between two steps when the job is told to end.

ModelScope's own resumption is not used: it can't read what it has written (numpy's random state, with `weights_only`),
counts an iteration twice after an epoch, and draws another order of rows. Here the order is a function of the seed and
the epoch, and what dropout draws one of the seed and the iteration: a resumed training comes to the same weights.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modelscope.trainers.hooks.hook import Hook
from modelscope.trainers.hooks.logger.text_logger_hook import TextLoggerHook
from modelscope.trainers.hooks.priority import Priority

from ..files import write_atomic
from ..workers.desk import Desk

EVALUATION = "evaluation/"
STATE = "state-*.pt"


class ToldToStop(Exception):
    """The training has saved its state, and ends."""


class Shuffled(torch.utils.data.Sampler[int]):
    """The rows in an order that the seed and the epoch decide."""

    def __init__(self, count: int, seed: int) -> None:
        self.epoch = 0
        self._count = count
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self._count, generator=generator).tolist())


class Start(Hook):
    """Before each iteration, and once before the first one: where the training stands, and its random numbers."""

    PRIORITY = Priority.BELOW_NORMAL

    def __init__(self, state: Path, seed: int, sampler: Shuffled | None) -> None:
        self.resumed_from = 0
        """Iterations that an earlier attempt had done."""
        self._state = state
        self._seed = seed
        self._sampler = sampler

    def before_run(self, trainer: Any) -> None:
        if (found := next(iter(newest(self._state)), None)) is not None:
            restore(trainer, found)
            self.resumed_from = trainer.iter
            print(f"goes on after iteration {trainer.iter}, from {found}", flush=True)

    def before_train_epoch(self, trainer: Any) -> None:
        if self._sampler is not None:
            self._sampler.epoch = trainer.epoch

    def before_train_iter(self, trainer: Any) -> None:
        seed = self._seed * 1_000_003 + trainer.iter
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)


class Follow(Hook):
    """After each iteration: figures out, state saved."""

    PRIORITY = Priority.LOWEST

    def __init__(self, state: Path, desk: Desk) -> None:
        self.last: dict[str, float] = {}
        """The newest value of each figure."""
        self._state = state
        self._desk = desk
        self._read = 0
        self._per_epoch = 0

    def before_run(self, trainer: Any) -> None:
        self._per_epoch = trainer.iters_per_epoch  # after an evaluation it is that one's
        self._desk.total = trainer.max_epochs * self._per_epoch

    def after_train_iter(self, trainer: Any) -> None:
        done = trainer.iter + 1
        self._pass_on(trainer, done)
        if done % getattr(trainer, "cumulative_iters", 1):
            return  # gradients of part of a step are nobody's state
        stop = self._desk.should_stop()
        if stop or trainer.inner_iter + 1 == self._per_epoch:
            save(trainer, self._state)
        if stop and done < trainer.max_epochs * self._per_epoch:
            raise ToldToStop

    def after_train_epoch(self, trainer: Any) -> None:
        self._pass_on(trainer, trainer.iter)

    def _pass_on(self, trainer: Any, done: int) -> None:
        """Lines that ModelScope has added to its log of JSON lines. done: iterations so far."""
        logger = next((hook for hook in trainer.hooks if isinstance(hook, TextLoggerHook)), None)
        if logger is None or not (path := Path(logger.json_log_path)).exists():
            return
        with path.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        self._read += len(lines)
        for line in lines.splitlines():
            told = json.loads(line)
            step = done
            if told["mode"] == "train":
                step = told["iter"] + (self._per_epoch * (told["epoch"] - 1) if logger.by_epoch else 0)
            if figures := dict(figures_of(told)):
                self.last |= figures
                self._desk.figures(figures, step)


def figures_of(told: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What a line of ModelScope's log says, by names that references can hold."""
    renamed = {"iter_time": "step_seconds"}
    for name, value in told.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if name.startswith(EVALUATION):
            yield "eval_" + re.sub(r"\W+", "_", name.removeprefix(EVALUATION)), float(value)
        elif name in ("lr", *renamed) or "loss" in name:
            yield renamed.get(name, name), float(value)


def save(trainer: Any, folder: Path) -> None:
    """Keep all that decides how the training goes on; an earlier state goes."""
    told = {
        "position": {"epoch": trainer.epoch, "iter": trainer.iter + 1, "inner_iter": trainer.inner_iter + 1},
        "model": trainer.unwrap_module(trainer.model).state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "lr_scheduler": trainer.lr_scheduler.state_dict(),
        "hooks": {type(hook).__name__: hook.state_dict() for hook in trainer.hooks if hook.state_dict()},
    }
    content = io.BytesIO()
    torch.save(told, content)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"state-{trainer.iter + 1:09d}.pt", content.getvalue())
    for old in newest(folder)[1:]:
        old.unlink(missing_ok=True)


def restore(trainer: Any, path: Path) -> None:
    told = torch.load(path, map_location="cpu", weights_only=True)
    trainer.unwrap_module(trainer.model).load_state_dict(told["model"])
    trainer.optimizer.load_state_dict(told["optimizer"])
    trainer.lr_scheduler.load_state_dict(told["lr_scheduler"])
    for hook in trainer.hooks:
        if (state := told["hooks"].get(type(hook).__name__)) is not None:
            hook.load_state_dict(state)
    position = told["position"]
    trainer._epoch, trainer._iter, trainer._inner_iter = (position[name] for name in ("epoch", "iter", "inner_iter"))


def newest(folder: Path) -> list[Path]:
    return sorted(folder.glob(STATE), reverse=True)
