# SPDX-License-Identifier: Apache-2.0
"""Data-Juicer's Analyzer on a prepared data set: the statistics of every row, and their figures over all
rows.

Not a filter: it computes what the recipe's filters measure and removes nothing, which is checked.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import build_config
from .dataset import ROW_ID, PreparedDataset
from .environment import forbid_installs, keep_temporary_files_in
from .errors import ConfigurationError, DatasetError
from .execution import load, operator_errors
from .rows import BATCH_ROWS, count_rows


@dataclass(frozen=True)
class Analysis:
    """What an analysis found.

    `overall` maps each numeric statistic to `count`, `mean`, `std` (of the sample), `min`, `25%`, `50%`,
    `75%`, `max` and the asked percentiles; list statistics are counted by item. A figure that does not exist
    (the std of one row) is left out. `stats` is JSON lines: the row id and `__dj__stats__` of every row, in
    the order of the input. `table` is `overall` as CSV. `histograms` holds a picture for each statistic and
    `bins.json`: `{statistic: {edges, counts}}`. `dataset` is the input with its statistics, when
    `export_original_dataset` asks for it.
    """

    rows: int
    overall: dict[str, dict[str, float]]
    stats: Path
    table: Path
    histograms: Path
    dataset: Path | None


def analyze(
    raw: Mapping[str, Any], prepared: PreparedDataset, *, work_dir: Path, out_dir: Path, job_id: str, np: int
) -> Analysis:
    """Run the Analyzer with the configuration `raw` on `prepared`; results go to `out_dir`, the rest to
    `work_dir`.

    Raises ConfigurationError (no operator with statistics, unknown names), DatasetError (Data-Juicer can't
    load the rows), OperatorError (an operator failed on rows).
    """
    from data_juicer.core import Analyzer
    from data_juicer.utils.constant import Fields

    out_dir.mkdir(parents=True, exist_ok=True)
    suffix = Path(str(raw.get("export_path") or "")).suffix.lower()
    exported = out_dir / f"dataset{suffix if suffix in ('.json', '.parquet') else '.jsonl'}"
    # one pod, one process tree: the Analyzer itself never runs on Ray
    settings = {
        **prepared.settings,
        "executor_type": "default",
        "export_shard_size": 0,
        "export_type": exported.suffix[1:],
    }
    config = build_config(
        {**raw, "executor_type": "default"},
        job_id=job_id,
        work_dir=work_dir,
        export_path=exported,
        dataset_path=prepared.path,
        np=np,
        settings=settings,
    )
    forbid_installs()
    keep_temporary_files_in(work_dir / "tmp")
    analyzer = Analyzer(config)
    dataset = load(analyzer.dataset_builder, prepared)
    with operator_errors(config.process):
        analyzed = analyzer.run(dataset=dataset)
    if analyzer.overall_result is None:
        raise ConfigurationError(
            "no operator gives statistics: add the filters whose statistics you want to see", "process"
        )
    if len(analyzed) != prepared.rows:
        raise DatasetError(
            f"the analysis returned {len(analyzed)} rows for {prepared.rows}; please report the recipe", "process"
        )

    (out_dir / f"{exported.stem}_stats.jsonl").unlink(missing_ok=True)  # Data-Juicer's own has no row ids
    stats = out_dir / "stats.jsonl"
    with stats.open("w", encoding="utf-8") as out:
        for row in _stat_rows(
            analyzed, [name for name in (ROW_ID, Fields.stats, Fields.meta) if name in analyzed.column_names]
        ):
            out.write(json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n")
    pictures = Path(config.work_dir) / "analysis"
    table = shutil.copyfile(pictures / "overall.csv", out_dir / "overall.csv")
    histograms = out_dir / "histograms"
    histograms.mkdir(exist_ok=True)
    for picture in sorted(pictures.glob("*.png")):
        shutil.copyfile(picture, histograms / picture.name)
    overall = _figures(analyzer.overall_result)
    (histograms / "bins.json").write_text(json.dumps(_bins(stats, overall), indent=1), encoding="utf-8")
    if not exported.exists():
        return Analysis(prepared.rows, overall, stats, table, histograms, None)
    if count_rows(exported) != prepared.rows:
        raise DatasetError(
            f"the exported data set has {count_rows(exported)} rows, the input {prepared.rows}", "export_path"
        )
    return Analysis(prepared.rows, overall, stats, table, histograms, exported)


def _stat_rows(dataset: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
    from datasets import Dataset

    selected = dataset.select_columns(columns)
    for start in range(0, len(selected), BATCH_ROWS):
        batch = Dataset.__getitem__(selected, slice(start, start + BATCH_ROWS))
        for values in zip(*(batch[name] for name in columns), strict=True):
            yield dict(zip(columns, values, strict=True))


def _plain(value: Any) -> Any:
    """Turn numpy values into JSON ones; a figure that is not a number becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _figures(frame: Any) -> dict[str, dict[str, float]]:
    """Return the figures of the numeric columns of the Analyzer's overall frame; text statistics have no mean
    and are left out.
    """
    figures: dict[str, dict[str, float]] = {}
    for stat in frame.columns:
        column = {name: _float(value) for name, value in frame[stat].items() if name not in ("unique", "top", "freq")}
        if column.get("mean") is not None:
            figures[str(stat)] = {str(name): value for name, value in column.items() if value is not None}
    return figures


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _bins(stats: Path, overall: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, list[float]]]:
    """Count each statistic into equal bins between its extremes, as many as Data-Juicer's own pictures have."""
    import numpy

    bins: dict[str, dict[str, list[float]]] = {}
    totals: dict[str, Any] = {}
    for stat, figures in overall.items():
        count = max(int(math.sqrt(figures["count"])), 10)
        edges = numpy.histogram_bin_edges([], bins=count, range=(figures["min"], figures["max"]))
        totals[stat] = (numpy.zeros(count, dtype=int), edges)
    with stats.open(encoding="utf-8") as lines:
        batch: dict[str, list[float]] = {stat: [] for stat in overall}
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            measured = {**(row.get("__dj__meta__") or {}), **(row.get("__dj__stats__") or {})}
            for stat in overall:
                value = measured.get(stat)
                batch[stat].extend(item for item in (value if isinstance(value, list) else [value]) if item is not None)
            if number % BATCH_ROWS == 0:
                _count(totals, batch)
        _count(totals, batch)
    for stat, (counts, edges) in totals.items():
        bins[stat] = {"edges": edges.tolist(), "counts": counts.tolist()}
    return bins


def _count(totals: Mapping[str, Any], batch: dict[str, list[float]]) -> None:
    import numpy

    for stat, (counts, edges) in totals.items():
        counts += numpy.histogram(batch[stat], bins=edges)[0]
        batch[stat].clear()
