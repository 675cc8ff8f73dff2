# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a text a model sees together, and which of them count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Window(NamedTuple):
    """Tokens `begin` to `end` are read (the end not included), and those from `first` on count."""

    begin: int
    end: int
    first: int


def windows(tokens: int, length: int, stride: int) -> Iterator[Window]:
    """The windows of a text: each token but its first counts once, in the first window that has it. stride < length."""
    begin, first = 0, 1
    while first < tokens:
        end = min(begin + length, tokens)
        yield Window(begin, end, first)
        begin, first = begin + stride, end
