# SPDX-License-Identifier: Apache-2.0
"""`executor_type: ray`: a Ray of its own within the pod's limits, or over all pods of the job (`ray_pods.py`), started
and ended with the run; or the Ray of others where `ray_address` names it (`ray_joined.py`).

Ray writes a folder of part files and keeps statistics that the default executor removes; what comes out of here is one
file with the same rows as the default executor's.
"""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..place import ALONE, Place
from ..signals import Stopped
from .config import build_config
from .dataset import PreparedDataset
from .errors import ConfigurationError, DatasetError
from .execution import load, operator_errors
from .process import OnOperator, OperatorRows, Processed
from .ray_joined import address_of, member_of
from .ray_pods import joined_by_others, lend_to_ray, take_token
from .rows import count_rows, open_parquet, read_json

MEBIBYTE = 1 << 20
SMALLEST_STORE = 80 * MEBIBYTE  # Ray refuses less than 75 MiB


def process_on_ray(
    raw: Mapping[str, Any],
    prepared: PreparedDataset,
    *,
    work_dir: Path,
    export_path: Path,
    job_id: str,
    np: int,
    memory_bytes: int | None,
    count_each_op: bool,
    on_operator: OnOperator | None,
    place: Place = ALONE,
) -> Processed:
    """Run a recipe with Data-Juicer's Ray executor. See `process.process`, which is the way in."""
    parts = work_dir / "parts"
    suffix = export_path.suffix.lower()
    address = _address(raw, place)
    if place.nodes > 1:
        take_token()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ray(address, np, memory_bytes))
        if place.nodes > 1:
            stack.enter_context(joined_by_others(place))
        config = build_config(
            raw,
            job_id=job_id,
            work_dir=work_dir,
            export_path=parts,
            dataset_path=prepared.path,
            np=np,
            settings={
                **prepared.settings,
                "ray_address": address or "local",
                "export_type": suffix[1:],
                "export_shard_size": 0,
            },
        )
        from data_juicer.core.executor.ray_executor import RayExecutor

        executor = RayExecutor(config)
        loader = _CountingLoader(executor.datasetbuilder, prepared, count_each_op, on_operator)
        executor.datasetbuilder = loader
        with operator_errors(config.process):
            result = executor.run()
        rows_out = int(result.data.count())
        dropped = _internal_columns(config)
    _merge(parts, export_path, dropped)
    merged = count_rows(export_path)
    if merged != rows_out:
        raise DatasetError(f"the exported data set has {merged} rows, the run ended with {rows_out}", "export_path")
    shutil.rmtree(parts, ignore_errors=True)
    return Processed(prepared.rows, rows_out, tuple(loader.operators), export_path)


def lend_this_pod(raw: Mapping[str, Any], place: Place, *, np: int, memory_bytes: int | None) -> None:
    """Work for the Ray of rank 0 until it has ended."""
    from data_juicer.utils.constant import RAY_JOB_ENV_VAR

    _address(raw, place)
    os.environ[RAY_JOB_ENV_VAR] = "1"
    lend_to_ray(place, np=np, object_store_bytes=object_store_bytes(memory_bytes))


def _address(raw: Mapping[str, Any], place: Place) -> str | None:
    """Of the Ray to join; None for one of the job's own."""
    address = address_of(raw)
    if address and place.nodes > 1:
        raise ConfigurationError("the Ray of others is joined by one pod; leave nodes out, or this", "ray_address")
    return address


@contextlib.contextmanager
def _ray(address: str | None, np: int, memory_bytes: int | None) -> Iterator[None]:
    """Be connected to a Ray for the duration, in Data-Juicer's Ray mode."""
    import ray
    from data_juicer.utils.constant import RAY_JOB_ENV_VAR

    before = os.environ.get(RAY_JOB_ENV_VAR)
    os.environ[RAY_JOB_ENV_VAR] = "1"
    store = object_store_bytes(memory_bytes)
    try:
        with contextlib.ExitStack() as stack:
            with _kept_signals():
                stack.enter_context(
                    member_of(address, object_store_bytes=store)
                    if address
                    else _local_ray(np, object_store_bytes=store)
                )
            context = ray.data.DataContext.get_current()
            context.execution_options.preserve_order = True  # the same order as the default executor's
            context.enable_progress_bars = False
            yield
    finally:
        if before is None:
            os.environ.pop(RAY_JOB_ENV_VAR, None)
        else:
            os.environ[RAY_JOB_ENV_VAR] = before


@contextlib.contextmanager
def _local_ray(np: int, *, object_store_bytes: int) -> Iterator[None]:
    """Raise a Ray of `np` CPUs; nothing of it is left afterwards, neither process nor folder."""
    import ray

    # Ray's sockets lie in its folder, and their paths must be short
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=os.environ.get("RAY_TMPDIR")))
    try:
        ray.init(
            address="local",
            num_cpus=np,
            object_store_memory=object_store_bytes,
            include_dashboard=False,
            _temp_dir=str(folder),
            log_to_driver=True,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _kept_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself and ends the process with another code: a drained pod would count as the user's
    fault."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mine = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:  # it came while Ray was starting
        raise Stopped("Preempted", "SIGTERM", "the pod was told to end (SIGTERM)") from error
    finally:
        signal.signal(signal.SIGTERM, mine)


def object_store_bytes(memory_bytes: int | None) -> int:
    """Return a third of the pod's memory, and no more than /dev/shm holds: beyond it Ray would write to the
    root file system.
    """
    shm = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0
    wanted = memory_bytes // 3 if memory_bytes else 2048 * MEBIBYTE
    return max(min(wanted, int(shm * 0.9)), SMALLEST_STORE)


class _CountingLoader:
    """Stands where the executor loads its data, and has each operator's rows counted when that is asked for."""

    def __init__(
        self, builder: Any, prepared: PreparedDataset, count_each_op: bool, on_operator: OnOperator | None
    ) -> None:
        self.operators: list[OperatorRows] = []
        self.executor_type = builder.executor_type
        self._builder = builder
        self._prepared = prepared
        self._count_each_op = count_each_op
        self._on_operator = on_operator

    def load_dataset(self, **_: Any) -> Any:
        dataset = load(self._builder, self._prepared)
        if self._count_each_op:
            dataset.__class__ = _counting(dataset.__class__, self)
        return dataset

    def count(self, name: str, rows_out: int, seconds: float) -> None:
        rows_in = self.operators[-1].rows_out if self.operators else self._prepared.rows
        done = OperatorRows(len(self.operators), name, rows_in, rows_out, seconds)
        self.operators.append(done)
        if self._on_operator is not None:
            self._on_operator(done)


def _counting(base: type, loader: _CountingLoader) -> type:
    class Counting(base):  # type: ignore[misc]
        data: Any

        def _run_single_op(self, op: Any, *args: Any, **options: Any) -> Any:
            started = time.monotonic()
            columns = super()._run_single_op(op, *args, **options)
            self.data = self.data.materialize()
            loader.count(op._name, int(self.data.count()), time.monotonic() - started)
            return columns

    return Counting


def _internal_columns(config: Any) -> frozenset[str]:
    """Name the columns that operators add and the default executor removes; Ray's exporter leaves them in."""
    from data_juicer.utils.constant import Fields, HashKeys

    dropped = {HashKeys.is_unique}  # only Ray's deduplicators write it
    if not config.keep_stats_in_res_ds:
        dropped |= {Fields.stats, Fields.meta}
    if not config.keep_hashes_in_res_ds:
        dropped |= {
            HashKeys.hash,
            HashKeys.minhash,
            HashKeys.simhash,
            HashKeys.imagehash,
            HashKeys.videohash,
            HashKeys.uid,
        }
    return frozenset(dropped)


def _merge(parts: Path, target: Path, dropped: frozenset[str]) -> None:
    """Write the rows of all part files, in their order, to one file without the columns `dropped`."""
    files = (
        sorted(path for path in parts.rglob("*") if path.is_file() and path.stat().st_size) if parts.is_dir() else []
    )
    partial = target.with_name(f".{target.name}")
    if target.suffix.lower() == ".parquet":
        _merge_parquet(files, partial, dropped)
    else:
        with partial.open("w", encoding="utf-8") as out:
            _merge_json(files, out, dropped, array=target.suffix.lower() == ".json")
    partial.rename(target)


def _merge_json(files: Sequence[Path], out: IO[str], dropped: frozenset[str], *, array: bool) -> None:
    start, between, end = ("[", ",\n", "]\n") if array else ("", "\n", "\n")
    separator = start
    for file in files:
        for row in read_json(file):
            out.write(
                separator
                + json.dumps({key: value for key, value in row.items() if key not in dropped}, ensure_ascii=False)
            )
            separator = between
    if separator == between or array:
        out.write((start if separator == start else "") + end)


def _merge_parquet(files: Sequence[Path], target: Path, dropped: frozenset[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    opened = [open_parquet(file) for file in files]
    kept = [pyarrow.schema([field for field in file.schema_arrow if field.name not in dropped]) for file in opened]
    schema = pyarrow.unify_schemas(kept) if kept else pyarrow.schema([])
    with pyarrow.parquet.ParquetWriter(target, schema) as writer:
        for file in opened:
            for batch in file.iter_batches(columns=[name for name in schema.names if name in file.schema_arrow.names]):
                writer.write_table(pyarrow.Table.from_batches([batch]).cast(schema))
