# SPDX-License-Identifier: Apache-2.0
"""What a worker process does: `python -m sandbox_runtime.easyanimate.worker FOLDER` (see `workers.desk`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox_api.easyanimate import EasyAnimateInferConfig, EasyAnimateTrainConfig
from sandbox_api.heldout import HeldoutLossConfig

from ..workers.desk import Desk, work
from . import encode, heldout, parallel, prompts, render
from .cache import Cache
from .loop import Run, Training, told
from .results import Prepared, Sample
from .rows import Clip


def prepare(job: dict[str, Any], desk: Desk) -> Any:
    config = EasyAnimateTrainConfig.model_validate(job["config"])
    part = encode.encode_part(
        [Clip(**clip) for clip in job["clips"]][desk.rank :: desk.size],
        config,
        encode.Recipe(**job["recipe"]),
        encode.Encoder(Path(job["base"]), config.precision, parallel.own_device()),
        Cache(Path(job["cache"])),
        most_broken=job["most_broken"],
        should_stop=desk.should_stop,
    )
    if not job["together"]:
        return [vars(part)]
    parts = parallel.gather(vars(part))
    parallel.leave()
    return parts


def train(job: dict[str, Any], desk: Desk) -> Any:
    paths = {name: Path(job[name]) for name in ("base", "cache", "state", "models")}
    run = Run(
        config=EasyAnimateTrainConfig.model_validate(job["config"]),
        prepared=Prepared.of_json(job["prepared"]),
        base_digest=job["base_digest"],
        key=job["key"],
        **paths,
    )
    world = parallel.join()
    training = Training(run, world)
    resumed_from = training.progress.step
    desk.total = training.steps
    finished = training.train(desk.figures, desk.should_stop)
    parallel.leave()
    return {**told(training, finished), "resumed_from": resumed_from}


def infer(job: dict[str, Any], desk: Desk) -> Any:
    batches = [tuple(prompts.Video(**video) for video in batch) for batch in job["batches"]]
    mine = prompts.share(batches, desk.rank, desk.size)
    turns, told, before = render.Turns(parallel.own_device()), [], 0

    def log(made: int) -> None:
        if desk.rank == 0:
            desk.figures({"videos": before + made}, before + made)

    for take in job["takes"]:
        config, folder = EasyAnimateInferConfig.model_validate(take["config"]), Path(take["folder"])
        rendered = render.render(config, mine, folder, turns, desk.should_stop, log)
        told.append(asdict(rendered))
        before += rendered.made
    return told


def measure(job: dict[str, Any], desk: Desk) -> Any:
    def log(measured: int) -> None:
        if desk.rank == 0:
            desk.figures({"clips_done": measured}, measured)

    return heldout.losses(
        HeldoutLossConfig.model_validate(job["config"]),
        [Sample(**sample) for sample in job["samples"]][desk.rank :: desk.size],
        Path(job["cache"]),
        parallel.own_device(),
        desk.should_stop,
        log,
    )


SMALLER = (
    "smaller buckets or videos, a smaller batch_size_per_gpu, gradient_checkpointing: every_block or parallel: fsdp2"
    " need less"
)
TASKS: dict[str, Callable[[dict[str, Any], Desk], Any]] = {
    "prepare": prepare,
    "train": train,
    "infer": infer,
    "measure": measure,
}


def main() -> None:
    work(TASKS, SMALLER, is_of_others=parallel.is_of_others)


if __name__ == "__main__":
    main()
