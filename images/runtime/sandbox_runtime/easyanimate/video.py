# SPDX-License-Identifier: Apache-2.0
"""Writing mp4 files by PyAV."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ..files import write_atomic

OPTIONS = {"crf": "18", "preset": "medium", "mbtree": "0", "threads": "1"}
"""One thread: with more of them the bytes would depend on how many there are. No macroblock tree: with it x264 (version
165, its SIMD code, frames of 48 and 96 pixels) gives other bytes from process to process, and now and then in one."""


def write_video(path: Path, frames: NDArray[np.uint8], fps: int) -> None:
    """Write H.264 in mp4, whole or not at all. The same frames give the same bytes.

    frames: RGB, shape (frames, height, width, 3), sides even.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=dict(OPTIONS))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    write_atomic(path, buffer.getvalue())
