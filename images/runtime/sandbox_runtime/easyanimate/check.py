# SPDX-License-Identifier: Apache-2.0
"""`sandbox-runtime check` in the easyanimate image: a tiny model trained for two steps and asked for a video.

It says whether the image, its GPU and the libraries work together, in half a minute, with nothing on any volume.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sandbox_api.easyanimate import Bucket, EasyAnimateInferConfig, EasyAnimateTrainConfig

from . import infer, prepare, tiny, train
from .video import write_video

CLIPS = 4


def check(processes: int | None = None) -> str:
    """What was done, in a sentence; raises what goes wrong. processes: by default one a GPU."""
    import torch

    gpus = torch.cuda.device_count()
    count = processes or max(1, gpus)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = tiny.save_model(folder / "model")
        rows = []
        for number in range(CLIPS):
            path = folder / f"{number}.mp4"
            write_video(path, tiny.moving_square(number), 24)
            rows.append({"videos": [str(path)], "text": f"square {number} moves"})
        config = EasyAnimateTrainConfig(
            base_model=str(base),
            buckets=(Bucket(frames=9, height=32, width=32),),
            rank=4,
            steps=2,
            batch_size=count,
        )
        places = {"scratch": folder / "scratch", "processes": count}
        prepared = prepare(config, rows, folder / "cache", **places)
        trained = train(config, prepared, folder / "cache", out=folder / "lora", state=folder / "state", **places)
        videos = infer(
            EasyAnimateInferConfig(
                base_model=str(base),
                lora_path=str(trained.path),
                prompts=("a square moves",),
                video_num_per_prompt=count,
                frames=9,
                height=32,
                width=32,
                num_inference_steps=2,
            ),
            out=folder / "videos",
            state=folder / "state",
            **places,
        )
    where = f"{count} GPUs" if gpus else f"{count} CPU processes (no GPU was found)"
    return f"trained {trained.steps} steps and made {videos.made} videos on {where}: loss {trained.loss:.4f}"
