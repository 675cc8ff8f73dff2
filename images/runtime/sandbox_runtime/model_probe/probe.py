# SPDX-License-Identifier: Apache-2.0
"""How models do on the rows of a data set, which rows are hard, and which look wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sandbox_api.model_probe import ModelProbeConfig, PipelineProbeConfig, Selection

from ..data_juicer.dataset import ROW_ID, prepare
from ..data_juicer.rows import read_rows
from ..errors import ConfigError, UserError
from ..hooks.base import Artifact, HookContext, HookResult
from ..hooks.recipe import addressed_errors, counted
from .selectors import SELECTORS
from .verdicts import Verdicts, classification, language, margins

Row = dict[str, Any]
MANY = {"loss": "losses", "value": "values"}


@dataclass(frozen=True)
class Pass:
    """One model over all rows, or one dropout seed of it."""

    model: str
    dropout_seed: int | None = None

    @property
    def name(self) -> str:
        return Path(self.model).name + (f" (dropout {self.dropout_seed})" if self.dropout_seed is not None else "")


def probe(context: HookContext) -> HookResult:
    """Ask the models, and write down what they say."""
    config: Selection = context.extra
    with addressed_errors(context):
        prepared = prepare(context.dj, context.scratch / "input", np=context.cpus)
    rows = selected(read_rows(prepared.path), context.dj, config)
    if not rows:
        raise UserError("djConfigs.dataset_path: no row is left to ask the models about")
    found = asked(config, rows, context)
    return HookResult(
        outputs=written(found, rows, context.out),
        metrics=figures(found, len(rows)),
        message=(
            f"{counted(len(rows), 'row')} of {prepared.rows}, {counted(len(found.passes), 'pass')}:"
            f" {found.verdicts.hard.sum()} hard, {found.verdicts.dirty.sum()} dirty"
        ),
    )


@dataclass(frozen=True)
class Findings:
    passes: tuple[Pass, ...]
    losses: Any
    """(passes, rows)"""
    verdicts: Verdicts
    latency: float
    """Seconds, mean over rows and passes."""
    scores: Any = None
    """(rows,): the label's margin, mean over the passes; None where there are no classes."""
    tokens: Any = None
    """(rows,): of a text; None where there are classes."""
    preferred: Any = None
    """(rows,): name of the class with the largest mean probability; None where there are none."""
    measure: Literal["loss", "value"] = "loss"
    """What the losses are: a field of a pipeline is a value, and where high is good its loss is the value negated."""
    sign: int = 1
    """Times a loss is what is told."""


def asked(config: Selection, rows: Sequence[Row], context: HookContext) -> Findings:
    """What the passes say. Raises ConfigError where a row lacks what the objective needs."""
    if isinstance(config, PipelineProbeConfig):
        return _asked_of_pipelines(config, rows, context)
    assert isinstance(config, ModelProbeConfig)
    from . import infer  # the library takes seconds

    passes = passes_of(config)
    texts = [field_of(row, config.text_key, "text_key") for row in rows]
    done = 0

    def progress(rows_done: int) -> None:
        context.metrics.log({"rows_done": done * len(rows) + rows_done})

    query = infer.Texts(texts, config.max_length, config.batch_size, progress)
    share = config.top_share
    if config.objective == "causal_lm":
        language_passes = []
        for each in passes:
            language_passes.append(infer.causal_lm(each.model, query, dropout_seed=each.dropout_seed))
            done += 1
        losses = np.stack([found.loss for found in language_passes])
        verdicts = language(losses, share=share, spread_share=config.spread_share)
        latency = float(np.mean([found.latency for found in language_passes]))
        return Findings(passes, losses, verdicts, latency, tokens=language_passes[0].tokens)
    class_passes = []
    for each in passes:
        class_passes.append(infer.classification(each.model, query, dropout_seed=each.dropout_seed))
        done += 1
    names = tuple(config.labels or class_passes[0].names)
    if len(names) != len(class_passes[0].names) or len({found.names for found in class_passes}) > 1:
        told = "; ".join(f"{each.name}: {', '.join(one.names)}" for each, one in zip(passes, class_passes, strict=True))
        raise ConfigError(f"extraConfigs.labels: the models do not know the same classes: {told}")
    labels = labels_of(rows, config.label_key, names)
    probabilities = np.stack([found.probabilities for found in class_passes])
    losses = -np.log(np.clip(probabilities[:, np.arange(len(rows)), labels], 1e-12, None))
    verdicts = classification(losses, probabilities, labels, share=share, confidence=config.confidence)
    preferred = np.array(names)[probabilities.mean(axis=0).argmax(axis=1)]
    latency = float(np.mean([found.latency for found in class_passes]))
    scores = margins(probabilities, labels).mean(axis=0)
    return Findings(passes, losses, verdicts, latency, scores=scores, preferred=preferred)


def _asked_of_pipelines(config: PipelineProbeConfig, rows: Sequence[Row], context: HookContext) -> Findings:
    from .pipelines import values_of  # the library takes seconds

    inputs = [field_of(row, config.text_key, "text_key") for row in rows]
    values, seconds = np.full((len(config.models), len(rows)), np.nan), 0.0
    for number, model in enumerate(config.models):
        before = number * len(rows)
        values[number], took = values_of(
            model, config, inputs, lambda done, before=before: context.metrics.log({"rows_done": before + done})
        )
        seconds += took
    sign = 1 if config.higher_is_harder else -1
    verdicts = language(sign * values, share=config.top_share, spread_share=config.spread_share)
    passes = tuple(Pass(model) for model in config.models)
    return Findings(passes, sign * values, verdicts, seconds / values.size, measure="value", sign=sign)


def passes_of(config: ModelProbeConfig) -> tuple[Pass, ...]:
    if not config.dropout_seeds:
        return tuple(Pass(model) for model in config.models)
    return tuple(Pass(model, seed) for model in config.models for seed in config.dropout_seeds)


def selected(rows: Iterator[Row], dj: Mapping[str, Any], config: Selection) -> list[Row]:
    """The rows that the models are asked about, in Data-Juicer's ways to choose them."""
    every = list(rows)
    algorithm = dj.get("data_probe_algo", "uniform")
    if algorithm not in SELECTORS:
        raise ConfigError(f"djConfigs.data_probe_algo: {algorithm!r} is none of {', '.join(SELECTORS)}")
    if algorithm == "uniform":
        chosen = SELECTORS[algorithm](every, dj.get("data_probe_ratio", 1.0))
    else:
        chosen = SELECTORS[algorithm](every, config.field_key, config.top_ratio, config.topk, config.reverse)
    return [every[place] for place in chosen]


def field_of(row: Row, key: str, setting: str) -> Any:
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ConfigError(f"extraConfigs.{setting}: there is no {key!r} in every row")
        value = value[part]
    return value


def labels_of(rows: Sequence[Row], key: str, names: Sequence[str]) -> Any:
    """(rows,): places in `names`. A label is a class's name or its number."""
    places = {name: place for place, name in enumerate(names)}
    found = []
    for row in rows:
        label = field_of(row, key, "label_key")
        place = label if isinstance(label, int) and not isinstance(label, bool) else places.get(str(label), -1)
        if not 0 <= place < len(names):
            raise ConfigError(
                f"extraConfigs.label_key: {label!r} is no class of the models; they know: {', '.join(names)}"
            )
        found.append(place)
    return np.array(found, dtype=np.int64)


def written(found: Findings, rows: Sequence[Row], out: Path) -> list[Artifact]:
    paths = {name: out / f"{name}.jsonl" for name in ("results", "hard", "dirty")}
    verdicts = found.verdicts
    with paths["results"].open("w", encoding="utf-8") as file:
        for place, row in enumerate(rows):
            said = "hard" if verdicts.hard[place] else "dirty" if verdicts.dirty[place] else None
            line = {
                ROW_ID: row[ROW_ID],
                found.measure: _finite(found.sign * verdicts.mean_loss[place]),
                "spread": _finite(verdicts.spread[place]),
                "verdict": said,
                MANY[found.measure]: {
                    each.name: _finite(found.sign * found.losses[number, place])
                    for number, each in enumerate(found.passes)
                },
                **({} if found.tokens is None else {"tokens": int(found.tokens[place])}),
                **({} if found.scores is None else {"score": _finite(found.scores[place])}),
                **({} if found.preferred is None else {"preferred": str(found.preferred[place])}),
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    artifacts = [Artifact(paths["results"], rows=len(rows))]
    for name in ("hard", "dirty"):
        chosen = [row for row, yes in zip(rows, getattr(verdicts, name), strict=True) if yes]
        paths[name].write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen), encoding="utf-8")
        artifacts.append(Artifact(paths[name], rows=len(chosen)))
    return artifacts


def figures(found: Findings, rows: int) -> dict[str, float]:
    """The most telling first."""
    verdicts = found.verdicts
    told: dict[str, float] = {
        "rows": rows,
        "hard": int(verdicts.hard.sum()),
        "dirty": int(verdicts.dirty.sum()),
        **_spread_of(found.measure, found.sign * verdicts.mean_loss),
    }
    if found.scores is not None:
        told |= _spread_of("score", found.scores)
    return told | {"latency.mean": found.latency}


def _spread_of(name: str, values: Any) -> dict[str, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    told = {"mean": known.mean(), "std": known.std(), "min": known.min(), "max": known.max()}
    told |= {f"{share}%": np.percentile(known, share) for share in (50, 95)}
    return {f"{name}.{figure}": float(value) for figure, value in told.items()}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
