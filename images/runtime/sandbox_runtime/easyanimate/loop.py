# SPDX-License-Identifier: Apache-2.0
"""The second phase of a training: steps from the cache until the last one, or until somebody says stop.

What a step computes is a function of its number: its clips (`schedule`) and its random numbers (`draws`). So a run that
was interrupted and resumed is, on the CPU of the same machine, bit for bit the run that was not; on a GPU up to the
order in which its kernels sum.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sandbox_api.easyanimate import EasyAnimateTrainConfig
from sandbox_api.heldout import LEVELS

from ..errors import InfraError, UserError
from . import draws, lora, models, schedule
from .checkpoint import Progress, load_checkpoint, save_checkpoint
from .loss import Batch, clip_losses
from .names import checkpoint_name
from .noised import Clip, NoisedClips, attention, autocast
from .parallel import Gradients, World, divide
from .results import Prepared

RECENT = 50
"""Steps that the reported loss is the mean of."""

Log = Callable[[Mapping[str, float], int], None]
"""Takes figures and the number of steps that are done."""


@dataclass(frozen=True)
class Run:
    """One training: what it is made of, and where it keeps things."""

    config: EasyAnimateTrainConfig
    prepared: Prepared
    base: Path
    base_digest: str
    cache: Path
    state: Path
    """Checkpoints to resume from."""
    models: Path
    """`checkpoint-<step>.safetensors`, for use."""
    key: str
    """Digest of everything that decides the result; a checkpoint of another key is not resumed."""


def steps_of(config: EasyAnimateTrainConfig, plan: schedule.Schedule) -> int:
    return config.steps if config.steps is not None else (config.epochs or 1) * plan.steps_per_epoch


class Training:
    """One process of a training. `train` does it; all processes come to the same weights."""

    def __init__(self, run: Run, world: World) -> None:
        self.run, self.world, self.config = run, world, run.config
        size = run.config.clips_a_step(world.size)
        self.plan = schedule.Schedule([sample.bucket for sample in run.prepared.samples], size, run.config.seed)
        self.steps = steps_of(run.config, self.plan)
        self.batch_size = size
        self._clips = NoisedClips(run.base, run.cache)
        self._dtype = models.DTYPES[run.config.precision]
        self._load()

    def _load(self) -> None:
        config, world = self.config, self.world
        if world.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.precision == "bf16"
        divided = config.parallel == "fsdp2" and world.size > 1
        start = torch.device("cpu") if divided else world.device  # divided, it need not fit into one GPU
        self.transformer = models.load_transformer(self.run.base, config.precision, start)
        self.parameters = lora.inject(self.transformer, config.rank, config.alpha, config.targets, config.seed)
        for parameter in self.parameters.values():
            parameter.data = parameter.data.to(world.device)
        if config.precision != "fp32":
            lora.keep_input_dtype(self.transformer)
        models.save_memory(self.transformer, config.gradient_checkpointing)
        self.transformer.train()
        if config.compile_blocks:
            for block in self.transformer.transformer_blocks:
                block.compile(dynamic=False)
        if divided:
            divide(self.transformer, world, self.parameters)
        self.gradients = Gradients(self.parameters)
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=config.learning_rate,
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
            fused=world.device.type == "cuda",
        )
        self.progress = load_checkpoint(self.run.state, self.run.key, self.parameters, self.optimizer)
        if not world.agree(self.progress.step):  # the volume shows a file to one node later than to another
            raise InfraError(f"not all processes find the same checkpoint; this one found step {self.progress.step}")

    def train(self, log: Log, should_stop: Callable[[], bool]) -> bool:
        """Go on from where the state is; whether the last step was reached.

        should_stop: asked before each step; when any process says yes, all save and stop at the same step.
        """
        if self.progress.step == 0 and not self.progress.heldout:
            self._measure(log)
        with self._batches(self.progress.step) as batches:
            while self.progress.step < self.steps:
                began = time.monotonic()
                if self.world.any(should_stop()):
                    self._save()
                    return False
                self._log_step(log, *self._step(batches, began))
                done = self.progress.step
                if done % self.config.heldout_every == 0 or done == self.steps:
                    self._measure(log)
                if done % self.config.checkpoint_every == 0 or done == self.steps:
                    self._save(also_for_use=True)
        self._save_for_use(only_if_missing=True)
        return True

    def _step(self, batches: Iterator[list[Batch]], began: float) -> tuple[float, float, float, float]:
        """One optimizer step; its loss, the gradient's norm, seconds since `began`, those of forward and backward."""
        number = self.progress.step
        total = torch.zeros((), device=self.world.device)
        mine = next(batches)
        computing = time.monotonic()
        for batch in mine:
            with attention(self.world.device):  # around the backward pass too: it computes blocks again
                with autocast(self._dtype, self.world.device):
                    loss = (
                        clip_losses(self.transformer, batch.to(self.world.device), self._dtype).sum() / self.batch_size
                    )
                loss.backward()
            total += loss.detach()
        self.world.finish()
        compute = time.monotonic() - computing
        loss_value = float(self.world.sum(total))
        norm = self.gradients.reduce(self.world, schedule.clip_norm(self.config, number))
        if not (math.isfinite(loss_value) and math.isfinite(norm)):
            raise UserError(
                f"the loss ({loss_value}) or its gradient's norm ({norm}) is not finite at step {number + 1}; a smaller"
                " learning_rate may help, or precision: fp32 shows whether rounding is the cause"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(self.config, number, self.steps)
        self.optimizer.step()
        self.gradients.clear()
        seconds = time.monotonic() - began
        self.progress.step += 1
        self.progress.seconds += seconds
        self.progress.compute_seconds += compute
        self.progress.losses = [*self.progress.losses, loss_value][-RECENT:]
        return loss_value, norm, seconds, compute

    def _log_step(self, log: Log, loss: float, norm: float, seconds: float, compute: float) -> None:
        if self.world.is_first:
            rate = self.optimizer.param_groups[0]["lr"]
            figures = {"loss": loss, "lr": rate, "grad_norm": norm, "step_seconds": seconds}
            speed = {"compute_seconds": compute, "clips_per_second": self.batch_size / seconds}
            log(figures | speed, self.progress.step)

    def heldout_loss(self) -> float | None:
        """Mean over the held-out clips at fixed noise and levels: it changes with the weights alone."""
        work = [(sample, part) for sample in self.run.prepared.heldout for part in LEVELS]
        if not work:
            return None
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        self.transformer.eval()
        with torch.no_grad(), attention(self.world.device), autocast(self._dtype, self.world.device):
            for start in range(0, len(work), self.world.size):  # with FSDP2 all compute in step, some for nothing
                place = start + self.world.rank
                sample, part = work[min(place, len(work) - 1)]
                batch = self._clips.stacked([self._clips.heldout(sample, part)]).to(self.world.device)
                loss = clip_losses(self.transformer, batch, self._dtype)[0].double()
                if place < len(work):
                    total += loss
        self.transformer.train()
        return float(self.world.sum(total)) / len(work)

    def _measure(self, log: Log) -> None:
        loss = self.heldout_loss()
        if loss is not None:
            self.progress.heldout.append((self.progress.step, loss))
            if self.world.is_first:
                log({"heldout_loss": loss}, self.progress.step)

    @contextmanager
    def _batches(self, first: int) -> Iterator[Iterator[list[Batch]]]:
        """What this process computes at each step from `first` on; the next one is read while a step computes."""

        def batches(reader: ThreadPoolExecutor) -> Iterator[list[Batch]]:
            coming: Future[list[Batch]] = reader.submit(self._batch, first)
            for number in range(first, self.steps):
                ready = coming.result()
                if number + 1 < self.steps:
                    coming = reader.submit(self._batch, number + 1)
                yield ready

        with ThreadPoolExecutor(1, "clips") as reader:
            yield batches(reader)

    def _batch(self, step: int) -> list[Batch]:
        clips = self.plan.batch(step)
        mine = schedule.share(clips, self.world.rank, self.world.size, self.config.batch_size_per_gpu)
        return [self._clips.stacked([self._clip(step, place, clip) for place, clip in group]) for group in mine]

    def _clip(self, step: int, place: int, clip: int) -> Clip:
        """One clip of a step; every random number is named by the seed, the step, and the place in its batch."""
        name = (self.config.seed, step, place)
        sample = self.run.prepared.samples[clip]
        is_dropped = draws.uniform("caption", *name) < self.config.caption_dropout
        level = self._clips.levels.place(draws.normal("level", *name))
        return self._clips.clip(sample.clip, self.run.prepared.no_text if is_dropped else sample.text, level, name)

    def _save(self, also_for_use: bool = False) -> None:
        """The LoRA and the moments are whole in every process, so the first one writes for all."""
        if also_for_use:
            self._save_for_use()
        if self.world.is_first:
            save_checkpoint(self.run.state, self.run.key, self.progress, self.parameters, self.optimizer)
        self.world.wait()

    def _save_for_use(self, only_if_missing: bool = False) -> None:
        path = self.run.models / checkpoint_name(self.progress.step)
        if not self.world.is_first or (only_if_missing and path.exists()):
            return
        config = self.config
        provenance = lora.Provenance(
            base_model=self.run.base_digest,
            data=self.run.prepared.data,
            recipe=config.model_dump(mode="json"),
            seed=config.seed,
            steps=self.progress.step,
            rank=config.rank,
            alpha=config.alpha,
            targets=config.targets,
        )
        lora.save_lora(path, self.parameters, provenance)


def told(training: Training, finished: bool) -> dict[str, Any]:
    """What the first process tells of a training when it ends."""
    progress: Progress = training.progress
    heldout = dict(progress.heldout)
    return {
        "steps": progress.step,
        "finished": finished,
        "loss": sum(progress.losses) / len(progress.losses) if progress.losses else math.nan,
        "heldout_loss": heldout.get(progress.step),
        "heldout_before": heldout.get(0),
        "learning_rate": schedule.learning_rate(training.config, max(0, progress.step - 1), training.steps),
        "step_seconds": progress.seconds / max(1, progress.step),
        "compute_seconds": progress.compute_seconds / max(1, progress.step),
    }
