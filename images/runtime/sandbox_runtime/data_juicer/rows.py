# SPDX-License-Identifier: Apache-2.0
"""Reading and counting the rows of data set files, as a stream, with errors that name the file and the line.

Data-Juicer's own loader tells of a malformed line without saying where it is; this one is only read for
checks and counts.
"""

import codecs
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
CHUNK = 2**20
"""Of a JSON array's text that is read at a time."""

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
    """Yield the rows of a file of JSON lines, or of one JSON array.

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
    for number, row in enumerate(_items(path, stream, constant), start=1):
        if isinstance(row, dict):
            yield row
        else:
            on_malformed(f"{path}, item {number}: a row must be an object with fields, not {type(row).__name__}")


def _items(path: Path, stream: IO[bytes], constant: Callable[[str], Any]) -> Iterator[Any]:
    """Yield what a JSON array holds, one by one: in memory are the next few, not the file."""
    text = _Text(stream)
    decode = json.JSONDecoder(parse_constant=constant).raw_decode
    try:
        text.take("[")
        if text.next() == "]":
            text.take("]")
        else:
            while True:
                yield text.item(decode)
                if text.next() == "]":
                    text.take("]")
                    break
                text.take(",")
        if text.next():
            raise json.JSONDecodeError("Extra data", text.ahead, text.at)
    except json.JSONDecodeError as error:
        line, column = text.place(error.pos)
        _refuse(f"{path}, line {line}: not JSON ({error.msg} at column {column})")
    except ValueError as error:  # bytes that are not UTF-8, NaN
        _refuse(f"{path}: not JSON ({error})")


class _Text:
    """A stream of JSON, read as far as the next item needs it. `at` is the place in `ahead`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.ahead, self.at = "", 0
        self._reader = codecs.getreader("utf-8")(stream, errors="surrogatepass")
        self._lines, self._column = 0, 0
        """Of what stood before `ahead`: ends of lines, and characters since the last one."""

    def next(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self.at < len(self.ahead) and self.ahead[self.at] in " \t\n\r":
                self.at += 1
            if self.at < len(self.ahead) or not self._read():
                return self.ahead[self.at : self.at + 1]

    def take(self, sign: str) -> None:
        if self.next() != sign:
            raise json.JSONDecodeError(f"Expecting {sign!r} delimiter", self.ahead, self.at)
        self.at += 1

    def item(self, decode: Callable[[str, int], tuple[Any, int]]) -> Any:
        """The value that begins here. What ends where the text read so far does may go on."""
        self.next()
        while True:
            try:
                value, end = decode(self.ahead, self.at)
            except json.JSONDecodeError:
                if not self._read():
                    raise
                continue
            if end < len(self.ahead) or not self._read():
                self.at = end
                return value

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of a place in `ahead`, from 1."""
        lines = self.ahead.count("\n", 0, at)
        column = at - self.ahead.rfind("\n", 0, at) if lines else self._column + at + 1
        return self._lines + lines + 1, column

    def _read(self) -> bool:
        """Forget what has been taken, and read as much again as is left: an item is not tried often, however long."""
        more = self._reader.read(max(CHUNK, len(self.ahead) - self.at))
        if more:
            line, column = self.place(self.at)
            self.ahead, self.at, self._lines, self._column = self.ahead[self.at :] + more, 0, line - 1, column - 1
        return bool(more)


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
