# SPDX-License-Identifier: Apache-2.0
"""Settings of TrainModelHook of type `modelscope`: one of ModelScope's own trainers.

The keys are those of Data-Juicer's sandbox, which lays them over the model's `configuration.json`. So what is not given
here stands as the model has it. Nothing of this imports torch: the planner reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from .extra import SAID, ComponentConfig, ExtraConfig, Settings, one_of, without_surroundings

MEGATRON_TRAINERS = frozenset({"nlp-gpt3-trainer", "nlp-gpt-moe-trainer", "nlp-plug-trainer"})
MEGATRON_TYPES = frozenset({"gpt3", "gpt-moe", "plug"})
"""Kinds of models, as a `configuration.json` names them."""
MEGATRON = (
    "needs Megatron (megatron_util), which the package index has as an empty placeholder only; for a language model use"
    " type: swift with a current one, e.g. model: a Qwen2.5 folder, tuner_type: full"
)
_MEGATRON_IDS = re.compile(r"(iic|damo)/nlp_(gpt3|gpt-moe|gpt_moe|plug)[_-]", re.IGNORECASE)

OPTIMIZERS = frozenset({
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "RAdam",
    "RMSprop", "Rprop", "SGD", "SparseAdam",
})  # fmt: skip
SCHEDULERS = frozenset({
    "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR", "LinearLR",
    "MultiStepLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau", "StepLR",
})  # fmt: skip
"""Those of torch that ModelScope makes from plain values; others want functions, or finished schedulers."""
OPTIMIZER_KEYS = frozenset({
    "alpha", "amsgrad", "beta1_decay", "beta2_decay", "betas", "capturable", "centered", "d", "dampening",
    "decoupled_weight_decay", "differentiable", "eps", "etas", "foreach", "fused", "history_size",
    "initial_accumulator_value", "lambd", "line_search_fn", "lr", "lr_decay", "max_eval", "max_iter", "maximize",
    "momentum", "momentum_decay", "nesterov", "rho", "step_sizes", "t0", "tolerance_change", "tolerance_grad",
    "weight_decay", "adjust_lr_fn", "ns_coefficients", "ns_steps",
})  # fmt: skip
SCHEDULER_KEYS = frozenset({
    "T_0", "T_max", "T_mult", "anneal_strategy", "base_lr", "base_momentum", "cooldown", "cycle_momentum",
    "div_factor", "end_factor", "epochs", "eps", "eta_min", "factor", "final_div_factor", "gamma", "last_epoch",
    "max_lr", "max_momentum", "milestones", "min_lr", "mode", "patience", "pct_start", "power", "scale_mode",
    "start_factor", "step_size", "step_size_down", "step_size_up", "steps_per_epoch", "swa_lr", "anneal_epochs",
    "threshold", "threshold_mode", "three_phase", "total_iters", "total_steps",
})  # fmt: skip
"""What the optimizers and the schedulers of torch take, all together."""


def not_megatron(name: str) -> str:
    if name in MEGATRON_TRAINERS or _MEGATRON_IDS.match(name):
        raise PydanticCustomError(SAID, f"{name} {MEGATRON}")
    return name


class _OfTorch(BaseModel):
    """A class of torch and what it is made with."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    def _only(self, keys: frozenset[str]) -> None:
        for name in self.model_extra or ():
            if name not in keys:
                raise PydanticCustomError(SAID, f"no {self.__class__.__name__.lower()} of torch takes {name!r}")


class OptimizerOptions(ExtraConfig):
    cumulative_iters: Annotated[int, Field(ge=1)] | None = None
    """Batches whose gradients are summed for one step."""
    grad_clip: dict[str, Any] | None = None
    """E.g. {max_norm: 1.0}."""
    loss_keys: str | list[str] | None = None
    """What the model calls the losses that are summed; default: loss."""


class Optimizer(_OfTorch):
    """Of torch.optim: its class, and its arguments beside it."""

    type: Annotated[str, AfterValidator(one_of(OPTIMIZERS, "optimizer of torch"))]
    """Its name, e.g. AdamW."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate; other arguments of the class stand beside it, e.g. weight_decay."""
    options: OptimizerOptions | None = None
    """ModelScope's own."""

    @model_validator(mode="after")
    def _known(self) -> Optimizer:
        self._only(OPTIMIZER_KEYS)
        return self


class Warmup(ExtraConfig):
    type: Literal["ConstantWarmup", "LinearWarmup", "ExponentialWarmup"]
    """How the learning rate rises."""
    warmup_iters: Annotated[int, Field(ge=1)]
    """Over so many iterations (or epochs, with by_epoch)."""
    warmup_ratio: Annotated[float, Field(gt=0)] | None = None
    """Share of the learning rate to begin with."""


class SchedulerOptions(ExtraConfig):
    by_epoch: bool | None = None
    """Whether it steps with each epoch, or with each iteration; default: epoch."""
    lr_strategy: Literal["by_epoch", "by_step", "no"] | None = None
    """The same in other words."""
    warmup: Warmup | None = None
    """Before the scheduler itself."""


class Scheduler(_OfTorch):
    """Of torch.optim.lr_scheduler."""

    type: Annotated[str, AfterValidator(one_of(SCHEDULERS, "scheduler of torch that is made from plain values"))]
    """Its name, e.g. StepLR."""
    options: SchedulerOptions | None = None
    """ModelScope's own."""

    @model_validator(mode="after")
    def _known(self) -> Scheduler:
        self._only(SCHEDULER_KEYS)
        return self


class Dataloader(ExtraConfig):
    batch_size_per_gpu: Annotated[int, Field(ge=1)] | None = None
    """Rows at a time; default: 8."""
    workers_per_gpu: Annotated[int, Field(ge=0)] | None = None
    """Processes that read ahead; 0: none."""
    shuffle: bool | None = None
    """Whether the rows are in another order each epoch; default: in training."""
    drop_last: bool | None = None
    """Whether rows that make no whole batch are left out."""
    pin_memory: bool | None = None
    """For faster copies to a GPU."""


class Logging(ExtraConfig):
    interval: Annotated[int, Field(ge=1)] | None = None
    """Iterations from one line of figures to the next."""
    by_epoch: bool | None = None
    """Whether iterations are counted within the epoch; default: yes."""
    ignore_last: bool | None = None
    """Whether iterations after the last whole interval of an epoch get no line; default: no."""
    rounding_digits: Annotated[int, Field(ge=1)] | None = None
    """Of figures; default: 8."""


class Period(ExtraConfig):
    interval: Annotated[int, Field(ge=1)] | None = None
    """Epochs, or iterations, from one to the next; default: 1."""
    by_epoch: bool | None = None
    """Whether they are epochs; default: yes."""
    save_strategy: Literal["by_epoch", "by_step", "no"] | None = None
    """The same in other words."""
    save_last: bool | None = None
    """Whether there is one at the end in any case; default: yes."""
    max_checkpoint_num: Annotated[int, Field(ge=1)] | None = None
    """How many are kept; default: all."""
    save_trainer_state: bool | None = None
    """Whether the optimizer is in it; the runtime needs it not."""


class Best(ExtraConfig):
    metric_key: str
    """Name of the figure, e.g. accuracy."""
    save_best: bool | None = None
    """Default: yes."""
    rule: Literal["max", "min"] | None = None
    """Which is best; default: max."""
    max_checkpoint_num: Annotated[int, Field(ge=1)] | None = None
    """How many are kept; default: 1."""
    restore_best: bool | None = None
    """Whether the model is the best one when the training has ended."""


class Checkpoint(ExtraConfig):
    period: Period | None = None
    """Checkpoints by time."""
    best: Best | None = None
    """The best one by a figure of the evaluation."""


class Train(ExtraConfig):
    """Section `train` of a ModelScope configuration."""

    max_epochs: Annotated[int, Field(ge=1)] | None = None
    """How often each row is seen; default: 3."""
    train_iters_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Less than the data set has, to end an epoch early."""
    dataloader: Dataloader | None = None
    """How rows are read."""
    optimizer: Optimizer | None = None
    """Default: AdamW, 2e-5."""
    lr_scheduler: Scheduler | None = None
    """Default: the learning rate stays."""
    logging: Logging | None = None
    """Default: every 10 iterations, and at the end of an epoch."""
    checkpoint: Checkpoint | None = None
    """Default: after each epoch."""
    hooks: list[dict[str, Any]] | None = None
    """Further hooks of ModelScope, e.g. {type: EvaluationHook, interval: 1}."""


class Columns(ExtraConfig):
    labels: list[str | int] | None = None
    """Classes in the model's order; default: what the training data has, sorted."""
    first_sequence: str | None = None
    """Column with the text."""
    second_sequence: str | None = None
    """Column with a second text, for tasks on pairs."""
    label: str | None = None
    """Column with the label."""


class Data(ExtraConfig):
    train: Columns = Field(default_factory=Columns)
    """Of the training."""
    val: Columns = Field(default_factory=Columns)
    """Of the evaluation, where they differ."""


class EvaluationPeriod(ExtraConfig):
    interval: Annotated[int, Field(ge=1)] | None = None
    """Epochs, or iterations, from one to the next; default: 1."""
    by_epoch: bool | None = None
    """Whether they are epochs; default: yes."""
    eval_strategy: Literal["by_epoch", "by_step", "no"] | None = None
    """The same in other words."""
    start_idx: int | None = None
    """Before which there is none."""


class EvaluationConfig(ExtraConfig):
    dataloader: Dataloader | None = None
    """How rows are read."""
    metrics: str | list[str] | None = None
    """E.g. seq-cls-metric, loss-metric."""
    period: EvaluationPeriod | None = None
    """Default: after each epoch, with an eval_dataset."""
    val_iters_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Less than the data set has, to end an evaluation early."""


class ModelscopeTrainConfig(ComponentConfig):
    """Training by one of ModelScope's trainers."""

    model_name: Annotated[str, Field(min_length=1), AfterValidator(not_megatron)]
    """Folder of a model, ModelScope's (configuration.json) or a Hugging Face one (config.json); or an id of
    ModelScope's hub, where the pod can reach it."""
    model_revision: str | None = None
    """Of the hub's model."""
    trainer_name: Annotated[str, AfterValidator(not_megatron)] = "nlp-base-trainer"
    """ModelScope's name of the trainer."""
    train_dataset: Annotated[str, Field(min_length=1)]
    """Rows to train on: JSON lines, or a data set that another job has made."""
    eval_dataset: str | None = None
    """Rows to evaluate on."""
    key_remapping: dict[str, str] = {}
    """New names of columns by old ones, e.g. {text: src_txt}."""
    work_dir: str | None = None
    """Where the trainer's folder is published."""
    train: Train = Field(default_factory=Train)
    """How it is trained."""
    task: str | None = None
    """ModelScope's name of the task; needed for a Hugging Face folder whose architecture does not say it."""
    model: dict[str, Any] = {}
    """Laid over section `model` of the configuration."""
    dataset: Data = Field(default_factory=Data)
    """Which columns are what."""
    preprocessor: dict[str, Any] = {}
    """Laid over section `preprocessor`, e.g. {max_length: 256}."""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """How it is evaluated."""
    seed: int = 42
    """With the epoch it decides the order of rows, with the iteration what dropout draws."""

    def sections(self) -> dict[str, Any]:
        """What is laid over the model's configuration: what was said and nothing else."""
        found = self.model_dump(
            mode="json",
            include={"train", "task", "model", "dataset", "preprocessor", "evaluation"},
            exclude_none=True,
            exclude_unset=True,
        )
        return {name: value for name, value in found.items() if value not in ({}, None)}


def train_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` as this version has them: what only served the sandbox's surroundings is told, not refused."""
    settings = without_surroundings(given, known=frozenset({"model_name", "trainer_name"}))
    values, notes = dict(settings.values), list(settings.notes)
    if (data := values.pop("dataset_path", None)) is not None:
        if values.get("train_dataset") is None:
            values["train_dataset"] = data
            notes.append("dataset_path: is read as train_dataset; Data-Juicer's sandbox passes over it")
        else:
            notes.append("dataset_path is not used: train_dataset says what is trained on")
    train = values.get("train")
    if isinstance(train, Mapping) and "work_dir" in train:
        values["train"] = {key: value for key, value in train.items() if key != "work_dir"}
        notes.append("train.work_dir is not used: name the folder in work_dir")
    return Settings(values, tuple(notes))
