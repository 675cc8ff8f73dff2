# SPDX-License-Identifier: Apache-2.0
"""Scores of texts by Data-Juicer's quality classifiers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from sandbox_api.evaluate import QualityConfig

from ..configs import EXTRA
from ..data_juicer.dataset import plain_sources
from ..data_juicer.errors import DatasetError
from ..data_juicer.row_ids import ROW_ID, RowIds
from ..errors import ConfigError
from ..hooks.base import Artifact, HookContext, HookResult
from ..hooks.recipe import addressed_errors, counted
from ..quality.batches import Scored, Work, batches_of, scored
from ..quality.folder import read_classifier
from ..quality.score import Keep, Scorer, keeps
from ..quality.tally import Tally
from .base import BaseEvaluator

PUBLISHED: dict[str, tuple[str | None, Keep]] = {
    "gpt3": (None, "pareto"),
    "chinese": ("zh.sp.model", "label"),
    "code": ("code.sp.model", "label"),
}
"""Data-Juicer's own classifiers, each with its tokenizer and the way that texts are kept."""
SHELVES = ("DATA_JUICER_EXTERNAL_MODELS_HOME", "DATA_JUICER_MODELS_CACHE")
"""Where Data-Juicer has its models: the image's, and those on the volume."""
TELL_SECONDS = 2.0


class QualityEvaluator(BaseEvaluator):
    """type: dj_text_quality_classifier. Value: the mean score. Report: JSON lines, one a row, in their order: its id,
    `doc_score`, `should_keep` (0 or 1).

    Metrics: `mean`, `kept_share`, quantiles of the scores, `std`, `min`, `max`, `rows`, `kept`, `tokens`.
    """

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> HookResult:
        context = self.for_job()
        config: QualityConfig = context.extra
        keep = keep_method(config)
        work = Work(make_scorer(config, context), config.text_key)
        report, tally = context.out / "scores.jsonl", Tally()
        with (
            addressed_errors(context, EXTRA),
            report.open("w", encoding="utf-8") as file,
            closing(RowIds(context.scratch)) as ids,
            closing(scored(batches_of(sources(config), config.text_key), work, context.cpus)) as batches,
        ):
            told = time.monotonic()
            for batch in batches:
                tally.add(batch.scores, write(file, batch, ids, keep, context.seed), batch.words)
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    context.metrics.log({"rows_done": tally.rows})
            if not tally.rows:
                raise DatasetError(f"{config.dataset_path} holds no rows", "dataset_path")
        return HookResult(
            outputs=[
                tally.mean,
                Artifact(report, rows=tally.rows, publish=context.user_path("extraConfigs.export_path")),
            ],
            metrics={"": tally.mean, **tally.figures()},
            message=(
                f"{counted(tally.rows, 'row')}, mean score {tally.mean:.4f},"
                f" {tally.kept / tally.rows:.1%} kept ({keep})"
            ),
        )


def sources(config: QualityConfig) -> Sequence[Path]:
    """The data set's files. Raises DatasetError where there are none that can be read here."""
    found = plain_sources({"dataset_path": config.dataset_path})
    if not found:
        raise DatasetError(f"{config.dataset_path} holds neither JSON nor Parquet", "dataset_path")
    return found


def write(file: IO[str], batch: Scored, ids: RowIds, keep: Keep, seed: int) -> int:
    """A line a row; returns how many are kept."""
    kept = 0
    for found, score in zip(batch.ids, batch.scores.tolist(), strict=True):
        row_id = ids.next(found)
        is_kept = keeps(keep, score, row_id, seed)
        kept += is_kept
        line = {ROW_ID: row_id, "doc_score": score, "should_keep": int(is_kept)}
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return kept


def keep_method(config: QualityConfig) -> Keep:
    given = config.keep_method
    if given is None:
        return PUBLISHED.get(config.model, PUBLISHED["gpt3"])[1]
    return "pareto" if given == "gpt3" else given


def make_scorer(config: QualityConfig, context: HookContext) -> Scorer:
    """Raises ConfigError where the model or its tokenizer is missing, or they do not belong together."""
    folder, tokenizer = model_folder(config, context), tokenizer_file(config, context)
    try:
        classifier = read_classifier(folder)
    except ConfigError as error:
        raise ConfigError(f"extraConfigs.model: {error}") from error
    if classifier.cuts_words and tokenizer is not None:
        raise ConfigError(f"extraConfigs.tokenizer: {config.model} cuts words at white space itself; leave it out")
    if not classifier.cuts_words and tokenizer is None:
        raise ConfigError(
            f"extraConfigs.tokenizer: is missing; {config.model} does not cut words itself, so it needs the model of"
            " sentencepiece that it was trained with"
        )
    try:
        return Scorer(classifier, tokenizer)
    except ConfigError as error:
        raise ConfigError(f"extraConfigs.tokenizer: {error}") from error


def model_folder(config: QualityConfig, context: HookContext) -> Path:
    if config.model in PUBLISHED:
        return _on_shelf(f"{config.model}_quality_model", "model", context)
    folder = context.workspace.inside(config.model, "extraConfigs.model")
    if not folder.is_dir():
        raise ConfigError(f"extraConfigs.model: there is no folder {config.model}; name one, or {', '.join(PUBLISHED)}")
    inner = [each for each in folder.iterdir() if (each / "metadata").is_dir()]
    # an archive that was unpacked holds the folder
    return inner[0] if len(inner) == 1 and not (folder / "metadata").is_dir() else folder


def tokenizer_file(config: QualityConfig, context: HookContext) -> Path | None:
    if config.tokenizer is None:
        name, _ = PUBLISHED.get(config.model, (None, None))
        return _on_shelf(name, "tokenizer", context) if name else None
    file = context.workspace.inside(config.tokenizer, "extraConfigs.tokenizer")
    if not file.is_file():
        raise ConfigError(f"extraConfigs.tokenizer: there is no file {config.tokenizer}")
    return file


def _on_shelf(name: str, key: str, context: HookContext) -> Path:
    shelves = [Path(os.environ[variable]) for variable in SHELVES if variable in os.environ]
    for shelf in shelves:
        if (found := shelf / name).exists():
            if found.is_relative_to(context.workspace.root):  # else the image's, which counts as a whole
                context.read.add(str(found))
            return found
    raise ConfigError(
        f"extraConfigs.{key}: there is no {name} in {' or '.join(map(str, shelves))}; put it there, or name its path"
        " here, e.g. what a FetchHook has brought"
    )
