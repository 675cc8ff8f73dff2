# SPDX-License-Identifier: Apache-2.0
"""From texts to counts of hashed words, as Spark's Tokenizer and HashingTF make them, for many texts at once.

Nothing here loops over words in Python: the texts of a batch are one array of bytes, and each step is done for all of
its words together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Tail = Literal["standard", "bytewise"]
"""How the last one to three bytes of a word are mixed in: as MurmurHash3 has it (Spark 3 and newer), or one by one,
each with its sign (Spark 2)."""

Integers = NDArray[np.int64]

SPACE = b" \t\n\x0b\f\r"
"""What Java's regular expressions mean by white space: these bytes of ASCII and nothing else."""
SEED = 42
FEW = 8
"""Words so long and so few that steps of an array cost more than the plain loop."""
C1, C2 = 0xCC9E2D51, 0x1B873593


@dataclass(frozen=True, eq=False)
class Words:
    """The words of several texts: places in one array of bytes, in order."""

    blob: NDArray[np.uint8]
    """Ends with four bytes that belong to no word."""
    starts: Integers
    """(words,)"""
    lengths: Integers
    """(words,): bytes"""
    texts: Integers
    """(words,): which text each belongs to, not falling."""


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each place of the vector occurs in each text: what is not zero, by text, then by place."""

    texts: Integers
    places: Integers
    counts: Integers
    words: int
    """In all texts together."""


def words_of(texts: Sequence[str]) -> Words:
    """Words as Spark's Tokenizer cuts them: lower case, parted at each single white space of ASCII.

    As Java's `split` does, empty words stay at the beginning and inside and go at the end, and an empty text is one
    empty word. Half of a character pair becomes a question mark.
    """
    encoded = [text.lower().encode(errors="replace") for text in texts]
    stripped = [one.rstrip(SPACE) for one in encoded]
    kept = [place for place, one in enumerate(stripped) if one or not encoded[place]]
    blob = np.frombuffer(b"\n".join([*(stripped[place] for place in kept), b"\0\0\0"]), np.uint8)
    sizes = np.fromiter((len(stripped[place]) for place in kept), np.int64, len(kept))
    last = np.cumsum(sizes + 1) - 1  # where each text ends, at a line's end of its own
    ends = np.flatnonzero((blob == 32) | ((blob >= 9) & (blob <= 13)))
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    through = np.searchsorted(ends, last) + 1
    numbers = np.repeat(np.array(kept, np.int64), np.diff(through, prepend=0))
    return Words(blob, starts, ends - starts, numbers)


def pieces_as_words(pieces: Sequence[Sequence[str]]) -> Words:
    """Words that a tokenizer has cut already, each as it is."""
    encoded = [piece.encode(errors="replace") for text in pieces for piece in text]
    blob = np.frombuffer(b"".join([*encoded, b"\0\0\0\0"]), np.uint8)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    numbers = np.repeat(np.arange(len(pieces)), [len(text) for text in pieces])
    return Words(blob, np.cumsum(lengths) - lengths, lengths, numbers)


def counted(words: Words, features: int, tail: Tail) -> Counts:
    """What Spark's HashingTF makes of words. features: length of the vector."""
    places = np.mod(murmur3(words, tail).view(np.int32).astype(np.int64), features)
    keys = np.sort(words.texts * features + places)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    texts, found = np.divmod(keys[first], features)
    return Counts(texts, found, np.diff(first, append=len(keys)), len(keys))


def murmur3(words: Words, tail: Tail) -> NDArray[np.uint32]:
    """(words,): MurmurHash3 of 32 bits of each word's bytes, with Spark's seed."""
    blob, starts = words.blob, words.starts
    blocks = words.lengths >> 2
    four: Any = np.ndarray((len(blob) - 3,), "<u4", blob, strides=(1,))  # at any place the four bytes from there
    hashes = np.full(len(starts), SEED, np.uint32)
    active, done = np.flatnonzero(blocks), 0
    while len(active) > FEW:
        hashes[active] = _mixed(hashes[active], four[starts[active] + 4 * done])
        done += 1
        active = active[blocks[active] > done]
    for word in active.tolist():
        hashes[word] = _mixed_alone(
            int(hashes[word]), four[starts[word] + 4 * done : starts[word] + 4 * blocks[word] : 4]
        )
    rest, ends = words.lengths & 3, starts + 4 * blocks
    if tail == "standard":
        masks = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF], np.uint32)
        hashes ^= _scrambled(four[ends] & masks[rest])
    else:
        for number in range(3):
            some = np.flatnonzero(rest > number)
            hashes[some] = _mixed(
                hashes[some], blob[ends[some] + number].view(np.int8).astype(np.int32).view(np.uint32)
            )
    return _avalanched(hashes ^ words.lengths.astype(np.uint32))


def _scrambled(block: NDArray[np.uint32]) -> NDArray[np.uint32]:
    block = block * np.uint32(C1)
    block = (block << np.uint32(15)) | (block >> np.uint32(17))
    return block * np.uint32(C2)


def _mixed(hashes: NDArray[np.uint32], block: NDArray[np.uint32]) -> NDArray[np.uint32]:
    hashes = hashes ^ _scrambled(block)
    hashes = (hashes << np.uint32(13)) | (hashes >> np.uint32(19))
    return hashes * np.uint32(5) + np.uint32(0xE6546B64)


def _avalanched(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return hashes ^ (hashes >> np.uint32(16))


def _mixed_alone(value: int, blocks: NDArray[np.uint32]) -> int:
    """All blocks of one word."""
    for block in _scrambled(blocks).tolist():
        value ^= block
        value = ((value << 13) | (value >> 19)) & 0xFFFFFFFF
        value = (value * 5 + 0xE6546B64) & 0xFFFFFFFF
    return value
