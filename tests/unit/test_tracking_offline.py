# SPDX-License-Identifier: Apache-2.0
"""The exporter offline: what wandb's real client wrote, read back record by record."""

from __future__ import annotations

import time
from pathlib import Path

from tests.exports import ENDING, Exporter, Volume, records, rows_in


def run_file(volume: Volume) -> list[Path]:
    return sorted((volume.experiment / "wandb").glob("run/wandb/offline-run-*/run-*.wandb"))


def test_an_offline_folder_has_every_line_once_whatever_was_killed_before(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "volume")
    volume.log([*range(300), 7])
    nowhere = "http://127.0.0.1:9"
    with Exporter(volume, nowhere, mode="offline") as exporter:
        while not run_file(volume) and exporter.process and exporter.process.poll() is None:
            time.sleep(0.2)
        exporter.kill()
    volume.log([400])
    before = exporter.log.count("run: ")
    with Exporter(volume, nowhere, mode="offline") as exporter:
        while exporter.log.count("run: ") == before and exporter.process and exporter.process.poll() is None:
            time.sleep(0.2)
        volume.log([401])
        assert exporter.tell() == 143, exporter.log
    (path,) = run_file(volume)  # the one that was killed is replaced
    rows = rows_in(path)
    steps = [*range(300), 7, 400, 401]
    assert [row["train.step"] for row in rows if "train.step" in row] == steps
    assert [row["train.loss"] for row in rows if "train.loss" in row] == [step * 10.0 for step in steps]
    with Exporter(volume, nowhere, mode="offline", ending=ENDING) as exporter:
        assert exporter.wait() == 0, exporter.log
    (path,) = run_file(volume)
    found = list(records(path))
    kinds = [record.WhichOneof("record_type") for record in found]
    assert kinds.count("exit") == 1
    assert [row["train.step"] for row in rows_in(path) if "train.step" in row] == steps
    metrics = [record.metric for record in found if record.WhichOneof("record_type") == "metric"]
    assert [(metric.glob_name, metric.step_metric) for metric in metrics if metric.glob_name == "train.*"] == [
        ("train.*", "train.step")
    ]
