# SPDX-License-Identifier: Apache-2.0
"""A few hundred rows of text with known outliers, and hook pods that run on the data image's libraries."""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.file_server import FileServer
from tests.hook_pod import HookPod, write_jsonl

NOUNS = ["river", "stone", "garden", "window", "letter", "paper", "market", "winter", "harbour", "village", "mountain"]
VERBS = ["carries", "builds", "reads", "writes", "finds", "opens", "closes", "follows", "remembers", "paints", "sells"]
WORDS = [*NOUNS, *VERBS]


def sentence(random: Random, words: int) -> str:
    return " ".join(random.choice(WORDS) for _ in range(words)).capitalize() + "."


def demo_rows(count: int = 300) -> list[dict[str, Any]]:
    """Plain sentences; each 30th row is far too long, each 29th is symbols, each 25th repeats the row before it."""
    random = Random(7)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        text = sentence(random, random.randint(12, 24))
        if number % 30 == 29:
            text = sentence(random, 400)
        elif number % 29 == 28:
            text = "#@%&*=+" * 14 + text[:20]
        elif number % 25 == 24:
            text = rows[-1]["text"]
        rows.append({"text": text, "meta": {"number": number}})
    return rows


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return demo_rows()


@pytest.fixture
def hook_pod(tmp_path: Path, rows: list[dict[str, Any]]) -> HookPod:
    """An empty volume, and the rows at `inputs/raw/demo.jsonl`."""
    return data_pod(tmp_path, rows)


def data_pod(base: Path, rows: list[dict[str, Any]]) -> HookPod:
    pod = HookPod(base, python=sys.executable)
    write_jsonl(pod.inputs / "raw" / "demo.jsonl", rows)
    return pod


@pytest.fixture
def server() -> Iterator[FileServer]:
    running = FileServer()
    yield running
    running.close()
