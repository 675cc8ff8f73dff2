# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a training: what a later attempt goes on from, and what of them is for others. No torch here."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from ..files import sync_folder, sync_tree

RESUMED_FROM = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin")
"""Files that only a training needs which goes on."""
UNFINISHED = ".new-"


def keep(checkpoint: Path, state: Path) -> None:
    """Link a whole checkpoint into the state, by rename; earlier ones go."""
    target = state / checkpoint.name
    if not target.exists():
        state.mkdir(parents=True, exist_ok=True)
        temporary = state / f"{UNFINISHED}{uuid.uuid4().hex[:8]}"
        sync_tree(checkpoint)
        shutil.copytree(checkpoint, temporary, copy_function=os.link)
        temporary.rename(target)
        sync_folder(state)
    for old in _ordered(state)[:-1]:
        shutil.rmtree(old, ignore_errors=True)


def newest(state: Path) -> Path | None:
    return next(reversed(_ordered(state)), None)


def for_others(folder: Path) -> list[Path]:
    """The checkpoints in a training's folder, in order, without what only going on needs."""
    for link in folder.glob("last-checkpoint*"):
        link.unlink()
    found = _ordered(folder)
    for checkpoint in found:
        for pattern in RESUMED_FROM:
            for file in checkpoint.glob(pattern):
                file.unlink()
    return found


def _ordered(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))
