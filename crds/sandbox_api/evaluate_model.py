# SPDX-License-Identifier: Apache-2.0
"""Settings of EvaluateModelHook's components: which checkpoints are judged, on what, and which figure ranks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .extra import SAID, ComponentConfig, Settings, without_surroundings
from .modelscope import Data, EvaluationConfig, not_megatron

Text = Annotated[str, Field(min_length=1)]
Goal = Literal["minimize", "maximize"]
MAX_MODELS = 64


def _flat(value: Any) -> Any:
    """One list: of a single name, and of lists that several trainings have made."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        return [inner for item in value for inner in (item if isinstance(item, list) else [item])]
    return value


Models = Annotated[list[Text], BeforeValidator(_flat), Field(max_length=MAX_MODELS)]


class RankedConfig(ComponentConfig):
    """Checkpoints, in any number from one on."""

    NEEDED: ClassVar[Mapping[tuple[str, ...], str]] = {
        ("models", "model"): "name the checkpoints, or one in model, or fill it with an input from a training"
    }

    models: Models = []
    """The checkpoints; what TrainModelHook has made comes by an input:
    `input: {extraConfigs.models: anonymous.train.checkpoints}`."""
    model: Text | None = None
    """A single one, instead of models."""
    metric: str
    """What ranks them."""

    @field_validator("model")
    @classmethod
    def _one_of_both(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("models"):
            raise PydanticCustomError(SAID, "models are named as well; name the checkpoints once")
        return value

    @property
    def checkpoints(self) -> list[str]:
        return self.models or ([self.model] if self.model else [])

    @property
    def data(self) -> tuple[str, ...]:
        """Files and folders that they are judged on, where those are not part of them."""
        return ()


class LanguageModelConfig(RankedConfig):
    """Loss and perplexity of causal language models of transformers on texts that they were not trained on. A
    checkpoint is a whole model, or an adapter of peft beside whose base it is loaded."""

    dataset_path: Text
    """The texts: a .jsonl, .json (also .gz, .zst) or .parquet file, or a folder of such files."""
    text_key: Text = "text"
    """Where a row has its text; dots lead into nested fields."""
    max_length: Annotated[int, Field(ge=2)] = 1024
    """Tokens that the model sees at a time, at most as many as it can take. A longer text is read in windows."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Tokens from the beginning of a window to that of the next; each token counts once, in the first window that has
    it, given those before it there. Less than max_length; default: half of it."""
    add_start_token: bool = True
    """Whether a text begins with the tokenizer's BOS (where it has none, EOS), so that its first token counts too."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Windows at a time."""
    model_params: dict[str, Any] = {}
    """Given to each model when it is loaded, e.g. {dtype: bfloat16}."""
    metric: Literal["perplexity", "loss", "bits_per_byte"] = "perplexity"
    """What ranks the checkpoints. Only bits_per_byte compares models whose tokenizers differ."""
    goal: Goal = "minimize"
    """Which of them is the best: the one with the smallest, or with the largest."""

    @field_validator("stride")
    @classmethod
    def _overlap(cls, value: int | None, info: ValidationInfo) -> int | None:
        length = info.data.get("max_length")
        if value is not None and length is not None and value >= length:
            raise PydanticCustomError(
                SAID, f"must be less than max_length ({length}), so that each token has one before it in its window"
            )
        return value

    @property
    def data(self) -> tuple[str, ...]:
        return (self.dataset_path,)

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002
        if self.metric == "bits_per_byte" and not self.add_start_token:
            yield "metric: bits_per_byte needs add_start_token, as each byte of a text must count"


GOALS: Mapping[str, Goal] = {
    "accuracy": "maximize", "f1": "maximize", "binary_f1": "maximize", "macro_f1": "maximize", "micro_f1": "maximize",
    "precision": "maximize", "recall": "maximize", "loss": "minimize", "ppl": "minimize",
}  # fmt: skip
"""Of ModelScope's figures, those whose direction is beyond doubt."""


class ModelscopeEvalConfig(RankedConfig):
    """`trainer.evaluate` of one of ModelScope's trainers on a data set. A checkpoint is a folder that its pipelines can
    load: what TrainModelHook of type modelscope has among its `checkpoints`."""

    trainer_name: Annotated[str, AfterValidator(not_megatron)] = "nlp-base-trainer"
    """ModelScope's name of the trainer."""
    eval_dataset: Text
    """Rows to evaluate on: JSON lines, or a data set that another job has made."""
    key_remapping: dict[str, str] = {}
    """New names of columns by old ones, e.g. {content: text}."""
    task: str | None = None
    """ModelScope's name of the task; default: the checkpoint's own."""
    dataset: Data = Field(default_factory=Data)
    """Which columns are what; default: as in the training."""
    preprocessor: dict[str, Any] = {}
    """Laid over section `preprocessor` of the checkpoint's configuration, e.g. {max_length: 256}."""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """How it is evaluated: metrics, dataloader."""
    seed: int = 42
    """For preprocessors that draw."""
    metric: Text = "accuracy"
    """The figure that ranks the checkpoints, as TrainModelHook calls it after `eval_`: accuracy, f1, loss, ..."""
    goal: Goal | None = None
    """Which of them is the best; default: maximize accuracy, f1, precision and recall, minimize loss and ppl. Needed
    for any other metric."""

    @property
    def data(self) -> tuple[str, ...]:
        return (self.eval_dataset,)

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002
        if self.goal is None and self.metric not in GOALS:
            yield f"goal: say whether the best checkpoint has the largest {self.metric} (maximize) or the smallest"


CAPTION_FIGURES = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr")


class CaptionConfig(RankedConfig):
    """Reads what InternVL's own evaluation of COCO captions has printed: the file `eval_log.txt` in the folder of each
    checkpoint, which Data-Juicer's sandbox leaves there. It evaluates nothing itself."""

    NEEDED: ClassVar[Mapping[tuple[str, ...], str]] = {
        ("ckpt_paths", "models", "model"): "name the checkpoints' folders, or fill it with an input"
    }

    ckpt_paths: Models = []
    """Upstream's name of models."""
    metric: Literal["avg_score", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr"] = "avg_score"
    """What ranks the checkpoints; avg_score is the mean of the others."""
    goal: Goal = "maximize"
    """Which of them is the best: the one with the largest, or with the smallest."""

    @property
    def checkpoints(self) -> list[str]:
        return self.ckpt_paths or super().checkpoints


def caption_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` as this version has them; upstream's also run the evaluation, which ours does not."""
    settings = without_surroundings(given)
    dropped = [key for key in ("internvl_home", "num_gpus") if key in settings.values]
    notes = tuple(f"{key} is not used: the logs are only read" for key in dropped)
    values = {key: value for key, value in settings.values.items() if key not in dropped}
    return Settings(values, (*settings.notes, *notes))


def scored_settings(given: Mapping[str, Any]) -> Settings:
    """The same of ModelScope's, whose `trainer_name` is a setting; the training's `model_name` is read as `model`."""
    settings = without_surroundings(given, known=frozenset({"trainer_name", "model_name"}))
    values = dict(settings.values)
    if "model_name" not in values:
        return settings
    values.setdefault("model", values.pop("model_name"))
    return Settings(values, (*settings.notes, "model_name: is read as model"))
