# SPDX-License-Identifier: Apache-2.0
"""What stands in a termination message while a hook that uses much memory runs, and stays if all of its pod is killed.

On its own, because the process that writes it imports no models.
"""

from __future__ import annotations

import re


def peak_text(peak: int, limit: int) -> str:
    """The sample in words; figures in bytes."""
    return f"last sampled memory peak: {peak / 2**20:,.0f} MiB of the limit {limit / 2**20:,.0f} MiB"


def is_peak_text(text: str) -> bool:
    """Whether a termination message is only a sample: the program was killed before it could say more."""
    return re.fullmatch(r"last sampled memory peak: [0-9,]+ MiB of the limit [0-9,]+ MiB", text.strip()) is not None
