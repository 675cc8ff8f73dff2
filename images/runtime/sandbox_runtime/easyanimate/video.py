# SPDX-License-Identifier: Apache-2.0
"""mp4 files: how they are written, and what they are called.

The names are VBench's: `<prompt>-<i>.mp4`. A prompt that no file can be named after gets another name, and
`names.json` says which; whoever looks for a prompt's videos looks there first.
"""

from __future__ import annotations

import hashlib
import io
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ..files import write_atomic

NAMES = "names.json"
LONGEST_NAME = 240
"""Bytes; file systems have 255, and a file that is being written has a longer name for a while."""
SHORTENED = re.compile(r"~[0-9a-f]{16}$")
UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]|^[.\s]|\s$")


def video_name(prompt: str, index: int) -> str:
    """The file of a prompt's video; see `is_plain` for prompts that are named otherwise."""
    if is_plain(prompt):
        return f"{prompt}-{index}.mp4"
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    words = "-".join(re.findall(r"[A-Za-z0-9]+", prompt))[:80]
    return f"{words}~{digest}-{index}.mp4"


def is_plain(prompt: str) -> bool:
    """Whether a file can be named after a prompt as it is."""
    if UNSAFE.search(prompt) or SHORTENED.search(prompt) or not prompt.isprintable():
        return False
    try:
        return len(f"{prompt}-000.mp4".encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def write_video(path: Path, frames: NDArray[np.uint8], fps: int) -> None:
    """Write H.264 in mp4, whole or not at all. The same frames give the same bytes, however many cores there are.

    frames: RGB, shape (frames, height, width, 3), sides even.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "medium", "threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    write_atomic(path, buffer.getvalue())
