# SPDX-License-Identifier: Apache-2.0
"""What files are called: checkpoints `checkpoint-<step>.safetensors`; videos `<prompt>-<i>.mp4`, as VBench looks for
them.

A prompt that no file can be named after gets another name, and `names.json` says which; whoever looks for a prompt's
videos looks there first.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

NAMES = "names.json"
LONGEST_NAME = 240
"""Bytes; file systems have 255."""
SHORTENED = re.compile(r"~[0-9a-f]{16}$")
UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]|^[.\s]|\s$")


def checkpoint_name(step: int) -> str:
    return f"checkpoint-{step}.safetensors"


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.rpartition("-")[2])


def checkpoints_in(folder: Path) -> list[Path]:
    """The newest one last."""
    return sorted(folder.glob("checkpoint-*.safetensors"), key=step_of)


def video_name(prompt: str, index: int) -> str:
    """The file of a prompt's video. No two videos have the same."""
    if is_plain(prompt):
        return f"{prompt}-{index}.mp4"
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    words = "-".join(re.findall(r"[A-Za-z0-9]+", prompt))[:80]
    return f"{words}~{digest}-{index}.mp4"


def is_plain(prompt: str) -> bool:
    """Whether files can be named after a prompt as it is."""
    if UNSAFE.search(prompt) or SHORTENED.search(prompt) or not prompt.isprintable():
        return False
    try:
        return len(f"{prompt}-000000.mp4".encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False
