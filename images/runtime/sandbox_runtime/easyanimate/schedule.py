# SPDX-License-Identifier: Apache-2.0
"""What each step does, as pure functions of its number: which clips it takes, at which rate, clipped to what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from sandbox_api.easyanimate import EasyAnimateTrainConfig

from .draws import permutation

CLIP_START, CLIP_STEPS = 5.0, 1000
"""Gradients may be that many times as large at the start, falling to once over so many steps (EasyAnimate)."""


class Schedule:
    """The clips of each step. One step has clips of one bucket, so that they stack.

    Each epoch, the clips of a bucket are shuffled and cut into batches; the last batch is filled up from the epoch's
    first clips. The batches of all buckets are shuffled in turn.
    """

    def __init__(self, buckets: Sequence[int], batch_size: int, seed: int) -> None:
        """buckets: of each clip. batch_size: clips of one step over all processes."""
        self._members = {
            bucket: [clip for clip, its in enumerate(buckets) if its == bucket] for bucket in sorted(set(buckets))
        }
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = lru_cache(maxsize=2)(self._batches)
        self.steps_per_epoch = sum(math.ceil(len(members) / batch_size) for members in self._members.values())

    def batch(self, step: int) -> list[int]:
        """The clips of a step (from 0), by position; their number is the batch size."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[within]

    def _batches(self, epoch: int) -> list[list[int]]:
        batches = []
        for bucket, members in self._members.items():
            order = [members[place] for place in permutation(len(members), "clips", self._seed, epoch, bucket)]
            for start in range(0, len(order), self._batch_size):
                batches.append([order[place % len(order)] for place in range(start, start + self._batch_size)])
        return [batches[place] for place in permutation(len(batches), "batches", self._seed, epoch)]


def share(batch: Sequence[int], rank: int, processes: int, at_a_time: int) -> list[list[tuple[int, int]]]:
    """What one process computes of a batch: groups of (place in the batch, clip), each at most `at_a_time` long.

    All processes have as many groups, of the same lengths: with FSDP2 they must compute in step.
    """
    each = len(batch) // processes
    mine = list(enumerate(batch))[rank * each : (rank + 1) * each]
    return [mine[start : start + at_a_time] for start in range(0, each, at_a_time)]


def learning_rate(config: EasyAnimateTrainConfig, step: int, steps: int) -> float:
    """Of a step from 0."""
    if step < config.lr_warmup_steps:
        return config.learning_rate * (step + 1) / (config.lr_warmup_steps + 1)
    done = (step - config.lr_warmup_steps) / max(1, steps - config.lr_warmup_steps)
    shape = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return config.learning_rate * shape[config.lr_scheduler]


def clip_norm(config: EasyAnimateTrainConfig, step: int) -> float:
    """The largest norm that the gradient of a step from 0 keeps."""
    return config.max_grad_norm * max(1.0, CLIP_START + (1.0 - CLIP_START) * step / CLIP_STEPS)
