# SPDX-License-Identifier: Apache-2.0
"""Measures the text-to-video hooks on this machine, prints a table and writes it as JSON. `make bench-models`.

What is measured: steps of a LoRA training as a job runs them, from a cache; writing and reading that cache; writing
videos. The model has EasyAnimate V5.1's own classes, 51 million parameters and random weights; `--base` takes another
one, with `--frames`, `--height` and `--width` a real one on a GPU. Nothing is downloaded, nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of Hugging Face is imported

import av
import numpy as np
import torch
from diffusers import AutoencoderKLMagvit, EasyAnimateTransformer3DModel
from numpy.typing import NDArray
from tests.models.easyanimate.trainings import real_videos
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sandbox_api.easyanimate import Bucket, EasyAnimateTrainConfig
from sandbox_runtime.easyanimate import lora, tiny
from sandbox_runtime.easyanimate.cache import Cache
from sandbox_runtime.easyanimate.loop import Run, Training
from sandbox_runtime.easyanimate.loss import Batch, clip_losses
from sandbox_runtime.easyanimate.parallel import World, own_device
from sandbox_runtime.easyanimate.results import Prepared, Sample
from sandbox_runtime.easyanimate.video import write_video

REPOSITORY = Path(__file__).resolve().parents[2]
LAYERS, HEADS, HEAD_SIZE = 8, 8, 64
"""Of the transformer that is made here: 50.9 million parameters."""
TEXT_TOKENS = 256
"""As EasyAnimate V5.1 pads its captions."""
WARM_UP = 3
"""Steps that don't count: memory is taken, kernels are chosen."""
REAL_CLIP, REAL_TEXT = (32, 13, 64, 64), (TEXT_TOKENS, 3584)
"""Shapes of what the cache holds of a clip of 49 frames of 512 x 512, and of its caption, for EasyAnimate V5.1."""
SHARD = 128
"""Clips in one file of the cache, as `shard_clips` has it by default."""
VIDEO = (49, 512, 512)
"""Frames, height and width of InferModelHook's videos by default."""

Figures = dict[str, float]


def steps(base: Path, folder: Path, bucket: Bucket, batch_size: int, count: int) -> Figures:
    """Train for `count` steps after the warm-up, on latents and embeddings of random numbers: their content is no matter.

    The share outside of forward and backward is of all the time from step to step: waiting for clips, the optimizer,
    figures. Held-out losses and checkpoints, every 500 steps by default, are not in it.
    """
    device = own_device()
    config = EasyAnimateTrainConfig(
        base_model=str(base),
        buckets=(bucket,),
        steps=WARM_UP + count,
        batch_size_per_gpu=batch_size,
        precision="bf16" if device.type == "cuda" else "fp32",
        checkpoint_every=WARM_UP + count,
    )
    prepared = a_cache(base, folder / "cache", bucket, clips=4 * batch_size)
    run = Run(config, prepared, base, "-", folder / "cache", folder / "state", folder / "models", "bench")
    training = Training(run, World(0, 1, device))
    seen: dict[int, dict[str, float]] = {}

    def log(figures: Mapping[str, float], step: int) -> None:
        seen[step] = {**figures, "time": time.monotonic()}

    training.train(log, lambda: False)
    whole = seen[WARM_UP + count]["time"] - seen[WARM_UP]["time"]
    compute = sum(seen[step]["compute_seconds"] for step in range(WARM_UP + 1, WARM_UP + count + 1))
    flops = flops_of_a_step(config, bucket, batch_size)
    product = product_flops_per_second(device, config.precision)
    return {
        "parameters": sum(map(torch.numel, training.transformer.parameters())),
        "parameters trained": sum(map(torch.numel, training.parameters.values())),
        "clips a step": batch_size,
        "steps": count,
        "seconds a step": whole / count,
        "clips a second": count * batch_size / whole,
        "share outside forward and backward": 1 - compute / whole,
        "FLOPs a step": flops,
        "FLOPs a second": flops * count / whole,
        "FLOPs a second of a matrix product": product,
        "share of it": flops * count / whole / product,
    }


def a_cache(base: Path, folder: Path, bucket: Bucket, clips: int) -> Prepared:
    """A data set that stands in the cache already, of the shapes that this base model makes of such clips."""
    latents, text = shapes(base, bucket)
    names = [f"clip.{number}" for number in range(clips)]
    cache = Cache(folder)
    cache.add("clips", {name: torch.randn(2 * latents[0], *latents[1:]) for name in names})
    cache.add("texts", {"text.0": torch.randn(text)})
    samples = tuple(Sample(name, "text.0", 0) for name in names)
    return Prepared(samples, (), no_text="text.0", data="-", rows=clips, broken=(), encoded=clips, seconds=0.0)


def shapes(base: Path, bucket: Bucket) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Of a clip's latents (channels, frames, height, width), and of a caption's embedding (tokens, features)."""
    channels = AutoencoderKLMagvit.load_config(base, subfolder="vae", local_files_only=True)["latent_channels"]
    features = EasyAnimateTransformer3DModel.load_config(base, subfolder="transformer", local_files_only=True)
    latents = (channels, (bucket.frames - 1) // 4 + 1, bucket.height // 8, bucket.width // 8)
    return latents, (TEXT_TOKENS, features["text_embed_dim"])


def flops_of_a_step(config: EasyAnimateTrainConfig, bucket: Bucket, clips: int) -> int:
    """Additions and multiplications that the model asks for in one step: forward, and backward where it is needed for a
    LoRA. What is computed twice to save memory counts once, as model FLOP utilisation wants it.

    They are counted on tensors without content, so in seconds for any size.
    """
    base = Path(config.base_model)
    latents, text = shapes(base, bucket)
    with torch.device("meta"):
        settings = EasyAnimateTransformer3DModel.load_config(base, subfolder="transformer", local_files_only=True)
        transformer = EasyAnimateTransformer3DModel.from_config(settings)
        lora.inject(transformer, config.rank, config.alpha, config.targets, config.seed)
        batch = Batch(
            torch.empty(clips, *latents),
            torch.empty(clips, *latents),
            torch.empty(clips, *text),
            torch.empty(clips),
            torch.empty(clips),
        )
    # attention by plain products: the counter knows them on every device
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        clip_losses(transformer, batch, torch.float32).sum().backward()
    return counter.get_total_flops()


def product_flops_per_second(device: torch.device, precision: str, size: int = 2048, times: int = 8) -> float:
    """What a product of two square matrices reaches here: what a step could be at best."""
    world = World(0, 1, device)
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = 0.0
    for _ in range(times):
        world.finish()
        began = time.monotonic()
        one @ one
        world.finish()
        best = max(best, 2 * size**3 / (time.monotonic() - began))
    return best


def cache_speed(folder: Path, files: int) -> Figures:
    """Write and read back files of latents and embeddings of real sizes; written means durable (fsync)."""
    cache, written, writing = Cache(folder), 0, 0.0
    names = []
    for file in range(files):
        for kind, shape in (("clips", REAL_CLIP), ("texts", REAL_TEXT)):
            tensors = {f"{kind}.{file}.{n}": torch.randn(shape, dtype=torch.bfloat16) for n in range(SHARD)}
            began = time.monotonic()
            cache.add(kind, tensors)
            writing += time.monotonic() - began
            written += sum(tensor.nbytes for tensor in tensors.values())
            names += tensors
    began = time.monotonic()
    read = sum(cache.read(name).clone().nbytes for name in names)
    reading = time.monotonic() - began
    return {
        "bytes of a clip with its caption": written / files / SHARD,
        "bytes": float(written),
        "MB a second written": written / writing / 1e6,
        "clips a second written": files * SHARD / writing,
        "MB a second read": read / reading / 1e6,
    }


def encoding_speed(folder: Path, videos: int) -> Figures:
    """Write mp4 files as InferModelHook does, of frames of a real video: one core, as each process has one at work."""
    frames = real_frames(*VIDEO)
    began = time.monotonic()
    for number in range(videos):
        write_video(folder / f"{number}.mp4", frames, fps=8)
    seconds = time.monotonic() - began
    return {
        "frames a second": videos * len(frames) / seconds,
        "MB a second of frames": videos * frames.nbytes / seconds / 1e6,
        "MB a second of files": sum(path.stat().st_size for path in folder.glob("*.mp4")) / seconds / 1e6,
    }


def real_frames(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """RGB of shape (count, height, width, 3)."""
    with av.open(str(real_videos() / "bikes.mp4")) as container:
        decoded = zip(range(count), container.decode(video=0), strict=False)
        return np.stack([frame.to_ndarray(format="rgb24", width=width, height=height) for _, frame in decoded])


def machine() -> dict[str, Any]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load before": os.getloadavg()[0],
    }


def table(result: Mapping[str, Any]) -> str:
    rows = [
        (part, name, spelt(value)) for part in ("training", "cache", "video") for name, value in result[part].items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)


def spelt(value: float) -> str:
    """Three figures that count."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.models", description=__doc__)
    parser.add_argument("--base", type=Path, help="a model in diffusers' layout, instead of the one that is made")
    parser.add_argument("--frames", type=int, default=9, help="of a clip")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=2, help="clips a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build/bench-models/result.json")
    options = parser.parse_args()
    found = machine()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.output.parent) as name:
        folder = Path(name)
        base = options.base or tiny.save_model(folder / "model", layers=LAYERS, heads=HEADS, head_size=HEAD_SIZE)
        bucket = Bucket(frames=options.frames, height=options.height, width=options.width)
        result = {
            "machine": found,
            "bucket": bucket.model_dump(),
            "training": said("training", steps(base, folder, bucket, options.batch_size, options.steps)),
            "cache": said("cache", cache_speed(folder / "latents", files=2)),
            "video": said("video", encoding_speed(folder, videos=4)),
        }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    print(f"\nwritten to {options.output}")


def said(what: str, figures: Figures) -> Figures:
    print(f"{datetime.now():%H:%M:%S} {what} is measured", file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    main()
