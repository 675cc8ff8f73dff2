# SPDX-License-Identifier: Apache-2.0
"""Settings of the text-to-video hooks of type `easyanimate`: training a LoRA of EasyAnimate V5.1, and making videos.

Data-Juicer's sandbox trains EasyAnimate V1. Its layout of keys is understood (`train_settings`, `infer_settings`) and
comes with sentences that say what differs here. Nothing of this imports torch: the planner reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .extra import ComponentConfig, ExtraConfig, Settings, too_many, without_surroundings

Precision = Literal["bf16", "fp32"]

FRAME_STEP = 4
"""The VAE packs four frames into one latent frame, after the first: 1, 5, 9, ..."""
SIZE_STEP = 16
"""The VAE packs 8 pixels a side, and the transformer 2 latents."""
NEGATIVE_PROMPT = "Twisted body, limb deformities, text subtitles, comics, stillness, ugliness, errors, garbled text."
"""EasyAnimate V5.1's own."""

Size = Annotated[int, Field(ge=SIZE_STEP, multiple_of=SIZE_STEP)]


def _whole_latent_frames(frames: int) -> int:
    if frames < 1 or (frames - 1) % FRAME_STEP:
        below = max(1, (frames - 1) // FRAME_STEP * FRAME_STEP + 1)
        raise ValueError(
            f"must be 1 more than a multiple of {FRAME_STEP}, as frames are packed by {FRAME_STEP}; the nearest are"
            f" {below} and {below + FRAME_STEP}"
        )
    return frames


Frames = Annotated[int, AfterValidator(_whole_latent_frames)]


class Bucket(ExtraConfig):
    """Clips of one shape, which are trained on together."""

    frames: Frames
    """How many frames a clip has: 1 more than a multiple of 4."""
    height: Size
    """Pixels, a multiple of 16."""
    width: Size
    """Pixels, a multiple of 16."""


class EasyAnimateTrainConfig(ComponentConfig):
    """LoRA training of EasyAnimate V5.1 in the layout of diffusers."""

    base_model: Annotated[str, Field(min_length=1)]
    """Folder of the base model as diffusers lays it out: model_index.json, transformer, vae, text_encoder, ..."""
    dataset_path: str | None = None
    """Rows with `videos` and `text`: .jsonl, or a data set that another job has made."""
    video_root: str = ""
    """Where relative names of videos begin; empty: beside the data set."""
    output_dir: str | None = None
    """Where the folder with `checkpoint-<step>.safetensors` is published."""

    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1)] = (Bucket(frames=49, height=512, width=512),)
    """Shapes that clips are cut to. A clip goes to the longest one that it fills, of those to the nearest in shape."""
    frame_stride: Annotated[int, Field(ge=1)] = 3
    """Every how many frames one is taken; a clip that is too short for any bucket takes a smaller stride."""
    broken_limit: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the clips that may be unreadable; they are counted and left out. With more of them the job fails."""
    heldout: Annotated[int, Field(ge=0)] = 16
    """How many clips are kept out of training for the held-out loss: at most a tenth of them, chosen by content."""
    shard_clips: Annotated[int, Field(ge=1)] = 128
    """How many clips one file of the cache holds."""

    rank: Annotated[int, Field(ge=1)] = 64
    """Rank of the LoRA."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The LoRA is scaled by alpha / rank."""
    targets: Literal["attention", "all"] = "attention"
    """Which linear layers get a LoRA: those of attention, or those of the feed-forward networks as well."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps; instead of `epochs`."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """How often each clip is seen; 1 when `steps` is not given either."""
    batch_size_per_gpu: Annotated[int, Field(ge=1)] = 1
    """Clips that one process takes at a time."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] | None = None
    """How many times a process does so for one step; 1 when `batch_size` is not given either."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Clips of one step over all processes, a multiple of their number; instead of `gradient_accumulation_steps`. With
    it the result does not depend on how many processes there are, but for rounding."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Of AdamW, after the warm-up."""
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: as it is, or falling to zero at the last step."""
    lr_warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps over which the learning rate rises from zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-3
    """Of AdamW."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-10
    """Of AdamW; as small as EasyAnimate's own, which the gradients' norm goes with."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 0.05
    """Gradients are clipped to this norm, and to five times as much at the start, falling over 1000 steps."""
    caption_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of clips that are trained with an empty caption, for guidance."""
    seed: int = 42
    """With the step and the clip's number it decides every random draw."""

    precision: Precision = "bf16"
    """Of the frozen weights and of the arithmetic; the LoRA itself is always fp32."""
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    """With several processes: the frozen weights in each (ddp), or divided among them (fsdp2)."""
    gradient_checkpointing: Literal["every_block", "every_other_block", "off"] = "every_block"
    """Which blocks are computed twice to save memory."""
    compile_blocks: bool = False
    """Compile each block with torch.compile: minutes at the start, faster steps."""
    processes: Annotated[int, Field(ge=1)] | None = None
    """Processes, one a GPU; by default as many as the job has GPUs, and one without."""

    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    """Steps from one checkpoint to the next."""
    heldout_every: Annotated[int, Field(ge=1)] = 500
    """Steps from one held-out loss to the next; it is always measured before the first step and after the last."""

    @model_validator(mode="after")
    def _one_of_two(self) -> EasyAnimateTrainConfig:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs are both given; give one of them")
        if self.batch_size is not None and self.gradient_accumulation_steps is not None:
            raise ValueError("batch_size and gradient_accumulation_steps are both given; give one of them")
        if len(set(self.buckets)) < len(self.buckets):
            raise ValueError("buckets: two of them are the same")
        return self

    NEEDED: ClassVar = {("dataset_path",): "name the data set to train on, or fill it with input"}

    def clips_a_step(self, processes: int) -> int:
        """Clips of one step over all processes. Raises ValueError when they can't be divided evenly."""
        if self.batch_size is None:
            return self.batch_size_per_gpu * (self.gradient_accumulation_steps or 1) * processes
        if self.batch_size % processes:
            raise ValueError(
                f"batch_size: {self.batch_size} can't be divided among {processes} processes; give a multiple of it"
            )
        return self.batch_size

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:
        yield from too_many(self.processes, gpus)
        try:
            self.clips_a_step((self.processes or gpus or 1) * nodes)
        except ValueError as error:
            yield str(error)


class VideoConfig(ComponentConfig):
    """Videos from prompts by EasyAnimate V5.1."""

    base_model: Annotated[str, Field(min_length=1)]
    """Folder of the base model as diffusers lays it out."""
    lora_scale: Annotated[float, Field(ge=0)] = 0.55
    """Weight of the LoRA: 0 is the base model, 1 is what was trained."""
    prompt_info_path: str | None = None
    """VBench's info file (.json, `prompt_en`), or .jsonl with `prompt` or `text`."""
    prompts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Prompts given here, instead of a file."""
    video_num_per_prompt: Annotated[int, Field(ge=1)] = 5
    """Videos of each prompt: `<prompt>-0.mp4`, `<prompt>-1.mp4`, ..."""

    frames: Frames = 49
    """1 more than a multiple of 4."""
    height: Size = 512
    """Pixels, a multiple of 16."""
    width: Size = 512
    """Pixels, a multiple of 16."""
    fps: Annotated[int, Field(ge=1, le=120)] = 8
    """Frames a second of the file."""
    num_inference_steps: Annotated[int, Field(ge=1)] = 50
    """Steps from noise to video."""
    guidance_scale: Annotated[float, Field(ge=1)] = 6.0
    """Classifier-free guidance; 1 is none, and half the work."""
    negative_prompt: str = NEGATIVE_PROMPT
    """Has no effect without guidance."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Videos that one process makes at a time. Part of what decides a video: arithmetic differs in the last bits."""
    seed: int = 43
    """With the prompt and the video's number it decides the noise."""

    precision: Precision = "bf16"
    """Of the weights and of the arithmetic."""
    processes: Annotated[int, Field(ge=1)] | None = None
    """Processes, one a GPU; by default as many as the job has GPUs, and one without."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.prompts and self.prompt_info_path is not None:
            raise ValueError("prompts and prompt_info_path are both given; give one of them")
        return self

    NEEDED: ClassVar[Mapping[tuple[str, ...], str]] = {
        (
            "prompts",
            "prompt_info_path",
        ): "write prompts, or name a file of them in prompt_info_path, or fill one with input"
    }

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002  # pods make videos apart
        yield from too_many(self.processes, gpus)


class EasyAnimateInferConfig(VideoConfig):
    """Videos from prompts by EasyAnimate V5.1, with or without a LoRA."""

    lora_path: str | None = None
    """LoRA that TrainModelHook has made; without it the base model itself is used."""
    output_video_dir: str | None = None
    """Where the folder of videos is published."""


V1 = (
    "this is EasyAnimate V5.1 on diffusers; the sandbox's script had V1 (a motion module over PixArt), whose"
    " weights and LoRA files do not load here, nor the other way round"
)
Convert = Callable[[Any], tuple[dict[str, Any], str]]
"""From an old key's value to new keys and a sentence about the difference, empty when there is none."""


def _as(name: str, note: str = "") -> Convert:
    return lambda value: ({name: value}, note)


def _not_used(why: str) -> Convert:
    return lambda _: ({}, f"is not used: {why}")


def _precision(value: Any) -> tuple[dict[str, Any], str]:
    if value == "fp16":
        return {"precision": "bf16"}, "fp16 is bf16 here: the same size, without overflow"
    return {"precision": {"no": "fp32"}.get(value, value)}, ""


def _train_size(value: Any) -> tuple[dict[str, Any], str]:
    bucket = {"frames": 17, "height": value, "width": value}
    told = "clips have 17 frames at a stride of 2, where the script had 16: V5.1 packs 4k + 1 frames"
    return {"buckets": [bucket], "frame_stride": 2}, told


def _infer_size(value: Any) -> tuple[dict[str, Any], str]:
    told = "videos have 17 frames, 12 a second, 30 steps, where the script had 16 frames: V5.1 packs 4k + 1"
    return {"height": value, "width": value, "frames": 17, "fps": 12, "num_inference_steps": 30}, told


_MODEL: dict[str, Convert] = {
    "model_path.pretrained_model_name_or_path": _as(
        "base_model", "must be the folder of an EasyAnimate V5.1 text-to-video model in diffusers' layout"
    ),
    "model_path.transformer_path": _not_used("V5.1 has no motion module of its own; its transformer is in the folder"),
}
_TRAIN: dict[str, Convert] = {
    **_MODEL,
    "dataset_path.dataset_name": _as("video_root"),
    "dataset_path.dataset_meta_name": _as("dataset_path"),
    "training_config.sample_size": _train_size,
    "training_config.mixed_precision": _precision,
    "training_config.batch_size_per_gpu": _as("batch_size_per_gpu"),
    "training_config.gradient_accumulation_steps": _as("gradient_accumulation_steps"),
    "training_config.num_train_epochs": _as("epochs"),
    "training_config.dataloader_num_workers": _not_used("clips are decoded once, into the cache"),
    "training_config.seed": _as("seed"),
    "saving_config.output_dir": _as("output_dir"),
    "tracker_config.project_name": _not_used("figures stand in metrics.jsonl and in the result"),
    "tracker_config.experiment_name": _not_used("figures stand in metrics.jsonl and in the result"),
}
_INFER: dict[str, Convert] = {
    **_MODEL,
    "model_path.lora_path": _as("lora_path"),
    "infer_config.image_size": _infer_size,
    "infer_config.prompt_info_path": _as("prompt_info_path"),
    "infer_config.gpu_num": _as("processes"),
    "infer_config.batch_size": _as("batch_size"),
    "infer_config.mixed_precision": _precision,
    "infer_config.video_num_per_prompt": _as("video_num_per_prompt"),
    "infer_config.seed": _as("seed"),
    "saving_config.output_video_dir": _as("output_video_dir"),
}
_FIXED_TRAIN = {"learning_rate": 2e-5, "weight_decay": 3e-2, "checkpoint_every": 1000, "lr_warmup_steps": 0}
"""What the sandbox's script had in it; where a key of ours says otherwise, that one counts."""


def train_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` of a training in this version's layout; the sandbox's (`train.model_path...`) is translated.

    Unknown keys stay as they are, so that the model refuses them by name.
    """
    return _translated(given, _TRAIN, _FIXED_TRAIN)


def infer_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` of an inference in this version's layout; the sandbox has it below `train.` too."""
    settings = _translated(given, _INFER, {})
    if "lora_scale" in settings.values and settings.values.get("lora_path") is None:
        note = "lora_scale: has no effect without lora_path; the videos are those of the base model"
        return replace(settings, notes=(*settings.notes, note))
    return settings


def _translated(given: Mapping[str, Any], table: Mapping[str, Convert], fixed: Mapping[str, Any]) -> Settings:
    old = given.get("train")
    if not isinstance(old, Mapping):
        return without_surroundings(given)
    values: dict[str, Any] = dict(fixed)
    notes = [f"train: {V1}"]
    own = without_surroundings({key: value for key, value in given.items() if key != "train"})
    notes += own.notes
    for key, value in _leaves(old):
        if key not in table:
            values[f"train.{key}"] = value
            continue
        if value is None:
            continue
        new, note = table[key](value)
        values |= new
        if note:
            notes.append(f"train.{key} {note}" if note.startswith("is not used") else f"train.{key}: {note}")
    return Settings(values | own.values, tuple(notes), tuple(f"train.{key}" for key in table))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not prefix:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value
