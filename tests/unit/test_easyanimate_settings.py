# SPDX-License-Identifier: Apache-2.0
"""Settings of the text-to-video hooks, the sandbox's old layout of them, and what rows and prompts become."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sandbox_api.easyanimate import (
    EasyAnimateInferConfig,
    EasyAnimateTrainConfig,
    infer_settings,
    train_settings,
)
from sandbox_runtime.easyanimate.prompts import batches_of, read_prompts, share
from sandbox_runtime.easyanimate.rows import clips_of
from sandbox_runtime.errors import ConfigError, InputError

OLD_TRAIN: dict[str, Any] = {
    "type": "easyanimate",
    "env_name": "easyanimate",
    "env_manager": "conda",
    "train": {
        "model_path": {
            "pretrained_model_name_or_path": "inputs/models/pixart",
            "transformer_path": "easyanimate_mm_16x256x256_pretrain.safetensors",
        },
        "dataset_path": {"dataset_name": "", "dataset_meta_name": "outputs/processed.jsonl"},
        "training_config": {
            "sample_size": 256,
            "mixed_precision": "bf16",
            "batch_size_per_gpu": 8,
            "gradient_accumulation_steps": 1,
            "num_train_epochs": 2,
            "dataloader_num_workers": 8,
            "seed": 42,
        },
        "saving_config": {"output_dir": "outputs/model"},
        "tracker_config": {"project_name": "p", "experiment_name": "e"},
    },
}
OLD_INFER: dict[str, Any] = {
    "type": "easyanimate",
    "train": {
        "model_path": {
            "pretrained_model_name_or_path": "inputs/models/pixart",
            "transformer_path": "mm.safetensors",
            "lora_path": "outputs/model/checkpoint-2.safetensors",
        },
        "infer_config": {
            "image_size": 256,
            "prompt_info_path": "VBench_mini_info.json",
            "gpu_num": 1,
            "batch_size": 8,
            "mixed_precision": "fp16",
            "video_num_per_prompt": 5,
            "seed": 43,
        },
        "saving_config": {"output_video_dir": "outputs/videos"},
    },
}


def test_the_sandbox_s_training_becomes_one_of_this_version() -> None:
    found = train_settings(OLD_TRAIN)
    config = EasyAnimateTrainConfig.model_validate(found.values)

    assert config.base_model == "inputs/models/pixart"
    assert (config.dataset_path, config.video_root, config.output_dir) == (
        "outputs/processed.jsonl",
        "",
        "outputs/model",
    )
    assert [bucket.model_dump() for bucket in config.buckets] == [{"frames": 17, "height": 256, "width": 256}]
    assert (config.frame_stride, config.batch_size_per_gpu, config.epochs, config.seed) == (2, 8, 2, 42)
    assert (config.learning_rate, config.weight_decay, config.checkpoint_every) == (2e-5, 3e-2, 1000)
    assert "V5.1" in found.notes[0]
    assert {note.split()[0].rstrip(":") for note in found.notes[1:]} == {
        "env_name", "env_manager", "train.model_path.pretrained_model_name_or_path", "train.model_path.transformer_path",
        "train.training_config.sample_size", "train.training_config.dataloader_num_workers",
        "train.tracker_config.project_name", "train.tracker_config.experiment_name",
    }  # fmt: skip


def test_the_sandbox_s_inference_becomes_one_of_this_version() -> None:
    found = infer_settings(OLD_INFER)
    config = EasyAnimateInferConfig.model_validate(found.values)

    assert (config.lora_path, config.lora_scale) == ("outputs/model/checkpoint-2.safetensors", 0.55)
    assert (config.frames, config.height, config.width, config.fps, config.num_inference_steps) == (
        17,
        256,
        256,
        12,
        30,
    )
    assert (config.guidance_scale, config.batch_size, config.processes, config.precision) == (6.0, 8, 1, "bf16")
    assert any("fp16 is bf16" in note for note in found.notes)


def test_a_key_beside_the_old_layout_counts_more_than_it() -> None:
    found = train_settings({**OLD_TRAIN, "learning_rate": 1e-3, "base_model": "inputs/models/v5"})

    config = EasyAnimateTrainConfig.model_validate(found.values)
    assert (config.learning_rate, config.base_model) == (1e-3, "inputs/models/v5")


def test_an_unknown_old_key_is_refused_by_its_name() -> None:
    old = {"train": {"model_path": {"pretrained_model_name_or_path": "m"}, "training_config": {"lr": 1}}}

    with pytest.raises(ValidationError, match=r"train\.training_config\.lr"):
        EasyAnimateTrainConfig.model_validate(train_settings(old).values)


def test_this_version_s_own_layout_is_left_as_it_is() -> None:
    own = {"base_model": "m", "steps": 3}

    assert train_settings(own).values == own
    assert train_settings(own).notes == ()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"frames": 16}, "the nearest are 13 and 17"),
        ({"frames": 1 + 4 * 5 + 3}, "the nearest are 21 and 25"),
        ({"frames": 0}, "the nearest are 1 and 5"),
        ({"height": 250}, "multiple of 16"),
        ({"width": 0}, "greater than or equal to 16"),
        ({"guidance_scale": 0.5}, "greater than or equal to 1"),
        ({"prompts": ["a"], "prompt_info_path": "b.json"}, "give one of them"),
        ({"frame": 5}, "Extra inputs"),
    ],
)
def test_what_the_pipeline_would_round_silently_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EasyAnimateInferConfig.model_validate({"base_model": "m", **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 1, "epochs": 1},
        {"batch_size": 4, "gradient_accumulation_steps": 2},
        {"buckets": []},
        {"buckets": [{"frames": 5, "height": 32, "width": 32}] * 2},
        {"buckets": [{"frames": 6, "height": 32, "width": 32}]},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EasyAnimateTrainConfig.model_validate({"base_model": "m", **settings})


def test_rows_become_clips_with_plain_captions(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.mp4").touch()
    rows = [
        {"videos": ["x.mp4", "y.mp4"], "text": "<__dj__video> a dog  runs <|__dj__eoc|>"},
        {"file_path": "/abs/z.mp4", "text": "z"},
        {"videos": [], "text": "nothing"},
        {"videos": ["gone.mp4"]},
    ]

    clips = clips_of(rows, (tmp_path / "a", tmp_path / "b"))

    assert [clip.path for clip in clips] == [
        str(tmp_path / "b" / "x.mp4"), "/abs/z.mp4", None, str(tmp_path / "a" / "gone.mp4"),
    ]  # fmt: skip
    assert [clip.text for clip in clips] == ["a dog runs", "z", "nothing", ""]
    assert [clip.row for clip in clips] == [0, 1, 2, 3]


def test_prompts_come_from_vbench_s_file_or_from_rows(tmp_path: Path) -> None:
    info = tmp_path / "info.json"
    info.write_text(json.dumps([{"prompt_en": p, "dimension": ["color"]} for p in ("a cat", "a dog", "a cat")]))
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"text": "one"}\n{"prompt": "two"}\n')

    assert read_prompts(info) == ["a cat", "a dog"]
    assert read_prompts(lines) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("gone.json", None, InputError),
        ("torn.json", '[{"prompt_en": ', InputError),
        ("torn.jsonl", '{"text": "a"}\n{"te', InputError),
        ("empty.json", "[]", ConfigError),
        ("other.json", '[{"caption": "a"}]', ConfigError),
    ],
)
def test_a_prompt_file_that_can_t_be_used_is_named(tmp_path: Path, name: str, content: str | None, kind: type) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)

    with pytest.raises(kind, match="prompt_info_path"):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_dividing_the_work_changes_no_batch(workers: int) -> None:
    batches = batches_of(["a", "b", "c"], 5, 4)

    divided = [batch for number in range(workers) for batch in share(batches, number, workers)]

    assert sorted(map(repr, divided)) == sorted(map(repr, batches))
    assert sum(map(len, batches)) == 15
