# SPDX-License-Identifier: Apache-2.0
"""Latents and text embeddings on the volume: tensors by the digest of what they come from, many in one file.

Any number of processes and jobs may write at a time: each file is written whole under a name made of its keys, and a
key that stands in two files has the same content in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sandbox_api.digest import sha256_of

from ..errors import InfraError
from ..files import write_atomic

OPEN_FILES = 64
LONGEST_HEADER = 100 << 20


class Cache:
    """Tensors by key. What other processes have added since is seen after `refresh`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Path] = {}
        self._files: dict[Path, list[str]] = {}
        self._open = lru_cache(maxsize=OPEN_FILES)(lambda path: safe_open(path, framework="pt"))
        self.refresh()

    def refresh(self) -> None:
        """Look for new files. One that can't be read is left out, so that what it held is made again."""
        for path in sorted(self._folder.glob("*/*.safetensors")):
            if path in self._files:
                continue
            try:
                self._files[path] = keys_of(path)
            except (OSError, ValueError) as error:
                print(f"{path} of the cache can't be read and is made again: {error}", flush=True)
                continue
            self._known |= dict.fromkeys(self._files[path], path)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, kind: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write tensors as one file, durable. Nothing to write is no file."""
        if not tensors:
            return
        name = sha256_of(sorted(tensors))[:32]
        path = self._folder / kind / f"{name}.safetensors"
        write_atomic(path, save({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}))
        self._files[path] = list(tensors)
        self._known |= dict.fromkeys(tensors, path)

    def read(self, key: str) -> torch.Tensor:
        """A tensor, on the CPU. Raises InfraError when it is gone."""
        path = self._known.get(key)
        try:
            if path is None:
                raise KeyError(key)
            return self._open(path).get_tensor(key)
        except (OSError, KeyError, SafetensorError) as error:
            raise InfraError(f"the cache of latents has lost {key} ({path}): {error}; run the job again") from error


def keys_of(path: Path) -> list[str]:
    """The names in a safetensors file, from its header alone. Raises OSError, ValueError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, LONGEST_HEADER):
            raise ValueError("its header is torn")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    ends = [entry["data_offsets"][1] for entry in header.values()]
    if max(ends, default=0) != size - 8 - length:
        raise ValueError("it has not the size that its header tells")
    return list(header)
