# SPDX-License-Identifier: Apache-2.0
"""Settings of TrainModelHook of type `swift`: supervised fine-tuning of a language model by ms-swift.

Each key is ms-swift's argument of that name and with its default (`swift sft`), but where a comment says otherwise.
Nothing of this imports torch: the planner reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from .extra import SAID, ComponentConfig, Settings, one_of, too_many, without_surroundings

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
DataSets = Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1, max_length=256)]

CATALOGUE: Mapping[str, list[str]] = json.loads(files(__package__).joinpath("swift.json").read_text())
"""`{model_types, templates}`: the names that ms-swift knows, as `sandbox_runtime.swift.catalogue` writes them."""
ModelType = Annotated[str, AfterValidator(one_of(CATALOGUE["model_types"], "model type of ms-swift"))]
Template = Annotated[str, AfterValidator(one_of(CATALOGUE["templates"], "template of ms-swift"))]

OURS = frozenset({"type", "processes", "output_dir", "trust_remote_code"})
"""Keys that are not handed to ms-swift as they are."""


class SwiftTrainConfig(ComponentConfig):
    """LoRA or full fine-tuning."""

    model: Annotated[str, Field(min_length=1)]
    """Folder of the model; or an id of ModelScope's hub, where the pod can reach it."""
    model_type: ModelType | None = None
    """ms-swift's name of the architecture; default: found by the model's files."""
    model_revision: str | None = None
    """Of the hub's model."""
    template: Template | None = None
    """How messages become text; default: that of the model type."""
    system: str | None = None
    """The system's message for rows without one."""
    use_chat_template: bool | None = None
    """False: rows are plain text, all of which is learnt (pre-training)."""
    max_length: Count | None = None
    """Tokens of a row; default: what the model can take."""
    truncation_strategy: Literal["delete", "left", "right"] | None = None
    """What is done with longer rows; default: they are left out."""
    torch_dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """Default: as the model is stored."""
    attn_impl: Literal["sdpa", "eager"] | None = None
    """How attention is computed; default: torch's own (sdpa)."""

    dataset: DataSets
    """Rows with `messages`, or `query` and `response`, or `text`: JSON lines, or what another job has made."""
    val_dataset: DataSets | None = None
    """Rows for the held-out loss."""
    split_dataset_ratio: Share = 0.0
    """Share of `dataset` that is held out, without `val_dataset`."""
    columns: dict[str, str] = {}
    """New names of columns by old ones, e.g. {question: query, answer: response}."""
    strict: bool = True
    """Whether a row that can't be used fails the job; ms-swift leaves it out unless it is asked to."""
    data_seed: int = 42
    """Decides what is held out, and the order of rows before the first epoch."""
    dataset_num_proc: Count = 1
    """Processes that prepare the rows."""

    tuner_type: Literal["lora", "full"] = "lora"
    """A LoRA, or all weights."""
    lora_rank: Count = 8
    """Rank of the LoRA."""
    lora_alpha: Annotated[float, Field(gt=0)] = 32.0
    """The LoRA is scaled by alpha / rank."""
    lora_dropout: Share = 0.05
    """Share of a LoRA's inputs that are left out at random."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank) instead."""
    use_dora: bool = False
    """Train directions and lengths of weights apart (DoRA)."""
    target_modules: list[str] = ["all-linear"]
    """Layers that get a LoRA."""
    modules_to_save: list[str] = []
    """Layers that are trained whole beside it."""
    freeze_parameters: list[str] = []
    """Beginnings of names that full fine-tuning leaves as they are."""
    trainable_parameters: list[str] = []
    """Beginnings of names that are trained in spite of freeze_parameters."""

    max_steps: Count | None = None
    """Optimizer steps; instead of num_train_epochs."""
    num_train_epochs: Annotated[float, Field(gt=0)] | None = None
    """Default: 3, without max_steps."""
    per_device_train_batch_size: Count = 1
    """Rows that a process takes at a time."""
    per_device_eval_batch_size: Count = 1
    """The same for the held-out loss."""
    gradient_accumulation_steps: Count | None = None
    """Default: as many as make 16 rows a step."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Default: 1e-4 with a LoRA, 1e-5 without."""
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup", "polynomial"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup_ratio: Share = 0.0
    """Share of the steps over which it rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Of AdamW."""
    adam_beta1: Share = 0.9
    """Of AdamW."""
    adam_beta2: Share = 0.95
    """Of AdamW."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Of AdamW."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    neftune_noise_alpha: float | None = None
    """Noise on the embeddings of inputs (NEFTune); default: none."""
    gradient_checkpointing: bool = True
    """Compute each layer twice, for less memory."""
    seed: int = 42
    """Decides the order of rows, dropout and a LoRA's first weights."""

    logging_steps: Count = 1
    """Steps from one line of figures to the next; ms-swift has 5."""
    save_steps: Count = 500
    """Steps from one checkpoint to the next; there is always one after the last."""
    save_total_limit: Count | None = None
    """How many checkpoints are kept."""
    eval_steps: Count | None = None
    """Steps from one held-out loss to the next; default: save_steps."""
    dataloader_num_workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that read ahead; default: 1."""

    processes: Count | None = None
    """Ours: processes, one a GPU; default: as many as the job has GPUs, and one without."""
    output_dir: str | None = None
    """Ours: where the folder of the last checkpoint is published."""
    trust_remote_code: bool = False
    """Ours: whether Python code that lies in the model's folder may run; ms-swift runs it unasked."""

    @model_validator(mode="after")
    def _one_of_two(self) -> SwiftTrainConfig:
        if self.max_steps is not None and self.num_train_epochs is not None:
            raise PydanticCustomError(SAID, "max_steps and num_train_epochs are both given; give one of them")
        if self.val_dataset is not None and self.split_dataset_ratio:
            raise PydanticCustomError(SAID, "val_dataset and split_dataset_ratio are both given; give one of them")
        return self

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002  # it works in one pod
        yield from too_many(self.processes, gpus)

    def arguments(self) -> dict[str, Any]:
        """What ms-swift is given; what is None is left to it."""
        found = {name: value for name, value in self.model_dump(mode="json").items() if name not in OURS}
        for name in ("dataset", "val_dataset"):
            if isinstance(found[name], str):
                found[name] = [found[name]]
        return {name: value for name, value in found.items() if value not in (None, {}, [])}


_INSTEAD = {
    "train_type": "tuner_type",
    "sft_type": "tuner_type",
    "model_name": "model",
    "train_dataset": "dataset",
    "eval_dataset": "val_dataset",
    "key_remapping": "columns",
    "work_dir": "output_dir",
}
"""Names that ms-swift once had, or that type modelscope has."""
_SETTLED = {
    "add_version": "the runtime names the folder",
    "deepspeed": "the image has no DeepSpeed",
    "report_to": "figures stand in metrics.jsonl and in the result",
    "resume_from_checkpoint": "an interrupted training goes on by itself",
    "logging_dir": "figures stand in metrics.jsonl and in the result",
    "use_hf": "the model is a folder, or comes from ModelScope's hub",
    "push_to_hub": "results stay on the volume",
}


def train_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` as this version has them: old names are translated, what the runtime settles is told."""
    settings = without_surroundings(given, known=frozenset({"model_name"}))
    values, notes = dict(settings.values), list(settings.notes)
    for old, new in _INSTEAD.items():
        if old in values and new not in values:
            values[new] = values.pop(old)
            notes.append(f"{old}: is read as {new}")
    for key, why in _SETTLED.items():
        if values.pop(key, None) is not None:
            notes.append(f"{key} is not used: {why}")
    return Settings(values, tuple(notes))
