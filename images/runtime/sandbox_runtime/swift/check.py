# SPDX-License-Identifier: Apache-2.0
"""`sandbox-runtime check` in the swift image: a tiny Qwen2, a LoRA of it and the whole of it, trained for a second."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, get_args

from sandbox_api.swift import SwiftTrainConfig

from ..workers.desk import Desk
from . import tiny
from .worker import train

TALK = [{"role": "user", "content": "say it"}, {"role": "assistant", "content": "it"}]
STEPS = 2


def check() -> str:
    """What was done, in a sentence; raises what goes wrong."""
    import torch

    told = []
    with tempfile.TemporaryDirectory() as name:
        model = tiny.save_qwen2(Path(name) / "model")
        data = Path(name) / "rows.jsonl"
        data.write_text((json.dumps({"messages": TALK}) + "\n") * 4)
        for tuner in get_args(SwiftTrainConfig.model_fields["tuner_type"].annotation):
            folder = Path(name) / tuner
            folder.mkdir()
            done = train(_job(tuner, model, data, folder), Desk(folder))
            told.append(f"{tuner} loss {done['figures']['loss']:.3f}")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU (no GPU was found)"
    return f"trained a tiny Qwen2 for {STEPS} steps on {where}: {', '.join(told)}"


def _job(tuner: str, model: Path, data: Path, folder: Path) -> dict[str, Any]:
    config = {
        "model": str(model),
        "model_type": "qwen2",
        "template": "qwen",
        "torch_dtype": "float32",
        "dataset": str(data),
        "tuner_type": tuner,
        "max_steps": STEPS,
        "gradient_accumulation_steps": 1,
        "dataloader_num_workers": 0,
    }
    places = {name: str(folder / name) for name in ("out", "state", "scratch")}
    return {"config": config, "model": str(model), "dataset": [str(data)], "val_dataset": [], **places}
