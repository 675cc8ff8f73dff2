# SPDX-License-Identifier: Apache-2.0
"""The input of a run, checked and with a stable id in each row, before Data-Juicer sees it.

Data-Juicer drops rows that it can't use and says so only in a log; here they are errors with file and line.
The prepared copy lies in the attempt's folder. Everything streams: memory does not grow with the data.
"""

import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigurationError, DatasetError
from .row_ids import ROW_ID, RowIds
from .rows import BATCH_ROWS, JSON_SUFFIXES, Row, count_rows, open_parquet, read_json, suffix_of

log = logging.getLogger(__name__)

__all__ = ["ROW_ID", "PreparedDataset", "count_rows", "prepare"]


@dataclass(frozen=True)
class PreparedDataset:
    """A checked copy of the input. `path` is one `.jsonl` or `.parquet` file whose every row has a ROW_ID.

    `digest` is that of the ids in order: two runs with the same digest have the same rows. `left_out` counts
    malformed rows that the user's own `load_jsonl_lenient: true` leaves out; otherwise a malformed row
    raises. `settings` are configuration keys that reading the copy needs.
    """

    path: Path
    rows: int
    digest: str
    sources: tuple[Path, ...]
    left_out: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


def prepare(raw: Mapping[str, Any], folder: Path, *, np: int = 1) -> PreparedDataset:
    """Check the data set that `raw` names and write the copy with row ids into `folder`.

    Paths in `raw` are absolute, or relative to the working directory. One path to JSON or Parquet files is
    read here; every other form that Data-Juicer knows (`dataset`, weighted paths, CSV, text) is read by
    Data-Juicer. Raises DatasetError when the data is missing, empty or malformed, ConfigurationError when
    nothing names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = plain_sources(raw)
    if not sources:
        return _write_json(_loaded_rows(raw, folder, np), raw, folder, (), {"load_dataset_kwargs": {}})
    if suffix_of(sources[0]) == ".parquet":
        return _write_parquet(sources, raw, folder)
    malformed: list[str] = []

    def rows() -> Iterator[Row]:
        for path in sources:
            if raw.get("load_jsonl_lenient"):
                yield from read_json(path, malformed.append)
            else:
                yield from read_json(path)

    return _write_json(rows(), raw, folder, sources, {}, malformed)


def plain_sources(raw: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the files of one local path in a format that is read here, or nothing when Data-Juicer must read
    the data.
    """
    if raw.get("generated_dataset_config"):
        return ()
    given = str(raw.get("dataset_path") or "").strip()
    if not given:
        if raw.get("dataset"):
            return ()
        raise ConfigurationError("no data: name a file or folder", "dataset_path")
    path = Path(given)
    if not path.exists():
        return _weighted_sources(given)
    if path.is_file():
        return (
            (path,) if suffix_of(path) in (*JSON_SUFFIXES, ".parquet") and not raw.get("decrypt_after_reading") else ()
        )
    wanted = raw.get("suffixes") or []
    suffixes = {"." + str(item).lower().lstrip(".") for item in ([wanted] if isinstance(wanted, str) else wanted)}
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    files = [file for file in files if not suffixes or suffix_of(file) in suffixes]
    if not files:
        raise DatasetError(
            f"the folder {path} holds no data file" + (f" with suffix {sorted(suffixes)}" if suffixes else ""),
            "dataset_path",
        )
    found = {suffix_of(file) for file in files}
    if raw.get("decrypt_after_reading"):
        return ()
    if found <= set(JSON_SUFFIXES) or found == {".parquet"}:
        return tuple(files)
    if len(found) > 1:
        # Data-Juicer would read the format with the most files and leave the others out
        raise DatasetError(
            f"the folder {path} mixes {', '.join(sorted(found))}; choose with `suffixes`", "dataset_path"
        )
    return ()


def _weighted_sources(given: str) -> tuple[Path, ...]:
    """Accept `0.5 a.jsonl 0.5 b.jsonl`, which Data-Juicer reads; each path must exist."""
    try:
        tokens = shlex.split(given)
    except ValueError:
        tokens = [given]
    paths = [token for token in tokens if not _is_number(token)]
    missing = [path for path in paths if not Path(path).exists()]
    if missing or not paths:
        raise DatasetError(f"there is no file or folder {missing[0] if missing else given}", "dataset_path")
    return ()


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _loaded_rows(raw: Mapping[str, Any], folder: Path, np: int) -> Iterator[Row]:
    """Yield the rows as Data-Juicer itself loads them."""
    from data_juicer.core.data.dataset_builder import DatasetBuilder
    from datasets import Dataset
    from jsonargparse import Namespace

    from .config import _parse

    keys = (
        "dataset_path",
        "dataset",
        "generated_dataset_config",
        "load_dataset_kwargs",
        "suffixes",
        "validators",
        "text_keys",
    )
    media = (
        "image_key",
        "audio_key",
        "video_key",
        "decrypt_after_reading",
        "encryption_key_path",
        "load_jsonl_lenient",
    )
    wanted = {key: raw[key] for key in (*keys, *media) if raw.get(key) is not None}
    config: Namespace = _parse(
        {**wanted, "np": np, "work_dir": str(folder), "job_id": "load", "ds_cache_dir": str(folder / "datasets")}
    )
    try:
        loaded = DatasetBuilder(config, executor_type="default").load_dataset()
    except Exception as error:  # whatever a loader of the library raises, it is about the data or how it is named
        problem = " ".join(str(error.__cause__ or error).split())
        raise DatasetError(
            f"Data-Juicer can't load it: {problem}", "dataset_path" if raw.get("dataset_path") else "dataset"
        ) from error
    for start in range(0, len(loaded), BATCH_ROWS):
        batch = Dataset.__getitem__(loaded, slice(start, start + BATCH_ROWS))
        names = list(batch)
        for values in zip(*(batch[name] for name in names), strict=True):
            yield dict(zip(names, values, strict=True))


def _write_json(
    rows: Iterator[Row],
    raw: Mapping[str, Any],
    folder: Path,
    sources: tuple[Path, ...],
    settings: Mapping[str, Any],
    malformed: list[str] | None = None,
) -> PreparedDataset:
    path = folder / "input.jsonl"
    text_keys = _text_keys(raw)
    media = Media(raw)
    ids = RowIds(folder)
    try:
        with path.open("w", encoding="utf-8") as out:
            for row in rows:
                row_id = ids.of(row)
                for key in text_keys:
                    if row.get(key) is None:
                        raise DatasetError(_no_text(key, f"row {ids.rows} of {_named(raw)}"), "dataset_path")
                row = media.absolute(row)
                row[ROW_ID] = row_id
                try:
                    out.write(json.dumps(row, ensure_ascii=False, default=json_value) + "\n")
                except UnicodeEncodeError as error:
                    problem = f"row {ids.rows} of {_named(raw)} holds half of a character pair (an unpaired surrogate)"
                    raise DatasetError(problem, "dataset_path") from error
    finally:
        digest = ids.close()
    if ids.rows == 0:
        path.unlink()
        raise DatasetError(f"{_named(raw)} holds no rows", "dataset_path")
    for problem in malformed or []:
        log.warning("left out, because load_jsonl_lenient is set: %s", problem)
    return PreparedDataset(path, ids.rows, digest, sources, len(malformed or []), settings)


def _write_parquet(sources: tuple[Path, ...], raw: Mapping[str, Any], folder: Path) -> PreparedDataset:
    import pyarrow
    import pyarrow.parquet

    path = folder / "input.parquet"
    text_keys = _text_keys(raw)
    media = Media(raw)
    ids = RowIds(folder)
    writer = None
    try:
        for source in sources:
            file = open_parquet(source)
            for key in text_keys:
                if key not in file.schema_arrow.names:
                    raise DatasetError(
                        f"{source} has no column {key!r}; name the column with the texts in `text_keys`", "dataset_path"
                    )
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                rows = batch.to_pylist()
                column = [ids.of(row) for row in rows]
                table = pyarrow.Table.from_batches([batch])
                for key in text_keys:
                    if table.column(key).null_count:
                        first = next(i for i, row in enumerate(rows) if row[key] is None)
                        number = ids.rows - len(rows) + first + 1
                        raise DatasetError(_no_text(key, f"row {number} of {_named(raw)}"), "dataset_path")
                for key in media.keys:
                    if key in table.column_names:
                        values = pyarrow.array(
                            [media.absolute(row)[key] for row in rows], type=table.schema.field(key).type
                        )
                        table = table.set_column(table.column_names.index(key), key, values)
                if ROW_ID in table.column_names:
                    table = table.drop_columns([ROW_ID])
                table = table.append_column(ROW_ID, pyarrow.array(column, type=pyarrow.string()))
                if writer is None:
                    writer = pyarrow.parquet.ParquetWriter(path, table.schema)
                try:
                    writer.write_table(table.cast(writer.schema))
                except (ValueError, pyarrow.ArrowInvalid) as error:
                    raise DatasetError(
                        f"the columns of {source} differ from those of {sources[0]}: {error}", "dataset_path"
                    ) from error
    finally:
        digest = ids.close()
        if writer is not None:
            writer.close()
    if ids.rows == 0:
        raise DatasetError(f"{_named(raw)} holds no rows", "dataset_path")
    return PreparedDataset(path, ids.rows, digest, sources)


def _named(raw: Mapping[str, Any]) -> str:
    return str(raw.get("dataset_path") or "the data set")


def _text_keys(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that Data-Juicer requires in each row. A dotted one reaches into a field and is left
    to Data-Juicer.
    """
    given = raw.get("text_keys") or "text"
    keys = [given] if isinstance(given, str) else given
    return tuple(str(key) for key in keys if "." not in str(key))


def _no_text(key: str, where: str) -> str:
    return f"{where} has no {key!r}; name the field with the texts in `text_keys`, or remove the row"


class Media:
    """Makes relative paths of images, audios and videos absolute: they are relative to the data set, which
    the copy leaves.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.keys = tuple(str(raw.get(f"{name}_key") or f"{name}s") for name in ("image", "audio", "video"))
        path = Path(str(raw.get("dataset_path") or ""))
        self._base: Path | None = None
        if str(raw.get("dataset_path") or "") and path.exists():
            self._base = (path if path.is_dir() else path.parent).absolute()

    def absolute(self, row: Row) -> Row:
        changed = dict(row)
        if self._base is not None:
            for key in self.keys:
                if isinstance(row.get(key), list):
                    changed[key] = [self._path(item) for item in row[key]]
        return changed

    def _path(self, item: Any) -> Any:
        if not isinstance(item, str) or "://" in item or self._base is None:
            return item
        return str(self._base / item)


def json_value(value: Any) -> Any:
    """Turn what a loader of the library gives into JSON: dates as text."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise DatasetError(f"a value of type {type(value).__name__} can't be written as JSON; use Parquet", "dataset_path")
