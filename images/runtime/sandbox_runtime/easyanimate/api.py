# SPDX-License-Identifier: Apache-2.0
"""What hooks call: prepare, train, infer. Checks come first, then worker processes, then results put in place.

Folders: `cache` outlives jobs and is shared; `state` is what a later attempt goes on from; `out` is this attempt's own;
`scratch` goes when the job ends. `state` and `out` should lie on one volume: files are linked, not copied.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox_api.digest import sha256_of
from sandbox_api.easyanimate import EasyAnimateInferConfig, EasyAnimateTrainConfig
from sandbox_api.heldout import HeldoutLossConfig

from ..digests import digest_of
from ..errors import ConfigError, InputError, PeerLost, UserError
from ..files import sync_folder, write_json
from ..place import ALONE, Place
from ..workers.launch import Figures, ShouldStop, run_workers
from .names import NAMES, checkpoints_in, is_plain, step_of, video_name
from .prompts import batches_of, read_prompts, share, unique
from .results import InferResult, Prepared, Sample, TrainResult
from .rows import clips_of

WORKER = "sandbox_runtime.easyanimate.worker"
SHOWN_BROKEN = 3
MOST_HELDOUT = 0.1
"""Share of the clips that are held out at most."""
NOT_DECISIVE = {
    "base_model", "dataset_path", "video_root", "output_dir", "processes", "checkpoint_every", "heldout_every",
    "broken_limit", "shard_clips", "heldout", "steps", "epochs", "batch_size", "gradient_accumulation_steps",
}  # fmt: skip
"""Settings of a training that don't decide its result, or that are looked at in another form."""


def _never() -> bool:
    return False


def _unheard(_figures: Mapping[str, float], _step: int) -> None:
    return


def prepare(
    config: EasyAnimateTrainConfig,
    rows: Iterable[Mapping[str, Any]],
    cache_dir: Path,
    *,
    scratch: Path,
    roots: Iterable[Path] = (),
    processes: int = 1,
    place: Place = ALONE,
    cpus: int | None = None,
    digests: Path | None = None,
    should_stop: ShouldStop = _never,
) -> Prepared:
    """Encode what of these rows is not in the cache yet; with the pods of other places, each a share of it.

    rows: with `videos` and `text`. roots: where relative names of videos may begin. digests: where digests of large
    files are remembered. Raises ConfigError for a base model that does not fit, UserError when more clips are broken
    than `broken_limit` allows or when it was told to stop.
    """
    began = time.monotonic()
    base = base_model(config.base_model)
    clips = clips_of(rows, tuple(roots))
    if not clips:
        raise InputError("dataset_path: the data set has no rows")
    most_broken, together = int(config.broken_limit * len(clips)), place.nodes > 1
    job = {
        "config": config.model_dump(mode="json"),
        "clips": [asdict(clip) for clip in clips],
        "recipe": {
            "vae": _digest(base / "vae", digests),
            "text_encoder": sha256_of([_digest(base / name, digests) for name in ("text_encoder", "tokenizer")]),
            "precision": config.precision,
        },
        "base": str(base),
        "cache": str(cache_dir.absolute()),
        "most_broken": most_broken,
        "together": together,
    }
    told = run_workers(
        WORKER,
        "prepare",
        job,
        processes=processes if together else max(1, min(processes, len(clips))),
        together=together,
        place=place,
        meeting=0,
        cpus=cpus,
        scratch=scratch / "prepare",
        on_figures=_unheard,
        should_stop=should_stop,
    )
    parts = told[0] if together else [part for parts in told for part in parts]
    broken = [sentence for _, sentence in sorted(tuple(each) for part in parts for each in part["broken"])]
    for sentence in broken:
        print(f"left out: {sentence}", flush=True)
    if len(broken) > most_broken:
        more = f" and {len(broken) - SHOWN_BROKEN} more" if len(broken) > SHOWN_BROKEN else ""
        raise UserError(
            f"broken_limit: more than {most_broken} of {len(clips)} clips can't be used:"
            f" {'; '.join(broken[:SHOWN_BROKEN])}{more}"
        )
    if any(part["stopped"] for part in parts):
        words = "the encoding of clips was told to stop; what is in the cache stays there"
        raise PeerLost(f"in another pod, {words}") if together else UserError(words)
    found = sorted(tuple(each) for part in parts for each in part["samples"])
    samples = [Sample(clip, text, bucket) for _, clip, text, bucket in found]
    kept, heldout = _split(samples, config.heldout)
    return Prepared(
        samples=tuple(kept),
        heldout=tuple(heldout),
        no_text=parts[0]["no_text"],
        data=sha256_of([asdict(sample) for sample in samples]),
        rows=len(clips),
        broken=tuple(broken),
        encoded=sum(part["encoded"] for part in parts),
        seconds=time.monotonic() - began,
        numbers=tuple(number for number, *_ in found),
    )


def train(
    config: EasyAnimateTrainConfig,
    prepared: Prepared,
    cache_dir: Path,
    *,
    out: Path,
    state: Path,
    scratch: Path,
    processes: int = 1,
    place: Place = ALONE,
    cpus: int | None = None,
    digests: Path | None = None,
    log_metrics: Figures = _unheard,
    should_stop: ShouldStop = _never,
) -> TrainResult:
    """Train a LoRA, or go on where an earlier attempt of the same training stopped.

    processes: of this pod, as many as each of the others has. place: which of the pods it is; all come to the same, and
    only rank 0 has checkpoints in `out`.

    log_metrics: takes figures (`loss`, `lr`, `grad_norm`, `step_seconds`, `compute_seconds`, `clips_per_second`,
    `heldout_loss`) and the step while the training goes on. Checkpoints stand in `out` as
    `checkpoint-<step>.safetensors`. A `Stopped` that is raised while it waits reaches the caller after the workers have
    saved.
    """
    began = time.monotonic()
    base = base_model(config.base_model)
    if not prepared.samples:
        raise InputError("dataset_path: no clip is left to train on")
    world = processes * place.nodes
    try:
        each_step = config.clips_a_step(world)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    base_digest = _digest(base / "transformer", digests)
    decisive = {name: value for name, value in config.model_dump(mode="json").items() if name not in NOT_DECISIVE}
    samples = [[asdict(sample) for sample in group] for group in (prepared.samples, prepared.heldout)]
    key = sha256_of([decisive, each_step, config.steps, config.epochs or 1, base_digest, samples])
    kept = state / key[:16]
    job = {
        "config": config.model_dump(mode="json"),
        "prepared": prepared.to_json(),
        "base": str(base),
        "base_digest": base_digest,
        "cache": str(cache_dir.absolute()),
        "state": str((kept / "checkpoints").absolute()),
        "models": str((kept / "models").absolute()),
        "key": key,
    }
    told = run_workers(
        WORKER,
        "train",
        job,
        processes=processes,
        together=True,
        place=place,
        meeting=1,
        cpus=cpus,
        scratch=scratch / "train",
        on_figures=log_metrics,
        should_stop=should_stop,
    )[0]
    if place.nodes > 1 and not told["finished"]:
        raise PeerLost(f"another pod was told to end; the training stopped at step {told['steps']}, its state is kept")
    made = checkpoints_in(kept / "models") if place.rank == 0 else []
    checkpoints = tuple(_link(path, out / path.name) for path in made)
    if place.rank == 0 and told["finished"] and (not checkpoints or step_of(checkpoints[-1]) != told["steps"]):
        raise UserError(f"the training ended at step {told['steps']} without a checkpoint of it")
    return TrainResult(
        path=checkpoints[-1] if checkpoints else out,
        checkpoints=checkpoints,
        seconds=time.monotonic() - began,
        **told,
    )


def heldout_losses(
    config: HeldoutLossConfig,
    prepared: Prepared,
    cache_dir: Path,
    *,
    scratch: Path,
    processes: int = 1,
    cpus: int | None = None,
    log_metrics: Figures = _unheard,
    should_stop: ShouldStop = _never,
) -> list[list[float]]:
    """The loss of each prepared clip at each of the levels, in the order of the clips.

    log_metrics: takes `clips_done`, those that the first process has measured so far. Raises ConfigError, InputError
    for a LoRA that does not fit; UserError when it was told to stop.
    """
    if config.lora_path is not None and not Path(config.lora_path).is_file():
        raise InputError(f"lora_path: there is no file {config.lora_path}")
    processes = max(1, min(processes, len(prepared.samples)))
    told = run_workers(
        WORKER,
        "measure",
        {
            "config": config.model_dump(mode="json"),
            "samples": [asdict(sample) for sample in prepared.samples],
            "cache": str(cache_dir.absolute()),
        },
        processes=processes,
        together=False,
        cpus=cpus,
        scratch=scratch / "measure",
        on_figures=log_metrics,
        should_stop=should_stop,
    )
    if sum(map(len, told)) < len(prepared.samples):
        raise UserError("the measuring of clips was told to stop")
    return [told[place % processes][place // processes] for place in range(len(prepared.samples))]


def infer(
    config: EasyAnimateInferConfig,
    *,
    out: Path,
    state: Path,
    scratch: Path,
    processes: int = 1,
    cpus: int | None = None,
    shard: tuple[int, int] = (0, 1),
    digests: Path | None = None,
    log_metrics: Figures = _unheard,
    should_stop: ShouldStop = _never,
) -> InferResult:
    """Make the videos of all prompts that no earlier attempt has made, in `out`.

    shard: (number, count) where several jobs divide the prompts. log_metrics: takes `videos`, those that the first
    process has made so far. `out/names.json` maps names of files that are not `<prompt>-<i>.mp4` to their prompts.
    """
    began = time.monotonic()
    base = base_model(config.base_model)
    if config.prompt_info_path is not None:
        wanted = read_prompts(Path(config.prompt_info_path))
    else:
        wanted = unique(config.prompts)
    batches = share(batches_of(wanted, config.video_num_per_prompt, config.batch_size), *shard)
    videos = [video for batch in batches for video in batch]
    kept = state / _videos_key(config, wanted, base, digests)
    kept.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in kept.glob("*.mp4")}
    job = {
        "config": config.model_dump(mode="json"),
        "batches": [[asdict(video) for video in batch] for batch in batches],
        "folder": str(kept.absolute()),
    }
    parts: list[Any] = []
    if not all(video_name(video.prompt, video.index) in there for video in videos):
        parts = run_workers(
            WORKER,
            "infer",
            job,
            processes=max(1, min(processes, len(batches))),
            together=False,
            cpus=cpus,
            scratch=scratch / "infer",
            on_figures=log_metrics,
            should_stop=should_stop,
        )
    rows = []
    for video in videos:
        name = video_name(video.prompt, video.index)
        if (kept / name).exists():
            path = _link(kept / name, out / name)
            rows.append({"videos": [str(path)], "text": video.prompt, "index": video.index, "seed": config.seed})
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
        seconds=time.monotonic() - began,
        notes=tuple(notes),
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
        names |= _json(folder / NAMES)
    while any(left):
        for number, (folder, _) in enumerate(pieces):
            batch, left[number] = left[number][:batch_size], left[number][batch_size:]
            for row in batch:
                name = Path(row["videos"][0]).name
                rows.append({**row, "videos": [str(_link(folder / name, out / name))]})
    made = [Path(row["videos"][0]).name for row in rows]
    write_json(out / NAMES, {name: names[name] for name in made if name in names})
    return InferResult(folder=out, rows=tuple(rows), made=len(rows), finished=True, seconds=seconds)


def base_model(named: str) -> Path:
    """The folder of a text-to-video model of EasyAnimate V5.1 in diffusers' layout. Raises ConfigError, InputError."""
    path = Path(named).absolute()
    index = path / "model_index.json"
    if not index.is_file():
        raise InputError(f"base_model: {named} is not a model in diffusers' layout: it has no model_index.json")
    found = _json(index).get("_class_name")
    if found != "EasyAnimatePipeline":
        raise ConfigError(f"base_model: {named} is a {found}, not an EasyAnimatePipeline (text-to-video)")
    missing = [name for name in ("transformer", "vae", "text_encoder", "tokenizer") if not (path / name).is_dir()]
    if missing:
        raise InputError(f"base_model: {named} is not whole: {', '.join(missing)} is missing")
    channels = _json(path / "transformer/config.json").get("in_channels")
    latents = _json(path / "vae/config.json").get("latent_channels")
    if channels != latents:
        raise ConfigError(
            f"base_model: {named} takes {channels} channels where its VAE makes {latents}: it is a model for inpainting"
            " or control; give a text-to-video one"
        )
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"base_model: {path} can't be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _videos_key(config: EasyAnimateInferConfig, wanted: list[str], base: Path, digests: Path | None) -> str:
    """Of everything besides prompt and index that decides a video."""
    without = {"base_model", "lora_path", "prompt_info_path", "prompts", "video_num_per_prompt", "output_video_dir"}
    decisive = config.model_dump(mode="json", exclude=without | {"processes"})
    if config.lora_path is not None and not Path(config.lora_path).is_file():
        raise InputError(f"lora_path: there is no file {config.lora_path}")
    adapter = _digest(Path(config.lora_path).absolute(), digests) if config.lora_path is not None else None
    neighbours = [wanted, config.video_num_per_prompt] if config.batch_size > 1 else None
    return sha256_of([decisive, _digest(base, digests), adapter, neighbours])[:16]


def _split(samples: list[Sample], heldout: int) -> tuple[list[Sample], list[Sample]]:
    """Clips for training and held-out ones; a clip that stands in several rows is on one side with all of them."""
    clips = sorted({sample.clip for sample in samples}, key=lambda clip: sha256_of(["heldout", clip]))
    chosen = set(clips[: min(heldout, int(MOST_HELDOUT * len(clips)))])
    first = {sample.clip: sample for sample in reversed(samples)}
    return [sample for sample in samples if sample.clip not in chosen], [first[clip] for clip in sorted(chosen)]


def _digest(path: Path, memory: Path | None) -> str:
    return digest_of(path, memory=memory).content


def _link(path: Path, target: Path) -> Path:
    """The same file under another name, or a copy where the file systems differ."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        make: Callable[[Path, Path], Any] = os.link
        try:
            make(path, target)
        except OSError:
            shutil.copyfile(path, target)
        sync_folder(target.parent)
    return target
