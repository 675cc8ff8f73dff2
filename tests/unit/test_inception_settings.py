# SPDX-License-Identifier: Apache-2.0
"""What is fixed for the metrics of videos, and the table of it in the documentation."""

from pathlib import Path
from typing import get_args

import pytest

from sandbox_api.inception import (
    DETECTORS,
    METRICS,
    NEIGHBOUR,
    SPLITS,
    SUBSET_SIZE,
    SUBSETS,
    InceptionConfig,
    Metric,
    MetricName,
    inception_settings,
)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "evaluate.md"
MARK = "<!-- metrics: "


def table() -> list[str]:
    """As the page has it: change the page when this differs."""
    head = ["metric", "detector, its layer", "file", "samples a side", "a sample", "of each video", "computed"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, metric in METRICS.items():
        detector = DETECTORS[metric.detector]
        count = f"{metric.samples:,}".replace(",", " ")
        cells = [
            f"`{name}`",
            detector.layer,
            f"`{detector.file}`",
            f"at most {count}",
            *sampled(metric),
            computed(metric),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def sampled(metric: Metric) -> tuple[str, str]:
    if metric.span == 1:
        return (
            "1 frame",
            f"{metric.per_video} frames, one drawn from each of as many equal parts; all where it has fewer",
        )
    every = f", every {metric.stride}th of them" if metric.stride > 1 else ""
    return f"{metric.span} consecutive frames{every}", f"{metric.per_video} clip, its first frame drawn"


def computed(metric: Metric) -> str:
    return {
        "frechet": "covariance of the sample (n - 1)",
        "kernel": f"{SUBSETS} subsets of {SUBSET_SIZE}",
        "score": f"{SPLITS} parts; generated videos only",
        "neighbours": f"{NEIGHBOUR}rd neighbour",
    }[metric.family]


def test_the_documentation_tells_what_is_fixed() -> None:
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(MARK)) + 1
    assert lines[start : start + len(METRICS) + 2] == table()


def test_names_and_detectors_are_those_of_the_table() -> None:
    assert set(get_args(MetricName)) == set(METRICS)
    for metric in METRICS.values():
        detector = DETECTORS[metric.detector].config
        assert detector.takes_clips == (metric.span > 1)
        assert metric.family != "score" or detector.output == "probabilities"


@pytest.mark.parametrize(("protocol", "size"), [("standard", None), ("dj-compat", (240, 320))])
def test_frames_are_resized_first_as_upstream_does_or_not_at_all(protocol: str, size: tuple[int, int] | None) -> None:
    assert InceptionConfig.model_validate({"protocol": protocol}).size == size
    assert InceptionConfig.model_validate({"protocol": protocol, "height": 64, "width": 96}).size == (64, 96)


def test_keys_of_upstream_that_mean_nothing_here_are_told() -> None:
    found = inception_settings({"metric": "fid50k", "verbose": False, "replace_cache": True})
    assert found.values == {"metric": "fid50k"}
    (note,) = found.notes
    assert note.startswith("replace_cache is not used: ")
