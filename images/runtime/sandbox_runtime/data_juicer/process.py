# SPDX-License-Identifier: Apache-2.0
"""A recipe run over a prepared data set: Data-Juicer's default executor, or its Ray executor on a Ray of this
pod alone.

Every operator's rows are counted on the way in and out. An operator that fails on rows fails the run; fewer
rows always mean that an operator meant to drop them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..place import ALONE, Place
from .config import build_config
from .dataset import PreparedDataset
from .environment import forbid_installs, keep_temporary_files_in
from .errors import ConfigurationError, DatasetError
from .execution import load, operator_errors
from .resume import State
from .rows import count_rows

# Rows are saved after an operator when this much work would be lost without it; a failure or a stop saves
# them anyway.
SAVE_AFTER_SECONDS = 300.0
FORMATS = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class OperatorRows:
    """One operator's rows in and out. `index` is its place in `process`; `seconds` is 0 for one that an
    earlier attempt ran.
    """

    index: int
    name: str
    rows_in: int
    rows_out: int
    seconds: float


@dataclass(frozen=True)
class Processed:
    """`dataset` is the exported file, or with `export_shard_size` the folder of its shards, named as the file
    without its suffix.

    `operators` is empty for a Ray run that counts totals only. `resumed` is the number of operators that
    earlier attempts had done.
    """

    rows_in: int
    rows_out: int
    operators: tuple[OperatorRows, ...]
    dataset: Path
    resumed: int = 0


OnOperator = Callable[[OperatorRows], None]


def lend(raw: Mapping[str, Any], place: Place, *, np: int, memory_bytes: int | None) -> None:
    """What a pod does for a run of the recipe `raw` in the pod of rank 0, until that has ended. Raises
    ConfigurationError, PeerLost."""
    if raw.get("executor_type") != "ray":
        raise ConfigurationError("only ray spans the several pods (nodes) of this job", "executor_type")
    from .ray_run import lend_this_pod

    lend_this_pod(raw, place, np=np, memory_bytes=memory_bytes)


def process(
    raw: Mapping[str, Any],
    prepared: PreparedDataset,
    *,
    work_dir: Path,
    export_path: Path,
    job_id: str,
    np: int,
    state_dir: Path,
    attempt: int,
    memory_bytes: int | None = None,
    count_each_op: bool = False,
    on_operator: OnOperator | None = None,
    save_after_seconds: float = SAVE_AFTER_SECONDS,
    place: Place = ALONE,
) -> Processed:
    """Run the recipe `raw` on `prepared` and export to `export_path` (.jsonl, .json or .parquet).

    With the default executor an attempt goes on after the operators that an earlier one had done: their rows
    are in `state_dir`, saved when the run ends in any exception (also one raised by a signal handler) and
    after long operators. With `executor_type: ray`, `memory_bytes` bounds Ray's object store and
    `count_each_op` counts each operator's rows, which costs its pipelining. `on_operator` is called after
    each counted operator. `place` is that of the pod among those of the job, of which this is the first.
    Raises ConfigurationError, DatasetError, OperatorError.
    """
    if export_path.suffix.lower() not in FORMATS:
        raise ConfigurationError(f"{export_path.name} must end in one of {', '.join(FORMATS)}", "export_path")
    export_path.parent.mkdir(parents=True, exist_ok=True)
    if raw.get("executor_type") == "ray":
        from .ray_run import process_on_ray

        return process_on_ray(
            raw,
            prepared,
            work_dir=work_dir,
            export_path=export_path,
            job_id=job_id,
            np=np,
            memory_bytes=memory_bytes,
            count_each_op=count_each_op,
            on_operator=on_operator,
            place=place,
        )
    if place.nodes > 1:
        raise ConfigurationError("only ray spans the several pods (nodes) of this job", "executor_type")

    sharded = bool(raw.get("export_shard_size"))
    exported = export_path.with_suffix("") if sharded else export_path
    config = build_config(
        raw,
        job_id=job_id,
        work_dir=work_dir,
        export_path=exported / export_path.name if sharded else exported,
        dataset_path=prepared.path,
        np=np,
        settings={**prepared.settings, "export_type": export_path.suffix.lower()[1:]},
    )
    forbid_installs()
    keep_temporary_files_in(work_dir / "tmp")
    _write_shards_in_threads()
    recipe = list(config.process)
    state = State(state_dir, attempt, prepared.digest, recipe)
    executor, dataset, earlier = _start(config, prepared, state)
    run = _Run(earlier, len(dataset), state, save_after_seconds, on_operator)
    with operator_errors(recipe):
        result = executor.run(dataset=run.watch(dataset))
    # the statistics of the rows that stay, without row ids: an analysis of the result gives them with ids
    Path(config.export_path).with_name(f"{export_path.stem}_stats.jsonl").unlink(missing_ok=True)
    _check_export(exported, len(result))
    state.clear()
    return Processed(prepared.rows, len(result), tuple(run.operators), exported, len(earlier))


def _start(config: Any, prepared: PreparedDataset, state: State) -> tuple[Any, Any, list[OperatorRows]]:
    """Return the executor, the rows it starts from, and the operators that need not run again."""
    from data_juicer.core import DefaultExecutor, NestedDataset

    saved = None if config.op_fusion else state.latest()  # fusion changes the order of operators
    if saved is None:
        executor = DefaultExecutor(config)
        return executor, load(executor.dataset_builder, prepared), []
    counts = (prepared.rows, *saved.counts)
    earlier = [
        OperatorRows(index, next(iter(entry)), counts[index], counts[index + 1], 0.0)
        for index, entry in enumerate(config.process[: saved.done])
    ]
    config.process = config.process[saved.done :]
    return DefaultExecutor(config), NestedDataset.load_from_disk(str(saved.path)), earlier


class _Run:
    """Counts and saves rows between operators, from inside the executor's own loop."""

    def __init__(
        self, earlier: list[OperatorRows], rows: int, state: State, save_after: float, on_operator: OnOperator | None
    ) -> None:
        self.operators = list(earlier)
        self._rows = rows
        self._state = state
        self._save_after = save_after
        self._last_saved = time.monotonic()
        self._on_operator = on_operator

    def watch(self, dataset: Any) -> Any:
        """Return `dataset` such that the executor hands its operators to `operate` one by one."""
        from data_juicer.core import NestedDataset

        run = self

        class Watched(NestedDataset):  # type: ignore[misc]
            def process(self, operators: Any, **options: Any) -> Any:
                watched = [
                    _Watched(operator, run) for operator in (operators if isinstance(operators, list) else [operators])
                ]
                return NestedDataset(self).process(watched, **options)

        return Watched(dataset)

    def operate(self, operator: Any, dataset: Any, options: Mapping[str, Any]) -> Any:
        """Run one operator; save the rows before it when it does not come to its end."""
        if self.operators and time.monotonic() - self._last_saved > self._save_after:
            self._save(dataset)
        started = time.monotonic()
        try:
            result = operator.run(dataset=dataset, **options)
        except BaseException:  # a stop by SIGTERM too
            self._save(dataset)
            raise
        done = OperatorRows(len(self.operators), operator._name, self._rows, len(result), time.monotonic() - started)
        self.operators.append(done)
        self._rows = done.rows_out
        if self._on_operator is not None:
            self._on_operator(done)
        return result

    def _save(self, dataset: Any) -> None:
        self._state.save(dataset, [done.rows_out for done in self.operators])
        self._last_saved = time.monotonic()


class _Watched:
    """An operator as the executor's loop sees it. Workers get the operator itself, never this."""

    def __init__(self, operator: Any, run: _Run) -> None:
        self._operator = operator
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)

    def run(self, dataset: Any, **options: Any) -> Any:
        return self._run.operate(self._operator, dataset, options)


def _write_shards_in_threads() -> None:
    """Data-Juicer writes shards in worker processes, which wait for ever for files that it has unlinked
    already.
    """
    from multiprocessing.pool import ThreadPool

    from data_juicer.core import exporter

    exporter.Pool = ThreadPool


def _check_export(path: Path, rows: int) -> None:
    """Data-Juicer ignores what goes wrong while it writes shards; the rows on disk tell."""
    exported = count_rows(path)
    if exported != rows:
        raise DatasetError(f"the exported data set has {exported} rows, the run ended with {rows}", "export_path")
