# SPDX-License-Identifier: Apache-2.0
"""VBench's dimensions, how the leaderboard sums them up, and the settings of the evaluator that runs them.

Source: Huang et al. 2024, "VBench: Comprehensive Benchmark Suite for Video Generative Models"; constants and sums from
VBench's scripts/constant.py and scripts/cal_final_score.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from .extra import SAID, ComponentConfig, Settings, without_surroundings

Path = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Dimension:
    """One of the sixteen: what its raw score is on the leaderboard's scale, and in which sum it counts."""

    least: float = 0.0
    most: float = 1.0
    weight: float = 1.0
    semantic: bool = False
    """Whether it counts in Semantic; else in Quality."""
    of_prompts: bool = False
    """Whether it needs what VBench's own prompts say of themselves (an object, a colour); no other prompts do."""

    def normalized(self, score: float) -> float:
        """From a raw score to the share of the way from the least to the most."""
        return (score - self.least) / (self.most - self.least)


DIMENSIONS: dict[str, Dimension] = {
    "subject_consistency": Dimension(0.1462),
    "background_consistency": Dimension(0.2615),
    "temporal_flickering": Dimension(0.6293),
    "motion_smoothness": Dimension(0.706, 0.9975),
    "dynamic_degree": Dimension(weight=0.5),
    "aesthetic_quality": Dimension(),
    "imaging_quality": Dimension(),
    "object_class": Dimension(semantic=True, of_prompts=True),
    "multiple_objects": Dimension(semantic=True, of_prompts=True),
    "human_action": Dimension(semantic=True),
    "color": Dimension(semantic=True, of_prompts=True),
    "spatial_relationship": Dimension(semantic=True, of_prompts=True),
    "scene": Dimension(0.0, 0.8222, semantic=True, of_prompts=True),
    "appearance_style": Dimension(0.0009, 0.2855, semantic=True, of_prompts=True),
    "temporal_style": Dimension(0.0, 0.364, semantic=True),
    "overall_consistency": Dimension(0.0, 0.364, semantic=True),
}
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4.0, 1.0
GRIT = ("object_class", "multiple_objects", "color", "spatial_relationship")
"""Dimensions that GRiT judges, which is written for detectron2."""
DETECTRON2 = "b7c7f4ba"
"""Beginning of the commit of detectron2 that Data-Juicer's sandbox names."""

Name = Literal[
    "subject_consistency", "background_consistency", "temporal_flickering", "motion_smoothness", "dynamic_degree",
    "aesthetic_quality", "imaging_quality", "object_class", "multiple_objects", "human_action", "color",
    "spatial_relationship", "scene", "appearance_style", "temporal_style", "overall_consistency",
]  # fmt: skip


def sums(scores: Mapping[str, float]) -> dict[str, float]:
    """The leaderboard's `quality`, `semantic` and `total` of raw scores, as shares of 1; none where a dimension is
    missing."""
    if set(scores) != set(DIMENSIONS):
        return {}
    quality, semantic = _sum(scores, semantic=False), _sum(scores, semantic=True)
    total = (QUALITY_WEIGHT * quality + SEMANTIC_WEIGHT * semantic) / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)
    return {"quality": quality, "semantic": semantic, "total": total}


def _sum(scores: Mapping[str, float], *, semantic: bool) -> float:
    counted = {name: each for name, each in DIMENSIONS.items() if each.semantic is semantic}
    weighed = sum(each.normalized(scores[name]) * each.weight for name, each in counted.items())
    return weighed / sum(each.weight for each in counted.values())


class VBenchConfig(ComponentConfig):
    """Generated videos, judged by VBench's own code, one dimension after the other."""

    NEEDED: ClassVar = {("videos_path",): "name the folder of the videos, or fill it with input, e.g. <infer>.dir"}

    videos_path: Path | None = None
    """The folder of the videos, `.mp4`: five for each prompt of the info file, named `<prompt>-<0..4>.mp4`, as
    InferModelHook writes them."""
    dimension_list: Annotated[list[Name], Field(min_length=1)]
    """Which of the sixteen to score. With `shards` they are divided among pods."""
    full_json_dir: Path | None = None
    """The info file: prompts, and the dimensions that each is for (VBench_mini_info.json); default: the 946 prompts
    that come with VBench. Older name: prompt_path."""
    output_path: Path | None = None
    """Where the folder of result files is published. Older name: result_dir."""
    eval_name: Annotated[str, Field(pattern=r"^[^/\x00]{1,100}$")] = "vbench_evaluator"
    """What the names of the result files begin with."""
    mode: Literal["vbench_standard", "custom_input"] = "vbench_standard"
    """custom_input: all videos of the folder count, whatever they are named; the name without `-<number>` is the
    prompt."""
    weights_path: Path | None = None
    """The folder of the models' weights, laid out as VBench's cache is; default: VBENCH_CACHE_DIR of the pod, else
    cache/vbench on the volume. Nothing is ever downloaded."""
    static_filter: Annotated[bool, Field(alias="staticFilter")] = False
    """Before temporal_flickering leave out videos that move, by VBench's filter (RAFT): of the videos <prompt>-0 to -24
    the first five static ones count. Without it the score is marked `unfiltered`."""
    detectron2: bool = False
    """Whether the job's image was built with detectron2 (images/README.md), which GRiT's four dimensions need."""
    processes: Annotated[int, Field(ge=1)] | None = None
    """How many dimensions are scored at a time in a pod; default: one a GPU, or one. Older name: num_gpus."""

    @model_validator(mode="after")
    def _can_be_scored(self) -> Self:
        names = self.dimension_list
        if len(set(names)) < len(names):
            raise _said(f"dimension_list: {next(name for name in names if names.count(name) > 1)} stands in it twice")
        if not self.detectron2 and (grit := [name for name in names if name in GRIT]):
            raise _said(
                f"dimension_list: {', '.join(grit)} can't be scored: GRiT needs detectron2, which no image has unless"
                " its builder supplies it (images/README.md); then say detectron2: true"
            )
        if self.mode == "custom_input" and (bound := [name for name in names if DIMENSIONS[name].of_prompts]):
            raise _said(
                f"dimension_list: {', '.join(bound)} can't be scored with mode custom_input: VBench knows what to look"
                " for only in its own prompts"
            )
        if self.static_filter and "temporal_flickering" not in names:
            raise _said("staticFilter: is for temporal_flickering, which is not in dimension_list; leave it out")
        if self.static_filter and self.mode == "custom_input":
            raise _said("staticFilter: chooses among the videos of VBench's prompts; leave mode at vbench_standard")
        return self

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002  # dimensions are scored apart
        if self.processes is not None and 0 < gpus < self.processes:
            yield f"processes: {self.processes} are more than the {gpus} GPUs of a pod; leave it out to have one a GPU"


def _said(sentence: str) -> PydanticCustomError:
    return PydanticCustomError(SAID, sentence)


_OLDER = {"prompt_path": "full_json_dir", "result_dir": "output_path", "num_gpus": "processes"}
"""Keys of older versions of Data-Juicer's sandbox, or of its way to start processes."""


def vbench_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` with the newest names of the sandbox's keys; its two ways of writing them are understood."""
    own = without_surroundings(given)
    values, notes = dict(own.values), list(own.notes)
    for older, newer in _OLDER.items():
        if older in values and newer not in values:
            values[newer] = values.pop(older)
    if "load_ckpt_from_local" in values:
        del values["load_ckpt_from_local"]
        notes.append("load_ckpt_from_local is not used: weights are read from the volume, never downloaded")
    return Settings(values, tuple(notes))
