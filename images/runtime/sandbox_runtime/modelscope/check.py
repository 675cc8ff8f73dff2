# SPDX-License-Identifier: Apache-2.0
"""`sandbox-runtime check` in the modelscope image: a tiny BERT and a tiny GPT-2, trained for a second."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ..workers.desk import Desk
from . import tiny
from .worker import train

ROWS = [
    {"text": text, "label": label} for text, label in (("good", "yes"), ("bad", "no"), ("fine", "yes"), ("sad", "no"))
]
MODELS = {"text-classification": tiny.save_bert, "text-generation": tiny.save_gpt2}


def check() -> str:
    """What was done, in a sentence; raises what goes wrong."""
    import modelscope.pipelines
    import torch

    assert modelscope.pipelines
    told = []
    with tempfile.TemporaryDirectory() as name:
        for task, save in MODELS.items():
            folder = Path(name) / task
            model = save(folder / "model")
            data = folder / "rows.jsonl"
            data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
            done = train(_job(task, model, data, folder), Desk(folder))
            told.append(f"{task} loss {done['figures']['loss']:.3f}")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU (no GPU was found)"
    return f"trained a tiny BERT and a tiny GPT-2 on {where}: {', '.join(told)}"


def _job(task: str, model: Path, data: Path, folder: Path) -> dict[str, Any]:
    settings = {"dataloader": {"batch_size_per_gpu": 2}, "max_epochs": 1}
    return {
        "config": {"model_name": str(model), "train_dataset": str(data), "task": task, "train": settings},
        "model": str(model),
        "train_dataset": str(data),
        "eval_dataset": None,
        **{name: str(folder / name) for name in ("work_dir", "state", "scratch")},
    }
