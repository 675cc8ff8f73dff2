# SPDX-License-Identifier: Apache-2.0
"""What hooks call to make videos, with one LoRA or several that take turns in one pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox_api.digest import sha256_of
from sandbox_api.easyanimate import EasyAnimateInferConfig

from ..errors import InputError, UserError
from ..files import write_json
from ..workers.launch import Figures, ShouldStop, run_workers
from .disk import WORKER, base_model, digest, link, never, read_json, unheard
from .names import NAMES, is_plain, video_name
from .prompts import Video, batches_of, read_prompts, share, unique
from .results import InferResult


def infer(config: EasyAnimateInferConfig, *, out: Path, **places: Any) -> InferResult:
    """Make the videos of all prompts that no earlier attempt has made, in `out`; the rest as of `infer_each`.

    Raises UserError where one could not be made.
    """
    [found] = infer_each(config, [(config.lora_path, out)], **places)
    if found.problem:
        raise UserError(found.problem)
    return found


def infer_each(
    config: EasyAnimateInferConfig,
    loras: Sequence[tuple[str | None, Path]],
    *,
    state: Path,
    scratch: Path,
    processes: int = 1,
    cpus: int | None = None,
    shard: tuple[int, int] = (0, 1),
    digests: Path | None = None,
    log_metrics: Figures = unheard,
    should_stop: ShouldStop = never,
) -> list[InferResult]:
    """The same videos with each of several LoRAs (None: the base model), whose `lora_path` counts instead of the
    configuration's; each with the folder to put them in. The model is loaded once, and only where a video is missing.

    shard: (number, count) where several jobs divide the prompts. log_metrics: takes `videos`, those that the first
    process has made so far. `names.json` in a folder maps names of files that are not `<prompt>-<i>.mp4` to their
    prompts. Raises ConfigError and InputError for a model, a LoRA or prompts that won't do.
    """
    began = time.monotonic()
    base = base_model(config.base_model)
    if config.prompt_info_path is not None:
        wanted = read_prompts(Path(config.prompt_info_path))
    else:
        wanted = unique(config.prompts)
    for lora, _ in loras:
        if lora is not None and not Path(lora).is_file():
            raise InputError(f"lora_path: there is no file {lora}")
    batches = share(batches_of(wanted, config.video_num_per_prompt, config.batch_size), *shard)
    videos = [video for batch in batches for video in batch]
    configs = [config.model_copy(update={"lora_path": lora}) for lora, _ in loras]
    folders = [state / _videos_key(each, wanted, base, digests) for each in configs]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    missing = [
        number for number, folder in enumerate(folders) if not all(_file(folder, each).exists() for each in videos)
    ]
    told: list[Any] = []
    if missing:
        told = run_workers(
            WORKER,
            "infer",
            {
                "takes": [
                    {"config": configs[number].model_dump(mode="json"), "folder": str(folders[number].absolute())}
                    for number in missing
                ],
                "batches": [[asdict(video) for video in batch] for batch in batches],
            },
            processes=max(1, min(processes, len(batches))),
            together=False,
            cpus=cpus,
            scratch=scratch / "infer",
            on_figures=log_metrics,
            should_stop=should_stop,
        )
    parts = {number: [of_process[place] for of_process in told] for place, number in enumerate(missing)}
    return [
        _found(config.seed, videos, folder, out, parts.get(number, []), time.monotonic() - began)
        for number, (folder, (_, out)) in enumerate(zip(folders, loras, strict=True))
    ]


def _file(folder: Path, video: Video) -> Path:
    return folder / video_name(video.prompt, video.index)


def _found(
    seed: int, videos: Sequence[Video], kept: Path, out: Path, parts: Sequence[Mapping[str, Any]], seconds: float
) -> InferResult:
    """What there is now of these videos, put into `out`. parts: what each process says that has made some."""
    rows = []
    for video in videos:
        if _file(kept, video).exists():
            path = link(_file(kept, video), _file(out, video))
            rows.append({"videos": [str(path)], "text": video.prompt, "index": video.index, "seed": seed})
    renamed = sorted({video.prompt for video in videos if not is_plain(video.prompt)})
    names = {
        video_name(video.prompt, video.index): {"prompt": video.prompt, "index": video.index}
        for video in videos
        if video.prompt in renamed
    }
    write_json(out / NAMES, names)
    notes = []
    if renamed:
        notes.append(f"{len(renamed)} prompts can't be names of files; {NAMES} says which file is whose")
    return InferResult(
        folder=out,
        rows=tuple(rows),
        made=sum(part["made"] for part in parts),
        finished=all(part["finished"] for part in parts),
        seconds=seconds,
        notes=tuple(notes),
        problem=next((part["problem"] for part in parts if part["problem"]), ""),
    )


def merged_videos(
    pieces: Sequence[tuple[Path, Iterable[Mapping[str, Any]]]], *, batch_size: int, out: Path, seconds: float
) -> InferResult:
    """What one job would have made: all videos in `out`, their rows in the order of prompts and indices.

    pieces: folder and rows of each, by number; of so many jobs each had every so-manyeth batch.
    """
    left = [[dict(row) for row in rows] for _, rows in pieces]
    rows: list[dict[str, Any]] = []
    names: dict[str, Any] = {}
    for folder, _ in pieces:
        names |= read_json(folder / NAMES)
    while any(left):
        for number, (folder, _) in enumerate(pieces):
            batch, left[number] = left[number][:batch_size], left[number][batch_size:]
            for row in batch:
                name = Path(row["videos"][0]).name
                rows.append({**row, "videos": [str(link(folder / name, out / name))]})
    made = [Path(row["videos"][0]).name for row in rows]
    write_json(out / NAMES, {name: names[name] for name in made if name in names})
    return InferResult(folder=out, rows=tuple(rows), made=len(rows), finished=True, seconds=seconds)


def _videos_key(config: EasyAnimateInferConfig, wanted: list[str], base: Path, digests: Path | None) -> str:
    """Of everything besides prompt and index that decides a video."""
    without = {"base_model", "lora_path", "prompt_info_path", "prompts", "video_num_per_prompt", "output_video_dir"}
    decisive = config.model_dump(mode="json", exclude=without | {"processes"})
    adapter = digest(Path(config.lora_path).absolute(), digests) if config.lora_path is not None else None
    neighbours = [wanted, config.video_num_per_prompt] if config.batch_size > 1 else None
    return sha256_of([decisive, digest(base, digests), adapter, neighbours])[:16]
