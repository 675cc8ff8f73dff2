# SPDX-License-Identifier: Apache-2.0
"""What hooks call: prepare, train, measure; `videos` has what makes videos. Checks come first, then worker processes,
then results put in place.

Folders: `cache` outlives jobs and is shared; `state` is what a later attempt goes on from; `out` is this attempt's own;
`scratch` goes when the job ends. `state` and `out` should lie on one volume: files are linked, not copied.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox_api.digest import sha256_of
from sandbox_api.easyanimate import EasyAnimateTrainConfig
from sandbox_api.heldout import HeldoutLossConfig

from ..errors import ConfigError, InputError, PeerLost, UserError
from ..place import ALONE, Place
from ..workers.launch import Figures, ShouldStop, Total, run_workers
from .disk import WORKER, base_model, digest, link, never, unheard
from .names import checkpoints_in, step_of
from .results import Prepared, Sample, TrainResult
from .rows import clips_of

SHOWN_BROKEN = 3
MOST_HELDOUT = 0.1
"""Share of the clips that are held out at most."""
NOT_DECISIVE = {
    "base_model", "dataset_path", "video_root", "output_dir", "processes", "checkpoint_every", "heldout_every",
    "broken_limit", "shard_clips", "heldout", "steps", "epochs", "batch_size", "gradient_accumulation_steps",
}  # fmt: skip
"""Settings of a training that don't decide its result, or that are looked at in another form."""


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
    should_stop: ShouldStop = never,
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
            "vae": digest(base / "vae", digests),
            "text_encoder": sha256_of([digest(base / name, digests) for name in ("text_encoder", "tokenizer")]),
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
        on_figures=unheard,
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
    log_metrics: Figures = unheard,
    on_total: Total = lambda _: None,
    should_stop: ShouldStop = never,
) -> TrainResult:
    """Train a LoRA, or go on where an earlier attempt of the same training stopped.

    processes: of this pod, as many as each of the others has. place: which of the pods it is; all come to the same, and
    only rank 0 has checkpoints in `out`.

    log_metrics: takes figures (`loss`, `lr`, `grad_norm`, `step_seconds`, `compute_seconds`, `clips_per_second`,
    `heldout_loss`) and the step while the training goes on; on_total the steps in all, before them. Checkpoints stand
    in `out` as `checkpoint-<step>.safetensors`. A `Stopped` that is raised while it waits reaches the
    caller after the workers have saved.
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
    base_digest = digest(base / "transformer", digests)
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
        on_total=on_total,
        should_stop=should_stop,
    )[0]
    if place.nodes > 1 and not told["finished"]:
        raise PeerLost(f"another pod was told to end; the training stopped at step {told['steps']}, its state is kept")
    made = checkpoints_in(kept / "models") if place.rank == 0 else []
    checkpoints = tuple(link(path, out / path.name) for path in made)
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
    log_metrics: Figures = unheard,
    should_stop: ShouldStop = never,
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


def _split(samples: list[Sample], heldout: int) -> tuple[list[Sample], list[Sample]]:
    """Clips for training and held-out ones; a clip that stands in several rows is on one side with all of them."""
    clips = sorted({sample.clip for sample in samples}, key=lambda clip: sha256_of(["heldout", clip]))
    chosen = set(clips[: min(heldout, int(MOST_HELDOUT * len(clips)))])
    first = {sample.clip: sample for sample in reversed(samples)}
    return [sample for sample in samples if sample.clip not in chosen], [first[clip] for clip in sorted(chosen)]
