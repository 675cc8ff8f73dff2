# SPDX-License-Identifier: Apache-2.0
"""`executor_type: ray`: the same rows as the default executor in one file, errors by name, and no Ray left
behind.
"""

import os
import tempfile
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest
from dj_data import VARIABLES, read_jsonl, rows, write_jsonl
from tests.progress import deep_only

from sandbox_runtime.data_juicer.dataset import prepare
from sandbox_runtime.data_juicer.errors import OperatorError
from sandbox_runtime.data_juicer.process import process
from sandbox_runtime.data_juicer.rows import count_rows

assert VARIABLES

FILTERS = [
    {"text_length_filter": {"min_len": 10}},
    {"alphanumeric_filter": {"min_ratio": 0.5}},
    {"clean_links_mapper": {}},
]


def run(tmp_path, raw, export="out.jsonl", **options):
    source = write_jsonl(tmp_path / "data.jsonl", rows())
    raw = {"dataset_path": str(source), **raw}
    prepared = prepare(raw, tmp_path / "in")
    places = {"work_dir": tmp_path / "work", "export_path": tmp_path / export, "state_dir": tmp_path / "state"}
    return process(raw, prepared, job_id="job", np=2, attempt=1, memory_bytes=2 << 30, **places, **options)


@pytest.fixture(autouse=True)
def nothing_of_ray_is_left(monkeypatch):
    # A short path of our own: Ray's sockets stand below it, and another test may run beside this one.
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield
    from data_juicer.utils.constant import RAY_JOB_ENV_VAR

    left = [child for child in psutil.Process().children(recursive=True) if "ray" in " ".join(child.cmdline())]
    assert left == []
    folder.rmdir()
    assert RAY_JOB_ENV_VAR not in os.environ


@pytest.fixture(scope="module")
def by_default(tmp_path_factory):
    return run(tmp_path_factory.mktemp("default"), {"process": [*FILTERS, {"document_deduplicator": {}}]})


def test_the_result_is_the_default_executor_s(tmp_path, by_default):
    seen = []
    raw = {"executor_type": "ray", "process": [*FILTERS, {"ray_document_deduplicator": {}}]}
    done = run(tmp_path, raw, count_each_op=True, on_operator=seen.append)
    assert read_jsonl(done.dataset) == read_jsonl(by_default.dataset)
    assert [(row.index, row.rows_in, row.rows_out) for row in done.operators] == [
        (row.index, row.rows_in, row.rows_out) for row in by_default.operators
    ]
    assert [row.name for row in done.operators] == [
        *(next(iter(entry)) for entry in FILTERS),
        "ray_document_deduplicator",
    ]
    assert tuple(seen) == done.operators


@deep_only
def test_totals_only_by_default_and_parquet_is_one_file_too(tmp_path, by_default):
    raw = {"executor_type": "ray", "process": [*FILTERS, {"ray_document_deduplicator": {}}]}
    done = run(tmp_path, raw, export="out.parquet")
    assert (done.operators, done.rows_in, done.rows_out) == ((), by_default.rows_in, by_default.rows_out)
    assert count_rows(done.dataset) == by_default.rows_out
    names = pyarrow.parquet.read_schema(done.dataset).names
    assert not [name for name in names if name.startswith("__dj__")]


def test_a_failing_operator_is_named_and_no_row_is_lost_silently(tmp_path):
    divide = {"python_lambda_mapper": {"lambda_str": "lambda row: {**row, 'n': 1 // (row['meta']['n'] - 101)}"}}
    with pytest.raises(OperatorError) as caught:
        run(tmp_path, {"executor_type": "ray", "process": [*FILTERS, divide]})
    problem = "the operator failed on rows: ZeroDivisionError: integer division or modulo by zero"
    assert str(caught.value) == f"process[3].python_lambda_mapper: {problem}"
    assert not (tmp_path / "out.jsonl").exists()


@deep_only
def test_a_recipe_may_leave_no_row(tmp_path):
    done = run(tmp_path, {"executor_type": "ray", "process": [{"text_length_filter": {"min_len": 10**6}}]})
    assert (done.rows_out, count_rows(done.dataset)) == (0, 0)
