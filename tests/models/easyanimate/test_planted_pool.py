# SPDX-License-Identifier: Apache-2.0
"""Does the held-out loss find the better pool? A pool whose clips are like the held-out ones is planted among others,
a tiny model is trained on each, and the planner ranks them by `heldout_flow_loss` with repeats.

`make test` runs one experiment; SANDBOX_DEEP=1 ten, each of clips and seeds of its own. Of equal pools one pair in
twenty is told apart by a 95 % interval that is right, so that of ten pairs seven or fewer are tied once in ninety runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLMagvit
from numpy.typing import NDArray
from tests.progress import DEEP, long
from trainings import Figures, a_training, never, train_config

from sandbox_api.heldout import HeldoutLossConfig
from sandbox_api.status import JobStatus, RankRow
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.ranking import ranking
from sandbox_operator.plan.spread import spread
from sandbox_runtime.easyanimate import Prepared, heldout, prepare, tiny
from sandbox_runtime.easyanimate.names import checkpoint_name
from sandbox_runtime.easyanimate.video import write_video

FRAMES, SIZE = 12, 32
POOL, HELD = 60, 8
"""Clips of a pool, and held-out ones."""
STEPS, BATCH, REPEATS = 24, 2, 3
"""A training sees four fifths of its pool, and each repeat others: so repeats differ by which clips they see as well,
and equal pools by no more than that. With 24 clips that were all seen five times, three repeats of a pool were within
0.01, and an equal pool 0.08 away from them, all its repeats."""
EXPERIMENTS = 10
FIRST_AT_LEAST, TIED_AT_LEAST = 9, 8
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("warm")

Family = Callable[[np.random.Generator], NDArray[np.uint8]]


def waves(chance: np.random.Generator, light: float, contrast: float) -> NDArray[np.uint8]:
    """A grating that drifts in some direction. RGB, shape (frames, height, width, 3)."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    angle, speed = chance.uniform(0, np.pi), chance.uniform(0.05, 0.15)
    place = chance.uniform(1, 3) * (x * np.cos(angle) + y * np.sin(angle)) + chance.uniform(0, 1)
    moved = np.sin(2 * np.pi * (place + speed * np.arange(FRAMES)[:, None, None]))
    return np.repeat((light + contrast * moved)[..., None] * 255, 3, -1).clip(0, 255).astype(np.uint8)


def bright(chance: np.random.Generator) -> NDArray[np.uint8]:
    return waves(chance, 0.9, 0.1)


def dark(chance: np.random.Generator) -> NDArray[np.uint8]:
    return waves(chance, 0.1, 0.1)


def sharp(chance: np.random.Generator) -> NDArray[np.uint8]:
    return waves(chance, 0.5, 0.5)


def snow(chance: np.random.Generator) -> NDArray[np.uint8]:
    return chance.integers(0, 256, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)


FAMILIES: Sequence[Family] = (bright, dark, sharp, snow)
POOLS: Mapping[str, Sequence[Family]] = {"planted": (bright,), "random": FAMILIES, "twin": FAMILIES}
"""Families that each pool's clips are of, in turn: random and twin are equal in distribution."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with latents as trained autoencoders have them. Those of a random one are nearly all noise: the
    clip's share of them has a spread of 0.15, the noise that is drawn with them 1."""
    base = tiny.save_model(tmp_path_factory.mktemp("model") / "tiny")
    vae = AutoencoderKLMagvit.from_pretrained(base / "vae")
    chance = np.random.default_rng(0)
    clips = np.stack([family(chance)[:9] for family in FAMILIES for _ in range(8)])
    pixels = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
    with torch.no_grad():
        means = torch.cat([vae.encode(each[None]).latent_dist.mean for each in pixels]).transpose(0, 1).flatten(1)
        last, wide = vae.quant_conv, means.std(1) * vae.config.scaling_factor
        channels = len(means)
        last.weight[:channels] /= wide.view(-1, 1, 1, 1, 1)
        last.bias[:channels] = (last.bias[:channels] - means.mean(1)) / wide
        last.weight[channels:], last.bias[channels:] = 0.0, -8.0  # the logarithm of the variance
    vae.save_pretrained(base / "vae")
    return base


class Experiment:
    """Pools of clips of its own, the model trained on each of them with several seeds, and what held-out clips say."""

    def __init__(self, number: int, model: Path, folder: Path) -> None:
        self.number, self.folder, self.cache = number, folder, folder / "cache"
        self.config = train_config(
            model,
            buckets=[{"frames": 9, "height": SIZE, "width": SIZE}],
            frame_stride=1,
            heldout=0,
            steps=STEPS,
            batch_size=BATCH,
            batch_size_per_gpu=BATCH,
            learning_rate=2e-2,
            lr_scheduler="cosine",
            gradient_checkpointing="off",
            checkpoint_every=STEPS,
        )
        self.held = self.clips("held-out", (bright,), HELD)

    def clips(self, name: str, families: Sequence[Family], count: int) -> Prepared:
        chance, rows = np.random.default_rng([self.number, *name.encode()]), []
        for place in range(count):
            path = self.folder / name / f"{place}.mp4"
            write_video(path, families[place % len(families)](chance), 24)
            rows.append({"videos": [str(path)], "text": "a clip"})
        return prepare(self.config, rows, self.cache, scratch=self.folder / "scratch")

    def losses(self) -> dict[str, list[float]]:
        """The held-out loss of each pool's trainings. Repeats of the same number share their seed."""
        pools = {name: self.clips(name, families, POOL) for name, families in POOLS.items()}
        return {name: [self.loss(name, pool, repeat) for repeat in range(REPEATS)] for name, pool in pools.items()}

    def loss(self, name: str, pool: Prepared, repeat: int) -> float:
        config = self.config.model_copy(update={"seed": 100 * self.number + repeat})
        folder = self.folder / f"{name}-{repeat}"
        assert a_training(config, pool, self.cache, folder).train(Figures(), never)
        settings = HeldoutLossConfig(
            base_model=config.base_model,
            lora_path=str(folder / "models" / checkpoint_name(STEPS)),
            buckets=config.buckets,
            frame_stride=config.frame_stride,
            precision=config.precision,
        )
        found = heldout.losses(settings, self.held.samples, self.cache, CPU, never, lambda _: None)
        return float(np.mean(found))


def ranked(losses: Mapping[str, Sequence[float]]) -> list[RankRow]:
    """As the operator ranks an experiment that trains on each pool and measures the held-out loss."""
    train = {
        "hook": "TrainModelHook", "type": "easyanimate", "input": {"extraConfigs.dataset_path": "item.pool"},
        "extraConfigs": {"base_model": "inputs/raw/model"},
    }  # fmt: skip
    judge = {
        "hook": "EvaluateDataHook", "type": "heldout_flow_loss", "metaName": "heldout",
        "input": {"extraConfigs.lora_path": "each.train.model"},
        "extraConfigs": {"base_model": "inputs/raw/model", "dataset_path": "inputs/raw/heldout.jsonl"},
    }  # fmt: skip
    each = {
        "name": "each", "forEach": {"item": "pool", "in": [f"pools/{name}.jsonl" for name in losses]},
        "executionJobConfigs": [train], "evaluationJobConfigs": [judge],
    }  # fmt: skip
    spec: dict[str, Any] = {
        "workspace": {"claim": {"size": "1Gi"}}, "inputs": [{"name": "raw", "claimName": "raw"}],
        "repeats": REPEATS, "rank": {"metric": "heldout.loss", "goal": "minimize", "baseline": "random"},
        "pipelines": [each],
    }  # fmt: skip
    compiled = compile_spec(spec)
    assert compiled.problems == ()
    assert compiled.spec is not None
    jobs = spread(compiled.jobs, {})
    committed = {
        job.id: JobStatus(
            id=job.id, hook=job.hook.name, meta_name=job.meta_name, state="Succeeded",
            metrics={"heldout.loss": losses[job.label][job.repeat or 0]},
        )
        for job in jobs if job.meta_name == "heldout"
    }  # fmt: skip
    return ranking(compiled.spec.rank, compiled.ranked, jobs, committed)


@long
def test_a_planted_pool_is_first_and_equal_pools_are_tied(model: Path, tmp_path: Path) -> None:
    first = tied = 0
    for number in range(EXPERIMENTS if DEEP else 1):
        losses = Experiment(number, model, tmp_path / str(number)).losses()
        rows = ranked(losses)
        by_name = {row.item: row for row in rows}
        won = rows[0].item == "planted" and by_name["random"].tied is False
        equal = all(row.tied for row in ranked({name: losses[name] for name in ("random", "twin")}))
        first, tied = first + won, tied + equal
        told = ", ".join(f"{row.item} {row.mean:.4f} ± {row.std:.4f} (tied: {row.tied})" for row in rows)
        print(f"experiment {number}: {told}; random and twin tied: {equal}", flush=True)
    print(f"planted first and not tied with random: {first} of {number + 1}; equal ones tied: {tied} of {number + 1}")
    assert first >= (FIRST_AT_LEAST if DEEP else 1)
    assert tied >= (TIED_AT_LEAST if DEEP else 1)
