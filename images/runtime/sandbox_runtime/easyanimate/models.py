# SPDX-License-Identifier: Apache-2.0
"""The parts of a base model, loaded for what they are needed for: encoding, training, making videos.

Everything comes from a folder on the volume, in diffusers' layout; nothing is looked for in a model hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLMagvit,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from torch.utils.checkpoint import checkpoint

from .loss import NoiseLevels

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class CachedRotaryEmbedding(torch.nn.Module):
    """The model's rotary embedding, which would be computed anew on the CPU at each call: once for each shape."""

    def __init__(self, original: torch.nn.Module) -> None:
        super().__init__()
        self.original = original
        self._known: dict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        key = (hidden_states.shape[2:], hidden_states.device)
        if key not in self._known:
            cosine, sine = self.original(hidden_states)
            self._known[key] = (cosine.to(hidden_states.device), sine.to(hidden_states.device))
        return self._known[key]


def load_transformer(base: Path, precision: str, device: torch.device) -> EasyAnimateTransformer3DModel:
    """The transformer with frozen weights, in that precision."""
    transformer = EasyAnimateTransformer3DModel.from_pretrained(
        base, subfolder="transformer", dtype=DTYPES[precision], local_files_only=True
    )
    transformer.requires_grad_(False)
    transformer.rope_embedding = CachedRotaryEmbedding(transformer.rope_embedding)
    return transformer.to(device)


def load_encoders(base: Path, precision: str, device: torch.device) -> EasyAnimatePipeline:
    """A pipeline whose VAE and text encoder are loaded; its transformer has no weights, only its configuration."""
    config = EasyAnimateTransformer3DModel.load_config(base, subfolder="transformer", local_files_only=True)
    with torch.device("meta"):
        shell = EasyAnimateTransformer3DModel.from_config(config)
    pipeline = EasyAnimatePipeline.from_pretrained(
        base, transformer=shell, dtype=DTYPES[precision], local_files_only=True
    )
    for part in (pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False).eval().to(device)
    return pipeline


def load_pipeline(base: Path, precision: str, device: torch.device) -> EasyAnimatePipeline:
    """The whole pipeline, ready to make videos."""
    pipeline = EasyAnimatePipeline.from_pretrained(base, dtype=DTYPES[precision], local_files_only=True)
    pipeline.transformer.rope_embedding = CachedRotaryEmbedding(pipeline.transformer.rope_embedding)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def noise_levels(base: Path) -> NoiseLevels:
    """Those of the model's own scheduler."""
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(base, subfolder="scheduler", local_files_only=True)
    return NoiseLevels(scheduler.sigmas.float(), scheduler.timesteps.float())


def encode_text(pipeline: EasyAnimatePipeline, text: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of one text with its padding, which the model attends to, and its mask.

    Returns: shapes (1, tokens, features) and (1, tokens).
    """
    with torch.no_grad():
        states, _, mask, _ = pipeline.encode_prompt(
            prompt=text, device=device, dtype=pipeline.text_encoder.dtype, do_classifier_free_guidance=False
        )
    return states, mask


def save_memory(transformer: EasyAnimateTransformer3DModel, which: str) -> None:
    """Compute blocks twice instead of keeping what is inside of them: `every_block`, `every_other_block`, `off`."""
    if which == "off":
        return
    transformer.enable_gradient_checkpointing()
    blocks = list(transformer.transformer_blocks)
    twice = set(map(id, blocks[:: 2 if which == "every_other_block" else 1]))

    def run(block: torch.nn.Module, *inputs: Any) -> Any:
        if id(block) not in twice:
            return block(*inputs)
        # dropout is 0 in this model, so no state of a generator has to be kept
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)

    transformer._gradient_checkpointing_func = run


def latent_scale(base: Path) -> float:
    """What latents are multiplied by between the VAE and the transformer."""
    return float(AutoencoderKLMagvit.load_config(base, subfolder="vae", local_files_only=True)["scaling_factor"])
