# SPDX-License-Identifier: Apache-2.0
"""The data of the bench experiments: clips that can be trained on, captions in two languages, held-out clips apart."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from configs.bench import make_data
from trainings import real_videos

from sandbox_api.easyanimate import Bucket
from sandbox_runtime.easyanimate.clips import choose_cut, probe


def made(folder: Path, seed: int = 7) -> Path:
    make_data.main(real_videos(), folder, 60, 200, seed)
    return folder / "data"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("bench"))


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_clip_is_long_enough_for_a_training(data: Path) -> None:
    names = {row["videos"][0] for file in ("all.jsonl", "heldout.jsonl") for row in rows(data / file)}
    assert {f"clips/{path.name}" for path in (data / "clips").iterdir()} >= names
    for name in names:
        found = probe(str(data / name))
        assert choose_cut(len(found.times), found.height, found.width, [Bucket(frames=9, height=32, width=32)], 1)


def test_the_small_set_is_the_beginning_of_the_large_one_and_nothing_is_held_out_of_it_twice(data: Path) -> None:
    few, many, heldout = (rows(data / f"{name}.jsonl") for name in ("train", "all", "heldout"))

    assert (len(few), len(many)) == (60, 200)
    assert few == many[:60]
    assert not {row["videos"][0] for row in heldout} & {row["videos"][0] for row in many}
    assert {row["kind"] for row in many} == {"clip", "noise"}


def test_clips_have_captions_in_both_languages_and_noise_has_none(data: Path) -> None:
    chinese = {"clip": 0, "noise": 0}
    for row in rows(data / "all.jsonl"):
        assert row["text"].startswith("<__dj__video> ")
        chinese[row["kind"]] += any("\u4e00" <= character <= "\u9fff" for character in row["text"])
    clips = sum(row["kind"] == "clip" for row in rows(data / "all.jsonl"))

    assert 0.3 * clips < chinese["clip"] < 0.7 * clips
    assert chinese["noise"] == 0


def test_the_same_seed_gives_the_same_bytes_in_every_process(data: Path, tmp_path: Path) -> None:
    """As run.sh calls it. x264 with its macroblock tree gave other bytes from process to process."""
    command = [sys.executable, make_data.__file__, real_videos(), tmp_path, "--all", "200"]
    subprocess.run(command, check=True, capture_output=True)
    again = tmp_path / "data"
    files = sorted(path.relative_to(data) for path in data.rglob("*") if path.is_file())

    assert sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file()) == files
    assert [file for file in files if (again / file).read_bytes() != (data / file).read_bytes()] == []


def test_another_seed_gives_other_rows(data: Path, tmp_path: Path) -> None:
    assert (made(tmp_path, seed=8) / "all.jsonl").read_bytes() != (data / "all.jsonl").read_bytes()
