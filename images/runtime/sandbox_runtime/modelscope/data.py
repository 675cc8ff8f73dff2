# SPDX-License-Identifier: Apache-2.0
"""Rows as a trainer takes them: columns renamed, those that it needs, and for language models tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from sandbox_api.modelscope import ModelscopeTrainConfig

from ..data_juicer.errors import DatasetError
from ..data_juicer.rows import read_json
from ..errors import ConfigError
from .folder import LENGTH, Folder, longest

MOST_LABELS = 1000
TEXTS = ("src_txt", "text")
"""Where a language model's rows have their text, unless `first_sequence` says it: ModelScope's name and ours."""


def row_sets(
    config: ModelscopeTrainConfig, folder: Folder, task: str, paths: Mapping[str, Path], scratch: Path
) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Data sets by name (`train`, `eval`), and what was found out of the section `dataset.train`.

    The columns of a text classification are looked at here; other tasks get all columns, and ModelScope looks.
    """
    if task != "text-classification":
        return {
            name: _read(path, f"{name}_dataset", config.key_remapping, [], scratch / name)
            for name, path in paths.items()
        }, {}
    stands = _stands(folder)
    said = config.dataset.train
    first = said.first_sequence or stands.get("first_sequence") or "text"
    label = said.label or stands.get("label") or "label"
    own = {
        "train": (first, said.second_sequence or stands.get("second_sequence"), label),
        "eval": (
            config.dataset.val.first_sequence or first,
            config.dataset.val.second_sequence or said.second_sequence,
            config.dataset.val.label or label,
        ),
    }
    made = {
        name: _read(path, f"{name}_dataset", config.key_remapping, [each for each in own[name] if each], scratch / name)
        for name, path in paths.items()
    }
    found = {"first_sequence": first, "label": label}
    if not labels_said(config, folder):
        found["labels"] = _labels(made["train"], label)
        print(f"dataset.train.labels: {found['labels']}", flush=True)
    return made, found


def labels_said(config: ModelscopeTrainConfig, folder: Folder) -> bool:
    """Whether the classes are named, by the user or by the model's configuration."""
    return bool(config.dataset.train.labels or _stands(folder).get("labels"))


def _stands(folder: Folder) -> dict[str, Any]:
    """What the model's configuration says of columns."""
    return ((folder.configuration or {}).get("dataset") or {}).get("train") or {}


def language_sets(
    config: ModelscopeTrainConfig, folder: Folder, paths: Mapping[str, Path], scratch: Path
) -> dict[str, Dataset]:
    """Data sets by name, of tokens."""
    length = int(config.preprocessor.get("max_length") or min(LENGTH, longest(folder.config)))
    made = {}
    for name, path in paths.items():
        said = (name == "eval" and config.dataset.val.first_sequence) or config.dataset.train.first_sequence
        column = said or _text_column(path, config.key_remapping)
        rows = _read(path, f"{name}_dataset", config.key_remapping, [column], scratch / name)
        made[name] = _tokens(rows, column, folder.path, length)
    return made


def _read(path: Path, field: str, renamed: dict[str, str], wanted: list[str], scratch: Path) -> Dataset:
    """A data set of the wanted columns, all of them where none is named. Raises ConfigError, with the row's number."""

    def rows() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read_json(path), 1):
            row = {renamed.get(name, name): value for name, value in row.items()}
            if missing := [name for name in wanted if name not in row]:
                raise ConfigError(
                    f"extraConfigs.{field}: row {number} has no {missing[0]!r}; it has {', '.join(map(str, row))}."
                    " key_remapping renames columns, dataset says which are what"
                )
            yield {name: row[name] for name in wanted} if wanted else row

    try:
        if next(read_json(path), None) is None:  # datasets can't make one without any
            raise ConfigError(f"extraConfigs.{field}: the data set has no rows")
        return Dataset.from_generator(rows, cache_dir=str(scratch))
    except Exception as error:  # datasets wraps what the generator raises
        cause = error if isinstance(error, ConfigError | DatasetError) else error.__cause__ or error.__context__
        if isinstance(cause, DatasetError):
            raise ConfigError(f"extraConfigs.{field}: {cause.problem}") from error
        raise cause if isinstance(cause, ConfigError) else error from None


def _labels(rows: Dataset, column: str) -> list[Any]:
    """The classes, sorted. Raises ConfigError when there are so many that the column can't be one of labels."""
    found = sorted(set(rows[column]), key=str)
    if len(found) > MOST_LABELS or not all(isinstance(label, (str, int)) for label in found):
        raise ConfigError(
            f"extraConfigs.dataset.train.label: column {column!r} has {len(found)} different values;"
            " name another column, or the classes in dataset.train.labels"
        )
    return found


def _text_column(path: Path, renamed: dict[str, str]) -> str:
    """The column of a language model's text, where nobody has named it."""
    first = next(iter(read_json(path)), {})
    has = {renamed.get(name, name) for name in first}
    return next((name for name in TEXTS if name in has), TEXTS[-1])


def _tokens(rows: Dataset, column: str, model: Path, length: int) -> Dataset:
    """Input ids, mask, and labels that leave the padding out.

    transformers' models shift labels by themselves. ModelScope's `text-gen-tokenizer` has shifted them before, and
    counts the padding: such a model would learn to tell the token after the next one.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    end = tokenizer.eos_token or ""

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        made = tokenizer(str(row[column]) + end, truncation=True, max_length=length, padding="max_length")
        pairs = zip(made["input_ids"], made["attention_mask"], strict=True)
        return {
            "input_ids": made["input_ids"],
            "attention_mask": made["attention_mask"],
            "labels": [token if kept else -100 for token, kept in pairs],
        }

    return rows.map(encode, remove_columns=rows.column_names).with_format("torch")
