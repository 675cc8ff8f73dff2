# SPDX-License-Identifier: Apache-2.0
"""Settings of the hooks that refine a recipe, and of the one that runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from .extra import ExtraConfig

Path = Annotated[str, Field(min_length=1)]


def operator_names(process: Sequence[Mapping[str, Any]]) -> list[str]:
    """What figures and bounds call the operators of a recipe: the second one of a name is `<op>_2`."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for entry in process:
        op = next(iter(entry))
        seen[op] += 1
        names.append(op if seen[op] == 1 else f"{op}_{seen[op]}")
    return names


class KSigmaConfig(ExtraConfig):
    k: Annotated[float, Field(gt=0)] = 3.0
    """Half the width of the kept band, in standard deviations."""
    path_k_sigma_recipe: Annotated[str, Field(pattern=r"\.(ya?ml|json)$")] | None = None
    """Where the refined recipe is published, .yaml or .json."""


class FeedbackConfig(ExtraConfig):
    """Where scores of rows are, and how far they may move the bounds of a recipe.

    The statistics of the rows come from the job's probe, as with k-sigma.
    """

    path_scores: Annotated[str, Field(min_length=1)]
    """The scores: a .jsonl, .json (also .gz, .zst) or .parquet file, one row a scored row, with the row id that the
    Analyzer's `stats` and processed data sets have (`__sandbox_id__`). A user's file, or an earlier job's result by
    `input: {extraConfigs.path_scores: <pipeline>.<metaName>.<output>}`."""
    score: Annotated[str, Field(min_length=1)] = "score"
    """The column of that file that holds the score, a number; dots lead into nested ones
    (`__dj__stats__.llm_quality_score`). Rows without a number are left out; of several scores of a row the mean
    counts."""
    goal: Literal["maximize", "minimize"]
    """Which scores are good: high ones (a quality), or low ones (a loss)."""
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    """Into how many ranges with equally many rows each statistic is cut, at the most."""
    min_support: Annotated[int, Field(alias="minSupport", ge=2)] = 100
    """Scored rows that each range must have; where there are fewer rows, there are fewer ranges."""
    min_kept: Annotated[float, Field(alias="minKept", ge=0, le=1)] = 0.5
    """Share of the analysed rows that all bounds of the recipe together must keep."""
    max_step: Annotated[int, Field(alias="maxStep", ge=1)] = 1
    """How many ranges a bound may move in one run."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Chance that any bound moves where the scores have nothing to do with the statistics."""
    path_feedback_recipe: Annotated[str, Field(pattern=r"\.(ya?ml|json)$")] | None = None
    """Where the refined recipe is published, .yaml or .json."""


class PoolRecipeConfig(ExtraConfig):
    """The pool whose rows the recipe shall select. The statistics of all rows come from the job's probe."""

    pool_path: Path | Annotated[list[Path], Field(min_length=1, max_length=16)]
    """The pool: a data set of rows that the probe has analysed, by their ids (`__sandbox_id__`); of several pools the
    rows that all of them have. Usually an earlier job's result by
    `input: {extraConfigs.pool_path: <pipeline>.<metaName>.<output>}`."""
    path_pool_recipe: Annotated[str, Field(pattern=r"\.(ya?ml|json)$")] | None = None
    """Where the recipe is published, .yaml or .json."""


class ProcessConfig(ExtraConfig):
    count_each_op: Annotated[bool, Field(alias="countEachOp")] = False
    """With executor_type ray: count rows after each operator, which reads the data once more for each."""
