# SPDX-License-Identifier: Apache-2.0
"""Ends of sentences that help whoever misspelt a name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or all of them when they are few."""
    words = list(dict.fromkeys(known))
    close = get_close_matches(word, words, 1, 0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is: {', '.join(words)}" if 0 < len(words) <= 8 else ""
