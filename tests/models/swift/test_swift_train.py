# SPDX-License-Identifier: Apache-2.0
"""TrainModelHook of type swift through the real runtime process, on a tiny random Qwen2."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.hook_pod import Ended, HookPod, job_contract, write_jsonl
from tests.models.warm_pod import WarmPod

from sandbox_api.swift import CATALOGUE
from sandbox_runtime.check import check
from sandbox_runtime.swift.catalogue import describe
from sandbox_runtime.swift.tiny import save_qwen2


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """Once, for all pods that are forked."""
    torch.set_num_threads(1)
    importlib.import_module("sandbox_runtime.swift.worker")


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen2(tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture
def pod(tmp_path: Path, qwen: Path) -> WarmPod:
    """A volume with the model, and rows as Data-Juicer leaves them."""
    pod = WarmPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    shutil.copytree(qwen, pod.inputs / "models" / "qwen")
    extra = {"__dj__stats__": {"text_len": 3}, "__sandbox_id__": "x"}
    talks = [{"messages": [said("user", f"say {n}"), said("assistant", f"it is {n}")], **extra} for n in range(8)]
    write_jsonl(pod.inputs / "data" / "rows.jsonl", talks)
    write_jsonl(pod.inputs / "data" / "pairs.jsonl", [{"question": "why?", "reply": "so"}] * 4)
    write_jsonl(pod.inputs / "data" / "text.jsonl", [{"text": "plain words to learn", **extra}] * 4)
    write_jsonl(pod.inputs / "data" / "broken.jsonl", [*talks, {"messages": [said("teacher", "no")], **extra}])
    return pod


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def settings(**more: Any) -> dict[str, Any]:
    found = {
        "model": "inputs/models/qwen",
        "model_type": "qwen2",
        "template": "qwen",
        "torch_dtype": "float32",
        "dataset": "inputs/data/rows.jsonl",
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "linear",
        "dataloader_num_workers": 0,
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def contract(extra: dict[str, Any], attempt: int = 1) -> Any:
    return job_contract(
        "TrainModelHook",
        stage="execution",
        meta_name="train",
        type="swift",
        attempt=attempt,
        extra=extra,
        outputs=["model", "checkpoints"],
    )


def logged(ended: Ended, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (ended.folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[f"train.{name}"] for line in lines if f"train.{name}" in line}


def loss_of(model: Any, tokens: Any) -> float:
    with torch.inference_mode():
        return float(model(**tokens, labels=tokens["input_ids"]).loss)


def test_a_lora_learns_and_changes_what_the_model_says(pod: WarmPod, qwen: Path) -> None:
    extra = settings(
        max_steps=12, save_steps=6, val_dataset="inputs/data/rows.jsonl", eval_steps=6, output_dir="outputs/lora"
    )
    ended = pod.run(contract({**extra, "train_type": "lora", "report_to": "wandb"}))
    assert ended.code == 0, ended.log
    loss, heldout = logged(ended, "loss"), logged(ended, "heldout_loss")
    assert list(loss) == list(range(1, 13))
    assert list(heldout) == [6, 12]
    assert heldout[12] < heldout[6] < loss[1]
    assert logged(ended, "lr")[12] == 0.0
    assert ended.message.metrics["train.steps"] == 12
    assert ended.message.metrics["train.heldout_loss"] == heldout[12]
    assert "extraConfigs.train_type: is read as tuner_type" in ended.log
    assert "extraConfigs.report_to is not used" in ended.log

    model = ended.output("model")
    assert model.name == "checkpoint-12"
    assert (pod.experiment / "outputs/lora").samefile(model)
    assert [Path(path).name for path in ended.result.outputs["checkpoints"].value] == ["checkpoint-6", "checkpoint-12"]
    assert not list(model.glob("optimizer*"))
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(qwen)
    tokens = AutoTokenizer.from_pretrained(qwen)("it is 3", return_tensors="pt")
    before = loss_of(base, tokens)
    assert loss_of(PeftModel.from_pretrained(base, model), tokens) < before


def test_full_fine_tuning_trains_all_weights_and_leaves_a_whole_model(pod: WarmPod, qwen: Path) -> None:
    """In two processes, under torchrun, as an image starts them."""
    extra = settings(tuner_type="full", split_dataset_ratio=0.25, processes=2)
    ended = HookPod(pod.base, environ=pod.environ).run(contract(extra))
    assert ended.code == 0, ended.log
    assert list(logged(ended, "heldout_loss")) == [4], "after the last step, though eval_steps is far away"
    trained, begun = load_file(ended.output("model") / "model.safetensors"), load_file(qwen / "model.safetensors")
    assert trained.keys() == begun.keys()
    assert [name for name in trained if torch.equal(trained[name], begun[name])] == []
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(ended.output("model"))
    AutoModelForCausalLM.from_pretrained(ended.output("model"))


@pytest.mark.parametrize(
    "extra",
    [
        {"dataset": "inputs/data/pairs.jsonl", "columns": {"question": "query", "reply": "response"}},
        {"dataset": ["inputs/data/text.jsonl", "inputs/data/rows.jsonl"]},
        {"dataset": "inputs/data/text.jsonl", "use_chat_template": False},
    ],
)
def test_rows_of_other_forms_train(pod: WarmPod, extra: dict[str, Any]) -> None:
    ended = pod.run(contract(settings(max_steps=1, **extra)))
    assert ended.code == 0, ended.log
    assert ended.message.metrics["train.steps"] == 1


def test_a_loss_that_is_no_finite_number_is_logged_as_one(pod: WarmPod) -> None:
    """transformers would log the mean of those before it, of which there is none: 0, the best that a sweep could find."""
    ended = pod.run(contract(settings(tuner_type="full", learning_rate=1e30)))
    assert ended.code == 0, ended.log
    assert list(logged(ended, "loss")) == [1]
    lines = [json.loads(line) for line in (ended.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train.loss" in line.get("_notFinite", ())] == [2, 3, 4]
    assert "train.loss" in ended.result.not_finite


def test_only_the_newest_checkpoints_are_left_where_the_experiment_says_how_many(pod: WarmPod) -> None:
    asked = contract(settings(max_steps=3, save_steps=1)).model_copy(update={"keep_checkpoints": 2})
    ended = pod.run(asked)
    assert ended.code == 0, ended.log
    left = [Path(path).name for path in ended.result.outputs["checkpoints"].value]
    assert left == ["checkpoint-2", "checkpoint-3"]
    assert sorted(path.name for path in ended.output("model").parent.glob("checkpoint-*")) == left
    assert ended.output("model").name == left[-1]


@pytest.mark.parametrize("tuner", ["lora", "full"])
def test_a_stopped_training_goes_on_to_the_same_weights(pod: WarmPod, tuner: str) -> None:
    """LoRA has dropout, and rows are shuffled anew each epoch."""
    extra = settings(tuner_type=tuner, max_steps=40)
    running = pod.start(contract(extra))
    metrics = running.wait_for("metrics.jsonl")
    while metrics.read_text().count("train.loss") < 6:
        assert running.process.poll() is None, running.process.communicate()[0]
    running.process.send_signal(signal.SIGTERM)
    stopped = running.end()
    assert stopped.code == 143, stopped.log
    [state] = pod.experiment.rglob("state/*/checkpoint-*")
    done = int(state.name.rpartition("-")[2])
    assert 6 <= done < 40

    resumed = pod.run(contract(extra, attempt=2))
    assert resumed.code == 0, resumed.log
    assert min(logged(resumed, "loss")) == done + 1
    assert resumed.message.metrics["train.steps"] == 40

    (pod.base / "whole").mkdir()
    shutil.copytree(pod.inputs, pod.base / "whole" / "inputs")
    uninterrupted = WarmPod(pod.base / "whole", environ=pod.environ).run(contract(extra))
    assert uninterrupted.code == 0, uninterrupted.log
    name = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}[tuner]
    one, other = (load_file(ended.output("model") / name) for ended in (resumed, uninterrupted))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        ({"dataset": "inputs/data/none.jsonl"}, 2, "extraConfigs.dataset: there is no file or folder"),
        ({"model": "inputs/data"}, 2, "extraConfigs.model: inputs/data has no config.json; it is no model"),
        ({"model_type": "qwen22"}, 2, "extraConfigs.model_type: there is no model type of ms-swift named 'qwen22'"),
        ({"template": "qwen22"}, 2, "extraConfigs.template: there is no template of ms-swift named 'qwen22'"),
        ({"lora_rang": 4}, 2, "extraConfigs.lora_rang: TrainModelHook has no such setting"),
        ({"num_train_epochs": 1}, 2, "max_steps and num_train_epochs are both given"),
        ({"dataset": "inputs/data/broken.jsonl"}, 1, "teacher"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(pod: WarmPod, extra: dict[str, Any], code: int, said: str) -> None:
    ended = pod.run(contract(settings(**extra)))
    assert ended.code == code, ended.log
    assert ended.message.error is not None
    assert said in ended.message.error.message


OWN_CODE = """
from transformers import Qwen2Config, Qwen2ForCausalLM
open({marker!r}, "w").close()
class OwnConfig(Qwen2Config):
    model_type = {kind!r}
class OwnModel(Qwen2ForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "own_kind"])
def test_code_in_a_models_folder_runs_only_when_it_may(pod: WarmPod, tmp_path: Path, kind: str, trusted: bool) -> None:
    """Where transformers has the model's class, that is taken instead; where it has none, the model is refused."""
    folder, marker = pod.inputs / "models" / "qwen", tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(OWN_CODE.format(marker=str(marker), kind=kind))

    ended = pod.run(contract(settings(max_steps=1, trust_remote_code=trusted)))

    assert marker.exists() == trusted
    if trusted or kind == "qwen2":
        assert ended.code == 0, ended.log
    else:
        assert ended.code == 2, ended.log
        assert ended.message.error is not None
        assert (
            "extraConfigs.trust_remote_code: the model is none without the Python code" in ended.message.error.message
        )


def test_the_arguments_are_ms_swifts_own() -> None:
    """Each setting that is handed on is an argument there, and has its default but where the docs say otherwise."""
    import dataclasses

    from swift.arguments import SftArguments

    from sandbox_api.swift import OURS, SwiftTrainConfig

    theirs = {field.name: field for field in dataclasses.fields(SftArguments)}
    ours = {name: field for name, field in SwiftTrainConfig.model_fields.items() if name not in OURS}
    assert set(ours) - set(theirs) == set()

    def default(field: Any) -> Any:
        return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default

    found = {
        name: (field.default, default(theirs[name]))
        for name, field in ours.items()
        if not field.is_required() and field.default not in (None, default(theirs[name]))
    }
    assert {name: pair for name, pair in found.items() if pair[0] not in ({}, [])} == {
        "strict": (True, False),
        "logging_steps": (1, 5),
    }


def test_the_image_checks_itself() -> None:
    assert "trained a tiny Qwen2" in check()


def test_the_planner_knows_the_names_of_this_ms_swift() -> None:
    """Stale? `make generate` writes them."""
    assert describe() == CATALOGUE
