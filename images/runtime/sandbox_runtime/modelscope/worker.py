# SPDX-License-Identifier: Apache-2.0
"""What the worker process does: `python -m sandbox_runtime.modelscope.worker FOLDER` (see `workers.desk`)."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import modelscope.trainers.base
import modelscope.trainers.trainer
import torch
from modelscope.trainers import build_trainer
from modelscope.trainers.default_config import update_cfg
from modelscope.utils.ast_utils import INDEX_KEY
from modelscope.utils.config import Config
from modelscope.utils.import_utils import LazyImportModule

from sandbox_api.evaluate import as_list
from sandbox_api.modelscope import ModelscopeTrainConfig

from ..errors import ConfigError
from ..workers.desk import Desk, work
from .data import labels_said, language_sets, row_sets
from .folder import CONFIGURATION, Folder, look, task_of
from .follow import EVALUATION, Follow, Shuffled, Start, ToldToStop, figures_of
from .layout import BIN, LOSS, PPL, Layout, laid_out, weights_reached

SMALLER = "a smaller train.dataloader.batch_size_per_gpu or preprocessor.max_length needs less"
UNEXPECTED = "got an unexpected keyword argument"
"""So says what was made from a section that has a key too many."""
DEFAULTS: dict[str, Any] = {
    "train": {
        "max_epochs": 3,
        "dataloader": {"batch_size_per_gpu": 8, "workers_per_gpu": 0},
        "optimizer": {"type": "AdamW", "lr": 2e-5},
        "lr_scheduler": {"type": "ConstantLR", "factor": 1.0},
        "checkpoint": {"period": {"interval": 1}},
        "logging": {"interval": 10, "ignore_last": False, "rounding_digits": 8},
    },
    "evaluation": {"dataloader": {"batch_size_per_gpu": 8, "workers_per_gpu": 0}},
}
"""Where neither the user nor the model's configuration says otherwise."""


def train(job: dict[str, Any], desk: Desk) -> Any:
    config = ModelscopeTrainConfig.model_validate(job["config"])
    places = {name: Path(job[name]) for name in ("scratch", "state", "work_dir")}
    _known_trainer(config.trainer_name)
    folder = look(_on_volume(config, job["model"]))
    task = task_of(folder, config)
    layout = laid_out(folder, task, places["scratch"] / "model")
    trainer, start, follow = _build(config, folder, layout, task, job, places, desk)
    print(weights_reached(trainer.model, folder), flush=True)
    began = time.monotonic()
    try:
        trainer.train()
        finished = True
    except ToldToStop:
        finished = False
    except TypeError as error:
        if UNEXPECTED in str(error):
            raise ConfigError(f"extraConfigs.train: {error}") from error
        raise
    seconds = time.monotonic() - began
    outputs = sorted({path.parent for path in places["work_dir"].glob("output*/pytorch_model.*")})
    if finished and layout.is_hugging_face:
        for output in outputs:
            _as_transformers_has_it(output, trainer, layout)
    return {
        "finished": finished,
        "steps": trainer.iter + (0 if finished else 1),  # the one after which it ended is not counted yet
        "resumed_from": start.resumed_from,
        "seconds": seconds,
        "figures": follow.last,
        "outputs": [path.name for path in outputs],
    }


def evaluate(job: dict[str, Any], desk: Desk) -> Any:
    """Figures by name, as `trainer.evaluate` finds them. Raises ConfigError."""
    config = ModelscopeTrainConfig.model_validate(job["config"])
    places = {name: Path(job[name]) for name in ("scratch", "state", "work_dir")}
    _known_trainer(config.trainer_name)
    folder = look(Path(job["model"]))
    task = task_of(folder, config)
    layout = laid_out(folder, task, places["scratch"] / "model")
    if layout.is_hugging_face and task == "text-generation":
        raise ConfigError(
            f"extraConfigs.model_name: {folder.path.name} is a language model of transformers, which ModelScope's"
            " metrics judge by the wrong tokens (they do not shift labels); use type: lm"
        )
    if task == "text-classification" and not labels_said(config, folder):
        raise ConfigError(
            f"extraConfigs.dataset.train.labels: name the classes in the model's order; the {CONFIGURATION} of"
            f" {folder.path.name} does not"
        )
    trainer, _, _ = _build(config, folder, layout, task, job, places, desk)
    print(weights_reached(trainer.model, folder), flush=True)

    def stop(*_: Any) -> None:
        if desk.should_stop():
            raise ToldToStop

    trainer.unwrap_module(trainer.model).register_forward_pre_hook(stop)
    found = figures_of({f"{EVALUATION}{key}": float(value) for key, value in trainer.evaluate().items()})
    return {"figures": {name.removeprefix("eval_"): value for name, value in found}}


def _on_volume(config: ModelscopeTrainConfig, path: str | None) -> Path:
    """The model's folder, fetched from ModelScope's hub where it is an id of it. Raises ConfigError."""
    if path is not None:
        return Path(path)
    from modelscope.hub.snapshot_download import snapshot_download

    try:
        return Path(snapshot_download(config.model_name, revision=config.model_revision))
    except Exception as error:
        raise ConfigError(
            f"extraConfigs.model_name: {config.model_name} is no folder here, and could not be had from ModelScope's"
            f" hub: {' '.join(str(error).split())[:200]}. Give a folder, e.g. one that a FetchHook has made"
        ) from error


def _known_trainer(name: str) -> None:
    index = LazyImportModule.get_ast_index()[INDEX_KEY]
    names = sorted({key[2] for key in index if key[0] == "TRAINERS"})
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; it has: {', '.join(names)}"
        raise ConfigError(f"extraConfigs.trainer_name: ModelScope has no trainer {name!r}{hint}")


def _build(
    config: ModelscopeTrainConfig,
    folder: Folder,
    layout: Layout,
    task: str,
    job: Mapping[str, Any],
    places: Mapping[str, Path],
    desk: Desk,
) -> tuple[Any, Start, Follow]:
    is_language_model = layout.is_hugging_face and task == "text-generation"
    paths = {name: Path(job[f"{name}_dataset"]) for name in ("train", "eval") if job[f"{name}_dataset"]}
    if is_language_model and PPL in as_list(config.evaluation.metrics or []):
        raise ConfigError(
            f"extraConfigs.evaluation.metrics: ModelScope's {PPL} compares what a model says with the wrong token; use"
            f" {LOSS}, or EvaluateModelHook of type lm"
        )
    if is_language_model:
        rows, found_out = language_sets(config, folder, paths, places["scratch"]), {}
    else:
        rows, found_out = row_sets(config, folder, task, paths, places["scratch"])
    asked = merged({"dataset": {"train": found_out}} if found_out else {}, config.sections(), {"task": task})
    sampler = _sampler(config, rows["train"])
    start = Start(places["state"], config.seed, sampler)
    follow = Follow(places["state"], desk)

    def lay_over(found: Config) -> Config:
        # made anew: `merge_from_dict` leaves plain mappings, whose attributes ModelScope then does not find
        layers = [_in_sections(layer) for layer in (found.to_dict(), asked)]
        if "eval" in rows:
            layers.insert(0, {"evaluation": {"period": {"interval": 1}}})
        made = merged(DEFAULTS, *layers)
        made["train"]["hooks"] = [hook for layer in layers for hook in (layer.get("train") or {}).get("hooks") or ()]
        if is_language_model:
            made.pop("preprocessor", None)  # its rows are tokens already
            known = [name for name in as_list(made["evaluation"].get("metrics") or []) if name != PPL]
            made["evaluation"]["metrics"] = known or LOSS
        return Config(made)

    # the hub would be asked whether a local folder is the newest there, and asked again for seven seconds
    modelscope.trainers.base.check_local_model_is_latest = lambda *_args, **_more: None
    arguments = {
        "model": str(layout.path),
        "train_dataset": rows["train"],
        "eval_dataset": rows.get("eval"),
        "work_dir": str(places["work_dir"]),
        "cfg_modify_fn": lay_over,
        "seed": config.seed,
        "callbacks": [start, follow],
        "remove_unused_data": layout.is_hugging_face,
        "device": "gpu" if torch.cuda.is_available() else "cpu",
    }
    if sampler is not None:
        arguments["samplers"] = {"train": sampler, "val": None}
    return build_trainer(config.trainer_name, default_args=arguments), start, follow


def _in_sections(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Hooks that have a section of their own (logging, checkpoint, evaluation) as that section."""
    found: dict[str, Any] = update_cfg(Config({"train": {}, **layer})).to_dict()
    return found


def _sampler(config: ModelscopeTrainConfig, rows: Any) -> Shuffled | None:
    asked = config.train.dataloader
    return None if asked is not None and asked.shuffle is False else Shuffled(len(rows), config.seed)


def _as_transformers_has_it(output: Path, trainer: Any, layout: Layout) -> None:
    """ModelScope leaves two files of weights there: what was trained, and what it began with, under the name that
    transformers looks for first."""
    trained = torch.load(output / BIN, map_location="cpu", weights_only=True)
    (output / BIN).unlink()
    for old in output.glob("model*.safetensors*"):
        old.unlink()
    trainer.unwrap_module(trainer.model).save_pretrained(output, state_dict=trained)
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(layout.path).save_pretrained(output)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings laid one over the other, deeply; a later one counts. Another `type` brings its own arguments alone."""
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = found.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            found[key] = merged(old, value) if both and value.get("type") in (None, old.get("type")) else value
    return found


TASKS: dict[str, Callable[[dict[str, Any], Desk], Any]] = {"train": train, "evaluate": evaluate}


def main() -> None:
    work(TASKS, SMALLER)


if __name__ == "__main__":
    main()
