# SPDX-License-Identifier: Apache-2.0
"""What of a training's checkpoints is kept."""

from pathlib import Path

import pytest

from sandbox_runtime.hooks.base import Artifact, HookResult
from sandbox_runtime.hooks.models import newest_kept


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for step in (5, 10, 100):
        folder = tmp_path / "training" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "weights").write_text(str(step))
        (tmp_path / "training" / f"checkpoint-{step}.safetensors").write_text(str(step))
    (tmp_path / "training" / "output").mkdir()
    return tmp_path


def left_in(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "training").iterdir())


def test_the_newest_are_kept_by_their_steps_and_not_by_their_names(out: Path) -> None:
    folders = [out / "training" / f"checkpoint-{step}" for step in (100, 5, 10)]
    done = newest_kept(HookResult([Artifact(folders[0]), folders], message="100 steps"), 2, out)

    assert done.outputs[1] == [folders[0], folders[2]]
    assert "checkpoint-5" not in left_in(out)
    assert {"checkpoint-10", "checkpoint-100", "output"} <= set(left_in(out))
    assert done.message == "100 steps; 1 older checkpoint removed"


def test_files_that_are_named_from_the_attempts_folder_are_kept_the_same_way(out: Path) -> None:
    names = [f"training/checkpoint-{step}.safetensors" for step in (5, 10, 100)]
    done = newest_kept(HookResult([Artifact(out / "training"), names]), 1, out)

    assert done.outputs[1] == names[2:]
    assert [name for name in left_in(out) if name.endswith(".safetensors")] == ["checkpoint-100.safetensors"]


def test_the_model_itself_what_has_no_step_and_what_another_job_made_stay(out: Path) -> None:
    elsewhere = out / "training"
    items = [
        elsewhere / "output",
        elsewhere / "checkpoint-5",
        elsewhere / "checkpoint-10",
        elsewhere / "checkpoint-100",
    ]
    result = HookResult([Artifact(items[1]), items])

    assert newest_kept(result, 1, out / "other").outputs[1] == items
    assert newest_kept(result, 3, out).outputs[1] == items
    assert newest_kept(result, 1, out).outputs[1] == [items[0], items[1], items[3]]
    assert "checkpoint-5" in left_in(out)


def test_a_training_without_a_list_is_left_alone(out: Path) -> None:
    result = HookResult([Artifact(out / "training"), None])
    assert newest_kept(result, 1, out) == result
