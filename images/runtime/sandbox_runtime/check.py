# SPDX-License-Identifier: Apache-2.0
"""`sandbox-runtime check`: whether the image, its GPU and the libraries work together, with nothing on any volume.

Each image with a trainer imports it and trains a tiny random model for a moment; that with VBench scores a video.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec

SAMPLES = {
    "vbench": "sandbox_runtime.vbench.check",
    "diffusers": "sandbox_runtime.easyanimate.check",
    "swift": "sandbox_runtime.swift.check",
    "modelscope": "sandbox_runtime.modelscope.check",
}
"""By a package that the image has: the first one counts, as ms-swift brings ModelScope."""


def check() -> str:
    """What was done, in a sentence; raises what goes wrong."""
    for package, module in SAMPLES.items():
        if find_spec(package) is not None:
            said: str = importlib.import_module(module).check()
            return said
    raise SystemExit("this image has nothing to check; `sandbox-runtime version` says what it has")
