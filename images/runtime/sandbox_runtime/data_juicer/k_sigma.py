# SPDX-License-Identifier: Apache-2.0
"""k-sigma refinement of a recipe: each bound of a filter becomes `mean - k*std` or `mean + k*std` of the
filter's own statistic.

Pure: plain data in, plain data out, no import of Data-Juicer. The rule is Data-Juicer's
(`tools/hpo/execute_hpo_3sigma.py`); it differs where that tool goes wrong: an operator with several
statistics gets each bound from the right one, bounds left at their default are refined too, and what comes
out is valid for the operator (whole numbers rounded outward, proportions within [0, 1]).
"""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

# Statistics that lie in [0, 1] by definition.
PROPORTIONS = frozenset(
    [
        "alnum_ratio",
        "char_rep_ratio",
        "face_ratios",
        "flagged_words_ratio",
        "image_aesthetics_scores",
        "image_nsfw_score",
        "image_pair_similarity",
        "image_subplot_confidence",
        "image_text_matching_score",
        "image_text_similarity",
        "image_watermark_prob",
        "lang_score",
        "llm_analysis_score",
        "llm_difficulty_score",
        "llm_quality_score",
        "llm_task_relevance",
        "phrase_grounding_recall",
        "special_char_ratio",
        "stopwords_ratio",
        "text_embd_similarity",
        "text_pair_similarity",
        "video_frames_aesthetics_score",
        "video_frames_text_similarity",
        "video_nsfw_score",
        "video_ocr_area_ratio",
        "video_watermark_prob",
        "word_rep_ratio",
    ]
)

# Counts, lengths, sizes, durations: never negative.
NON_NEGATIVE = frozenset(
    [
        "alpha_token_ratio",
        "aspect_ratios",
        "audio_duration",
        "audio_sizes",
        "avg_line_length",
        "face_counts",
        "horizontal_peak_count",
        "ifd_score",
        "image_height",
        "image_sizes",
        "image_width",
        "llm_perplexity",
        "max_line_length",
        "num_action",
        "num_dependency_edges",
        "num_token",
        "num_words",
        "perplexity",
        "text_len",
        "vertical_peak_count",
        "video_aspect_ratios",
        "video_duration",
        "video_height",
        "video_motion_score",
        "video_width",
    ]
)


@dataclass(frozen=True)
class Argument:
    """An operator's argument: `type` is int, float, str, bool or other, `default` what the operator takes
    without it.
    """

    type: str
    default: Any


@dataclass(frozen=True)
class Change:
    """One refined bound: `before` and `after` as the recipe writes them, `bound` the figure before rounding
    and clamping.
    """

    index: int
    op: str
    arg: str
    stat: str
    before: Any
    bound: float
    after: Any


def refine(
    process: Sequence[Mapping[str, Any]],
    overall: Mapping[str, Mapping[str, float]],
    op_stats: Mapping[str, Collection[str]],
    op_args: Mapping[str, Mapping[str, Argument]],
    k: float = 3.0,
) -> tuple[list[dict[str, Any]], list[Change]]:
    """Return a refined copy of `process` and what changed.

    `overall` holds `mean` and `std` (of the sample) for each statistic. A statistic without them, or with NaN
    (the std of one row), changes nothing; nor does an argument that no statistic of its operator names.
    """
    if not (math.isfinite(k) and k > 0):
        raise ValueError(f"k must be a positive number, not {k!r}")
    refined = copy.deepcopy([dict(entry) for entry in process])
    changes: list[Change] = []
    for index, entry in enumerate(refined):
        for op, given in entry.items():
            arguments = dict(given or {})
            measured = {stat: overall[stat] for stat in sorted(op_stats.get(op, ())) if _is_measured(overall.get(stat))}
            for arg, argument in op_args.get(op, {}).items():
                side, _, rest = arg.partition("_")
                if side not in ("min", "max") or argument.type not in ("int", "float", "str"):
                    continue
                before = arguments.get(arg, argument.default)
                stat = _statistic_of(rest, measured)
                if stat is None or _number(before) is None:
                    continue
                spread = k * measured[stat]["std"]
                bound = measured[stat]["mean"] + (spread if side == "max" else -spread)
                after = _valid(bound, side, stat, arg, argument, exact=spread > 0)
                if after != before:
                    changes.append(Change(index, op, arg, stat, before, bound, after))
                    arguments[arg] = after
            if arguments:
                entry[op] = arguments
    return refined, changes


def _is_measured(figures: Mapping[str, float] | None) -> bool:
    return figures is not None and all(
        isinstance(figures.get(name), int | float) and math.isfinite(figures[name]) for name in ("mean", "std")
    )


def _statistic_of(what: str, measured: Mapping[str, object]) -> str | None:
    """Choose the statistic that an argument such as `min_width` bounds: the only one, or the one that shares
    most words with it.
    """
    if len(measured) == 1:
        return next(iter(measured))
    words = set(what.split("_"))
    shared = {stat: len(words & set(stat.split("_"))) for stat in measured}
    best = max(shared.values(), default=0)
    named = [stat for stat, count in shared.items() if count == best]
    return named[0] if best > 0 and len(named) == 1 else None


def _number(value: Any) -> float | None:
    """Return what a bound says as a number: `0.3`, `'9/21'`, `'16:9'`, `'1TB'` (0 stands for any size); None
    when it is no number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        digits = value.strip().rstrip("ABCDEFGHIKMPTYZabcdefghikmptyz ")
        try:
            return float(Fraction(digits.replace(":", "/")))
        except (ValueError, ZeroDivisionError):
            return None
    return None


def _valid(bound: float, side: str, stat: str, arg: str, argument: Argument, *, exact: bool) -> Any:
    """Bring a bound into the form and the range that the operator accepts, outward where it must be rounded."""
    if not exact:  # the mean of equal values may miss them by a rounding error, and the bound would then drop every row
        bound += math.copysign(abs(bound) * 1e-9, 1 if side == "max" else -1)
    # A custom operator's statistic is in no table; then the argument's own name and type tell.
    proportion = stat in PROPORTIONS or (
        stat not in NON_NEGATIVE and arg.endswith("ratio") and argument.type == "float"
    )
    if proportion:
        bound = min(max(bound, 0.0), 1.0)
    elif stat in NON_NEGATIVE or argument.type == "int":
        bound = max(bound, 0.0)
    whole = math.floor(bound) if side == "min" else math.ceil(bound)
    if argument.type == "int":
        return whole
    if argument.type == "str":  # a size in bytes, or an aspect ratio as a decimal number
        return str(whole) if "size" in arg else repr(bound)
    return bound
