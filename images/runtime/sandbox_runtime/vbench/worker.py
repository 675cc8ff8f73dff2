# SPDX-License-Identifier: Apache-2.0
"""What a worker process does: `python -m sandbox_runtime.vbench.worker FOLDER` (see `workers.desk`)."""

from __future__ import annotations

from ..workers.desk import work
from . import shims

SMALLER = "score fewer dimensions at a time (processes), or on a GPU with more memory"


def main() -> None:
    shims.install()
    from .scoring import score

    work({"score": score}, SMALLER)


if __name__ == "__main__":
    main()
