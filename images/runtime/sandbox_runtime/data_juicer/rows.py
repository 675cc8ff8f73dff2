# SPDX-License-Identifier: Apache-2.0
"""Reading and counting the rows of data set files, as a stream, with errors that name the file and the line.

Data-Juicer's own loader tells of a malformed line without saying where it is; this one is only read for
checks and counts.
"""

import contextlib
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from .errors import DatasetError

JSON_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
BATCH_ROWS = 1024

Row = dict[str, Any]
OnMalformed = Callable[[str], None]


def suffix_of(path: Path) -> str:
    """Return the suffix that decides the format, with the compression: `.jsonl.gz` of `a.b.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        return "".join(suffixes[-2:])
    return suffixes[-1] if suffixes else ""


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed by its suffix. What is wrong with the file itself becomes
    DatasetError.
    """
    suffix = path.suffix.lower()
    broken: tuple[type[Exception], ...] = (gzip.BadGzipFile, EOFError, zlib.error)
    try:
        with contextlib.ExitStack() as stack:
            stream: Any
            if suffix == ".gz":
                stream = stack.enter_context(gzip.open(path))
            else:
                stream = stack.enter_context(path.open("rb"))
                if suffix == ".zst":
                    import io

                    import zstandard

                    broken = (zstandard.ZstdError,)
                    reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
                    stream = stack.enter_context(io.BufferedReader(reader))
            yield stream
    except broken as error:
        raise DatasetError(f"{path} is not a whole {suffix} file: {error}", "dataset_path") from error


def _refuse(problem: str) -> NoReturn:
    raise DatasetError(problem, "dataset_path")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def read_json(
    path: Path, on_malformed: OnMalformed = _refuse, constant: Callable[[str], Any] = _refuse_constant
) -> Iterator[Row]:
    """Yield the rows of a file of JSON lines, or of one JSON array (which is read whole).

    A malformed row goes to `on_malformed` as a sentence with file and line; when that returns, the row is
    left out. `constant` makes a value of NaN and Infinity, which JSON has not.
    """
    with open_bytes(path) as stream:
        first = stream.read(1)
        while first.isspace():
            first = stream.read(1)
    with open_bytes(path) as stream:
        if first == b"[" and not suffix_of(path).startswith(".jsonl"):
            yield from _array(path, stream, on_malformed, constant)
        else:
            for _, row in numbered_rows(path, stream, 1, on_malformed, constant):
                yield row


def numbered_rows(
    path: Path,
    lines: Iterable[bytes],
    first: int,
    on_malformed: OnMalformed = _refuse,
    constant: Callable[[str], Any] = _refuse_constant,
) -> Iterator[tuple[int, Row]]:
    """Yield the rows of some lines of a file of JSON lines, each with its line's number; that of the first is
    `first`. For the rest see `read_json`.
    """
    for number, line in enumerate(lines, start=first):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=constant)
        except json.JSONDecodeError as error:
            shown = line[:80].decode("utf-8", "replace").rstrip()
            on_malformed(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}): {shown!r}")
            continue
        except ValueError as error:  # bytes that are not UTF-8, NaN
            on_malformed(f"{path}, line {number}: not JSON ({error})")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            on_malformed(f"{path}, line {number}: a row must be an object with fields, not {type(row).__name__}")


def _array(path: Path, stream: IO[bytes], on_malformed: OnMalformed, constant: Callable[[str], Any]) -> Iterator[Row]:
    try:
        content = json.load(stream, parse_constant=constant)
    except json.JSONDecodeError as error:
        _refuse(f"{path}, line {error.lineno}: not JSON ({error.msg} at column {error.colno})")
    except ValueError as error:
        _refuse(f"{path}: not JSON ({error})")
    for number, row in enumerate(content, start=1):
        if isinstance(row, dict):
            yield row
        else:
            on_malformed(f"{path}, item {number}: a row must be an object with fields, not {type(row).__name__}")


def open_parquet(path: Path) -> Any:
    """Return a pyarrow ParquetFile, or raise DatasetError."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DatasetError(f"{path} is not a Parquet file: {error}", "dataset_path") from error


def parquet_batches(path: Path, columns: list[str] | None = None) -> Iterator[Any]:
    """Yield the record batches of a Parquet file. columns: those that are read, all by default."""
    import pyarrow

    batches = open_parquet(path).iter_batches(BATCH_ROWS, columns=columns)
    while True:
        try:
            batch = next(batches, None)
        except (OSError, pyarrow.ArrowException) as error:
            raise DatasetError(f"{path} is not a whole Parquet file: {error}", "dataset_path") from error
        if batch is None:
            return
        yield batch


def read_rows(path: Path, constant: Callable[[str], Any] = _refuse_constant) -> Iterator[Row]:
    """Yield the rows of a JSON or Parquet file."""
    suffix = suffix_of(path)
    if suffix == ".parquet":
        for batch in parquet_batches(path):
            yield from batch.to_pylist()
    elif suffix in JSON_SUFFIXES:
        yield from read_json(path, constant=constant)
    else:
        raise DatasetError(
            f"{path.name} is no file that ends in {', '.join(JSON_SUFFIXES)} or .parquet", "dataset_path"
        )


def value_at(row: Row, key: str, missing: Any = None) -> Any:
    """Return what a row has under a key; dots lead into nested fields."""
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return missing
        value = value[part]
    return value


def count_rows(path: Path) -> int:
    """Count the rows of a file, or of all data files of a folder; reads JSON lines without parsing them."""
    if path.is_dir():
        return sum(
            count_rows(file)
            for file in sorted(path.rglob("*"))
            if file.is_file() and suffix_of(file) in (*JSON_SUFFIXES, ".parquet")
        )
    suffix = suffix_of(path)
    if suffix == ".parquet":
        return int(open_parquet(path).metadata.num_rows)
    if suffix not in JSON_SUFFIXES:
        raise DatasetError(f"rows of {path.name} can't be counted: it is neither JSON nor Parquet", "dataset_path")
    if suffix.startswith(".jsonl"):
        with open_bytes(path) as stream:
            return sum(1 for line in stream if not line.isspace())
    return sum(1 for _ in read_json(path))
