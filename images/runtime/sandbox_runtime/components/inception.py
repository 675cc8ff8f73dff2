# SPDX-License-Identifier: Apache-2.0
"""FVD, FID and their kin: how far generated videos are from real ones."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sandbox_api.inception import METRICS, InceptionConfig

from ..data_juicer.errors import DatasetError
from ..data_juicer.rows import read_rows
from ..digests import digest_of
from ..errors import ConfigError
from ..hooks.base import Artifact, HookContext, HookResult
from ..inception.api import Evaluated, evaluate
from ..inception.samples import SUFFIXES, Video, videos_in, videos_of
from .base import BaseEvaluator

SHELF = "detectors"
"""Folder of the volume's cache where detectors are looked for."""
KEPT_BROKEN = 1000


class InceptionEvaluator(BaseEvaluator):
    """type: video_inception_evaluator. Value: the metric; of precision and recall the precision. Report: JSON lines,
    as upstream appends them to `result_path`: `results` by upstream's names, and what they were computed from.

    Metrics: the results; `samples.fake`, `samples.real`, `videos.fake`, `videos.real`, `broken`; `valid` (0 where a
    covariance was made of fewer samples than its dimension + 1); `seconds`, `read_seconds`, `detect_seconds`,
    `compare_seconds`.
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        began, context = time.monotonic(), self.for_job()
        config: InceptionConfig = context.extra
        detector = detector_file(config, context)
        sides = ("fake", "real") if METRICS[config.metric].needs_real else ("fake",)
        processes = config.processes or max(1, context.contract.limits.gpus)
        found = evaluate(
            config,
            detector,
            {side: videos_of_side(side, config, context) for side in sides},
            scratch=context.scratch,
            processes=processes,
            cpus=context.cpus,
            log_metrics=lambda figures, step: context.metrics.log(figures, step=step),
        )
        for sentence in found.broken:
            print(f"left out: {sentence}", flush=True)
        seconds = time.monotonic() - began
        report, published = context.out / "results.jsonl", context.user_path("extraConfigs.result_path")
        line = json.dumps(line_of(config, found, detector, seconds, processes), ensure_ascii=False, allow_nan=False)
        report.write_text(earlier_lines(published) + line + "\n", encoding="utf-8")
        return HookResult(
            outputs=[found.value, Artifact(report, publish=published)],
            metrics={
                "": found.value,
                **{name: value for name, value in found.results.items() if value is not None},
                "valid": float(found.problem is None),
                **{f"samples.{side}": float(count) for side, count in found.samples.items()},
                **{f"videos.{side}": float(count) for side, count in found.videos.items()},
                "broken": float(len(found.broken)),
                "seconds": seconds,
                "read_seconds": found.read_seconds,
                "detect_seconds": found.detect_seconds,
                "compare_seconds": found.compare_seconds,
            },
            message=_sentence(config, found),
        )


def detector_file(config: InceptionConfig, context: HookContext) -> Path:
    """The detector's file. Raises ConfigError, which names it, when it is not there."""
    name = config.built_in.file
    if config.detector_path is None:
        path = context.workspace.cache / SHELF / name
        if not path.is_file():
            raise ConfigError(
                f"extraConfigs.detector_path: {config.metric} needs {name} ({config.built_in.layer}, TorchScript), and"
                f" there is no {path}; put it there, or name its path here, e.g. what a FetchHook has brought"
            )
        context.read.add(str(path))
        return path
    path = context.workspace.inside(config.detector_path, "extraConfigs.detector_path")
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(
            f"extraConfigs.detector_path: there is no file {context.workspace.user_name(file)}; {config.metric} needs"
            f" {name} ({config.built_in.layer}) as TorchScript, or another detector that `detector` describes"
        )
    return file


def videos_of_side(side: str, config: InceptionConfig, context: HookContext) -> list[Video]:
    """The videos of the side `fake` or `real`. Raises ConfigError when none is named, or there is none."""
    data, folder = getattr(config, f"{side}_data_path"), getattr(config, f"{side}_mm_dir")
    if data is None and folder is None:
        raise ConfigError(
            f"extraConfigs.{side}_data_path: name the videos, or their folder in {side}_mm_dir; {config.metric} needs"
            " them"
        )
    root = context.workspace.inside(folder, f"extraConfigs.{side}_mm_dir") if folder else None
    if root is not None and not root.is_dir():
        raise ConfigError(f"extraConfigs.{side}_mm_dir: there is no folder {folder}")
    if data is None and root is not None:
        videos = videos_in(root)
        if not videos:
            endings = ", ".join(sorted(SUFFIXES))
            raise ConfigError(f"extraConfigs.{side}_mm_dir: {folder} holds no video (a file that ends in {endings})")
        return videos
    field = f"extraConfigs.{side}_data_path"
    file = context.workspace.inside(data, field)
    if not file.is_file():
        raise ConfigError(f"{field}: there is no file {data}")
    roots = [*([root] if root else []), file.parent, context.workspace.experiment]
    try:
        videos = videos_of(read_rows(file), roots)
    except DatasetError as error:
        raise ConfigError(f"{field}: {error.problem}") from error
    if not videos:
        raise ConfigError(f"{field}: {data} holds no rows")
    return videos


def line_of(
    config: InceptionConfig, found: Evaluated, detector: Path, seconds: float, processes: int
) -> dict[str, Any]:
    """What is appended to `result_path`: upstream's keys first."""
    described = config.detector or config.built_in.config
    return {
        "results": found.results,
        "metric": config.metric,
        "total_time": seconds,
        "total_time_str": f"{int(seconds // 60)}m {seconds % 60:04.1f}s",
        "world_size": processes,
        "num_runs": config.num_runs,
        "fake_data_path": config.fake_data_path or config.fake_mm_dir,
        "real_data_path": config.real_data_path or config.real_mm_dir,
        "protocol": config.protocol,
        "seed": config.seed,
        "samples": found.samples,
        "valid": found.problem is None,
        "not_valid_because": found.problem,
        "broken": list(found.broken[:KEPT_BROKEN]),
        "detector": {"file": detector.name, "sha256": digest_of(detector).content, **described.model_dump(mode="json")},
    }


def earlier_lines(published: Path | None) -> str:
    """What stands under the name that results are appended to: the lines of earlier runs of the job."""
    if published is None or not published.is_file():
        return ""
    text = published.read_text(encoding="utf-8", errors="replace")
    return text if not text or text.endswith("\n") else text + "\n"


def _sentence(config: InceptionConfig, found: Evaluated) -> str:
    real = f" and {found.samples['real']} real" if "real" in found.samples else ""
    left_out = f", {len(found.broken)} videos left out" if found.broken else ""
    problem = f"; NOT VALID: {found.problem}" if found.problem else ""
    return f"{config.metric} {found.value:.6g} of {found.samples['fake']} generated{real} samples{left_out}{problem}"
