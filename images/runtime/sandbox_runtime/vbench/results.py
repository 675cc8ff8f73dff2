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
    dimensions: Mapping[str, Scored], missing: Sequence[str], extra: Sequence[str], **more: Any
) -> dict[str, Any]:
    """Everything; `quality`, `semantic` and `total` only where no dimension is missing, else it is `partial`."""
    whole = merged(dimensions)
    official = sums(whole["detail"])
    return {
        "mean_score": whole["mean_score"],
        "partial": not official,
        **official,
        "dimensions": dict(dimensions),
        "missing": list(missing),
        "extra": list(extra),
        **more,
    }


def figures_of(report: Mapping[str, Any]) -> dict[str, float]:
    """The job's figures, the value first."""
    mean, dimensions = report["mean_score"], report["dimensions"]
    return {
        "": mean,
        "mean_score": mean,
        **{name: report[name] for name in ("quality", "semantic", "total") if name in report},
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
    for label in ("synthetic", "unfiltered"):
        if names := [name for name, each in dimensions.items() if label in each["labels"]]:
            told += f"; {label}: {', '.join(names)}"
    for count, what in ((len(report["missing"]), "missing"), (len(report["extra"]), "besides")):
        told += f"; {count} videos {what}" if count else ""
    return told
