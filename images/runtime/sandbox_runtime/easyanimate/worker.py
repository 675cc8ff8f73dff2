# SPDX-License-Identifier: Apache-2.0
"""One worker process: `python -m sandbox_runtime.easyanimate.worker FOLDER`, with `job.json` in the folder.

It makes `began-<rank>`, then writes `result-<rank>.json` or `error-<rank>.json`, the first one also `figures.jsonl`.
Between two steps it looks for a file `stop`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from sandbox_api.easyanimate import EasyAnimateInferConfig, EasyAnimateTrainConfig

from ..errors import STORAGE_ERRNOS, HookError
from ..files import write_atomic
from . import encode, parallel, prompts, render
from .cache import Cache
from .loop import Run, Training, told
from .results import Prepared
from .rows import Clip


class Desk:
    """The folder by which a worker and its parent talk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.is_among_others = self.size > int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        """Whether processes of other pods compute with it."""
        (folder / f"began-{self.rank}").touch()

    def job(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder / "job.json").read_text())
        return found

    def should_stop(self) -> bool:
        return (self._folder / "stop").exists()

    def figures(self, figures: Mapping[str, float], step: int) -> None:
        with (self._folder / "figures.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "figures": figures}) + "\n")

    def result(self, value: Any) -> None:
        write_atomic(self._folder / f"result-{self.rank}.json", json.dumps(value).encode())

    def error(self, kind: str, message: str) -> None:
        content = json.dumps({"class": kind, "message": message}).encode()
        write_atomic(self._folder / f"error-{self.rank}.json", content)


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
    finished = training.train(desk.figures, desk.should_stop)
    parallel.leave()
    return {**told(training, finished), "resumed_from": resumed_from}


def infer(job: dict[str, Any], desk: Desk) -> Any:
    config = EasyAnimateInferConfig.model_validate(job["config"])
    batches = [tuple(prompts.Video(**video) for video in batch) for batch in job["batches"]]

    def log(made: int) -> None:
        if desk.rank == 0:
            desk.figures({"videos": made}, made)

    mine = prompts.share(batches, desk.rank, desk.size)
    made, finished = render.render(config, mine, Path(job["folder"]), parallel.own_device(), desk.should_stop, log)
    return {"made": made, "finished": finished}


TASKS: dict[str, Callable[[dict[str, Any], Desk], Any]] = {"prepare": prepare, "train": train, "infer": infer}


def main() -> None:
    desk = Desk(Path(sys.argv[1]))
    try:
        job = desk.job()
        desk.result(TASKS[job["task"]](job, desk))
    except BaseException as error:
        desk.error(*_told(error, desk))
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # other ranks may be waiting in a collective; torchrun ends them


def _told(error: BaseException, desk: Desk) -> tuple[str, str]:
    if isinstance(error, HookError):
        return type(error).__name__, str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "UserError", (
            f"a GPU has too little memory: {str(error).splitlines()[0]}; smaller buckets or videos, a smaller"
            " batch_size_per_gpu, gradient_checkpointing: every_block or parallel: fsdp2 need less"
        )
    if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
        return "InfraError", str(error)
    if desk.is_among_others and parallel.is_of_others(error):
        return "PeerLost", f"another pod of the training has gone: {str(error).splitlines()[0]}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "UserError", f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


if __name__ == "__main__":
    main()
