# SPDX-License-Identifier: Apache-2.0
"""A tiny random text-to-video model in diffusers' layout, made in a second, for tests and for checking an image.

The same classes and the same code as with real weights; 190 thousand parameters, 0.8 MB. Its videos are noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKLMagvit,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def save_model(folder: Path, seed: int = 0, layers: int = 2, heads: int = 2, head_size: int = 16) -> Path:
    """Write the model; equal seeds give equal weights. The folder is what `base_model` names.

    layers, heads, head_size: of the transformer, which alone they make larger.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline(layers, heads, head_size).save_pretrained(folder)
    return folder


def pipeline(layers: int = 2, heads: int = 2, head_size: int = 16) -> EasyAnimatePipeline:
    letters = {letter: place + 1 for place, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(vocab={"<|endoftext|>": 0, **letters}, merges=[], model_max_length=256)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    text_encoder = Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config={
                "vocab_size": 320,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 512,
                "bos_token_id": 0,
                "eos_token_id": 0,
                "pad_token_id": 0,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
            },
            vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
            image_token_id=300,
            video_token_id=301,
            vision_start_token_id=302,
            vision_end_token_id=303,
        )
    )
    vae = AutoencoderKLMagvit(  # the compression follows from the number of blocks: keep four
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    )
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=heads,
        attention_head_dim=head_size,
        in_channels=4,
        out_channels=4,
        patch_size=2,
        sample_width=16,
        sample_height=16,
        num_layers=layers,
        mmdit_layers=layers,
        time_embed_dim=8,
        text_embed_dim=32,
    )
    return EasyAnimatePipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def moving_square(number: int, frames: int = 24, size: int = 48) -> NDArray[np.uint8]:
    """A clip in which a square of some colour moves; RGB of shape (frames, size, size, 3)."""
    clip = np.full((frames, size, size, 3), 30 * number % 200, np.uint8)
    for frame in range(frames):
        left, top = (frame * (1 + number % 3)) % (size - 12), (5 * number) % (size - 12)
        clip[frame, top : top + 12, left : left + 12] = [(80 * number) % 256, 255 - (50 * number) % 256, 128]
    return clip
