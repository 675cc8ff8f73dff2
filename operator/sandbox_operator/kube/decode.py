# SPDX-License-Identifier: Apache-2.0
"""JSON as the API server sends it. Somebody may have stored what is nested so deep that the parser refuses the whole
text; that one object must not hide all others of its page."""

from __future__ import annotations

import re
from typing import Any

import orjson

DEEPEST = 500
"""Levels that are read: far more than anybody writes by hand, and half of what the parser takes."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def loads(text: bytes) -> Any:
    """The value. What lies deeper than `DEEPEST` levels is null where the text is too deep for the parser.

    Raises ValueError for what is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if (cut := _cut(text)) == text:
            raise
        return orjson.loads(cut)


def _cut(text: bytes) -> bytes:
    made, start, level = bytearray(), 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in b"[{":
            level += 1
            if level == DEEPEST + 1:
                made += text[start : token.start()] + b"null"
        elif token[0] in b"]}":
            if level == DEEPEST + 1:
                start = token.end()
            level -= 1
    return bytes(made + text[start:])
