# SPDX-License-Identifier: Apache-2.0
"""Text-to-video: a LoRA of EasyAnimate V5.1 trained on the sandbox's clips, and videos made with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox_api.easyanimate import EasyAnimateInferConfig, EasyAnimateTrainConfig

from ..data_juicer.rows import read_json
from ..easyanimate import InferResult, TrainResult, infer, merged_videos, prepare, train
from ..easyanimate.disk import newest
from ..errors import ConfigError
from ..hooks.base import Artifact, HookContext, HookResult
from ..pieces import Piece
from .base import BaseModelExecutor


class EasyAnimateTrainExecutor(BaseModelExecutor):
    """type: easyanimate. Results: the folder of checkpoints, and their list; the last one is the model."""

    async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> HookResult:
        context, config = self.for_job(), EasyAnimateTrainConfig.model_validate(_settings(self.model_config))
        if config.dataset_path is None:
            raise ConfigError("extraConfigs.dataset_path: name the data set to train on, or fill it with input")
        data = context.workspace.inside(config.dataset_path, "extraConfigs.dataset_path")
        roots = [root for root in (config.video_root, ".") if root]
        processes, digests = processes_of(config.processes, context), context.workspace.cache / "digests.json"
        prepared = prepare(
            config,
            self.data_connector(data),
            context.workspace.cache / "easyanimate",
            scratch=context.scratch,
            roots=[data.parent, *(context.workspace.inside(root, "extraConfigs.video_root") for root in roots)],
            processes=processes,
            place=context.place,
            cpus=context.cpus,
            digests=digests,
        )
        if config.heldout and not prepared.heldout:
            few = f"a tenth of {len(prepared.samples)} clips, the most that is held out, is less than one"
            print(f"{few}: there is no held-out loss", flush=True)
        trained = train(
            config,
            prepared,
            context.workspace.cache / "easyanimate",
            out=context.out / "model",
            state=context.state,
            scratch=context.scratch,
            processes=processes,
            place=context.place,
            cpus=context.cpus,
            digests=digests,
            log_metrics=lambda figures, step: self.watcher.watch(figures, step=step),
            on_total=context.metrics.expect,
        )
        if not context.place.speaks_for_all:
            return HookResult(outputs=[], message=f"{trained.steps} steps, with the pod of rank 0")
        published = context.user_path("extraConfigs.output_dir")
        return HookResult(
            outputs=[
                Artifact(context.out / "model", publish=published),
                [str(path.relative_to(context.out)) for path in trained.checkpoints],
            ],
            metrics={**trained.metrics(), "clips": len(prepared.samples), "broken": len(prepared.broken)},
            message=_trained(trained, len(prepared.broken)),
        )

    def data_connector(self, input_data: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        """Rows with `videos` and `text`."""
        if not Path(input_data).is_file():
            raise ConfigError(f"extraConfigs.dataset_path: there is no file {input_data}")
        return read_json(Path(input_data))


class EasyAnimateInferExecutor(BaseModelExecutor):
    """type: easyanimate. Results: the folder of videos, and a data set that names them."""

    async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> HookResult:
        context, config = self.for_job(), EasyAnimateInferConfig.model_validate(_settings(self.model_config))
        if config.lora_path is not None:
            lora = newest(Path(config.lora_path), "extraConfigs.lora_path", config.lora_path)
            config = config.model_copy(update={"lora_path": str(lora)})
        videos = infer(
            config,
            out=context.out / "videos",
            state=context.state,
            scratch=context.scratch,
            processes=processes_of(config.processes, context),
            cpus=context.cpus,
            shard=(context.place.shard or 0, context.place.shards),
            digests=context.workspace.cache / "digests.json",
            log_metrics=lambda figures, step: self.watcher.watch(figures, step=step),
        )
        for note in videos.notes:
            print(note, flush=True)
        return self._result(context, videos, _made(videos))

    def merge(self, pieces: list[Piece]) -> HookResult:
        """All videos in one folder, and one data set of them in the order of prompts and indices. The seconds are those
        of the piece that took longest."""
        context, config = self.for_job(), EasyAnimateInferConfig.model_validate(_settings(self.model_config))
        videos = merged_videos(
            [(piece.outputs[0], read_json(piece.outputs[1])) for piece in pieces],
            batch_size=config.batch_size,
            out=context.out / "videos",
            seconds=max(piece.metrics["seconds"] for piece in pieces),
        )
        return self._result(context, videos, f"{len(videos.rows)} videos in {len(pieces)} pieces")

    def _result(self, context: HookContext, videos: InferResult, message: str) -> HookResult:
        dataset = context.out / "videos.jsonl"
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in videos.rows)
        dataset.write_text("".join(lines), encoding="utf-8")
        published = context.user_path("extraConfigs.output_video_dir")
        return HookResult(
            outputs=[Artifact(videos.folder, publish=published), Artifact(dataset, rows=len(videos.rows))],
            metrics={"videos": len(videos.rows), "seconds": videos.seconds},
            message=message,
        )


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "work_dir"}


def processes_of(asked: int | None, context: HookContext) -> int:
    """One a GPU, where the user has not said how many."""
    return asked or max(1, context.contract.limits.gpus)


def _trained(trained: TrainResult, broken: int) -> str:
    heldout = f", held-out loss {trained.heldout_loss:.4f}" if trained.heldout_loss is not None else ""
    left_out = f", {broken} broken clips left out" if broken else ""
    return f"{trained.steps} steps, loss {trained.loss:.4f}{heldout}{left_out}"


def _made(videos: InferResult) -> str:
    earlier = len(videos.rows) - videos.made
    return f"{len(videos.rows)} videos" + (f", {earlier} of them by an earlier attempt" if earlier else "")
