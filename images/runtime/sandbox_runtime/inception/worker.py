# SPDX-License-Identifier: Apache-2.0
"""What a worker process does: `python -m sandbox_runtime.inception.worker FOLDER` (see `workers.desk`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sandbox_api.inception import METRICS, NEIGHBOUR, SPLITS, SUBSET_SIZE, SUBSETS, DetectorConfig, InceptionConfig

from ..easyanimate.parallel import own_device
from ..errors import UserError
from ..workers.desk import Desk, work
from . import distances
from .detector import Detector
from .features import Features, write_features
from .samples import Take


def features(job: dict[str, Any], desk: Desk) -> Any:
    """This process's share of the takes of each group, to `<group>-<rank>.f32` in the job's folder."""
    config = InceptionConfig.model_validate(job["config"])
    described = DetectorConfig.model_validate(job["detector"])
    detector = Detector(Path(job["detector_path"]), described, own_device())
    done, found = 0, {}
    for name, group in job["groups"].items():
        before = done

        def log(samples: int, before: int = before) -> None:
            nonlocal done
            done = before + samples
            if desk.rank == 0:
                desk.figures({"samples_done": done}, done)

        target = Path(job["folder"]) / f"{name}-{desk.rank}.f32"
        part = write_features(
            [Take(**take) for take in group["takes"]][desk.rank :: desk.size],
            detector,
            target,
            is_clips=METRICS[config.metric].span > 1,
            sizes=[size for size in (config.size, described.size) if size is not None],
            batch_size=config.batch_size,
            threads=torch.get_num_threads(),
            most_broken=group["most_broken"],
            should_stop=desk.should_stop,
            log=log,
        )
        found[name] = {"file": str(target), **vars(part)}
        if part.stopped or len(part.broken_videos) > group["most_broken"]:
            break
    return found


def compare(job: dict[str, Any], desk: Desk) -> Any:
    """The figures of each run, and how long that took."""
    del desk
    config = InceptionConfig.model_validate(job["config"])
    detector = DetectorConfig.model_validate(job["detector"])
    began = time.monotonic()
    runs = []
    for number, run in enumerate(job["runs"]):
        sides = {side: Features([tuple(part) for part in parts], detector.dimension) for side, parts in run.items()}
        runs.append(figures_of(config, detector, sides, config.seed + number, own_device()))
    return {"runs": runs, "seconds": time.monotonic() - began}


def figures_of(
    config: InceptionConfig, detector: DetectorConfig, sides: dict[str, Features], seed: int, device: torch.device
) -> list[float]:
    """The metric's figures, in their order. Raises UserError where there are too few samples for any figure."""
    metric = METRICS[config.metric]
    as_upstream = config.protocol == "dj-compat"
    fewest, least = min(map(len, sides.values())), {"score": 1, "neighbours": NEIGHBOUR + 1}.get(metric.family, 2)
    if fewest < least:
        raise UserError(f"{config.metric} takes at least {least} samples of each side; there are {fewest}")
    if metric.family == "frechet":
        real, fake = (
            distances.gaussian(sides[side].blocks, detector.dimension, device, of_population=as_upstream)
            for side in ("real", "fake")
        )
        return [distances.frechet_distance(real, fake)]
    if metric.family == "kernel":
        value = distances.kernel_distance(
            *_both(sides), subsets=SUBSETS, subset_size=SUBSET_SIZE, seed=seed, device=device
        )
        return [value * 1000.0 if as_upstream and config.metric == "kid50k" else value]
    if metric.family == "neighbours":
        return list(distances.precision_and_recall(*_both(sides), neighbour=NEIGHBOUR, device=device, half=as_upstream))
    given = sides["fake"].whole()
    logits = distances.logits_of(given) if detector.output == "probabilities" else given
    return list(distances.inception_score(logits, splits=SPLITS, seed=seed, device=device))


def _both(sides: dict[str, Features]) -> Sequence[NDArray[np.float32]]:
    return sides["real"].whole(), sides["fake"].whole()


SMALLER = "a smaller batch_size, or smaller frames (height and width) need less"
TASKS: dict[str, Callable[[dict[str, Any], Desk], Any]] = {"features": features, "compare": compare}


def main() -> None:
    work(TASKS, SMALLER)


if __name__ == "__main__":
    main()
