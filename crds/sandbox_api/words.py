# SPDX-License-Identifier: Apache-2.0
"""Parts of sentences that help whoever misspelt a name or wrote a value of another kind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from difflib import get_close_matches

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or all of them when they are few."""
    words = list(dict.fromkeys(known))
    close = get_close_matches(word, words, 1, 0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is: {', '.join(words)}" if 0 < len(words) <= 8 else ""


def shown(value: object, longest: int = 60) -> str:
    """A value as it fits into a sentence."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def written_as_text(value: object) -> str:
    """What to write for text that was meant as a number, as `1e-3` is for some readers of YAML, and all in quotes."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return ""
    plain = f"{Decimal(value):f}"
    return f"; it is text here: write {plain if len(plain) <= 24 else 'the number'}, without quotes"
