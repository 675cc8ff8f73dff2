# SPDX-License-Identifier: Apache-2.0
"""`sandbox-runtime check` in the vbench image: a video written, read by both of VBench's readers, and scored."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

from . import shims


def check() -> str:
    """What was done, in a sentence; raises what goes wrong."""
    shims.install()
    import cv2
    import numpy as np
    import torch
    import vbench.utils
    from vbench.temporal_flickering import cal_score
    from vbench.utils import load_video

    from .weights import FILES, PACKAGES, is_in_image, lay_out

    absent = {name for name, needs in PACKAGES.items() if not all(is_in_image(each.name) for each in needs)}
    there = [dimension for dimension in FILES if dimension not in absent]
    with tempfile.TemporaryDirectory() as name:
        vbench.utils.CACHE_DIR = str(lay_out(Path(name), Path(name) / "cache", there, static_filter=False))
        for dimension in there:
            importlib.import_module(f"vbench.{dimension}")
        path = str(Path(name) / "stands.mp4")
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 8.0, (64, 64))
        for _ in range(5):
            writer.write(np.full((64, 64, 3), 128, np.uint8))
        writer.release()
        score, frames = cal_score(path), len(load_video(path))
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU (no GPU was found)"
    lacking = f"; without {', '.join(sorted(absent))}" if absent else ""
    return (
        f"scored a video of {frames} frames: temporal_flickering {score:.4f}; {len(there)} dimensions can"
        f" be computed on {where}{lacking}"
    )
