# SPDX-License-Identifier: Apache-2.0
"""The result files: those of Data-Juicer's sandbox, and `report.json`, which says what the scores are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox_api.vbench import DIMENSIONS, sums

REPORT = "report.json"

Scored = dict[str, Any]
"""One dimension in the report: `score` (raw), `normalized`, `videos`, `scored`, `missing`, `seconds`, `labels`,
`weights`, `licences`."""


def file_of(eval_name: str, dimension: str) -> str:
    """The result of one dimension: `{dimension: [score, [{video_path, video_results}, ...]]}`."""
    return f"{eval_name}-{dimension}_eval_results.json"


def info_of(eval_name: str, dimension: str) -> str:
    """The prompts and videos that it was scored on."""
    return f"{eval_name}-{dimension}_full_info.json"


def merged_file(eval_name: str) -> str:
    return f"{eval_name}_merged_results.json"


def merged(dimensions: Mapping[str, Scored]) -> dict[str, Any]:
    """What the sandbox writes, and whose `mean_score` it returns: the plain mean of raw scores."""
    detail = {name: each["score"] for name, each in dimensions.items()}
    return {"mean_score": sum(detail.values()) / len(detail), "detail": detail}


def report_of(
    dimensions: Mapping[str, Scored], missing: Sequence[str], extra: Sequence[str], *, own_prompts: bool, **more: Any
) -> dict[str, Any]:
    """Everything; `quality`, `semantic` and `total` only where no dimension is missing, else it is `partial`.

    Figures are `official`, to be set beside those of the leaderboard, only where there is nothing to be said `why` not.
    own_prompts: all of VBench's own prompts were asked for, and no others.
    """
    whole = merged(dimensions)
    summed, why = sums(whole["detail"]), doubts(dimensions, missing, own_prompts=own_prompts)
    return {
        "mean_score": whole["mean_score"],
        "partial": not summed,
        **summed,
        "official": not why,
        "why": why,
        "dimensions": dict(dimensions),
        "missing": list(missing),
        "extra": list(extra),
        **more,
    }


def doubts(dimensions: Mapping[str, Scored], missing: Sequence[str], *, own_prompts: bool) -> list[str]:
    """Why the figures are not the leaderboard's; empty where they may be."""
    found = []
    if left := [name for name in DIMENSIONS if name not in dimensions]:
        found.append(f"{len(left)} of {len(DIMENSIONS)} dimensions are not scored")
    for label in ("synthetic", "unfiltered"):
        if names := [name for name, each in dimensions.items() if label in each["labels"]]:
            found.append(f"{label}: {', '.join(names)}")
    if missing:
        found.append(f"{len(missing)} videos missing")
    if not own_prompts:
        found.append("the prompts are not all of VBench's own")
    return found


def figures_of(report: Mapping[str, Any]) -> dict[str, float]:
    """The job's figures, the value first."""
    mean, dimensions = report["mean_score"], report["dimensions"]
    return {
        "": mean,
        "mean_score": mean,
        **{name: report[name] for name in ("quality", "semantic", "total") if name in report},
        "official": float(report["official"]),
        **{name: each["score"] for name, each in dimensions.items()},
        "dimensions": len(dimensions),
        "videos": report["videos"],
        "missing": len(report["missing"]),
        "extra": len(report["extra"]),
        "seconds": sum(each["seconds"] for each in dimensions.values()),
    }


def sentence(report: Mapping[str, Any]) -> str:
    """One for people: the mean, what it is a mean of, and what is to be known about it."""
    dimensions = report["dimensions"]
    told = f"mean score {report['mean_score']:.4f} of {len(dimensions)} of {len(DIMENSIONS)} dimensions"
    told += f", total {report['total']:.4f}" if "total" in report else " (partial, no total)"
    told += f"; {len(report['extra'])} videos besides" if report["extra"] else ""
    told += f"; not official: {'; '.join(report['why'])}" if report["why"] else ""
    return told
