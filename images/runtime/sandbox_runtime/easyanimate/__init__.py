# SPDX-License-Identifier: Apache-2.0
"""Text-to-video with EasyAnimate V5.1: a LoRA trained on clips of a data set, and videos made with it.

    prepared = prepare(config, rows, cache_dir, scratch=...)     # latents and text embeddings, once
    trained = train(config, prepared, cache_dir, out=..., state=..., scratch=...)
    videos = infer(config, out=..., state=..., scratch=...)
    losses = heldout_losses(config, prepared, cache_dir, scratch=...)

The work is done by worker processes, one a GPU; nothing here imports torch, so a hook that fails in its configuration
fails in a moment.
"""

from .api import heldout_losses, prepare, train
from .results import InferResult, Prepared, TrainResult
from .videos import infer, infer_each, merged_videos

__all__ = [
    "InferResult",
    "Prepared",
    "TrainResult",
    "heldout_losses",
    "infer",
    "infer_each",
    "merged_videos",
    "prepare",
    "train",
]
