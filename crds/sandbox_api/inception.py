# SPDX-License-Identifier: Apache-2.0
"""Settings of `video_inception_evaluator`, and all that is fixed for each of its metrics: this file is the one place.

Names are those of Data-Juicer's sandbox. Definitions: Heusel et al. 2017 (FID), Binkowski et al. 2018 (KID), Salimans
et al. 2016 (IS), Unterthiner et al. 2018 (FVD, KVD), Saito et al. 2020 (IS of videos), Kynkaanniemi et al. 2019
(precision and recall). Nothing of this imports torch: the planner reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from .extra import ComponentConfig, ExtraConfig, Settings, too_many, without_surroundings

Side = Annotated[int, Field(ge=8, le=8192)]
Family = Literal["frechet", "kernel", "score", "neighbours"]


class DetectorConfig(ExtraConfig):
    """How a TorchScript detector is called and what it gives; its file is `detector_path`."""

    layout: Literal["BCTHW", "BTCHW", "BCHW"]
    """Order of the dimensions that it takes: batch, channels (red, green, blue), time, height, width. BCHW: single
    frames."""
    range: Literal["uint8"] | tuple[float, float] = "uint8"
    """Values that it takes: bytes from 0 to 255, or fp32 from the first number (black) to the second (white)."""
    size: tuple[Side, Side] | None = None
    """Height and width that frames are resized to for it, bilinearly; without one it resizes them itself."""
    arguments: Mapping[str, bool | int | float | str] = {}
    """What it is called with besides the frames, by name."""
    output: Literal["features", "logits", "probabilities"]
    """What it gives for each sample: features, or of a classifier the logits or the probabilities of its classes."""
    dimension: Annotated[int, Field(ge=1, le=65536)]
    """How many numbers that is."""

    @property
    def takes_clips(self) -> bool:
        return "T" in self.layout


@dataclass(frozen=True)
class BuiltIn:
    """A detector that metrics are defined with. The weights come from the user."""

    file: str
    """As upstream names it."""
    layer: str
    """What its output is, for people."""
    config: DetectorConfig


_LOGITS = {"rescale": True, "resize": True, "return_features": True}
DETECTORS: Mapping[str, BuiltIn] = {
    "i3d": BuiltIn(
        "i3d_torchscript.pt",
        "I3D (Kinetics-400), the 400 logits before softmax",
        DetectorConfig(layout="BCTHW", arguments=_LOGITS, output="logits", dimension=400),
    ),
    "c3d": BuiltIn(
        "c3d_ucf101.pt",
        "C3D (UCF-101), the probabilities of 101 classes",
        DetectorConfig(layout="BCTHW", output="probabilities", dimension=101),
    ),
    "inception": BuiltIn(
        "inception-2015-12-05.pt",
        "Inception (2015), the 2048 features of the last pooling",
        DetectorConfig(layout="BCHW", arguments={"return_features": True}, output="features", dimension=2048),
    ),
    "inception_classes": BuiltIn(
        "inception-2015-12-05.pt",
        "Inception (2015), the probabilities of 1008 classes, without the last layer's bias",
        DetectorConfig(layout="BCHW", arguments={"no_output_bias": True}, output="probabilities", dimension=1008),
    ),
    "vgg16": BuiltIn(
        "vgg16.pt",
        "VGG-16, the 4096 features of the second fully connected layer",
        DetectorConfig(layout="BCHW", arguments={"return_features": True}, output="features", dimension=4096),
    ),
}


@dataclass(frozen=True)
class Metric:
    """What is fixed for one metric. A sample is a clip, or with `span` 1 a single frame."""

    family: Family
    detector: str
    samples: int
    """At most, of either side."""
    span: int = 1
    """Frames of a video that a clip stretches over."""
    stride: int = 1
    """Every how many of them one is taken."""
    per_video: int = 1
    """Samples of each video."""

    @property
    def figures(self) -> tuple[str, ...]:
        """What is appended to the metric's name, the main figure first."""
        return {"frechet": ("",), "kernel": ("",), "score": ("_mean", "_std"), "neighbours": ("_precision", "_recall")}[
            self.family
        ]

    @property
    def needs_real(self) -> bool:
        return self.family != "score"


FRAMES_A_VIDEO = 16
SUBSETS, SUBSET_SIZE = 100, 1000
"""KID and KVD: the mean over so many random subsets of so many samples, or of as many as there are."""
SPLITS = 10
"""Inception score: mean and spread over so many parts."""
NEIGHBOUR = 3
"""Precision and recall: radius of a sample's surroundings, to that neighbour of it."""

METRICS: Mapping[str, Metric] = {
    "fvd2048_16f": Metric("frechet", "i3d", 2048, span=16),
    "fvd2048_128f": Metric("frechet", "i3d", 2048, span=128),
    "fvd2048_128f_subsample8f": Metric("frechet", "i3d", 2048, span=128, stride=8),
    "kvd2048_16f": Metric("kernel", "i3d", 2048, span=16),
    "isv2048_ucf": Metric("score", "c3d", 2048, span=16),
    "prv2048_3n_16f": Metric("neighbours", "i3d", 2048, span=16),
    "fid50k": Metric("frechet", "inception", 50_000, per_video=FRAMES_A_VIDEO),
    "kid50k": Metric("kernel", "inception", 50_000, per_video=FRAMES_A_VIDEO),
    "is50k": Metric("score", "inception_classes", 50_000, per_video=FRAMES_A_VIDEO),
    "pr50k_3n": Metric("neighbours", "vgg16", 50_000, per_video=FRAMES_A_VIDEO),
}
MetricName = Literal[
    "fvd2048_16f",
    "fvd2048_128f",
    "fvd2048_128f_subsample8f",
    "kvd2048_16f",
    "isv2048_ucf",
    "prv2048_3n_16f",
    "fid50k",
    "kid50k",
    "is50k",
    "pr50k_3n",
]
COUNTS = ("samples.*", "videos.*", "broken", "valid", "seconds", "*_seconds")
FIGURES = (*(f"{name}*" for name in METRICS), *COUNTS)
"""Names of what is told; with several runs `_mean`, `_std`, `_run01`, ... end the first ones."""
DEFAULT_METRIC: MetricName = "fvd2048_16f"
COMPAT_SIZE = (240, 320)
"""Height and width that upstream resizes frames to."""


class InceptionConfig(ComponentConfig):
    """How far generated videos are from real ones, in what a detector sees in them."""

    metric: MetricName = DEFAULT_METRIC
    """What is computed; upstream's names."""
    fake_data_path: str | None = None
    """The generated videos: rows with `videos` (.jsonl, .json, .parquet). Without it, all of the folder."""
    fake_mm_dir: str | None = None
    """Folder where their relative names begin; without `fake_data_path`: the folder of the videos themselves."""
    real_data_path: str | None = None
    """The real videos, likewise; isv2048_ucf and is50k need none."""
    real_mm_dir: str | None = None
    """Folder where their relative names begin, or the folder of the videos."""
    detector_path: str | None = None
    """The detector as TorchScript: a file, or the folder that has it under its own name. Default: on the volume,
    cache/detectors. Nothing is downloaded."""
    detector: DetectorConfig | None = None
    """How the detector is called, where it is not the one that the metric is defined with."""
    result_path: str | None = None
    """Where the result is published: a line of JSON, after those that an earlier run of the job has left there."""
    num_runs: Annotated[int, Field(ge=1, le=100)] = 1
    """How often it is computed, each time from samples that are drawn anew; with several, mean and spread are told."""
    protocol: Literal["standard", "dj-compat"] = "standard"
    """How samples are taken. dj-compat: as upstream takes them (videos used again until there are enough clips, frames
    of 240 x 320, every frame for FID, covariance of the population, KID times 1000)."""
    height: Side | None = None
    """Pixels that frames are resized to before the detector sees them; default: as they are, with dj-compat 240."""
    width: Side | None = None
    """Likewise; with dj-compat 320."""
    seed: int = 42
    """With a video's name it decides which samples are taken of it."""
    broken_limit: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the videos that may be unreadable or too short; they are named and left out. With more the job fails."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    """Samples that the detector gets at a time."""
    processes: Annotated[int, Field(ge=1)] | None = None
    """Processes, one a GPU; by default as many as the job has GPUs, and one without."""

    NEEDED: ClassVar = {
        ("fake_data_path", "fake_mm_dir"): "name the generated videos, a data set or a folder, or fill one with input"
    }

    @classmethod
    def needed(cls, given: Mapping[str, Any]) -> Mapping[tuple[str, ...], str]:
        metric = METRICS.get(_as_ours(given.get("metric", DEFAULT_METRIC)))
        if metric is None or not metric.needs_real:
            return cls.NEEDED
        return {
            **cls.NEEDED,
            ("real_data_path", "real_mm_dir"): "name the real videos, a data set or a folder, or fill one with input",
        }

    @field_validator("metric", mode="before")
    @classmethod
    def _as_upstream_writes_it(cls, value: Any) -> Any:
        return _as_ours(value)

    @model_validator(mode="after")
    def _fits(self) -> InceptionConfig:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width: give both or none of them")
        metric, detector = METRICS[self.metric], self.detector
        if detector is not None:
            if detector.takes_clips != (metric.span > 1):
                takes = "clips: layout must be BCTHW or BTCHW" if metric.span > 1 else "frames: layout must be BCHW"
                raise ValueError(f"detector.layout: {self.metric} is computed from {takes}")
            if metric.family == "score" and detector.output == "features":
                raise ValueError(f"detector.output: {self.metric} needs a classifier's logits or probabilities")
        return self

    def misfits(self, gpus: int, nodes: int) -> Iterator[str]:  # noqa: ARG002
        yield from too_many(self.processes, gpus)

    @property
    def built_in(self) -> BuiltIn:
        """What the metric is defined with."""
        return DETECTORS[METRICS[self.metric].detector]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that frames are resized to before all else."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        return COMPAT_SIZE if self.protocol == "dj-compat" else None


def _as_ours(name: Any) -> Any:
    return "pr50k_3n" if name == "pr50k3n" else name


_NOT_USED = {
    "replace_cache": "features are computed for each job, and an equal job's result is used again as a whole",
    "verbose": "the job's log tells how far it is",
}


def inception_settings(given: Mapping[str, Any]) -> Settings:
    """`extraConfigs` without keys of upstream that have no meaning here, each with a note."""
    own = without_surroundings({key: value for key, value in given.items() if key not in _NOT_USED})
    notes = [f"{key} is not used: {why}" for key, why in _NOT_USED.items() if given.get(key)]
    return Settings(own.values, (*own.notes, *notes))
