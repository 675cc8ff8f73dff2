# SPDX-License-Identifier: Apache-2.0
"""The first phase of a training: clips to latents, captions to embeddings, once, into the cache.

Each process encodes its own share and knows nothing of the others; `parts_of` and `merge` are the two ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sandbox_api.digest import sha256_of
from sandbox_api.easyanimate import Bucket, EasyAnimateTrainConfig

from . import models
from .cache import Cache
from .clips import BrokenClip, Cut, Probe, choose_cut, probe, read_frames
from .rows import Clip

KEY = 32
"""Characters of a key."""
CHUNK = 1 << 20


@dataclass
class Part:
    """What one process has found."""

    samples: list[tuple[int, str, str, int]] = field(default_factory=list)
    """Row, key of the clip, key of the text, bucket."""
    broken: list[tuple[int, str]] = field(default_factory=list)
    """Row, what is wrong."""
    no_text: str = ""
    encoded: int = 0
    stopped: bool = False


@dataclass(frozen=True)
class Recipe:
    """What besides a clip decides its latents, and besides a caption its embedding."""

    vae: str
    """Digest of its files."""
    text_encoder: str
    precision: str

    def clip_key(self, content: str, cut: Cut, bucket: Bucket) -> str:
        shape = [bucket.frames, bucket.height, bucket.width, cut.first, cut.stride]
        return "clip." + sha256_of([content, shape, self.vae, self.precision])[:KEY]

    def text_key(self, text: str) -> str:
        return "text." + sha256_of([text, self.text_encoder, self.precision])[:KEY]


class Encoder:
    """The VAE and the text encoder. They are loaded when the first of them is needed: often all is there already."""

    def __init__(self, base: Path, precision: str, device: torch.device) -> None:
        self._load: Callable[[], object] = lambda: models.load_encoders(base, precision, device)
        self._pipeline: models.EasyAnimatePipeline | None = None
        self._device = device

    def clip(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """RGB of shape (frames, height, width, 3) to mean and log variance of its latents, one after the other.

        Returns: shape (2 x channels, latent frames, height / 8, width / 8), as the model scales them not yet.
        """
        vae = self._loaded().vae
        pixels = torch.from_numpy(frames).to(self._device).permute(3, 0, 1, 2)[None]
        with torch.no_grad():
            moments = vae.encode((pixels.float() / 127.5 - 1.0).to(vae.dtype)).latent_dist.parameters
        return moments[0].cpu()

    def text(self, text: str) -> torch.Tensor:
        """Hidden states, padding included. Shape (tokens, features)."""
        return models.encode_text(self._loaded(), text, self._device)[0][0].cpu()

    def _loaded(self) -> models.EasyAnimatePipeline:
        if self._pipeline is None:
            self._pipeline = self._load()
        return self._pipeline


def encode_part(
    clips: Sequence[Clip],
    config: EasyAnimateTrainConfig,
    recipe: Recipe,
    encoder: Encoder,
    cache: Cache,
    *,
    most_broken: int,
    should_stop: Callable[[], bool],
) -> Part:
    """Put everything that these clips need into the cache. Stops early when more than `most_broken` are unreadable."""
    part = Part(no_text=recipe.text_key(""))
    new_clips: dict[str, torch.Tensor] = {}
    new_texts: dict[str, torch.Tensor] = {}
    if part.no_text not in cache:
        new_texts[part.no_text] = encoder.text("")
    for clip in clips:
        part.stopped = should_stop()
        if part.stopped or len(part.broken) > most_broken:
            break
        try:
            found, cut = _look(clip, config)
            bucket = config.buckets[cut.bucket]
            clip_key = recipe.clip_key(_digest(clip), cut, bucket)
            if clip_key not in cache and clip_key not in new_clips:
                new_clips[clip_key] = encoder.clip(read_frames(str(clip.path), found, cut, bucket))
                part.encoded += 1
        except BrokenClip as error:
            part.broken.append((clip.row, f"row {clip.row}: {clip.path or 'the row'} {error}"))
            continue
        text_key = recipe.text_key(clip.text)
        if text_key not in cache and text_key not in new_texts:
            new_texts[text_key] = encoder.text(clip.text)
        part.samples.append((clip.row, clip_key, text_key, cut.bucket))
        if max(len(new_clips), len(new_texts)) >= config.shard_clips:
            _flush(cache, new_clips, new_texts)
    _flush(cache, new_clips, new_texts)
    return part


def _flush(cache: Cache, new_clips: dict[str, torch.Tensor], new_texts: dict[str, torch.Tensor]) -> None:
    for kind, new in (("clips", new_clips), ("texts", new_texts)):
        cache.add(kind, new)
        new.clear()


def _look(clip: Clip, config: EasyAnimateTrainConfig) -> tuple[Probe, Cut]:
    if clip.path is None:
        raise BrokenClip("names no video")
    if not Path(clip.path).is_file():
        raise BrokenClip("is not there")
    found = probe(clip.path)
    cut = choose_cut(len(found.times), found.height, found.width, config.buckets, config.frame_stride)
    if cut is None:
        raise BrokenClip(f"is too short for every bucket: {len(found.times)} frames, of which the middle 80 % are used")
    return found, cut


def _digest(clip: Clip) -> str:
    digest = hashlib.sha256()
    try:
        with Path(str(clip.path)).open("rb") as file:
            for chunk in _chunks(file.read):
                digest.update(chunk)
    except PermissionError as error:
        raise BrokenClip(f"can't be read: {error.strerror}") from error
    return digest.hexdigest()


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(CHUNK):
        yield chunk
