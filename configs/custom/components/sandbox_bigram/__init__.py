# SPDX-License-Identifier: Apache-2.0
"""One of each: executors of data, of training and of inference, an analyzer, an evaluator, a factory and a hook.

The model counts which letter follows which. The executors are written as the sandbox's developer guide has them, so
they show what a port of existing ones looks like: the imports change.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sandbox_runtime.components import BaseEvaluator, BaseModelExecutor, Factory, factory
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.hooks.base import Artifact, HookContext, HookResult

END = "\n"
"""Stands before the first letter of a text and after its last."""


class BigramTrainer(BaseModelExecutor):
    """Settings: `train_dataset` (jsonl with `text`), `passes` (over the data, each a step), `smoothing`."""

    async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> None:
        texts = list(self.data_connector(self.model_config["train_dataset"]))
        counts: Counter[str] = Counter()
        passes = self.model_config.get("passes", 3)
        for number in range(1, passes + 1):
            for text in texts[number - 1 :: passes]:
                counts.update(pairs(text))
            model = {"counts": counts, "smoothing": self.model_config.get("smoothing", 1.0)}
            print(f"step {number} of {passes}, loss: {mean_loss(model, texts):.6f}")
        Path(self.model_config["work_dir"], "model.json").write_text(json.dumps(model), encoding="utf-8")

    async def _watch_run(self, line: str, **kwargs: Any) -> None:
        if found := re.search(r"loss: ([0-9.]+)", line):
            self.watcher.watch(float(found[1]), "loss")

    def data_connector(self, input_data: str, **kwargs: Any) -> Iterator[str]:
        return texts_of(input_data)


class BigramWriter(BaseModelExecutor):
    """Settings: `model` (the folder of a training), `prompts` (list of beginnings), `length` (letters at most)."""

    async def _run(self, run_type: str, run_obj: Any = None, **kwargs: Any) -> Any:
        assert self.context is not None
        model = read_model(self.model_config["model"])
        table = self.context.out / "texts" / "texts.jsonl"
        table.parent.mkdir()
        with table.open("w", encoding="utf-8") as file:
            for number, prompt in enumerate(self.model_config["prompts"]):
                text = written(model, prompt, self.model_config.get("length", 40), random.Random(number))
                file.write(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False) + "\n")
        rows = len(self.model_config["prompts"])
        return HookResult(
            outputs=[Artifact(table.parent), Artifact(table, rows=rows)],
            metrics={"rows": rows},
            message=f"{rows} texts",
        )


class Perplexity(BaseEvaluator):
    """How surprised the model is by texts: 1 where it knows them, the number of letters where it guesses."""

    def run(self, eval_type: str, eval_obj: Any = None, **kwargs: Any) -> float:
        return math.exp(mean_loss(read_model(self.eval_config["model"]), list(texts_of(eval_obj))))


class OfData:
    """What is made with `djConfigs` and works on its data set; settings stand in `self.context.extra`."""

    context: HookContext
    watcher: Any

    def __init__(self, dj_config: dict[str, Any]) -> None:
        self.dj_config = dj_config


class VariedTexts(OfData):
    """A data executor that keeps texts with several pairs of letters. Setting: `min_pairs`, how many different ones."""

    def run(self) -> None:
        rows = list(rows_of(self.dj_config["dataset_path"]))
        least = self.context.extra.get("min_pairs", 8)
        kept = [row for row in rows if len(set(pairs(row["text"]))) >= least]
        write_rows(self.dj_config["export_path"], kept)
        self.watcher.watch({"rows_in": len(rows), "rows_out": len(kept)})


class PairCounts(OfData):
    """A data analyzer that tells of each text how many different pairs of letters it has."""

    def run(self) -> None:
        counts = [len(set(pairs(text))) for text in texts_of(self.dj_config["dataset_path"])]
        write_rows(self.dj_config["export_path"], ({"pairs": count} for count in counts))
        self.watcher.watch(sum(counts) / len(counts), "pairs.mean")


SCORES = Factory("bigram_scores")


class ScoreHook:
    """Output: value. The evaluator is the one that `type` names."""

    def run(self, context: HookContext) -> HookResult:
        evaluator = factory("bigram_scores")(context.extra)
        value = evaluator.run("data", context.extra["dataset_path"])
        return HookResult(outputs=[value], metrics={"": value, context.extra["type"]: value}, message=f"{value:.3f}")


def pairs(text: str) -> Iterator[str]:
    whole = END + text + END
    return (whole[at : at + 2] for at in range(len(whole) - 1))


def mean_loss(model: dict[str, Any], texts: list[str]) -> float:
    """Mean negative log-likelihood of a letter after the one before it, in nats."""
    counts, smoothing = model["counts"], model["smoothing"]
    firsts: Counter[str] = Counter()
    for pair, count in counts.items():
        firsts[pair[0]] += count
    letters = len(firsts) or 1
    losses = [
        -math.log((counts.get(pair, 0) + smoothing) / (firsts[pair[0]] + smoothing * letters))
        for text in texts
        for pair in pairs(text)
    ]
    return sum(losses) / len(losses)


def written(model: dict[str, Any], prompt: str, length: int, chance: random.Random) -> str:
    text = prompt
    while len(text) < length:
        last = text[-1:] or END
        follows = {pair[1]: count for pair, count in model["counts"].items() if pair[0] == last}
        letter = chance.choices(list(follows), list(follows.values()))[0] if follows else END
        if letter == END:
            break
        text += letter
    return text


def read_model(folder: str) -> dict[str, Any]:
    path = Path(folder, "model.json")
    if not path.is_file():
        raise ConfigError(f"extraConfigs.model: there is no model.json in {folder}")
    model: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return model


def write_rows(path: str, rows: Iterable[dict[str, Any]]) -> None:
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def texts_of(path: str) -> Iterator[str]:
    return (row["text"] for row in rows_of(path))


def rows_of(path: str) -> Iterator[dict[str, Any]]:
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())
