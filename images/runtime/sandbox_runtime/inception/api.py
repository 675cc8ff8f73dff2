# SPDX-License-Identifier: Apache-2.0
"""What the evaluator calls: samples are chosen here, worker processes look at them, one of them compares."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sandbox_api.inception import METRICS, DetectorConfig, InceptionConfig, Metric

from ..errors import ConfigError, UserError
from ..workers.launch import Figures, run_workers
from .samples import Look, Samples, Video, compatible_samples, look_at, standard_samples

WORKER = "sandbox_runtime.inception.worker"
SHOWN_BROKEN = 3


@dataclass(frozen=True)
class Evaluated:
    """What has come of it. Sides are `fake` and, where the metric needs it, `real`."""

    results: dict[str, float | None]
    """By upstream's names, the main figure first; None where there is no finite one."""
    value: float
    """The main figure, of several runs its mean."""
    samples: dict[str, int]
    """Of each side, in the run that had the fewest."""
    videos: dict[str, int]
    """Of each side, in the first run."""
    broken: tuple[str, ...]
    """Videos that were left out, and why."""
    problem: str | None
    """Why the result is not valid, in words; None where it is."""
    read_seconds: float
    """That a process waited for frames, in the mean."""
    detect_seconds: float
    """That the detector took, likewise."""
    compare_seconds: float


def evaluate(
    config: InceptionConfig,
    detector_path: Path,
    videos: Mapping[str, Sequence[Video]],
    *,
    scratch: Path,
    processes: int,
    cpus: int | None,
    log_metrics: Figures,
) -> Evaluated:
    """The metric of these videos.

    scratch: a folder on the volume for features. processes: those that look at samples, one a GPU. Raises UserError
    when more videos than `broken_limit` allows can't be used, and what the detector's misbehaviour is (see `Detector`).
    """
    detector, metric = config.detector or config.built_in.config, METRICS[config.metric]
    look = cache(look_at)  # each run looks at the same videos
    groups = {
        (side, run): samples_of(side, config, its, run, look)
        for side, its in videos.items()
        for run in range(config.num_runs)
    }
    most = {key: int(config.broken_limit * samples.looked) for key, samples in groups.items()}
    folder = scratch / "features"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"config": config.model_dump(mode="json"), "detector": detector.model_dump(mode="json")}
    about = {"together": False, "on_figures": log_metrics, "should_stop": lambda: False}
    told = run_workers(
        WORKER,
        "features",
        {
            **settings,
            "detector_path": str(detector_path.absolute()),
            "folder": str(folder.absolute()),
            "groups": {
                _name(key): {
                    "takes": [asdict(take) for take in samples.takes],
                    "most_broken": most[key] - len(samples.broken),
                }
                for key, samples in groups.items()
            },
        },
        processes=processes,
        cpus=cpus,
        scratch=scratch / "look",
        **about,
    )
    broken: dict[str, list[str]] = {side: [] for side in videos}
    for (side, run), samples in groups.items():
        undecoded = {
            video: words for each in told for video, words in each.get(_name((side, run)), {}).get("broken", ())
        }
        found = [
            *samples.broken,
            *(f"{videos[side][video].name} {words}" for video, words in sorted(undecoded.items())),
        ]
        refuse_broken(side, config, found, most[side, run], samples.looked)
        broken[side] += [sentence for sentence in found if sentence not in broken[side]]
    runs = [
        {side: [_part(each[_name((side, run))]) for each in told] for side in videos} for run in range(config.num_runs)
    ]
    (compared,) = run_workers(
        WORKER,
        "compare",
        {**settings, "runs": runs},
        processes=1,
        cpus=cpus,
        scratch=scratch / "compare",
        **about,
    )
    counts = {side: min(sum(len(numbers) for _, numbers, _ in run[side]) for run in runs) for side in videos}
    results, value = named_results(config.metric, compared["runs"])
    if not math.isfinite(value):
        raise UserError(
            f"{config.metric} is not finite ({value}): what the detector gives is too large to compute with"
        )
    parts = [part for each in told for part in each.values()]
    return Evaluated(
        results=results,
        value=value,
        samples=counts,
        videos={side: groups[side, 0].videos for side in videos},
        broken=tuple(sentence for sentences in broken.values() for sentence in sentences),
        problem=problem_of(metric, detector, counts),
        read_seconds=sum(part["read_seconds"] for part in parts) / processes,
        detect_seconds=sum(part["detect_seconds"] for part in parts) / processes,
        compare_seconds=compared["seconds"],
    )


def samples_of(side: str, config: InceptionConfig, videos: Sequence[Video], run: int, look: Look) -> Samples:
    """What is taken of one side in one run. Raises UserError when too many videos can't be used."""
    choose = compatible_samples if config.protocol == "dj-compat" else standard_samples
    samples = choose(METRICS[config.metric], videos, look, config.seed, run)
    refuse_broken(side, config, samples.broken, int(config.broken_limit * samples.looked), samples.looked)
    if not samples.count:
        raise ConfigError(f"extraConfigs.{_field(side, config)}: no video is left to take samples of")
    return samples


def refuse_broken(side: str, config: InceptionConfig, broken: Sequence[str], most: int, looked: int) -> None:
    """Raises UserError with the first of them when there are more than the most."""
    if len(broken) <= most:
        return
    more = f"; and {len(broken) - SHOWN_BROKEN} more" if len(broken) > SHOWN_BROKEN else ""
    raise UserError(
        f"extraConfigs.{_field(side, config)}: {len(broken)} of {looked} videos can't be used, and broken_limit allows"
        f" {most}: {'; '.join(broken[:SHOWN_BROKEN])}{more}"
    )


def problem_of(metric: Metric, detector: DetectorConfig, counts: Mapping[str, int]) -> str | None:
    """Why a result says little: the covariance of fewer samples than its dimension + 1 is singular.

    The other metrics estimate no covariance; they are noisier with few samples, not wrong.
    """
    fewest = min(counts.values())
    if metric.family != "frechet" or fewest > detector.dimension:
        return None
    return f"{fewest} samples are fewer than the detector's {detector.dimension} dimensions + 1"


def named_results(metric: str, runs: Sequence[Sequence[float]]) -> tuple[dict[str, float | None], float]:
    """Figures of each run by upstream's names, and the value: the main one, of several runs its mean.

    Of several runs: `<figure>_run01`, ..., `<figure>_mean`, `<figure>_std` (of these runs as the population).
    """
    results: dict[str, float | None] = {}
    values = []
    for place, ending in enumerate(METRICS[metric].figures):
        name, found = f"{metric}{ending}", [run[place] for run in runs]
        values.append(statistics.fmean(found))
        if len(runs) == 1:
            results[name] = _finite(found[0])
            continue
        results |= {f"{name}_run{number:02d}": _finite(value) for number, value in enumerate(found, 1)}
        results[f"{name}_mean"] = _finite(values[-1])
        results[f"{name}_std"] = _finite(statistics.pstdev(found)) if all(map(math.isfinite, found)) else None
    return results, values[0]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _field(side: str, config: InceptionConfig) -> str:
    """The setting that names a side's videos."""
    return f"{side}_data_path" if getattr(config, f"{side}_data_path") is not None else f"{side}_mm_dir"


def _name(group: tuple[str, int]) -> str:
    return "{}-{}".format(*group)


def _part(told: Mapping[str, Any]) -> tuple[str, list[int], list[float]]:
    return told["file"], told["numbers"], told["weights"]
