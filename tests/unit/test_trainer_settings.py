# SPDX-License-Identifier: Apache-2.0
"""Settings of trainings by ModelScope and by ms-swift: upstream's and older keys, and what is handed on."""

from typing import Any

import pytest
from pydantic import ValidationError

from sandbox_api import modelscope, swift
from sandbox_api.model_probe import PipelineProbeConfig, pipeline_settings
from sandbox_api.modelscope import MEGATRON, ModelscopeTrainConfig
from sandbox_api.swift import SwiftTrainConfig

DEMO: dict[str, Any] = {
    "type": "modelscope",
    "dataset_path": "./outputs/demo-process/demo-processed.jsonl",
    "work_dir": "./demos/data/",
    "model_name": "inputs/models/gpt2",
    "trainer_name": "nlp-base-trainer",
    "key_remapping": {"text": "src_txt"},
    "train": {
        "max_epochs": 3,
        "lr_scheduler": {"type": "StepLR", "step_size": 2, "options": {"by_epoch": False}},
        "optimizer": {"type": "AdamW", "lr": 3e-4},
        "dataloader": {"batch_size_per_gpu": 2, "workers_per_gpu": 0},
    },
}
"""The sandbox's own demo, but for its model."""


def test_upstreams_demo_is_read_as_it_stands() -> None:
    found = modelscope.train_settings({**DEMO, "env_name": "modelscope", "env_params": {"env_py_version": 3.10}})
    config = ModelscopeTrainConfig.model_validate(found.values)

    assert config.train_dataset == DEMO["dataset_path"]
    assert config.sections() == {"train": DEMO["train"]}, "laid over the model's configuration: this and nothing else"
    assert [note.split()[0].rstrip(":") for note in found.notes] == ["env_name", "env_params", "dataset_path"]


def test_a_data_set_that_an_input_gives_wins_over_the_one_that_upstream_passes_over() -> None:
    found = modelscope.train_settings({**DEMO, "train_dataset": "outputs/chosen.jsonl"})

    assert ModelscopeTrainConfig.model_validate(found.values).train_dataset == "outputs/chosen.jsonl"
    assert found.notes == ("dataset_path is not used: train_dataset says what is trained on",)


@pytest.mark.parametrize(
    "more",
    [
        {"model_name": "iic/nlp_gpt3_text-generation_chinese-base"},
        {"model_name": "damo/nlp_gpt3_text-generation_1.3B"},
        {"trainer_name": "nlp-gpt3-trainer"},
    ],
)
def test_megatron_is_refused_with_what_to_use(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="type: swift") as refused:
        ModelscopeTrainConfig.model_validate({"model_name": "m", "train_dataset": "d", **more})
    [problem] = refused.value.errors()
    assert problem["loc"] == tuple(more)
    assert problem["msg"] == f"{next(iter(more.values()))} {MEGATRON}"


@pytest.mark.parametrize(
    ("train", "place"),
    [
        ({"max_epoch": 1}, ("train", "max_epoch")),
        ({"optimizer": {"type": "AdamW", "wieght_decay": 0.1}}, ("train", "optimizer")),
        ({"lr_scheduler": {"type": "StepLR", "stepsize": 1}}, ("train", "lr_scheduler")),
        (
            {"lr_scheduler": {"type": "StepLR", "options": {"warm_up": {}}}},
            ("train", "lr_scheduler", "options", "warm_up"),
        ),
        ({"dataloader": {"batch_size": 2}}, ("train", "dataloader", "batch_size")),
    ],
)
def test_a_wrong_key_in_the_training_is_found_where_it_stands(train: dict[str, Any], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        ModelscopeTrainConfig.model_validate({"model_name": "m", "train_dataset": "d", "train": train})
    assert [problem["loc"] for problem in refused.value.errors()] == [place]


def test_names_that_ms_swift_once_had_and_that_the_other_trainer_has_are_understood() -> None:
    given = {
        "model_name": "m",
        "train_type": "full",
        "train_dataset": "d",
        "key_remapping": {"a": "query"},
        "work_dir": "o",
    }
    found = swift.train_settings({**given, "report_to": ["wandb"], "deepspeed": "zero2", "env_manager": "conda"})
    config = SwiftTrainConfig.model_validate(found.values)

    assert (config.model, config.tuner_type, config.dataset, config.columns, config.output_dir) == (
        "m", "full", "d", {"a": "query"}, "o",
    )  # fmt: skip
    told = {note.split()[0].rstrip(":") for note in found.notes}
    assert told == {
        "model_name",
        "train_type",
        "train_dataset",
        "key_remapping",
        "work_dir",
        "report_to",
        "deepspeed",
        "env_manager",
    }


def test_upstreams_pipeline_is_one_of_the_models() -> None:
    found = pipeline_settings({"model": "inputs/models/bert", "task": "text-classification", "env_name": "ms"})
    config = PipelineProbeConfig.model_validate({**found.values, "objective": {"field": "scores.0"}})

    assert config.models == ["inputs/models/bert"]
    assert [note.split()[0].rstrip(":") for note in found.notes] == ["env_name", "model"]


def test_ms_swift_is_given_what_is_its_own_and_what_has_a_value() -> None:
    config = SwiftTrainConfig(model="m", dataset="d", max_steps=3, processes=2, output_dir="o", trust_remote_code=True)
    given = config.arguments()

    assert given["dataset"] == ["d"]
    assert given["max_steps"] == 3
    assert not {"processes", "output_dir", "trust_remote_code", "type", "num_train_epochs", "val_dataset"} & set(given)
