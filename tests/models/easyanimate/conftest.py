# SPDX-License-Identifier: Apache-2.0
"""A tiny random model, and clips cut from real videos, made in a few seconds. Nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of Hugging Face is imported

import pytest
import torch
from tests.models import forked
from trainings import PIECES, VIDEOS, cut, real_videos, train_config

from sandbox_runtime.easyanimate import Prepared, prepare, tiny
from sandbox_runtime.workers import launch

torch.set_num_threads(1)  # as in one of two processes, and so that two tests' processes don't fight


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


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def prepared(base: Path, rows: list[dict[str, Any]], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """All rows encoded, in worker processes, for `train_config`."""
    return prepare(train_config(base), rows, cache, scratch=tmp_path_factory.mktemp("scratch"), processes=2)


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked: half a minute less for each start."""
    monkeypatch.setattr(launch, "_start", forked.start)
