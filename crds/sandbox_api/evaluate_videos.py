# SPDX-License-Identifier: Apache-2.0
"""Settings of EvaluateModelHook's type `easyanimate`: text-to-video checkpoints, judged by evaluators of one image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .easyanimate import EasyAnimateInferConfig, VideoConfig
from .evaluate_model import Goal, RankedConfig
from .extra import SAID, ComponentConfig, ExtraConfig, Settings, without_surroundings
from .heldout import FIGURES as HELDOUT_FIGURES
from .heldout import HeldoutLossConfig
from .inception import COUNTS, METRICS, InceptionConfig, inception_settings

HELDOUT, INCEPTION = "heldout_flow_loss", "video_inception_evaluator"


@dataclass(frozen=True)
class Judge:
    """What is known of a type of EvaluateDataHook that judges a checkpoint."""

    config: type[ComponentConfig]
    settings: Callable[[Mapping[str, Any]], Settings]
    filled: tuple[str, ...]
    """Settings that are those of each checkpoint: nobody writes them."""


JUDGES: Mapping[str, Judge] = {
    INCEPTION: Judge(InceptionConfig, inception_settings, ("fake_mm_dir", "fake_data_path", "result_path")),
    HELDOUT: Judge(HeldoutLossConfig, without_surroundings, ("lora_path", "base_model", "export_path")),
}
_OWN_IMAGE = {"vbench_video_evaluator": "vbench"}


def _of_this_image(value: Any) -> Any:
    if isinstance(value, str) and (image := _OWN_IMAGE.get(value)):
        raise PydanticCustomError(
            SAID,
            f"{value} runs in the image {image}, not in this job's; make videos with InferModelHook for each checkpoint"
            f" (forEach), and judge them with EvaluateDataHook of type {value}",
        )
    return value


class Evaluator(ExtraConfig):
    """One that judges every checkpoint."""

    type: Annotated[Literal["video_inception_evaluator", "heldout_flow_loss"], BeforeValidator(_of_this_image)]
    """A type of EvaluateDataHook."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """Of its figures; default: the type."""
    extra_configs: Annotated[dict[str, Any], Field(alias="extraConfigs")] = {}
    """Its settings as EvaluateDataHook has them, without those that each checkpoint brings: base_model and lora_path,
    the generated videos, and where reports are published."""

    @field_validator("extra_configs")
    @classmethod
    def _its_own(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "type" not in info.data:
            return value
        judge = JUDGES[info.data["type"]]
        if given := [key for key in judge.filled if key in value]:
            raise PydanticCustomError(SAID, f"{', '.join(given)}: leave it out, it is each checkpoint's own")
        settings = judge.settings(value)
        known = judge.config.model_fields
        for key in settings.values:
            if key not in known:
                close = get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(sorted(known))}"
                raise PydanticCustomError(SAID, f"{key}: {info.data['type']} has no such setting; {hint}")
        judge.config.model_validate({**settings.values, **dict.fromkeys(judge.filled, "each checkpoint's")})
        return settings.values

    @property
    def label(self) -> str:
        return self.name or self.type

    def settings_with(self, **own: str | None) -> Any:
        """Settings of the evaluator, an `InceptionConfig` or a `HeldoutLossConfig`. own: those of a checkpoint."""
        return JUDGES[self.type].config.model_validate({**self.extra_configs, **own})

    @property
    def draft(self) -> Any:
        """The same before there is a checkpoint."""
        return self.settings_with(**dict.fromkeys(JUDGES[self.type].filled[:2], "each checkpoint's"))

    def goal_of(self, figure: str) -> Goal | None:
        """The better direction of a figure (empty: the main one), where it is beyond doubt."""
        if self.type == HELDOUT:
            return "minimize" if figure.partition(".")[0] in ("", "loss") else None
        metric = self.draft.metric
        if figure and (not figure.startswith(metric) or figure.endswith("_std")):
            return None
        return "minimize" if METRICS[metric].family in ("frechet", "kernel") else "maximize"

    def has_figure(self, figure: str) -> bool:
        """Whether it tells one of that name; empty: the main one, told under its own name."""
        known = HELDOUT_FIGURES if self.type == HELDOUT else (f"{self.draft.metric}*", *COUNTS)
        return not figure or any(fnmatchcase(figure, pattern) for pattern in known)


class EasyAnimateEvalConfig(RankedConfig, VideoConfig):
    """Makes the same videos with each LoRA checkpoint of EasyAnimate V5.1 and has evaluators judge them. Where none of
    the evaluators looks at videos, none are made. A checkpoint is a .safetensors file that TrainModelHook has made, or
    the folder of a training, of which the last one counts."""

    evaluators: tuple[Evaluator, ...]
    """Who judges each checkpoint; figures are called `<checkpoint>.<evaluator>.<figure>`."""
    metric: str
    """What ranks them: `<evaluator>.<figure>`, or `<evaluator>` for its value."""
    goal: Goal | None = None
    """Which of them is the best; default: the metric's better direction. Needed where that is not known."""

    @field_validator("evaluators")
    @classmethod
    def _differ(cls, value: tuple[Evaluator, ...]) -> tuple[Evaluator, ...]:
        labels = [each.label for each in value]
        if not labels:
            raise PydanticCustomError(SAID, f"there is none; it takes: {', '.join(JUDGES)}")
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise PydanticCustomError(SAID, f"two of them are called {twice[0]}; give each a name")
        return value

    @classmethod
    def needed(cls, given: Mapping[str, Any]) -> Mapping[tuple[str, ...], str]:
        evaluators = given.get("evaluators")
        listed = evaluators if isinstance(evaluators, list | tuple) else ()
        looks = any(isinstance(each, Mapping) and each.get("type") == INCEPTION for each in listed)
        return {**RankedConfig.NEEDED, **(VideoConfig.NEEDED if looks else {})}

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:
        yield from VideoConfig.misfits(self, gpus, nodes)
        for number, each in enumerate(self.evaluators):
            draft, values = each.draft, each.extra_configs
            has = {**values, **dict.fromkeys(JUDGES[each.type].filled, True)}.get
            problems = [*draft.lacking(values, has), *draft.misfits(gpus, nodes)]
            yield from (f"evaluators.{number}.extraConfigs.{problem}" for problem in problems)
        judge, figure = self._ranking
        if judge is None:
            names = ", ".join(each.label for each in self.evaluators)
            yield f"metric: {self.metric!r} is not <evaluator>.<figure>; evaluators: {names}"
        elif not judge.has_figure(figure):
            yield f"metric: {judge.type} has no figure {figure!r}; {judge.label} alone is its value"
        elif self.goal is None and judge.goal_of(figure) is None:
            yield f"goal: say whether the best checkpoint has the largest {self.metric} (maximize) or the smallest"

    @property
    def _ranking(self) -> tuple[Evaluator | None, str]:
        """Whose figure ranks, and which."""
        label, _, figure = self.metric.partition(".")
        return next((each for each in self.evaluators if each.label == label), None), figure

    @property
    def direction(self) -> Goal:
        judge, figure = self._ranking
        found = self.goal or (judge.goal_of(figure) if judge else None)
        assert found is not None, "misfits have told"
        return found

    @property
    def looks_at_videos(self) -> bool:
        return any(each.type == INCEPTION for each in self.evaluators)

    @property
    def data(self) -> tuple[str, ...]:
        keys = ("dataset_path", "real_data_path", "real_mm_dir")
        of_evaluators = (each.extra_configs.get(key) for each in self.evaluators for key in keys)
        return tuple(path for path in (self.base_model, self.prompt_info_path, *of_evaluators) if path)

    def to_infer(self) -> EasyAnimateInferConfig:
        """With which InferModelHook makes the same videos, but for the LoRA."""
        return EasyAnimateInferConfig.model_validate(self.model_dump(include=set(VideoConfig.model_fields)))


def judged_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` as this version has them; upstream's name `ckpt_paths` is read as `models`."""
    settings = without_surroundings(given)
    values = dict(settings.values)
    if "ckpt_paths" not in values or "models" in values:
        return settings
    values["models"] = values.pop("ckpt_paths")
    return Settings(values, (*settings.notes, "ckpt_paths: is read as models"))
