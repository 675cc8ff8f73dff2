# SPDX-License-Identifier: Apache-2.0
"""Which arguments of a recipe's filters are bounds, on which statistic each one is, and what may stand there.

Pure: plain data in, plain data out, no import of Data-Juicer. Both ways of refining a recipe, k-sigma and
model feedback, move these bounds.
"""

import copy
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

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

UNITS = "kmgtpezy"
SIZE = re.compile(rf"([0-9.]+) ?([{UNITS}])i?b", re.IGNORECASE)


@dataclass(frozen=True)
class Argument:
    """An operator's argument: `type` is int, float, str, bool or other, `default` what the operator takes
    without it.
    """

    type: str
    default: Any


@dataclass(frozen=True)
class Bound:
    """One bound of a filter: `before` is what the recipe writes there, or the operator's default; `value` the
    same as a number.
    """

    index: int
    op: str
    arg: str
    stat: str
    argument: Argument
    before: Any
    value: float

    @property
    def is_lower(self) -> bool:
        return self.arg.partition("_")[0] == "min"

    def written(self, bound: float) -> Any:
        """Bring a figure into the form and the range that the operator accepts, outward where it must be
        rounded.
        """
        # A custom operator's statistic is in no table; then the argument's own name and type tell.
        proportion = self.stat in PROPORTIONS or (
            self.stat not in NON_NEGATIVE and self.arg.endswith("ratio") and self.argument.type == "float"
        )
        if proportion:
            bound = min(max(bound, 0.0), 1.0)
        elif self.stat in NON_NEGATIVE or self.argument.type == "int":
            bound = max(bound, 0.0)
        whole = math.floor(bound) if self.is_lower else math.ceil(bound)
        if self.argument.type == "int":
            return whole
        if self.argument.type == "str":  # a size in bytes, or an aspect ratio as a decimal number
            return str(whole) if "size" in self.arg else repr(bound)
        return bound


class Moved(Protocol):
    """A bound that gets another value."""

    @property
    def index(self) -> int: ...
    @property
    def op(self) -> str: ...
    @property
    def arg(self) -> str: ...
    @property
    def before(self) -> Any: ...
    @property
    def after(self) -> Any: ...


def bounds_of(
    process: Sequence[Mapping[str, Any]],
    measured: Collection[str],
    op_stats: Mapping[str, Collection[str]],
    op_args: Mapping[str, Mapping[str, Argument]],
) -> Iterator[Bound]:
    """Yield the bounds of a recipe that are on a statistic in `measured`, those left at their default too.

    An argument that no statistic of its operator names, or that holds no number, is none.
    """
    for index, entry in enumerate(process):
        for op, given in entry.items():
            stats = [stat for stat in sorted(op_stats.get(op, ())) if stat in measured]
            for arg, argument in op_args.get(op, {}).items():
                side, _, rest = arg.partition("_")
                if side not in ("min", "max") or argument.type not in ("int", "float", "str"):
                    continue
                before = (given or {}).get(arg, argument.default)
                stat, value = _statistic_of(rest, stats), number(before)
                if stat is not None and value is not None:
                    yield Bound(index, op, arg, stat, argument, before, value)


def with_bounds(process: Sequence[Mapping[str, Any]], moved: Iterable[Moved]) -> list[dict[str, Any]]:
    """Return a copy of `process` in which the moved bounds have their new values."""
    refined = copy.deepcopy([dict(entry) for entry in process])
    for move in moved:
        refined[move.index][move.op] = {**(refined[move.index][move.op] or {}), move.arg: move.after}
    return refined


def number(value: Any) -> float | None:
    """Return what a bound says as a number: `0.3`, `'9/21'`, `'16:9'`, `'1TB'` (in bytes); None when it is no
    number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            if size := SIZE.fullmatch(value.strip()):
                return float(size[1]) * 1024.0 ** (1 + UNITS.index(size[2].lower()))
            return float(Fraction(value.strip().replace(":", "/")))
        except (ValueError, ZeroDivisionError):
            return None
    return None


def _statistic_of(what: str, stats: Sequence[str]) -> str | None:
    """Choose the statistic that an argument such as `min_width` bounds: the only one, or the one that shares
    most words with it.
    """
    if len(stats) == 1:
        return stats[0]
    words = set(what.split("_"))
    shared = {stat: len(words & set(stat.split("_"))) for stat in stats}
    best = max(shared.values(), default=0)
    named = [stat for stat, count in shared.items() if count == best]
    return named[0] if best > 0 and len(named) == 1 else None
