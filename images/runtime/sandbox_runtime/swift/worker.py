# SPDX-License-Identifier: Apache-2.0
"""What a worker process does: `python -m sandbox_runtime.swift.worker FOLDER` (see `workers.desk`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.pop("TQDM_DISABLE", None)  # ms-swift writes through the bar of an evaluation, which then is none

import swift.dataset.preprocessor.core
import torch
from swift.arguments import SftArguments
from swift.callbacks import TrainerCallback, callbacks_map
from swift.pipelines import sft_main

from sandbox_api.swift import SwiftTrainConfig

from ..errors import ConfigError, UserError
from ..workers.desk import Desk, work
from .checkpoints import keep, newest
from .trust import forbid_code_in_folders

SMALLER = (
    "a smaller per_device_train_batch_size or max_length, gradient_checkpointing: true or tuner_type: lora need less"
)
NAMES = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "token_acc": "token_acc",
    "eval_loss": "heldout_loss",
    "eval_token_acc": "heldout_token_acc",
}
"""Our names of what ms-swift logs; the rest is time and place."""


def train(job: dict[str, Any], desk: Desk) -> Any:
    config = SwiftTrainConfig.model_validate(job["config"])
    state, out = Path(job["state"]), Path(job["out"])
    swift.dataset.preprocessor.core.get_cache_dir = lambda: job["scratch"]  # rows, once more: not for later jobs
    if not config.trust_remote_code:
        forbid_code_in_folders()
    found = newest(state)
    follow = _follower(desk, state)
    arguments = _arguments(config, job, out, found, desk)
    began = time.monotonic()
    told = sft_main(arguments)
    return {
        "steps": told["global_step"],
        "finished": not follow.stopped,
        "resumed_from": int(found.name.rpartition("-")[2]) if found else 0,
        "seconds": time.monotonic() - began,
        "step_seconds": follow.seconds / max(1, follow.steps),
        "figures": follow.last,
    }


def _arguments(
    config: SwiftTrainConfig, job: Mapping[str, Any], out: Path, resumed: Path | None, desk: Desk
) -> SftArguments:
    """Raises ConfigError with what ms-swift says of them."""
    given = config.arguments() | {
        "model": job["model"],
        "dataset": job["dataset"],
        "output_dir": str(out),
        "add_version": False,
        "callbacks": ["sandbox"],
        "report_to": ["none"],
        "check_model": False,
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,  # in place of a NaN it would log the mean before it, or 0, the best of a sweep
    }
    if desk.size > 1 and not torch.cuda.is_available():
        given |= {"use_cpu": True, "ddp_backend": "gloo"}
    if job["val_dataset"]:
        given["val_dataset"] = job["val_dataset"]
    if resumed is not None:
        print(f"goes on from {resumed}", flush=True)
        given["resume_from_checkpoint"] = str(resumed)
    try:
        made = SftArguments(**given)
    except (ValueError, TypeError, AssertionError, FileNotFoundError) as error:
        raise ConfigError(
            f"extraConfigs: ms-swift refuses the settings: {' '.join(str(error).split())[:500]}"
        ) from error
    if made.training_args.world_size != desk.size:  # each process would train a model of its own
        raise UserError(f"ms-swift trains in {made.training_args.world_size} processes, and not in {desk.size}")
    return made


def _follower(desk: Desk, state: Path) -> type[Follow]:
    """A class of its own for each training: ms-swift makes the object."""
    made = type("Sandbox", (Follow,), {"desk": desk, "state": state, "last": {}})
    callbacks_map["sandbox"] = made
    return made


class Follow(TrainerCallback):
    """Tells figures, keeps checkpoints for later attempts, ends the training between two steps."""

    desk: Desk
    state: Path
    last: dict[str, float]
    """The newest value of each figure."""
    stopped = False
    seconds = 0.0
    steps = 0
    """Of this attempt."""
    _began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        type(self)._began = time.monotonic()

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        type(self).steps += 1
        type(self).seconds += time.monotonic() - self._began
        last = state.global_step >= state.max_steps
        if last and self.trainer.eval_dataset is not None:
            control.should_evaluate = True
        if not last and _any(self.desk.should_stop()):
            type(self).stopped = True
            control.should_save = control.should_training_stop = True

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        figures = {NAMES[name]: float(value) for name, value in (logs or {}).items() if name in NAMES}
        if figures and self.desk.rank == 0:
            self.last.update(figures)
            self.desk.total = state.max_steps
            self.desk.figures(figures, state.global_step)

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # each rank has a file of its own in it
        if self.desk.rank == 0:
            keep(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.state)


def _any(said: bool) -> bool:
    """Whether one of the ranks says so: they must end after the same step."""
    if not torch.distributed.is_initialized():
        return said
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    told = torch.tensor(int(said), device=device)
    torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
    return bool(told)


TASKS: dict[str, Callable[[dict[str, Any], Desk], Any]] = {"train": train}


def main() -> None:
    if os.environ.get("WORLD_SIZE") == "1":  # else ms-swift looks for a process group
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
    work(TASKS, SMALLER)


if __name__ == "__main__":
    main()
