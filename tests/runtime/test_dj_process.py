# SPDX-License-Identifier: Apache-2.0
"""Recipes run for real by the default executor: counts, exports, failures, and going on where an earlier
attempt ended.
"""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from dj_data import REPOSITORY, VARIABLES, read_jsonl, rows, write_jsonl

from sandbox_runtime.data_juicer.dataset import ROW_ID, prepare
from sandbox_runtime.data_juicer.errors import ConfigurationError, DatasetError, OperatorError
from sandbox_runtime.data_juicer.process import process
from sandbox_runtime.data_juicer.rows import count_rows

PROCESS = [
    {"text_length_filter": {"min_len": 10}},
    {"alphanumeric_filter": {"min_ratio": 0.5}},
    {"document_deduplicator": {}},
]


def run(tmp_path, raw, content=None, attempt=1, export="out.jsonl", **options):
    source = write_jsonl(tmp_path / "data.jsonl", content if content is not None else rows())
    raw = {"dataset_path": str(source), **raw}
    here = tmp_path / f"attempt-{attempt}"
    prepared = prepare(raw, here / "in")
    places = {"work_dir": here / "work", "export_path": here / export, "state_dir": tmp_path / "state"}
    return process(raw, prepared, job_id="job", np=2, attempt=attempt, **places, **options)


def expected(content):
    """The rows that PROCESS keeps, by its rules written out."""
    kept, seen = [], set()
    for row in content:
        text = row["text"]
        letters = sum(map(str.isalnum, text))
        if len(text) >= 10 and letters / len(text) >= 0.5 and text not in seen:
            seen.add(text)
            kept.append(text)
    return kept


def test_every_operator_s_rows_are_counted(tmp_path):
    content = rows()
    seen = []
    done = run(tmp_path, {"process": PROCESS}, content, on_operator=seen.append)
    written = read_jsonl(done.dataset)
    assert [row["text"] for row in written] == expected(content)
    assert (done.rows_in, done.rows_out, done.resumed) == (len(content), len(written), 0)
    assert [operator.name for operator in done.operators] == [
        "text_length_filter",
        "alphanumeric_filter",
        "document_deduplicator",
    ]
    assert done.operators[0].rows_in == len(content)
    assert [operator.rows_out for operator in done.operators[:-1]] == [
        operator.rows_in for operator in done.operators[1:]
    ]
    assert all(operator.rows_out < operator.rows_in for operator in done.operators)
    assert tuple(seen) == done.operators
    assert set(written[0]) == {"text", "meta", ROW_ID}
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("export", ["out.parquet", "out.json"])
def test_other_formats_hold_the_same_rows(tmp_path, export):
    done = run(tmp_path, {"process": PROCESS, "keep_stats_in_res_ds": True}, export=export)
    assert count_rows(done.dataset) == done.rows_out == len(expected(rows()))
    if export.endswith("parquet"):
        assert "__dj__stats__" in pyarrow.parquet.read_schema(done.dataset).names


def test_shards_hold_all_rows_together(tmp_path):
    content = [{**row, "text": row["text"] * 20 + str(number)} for number, row in enumerate(rows())]
    done = run(tmp_path, {"process": PROCESS[:1], "export_shard_size": 1 << 19}, content)
    assert done.dataset == tmp_path / "attempt-1" / "out"
    assert len(list(done.dataset.glob("*.jsonl"))) > 1
    assert count_rows(done.dataset) == done.rows_out == len(content)


def test_a_recipe_without_operators_exports_what_came_in(tmp_path):
    done = run(tmp_path, {"process": []})
    assert done.rows_out == done.rows_in == count_rows(done.dataset)
    assert done.operators == ()


def test_a_recipe_may_leave_no_row(tmp_path):
    done = run(tmp_path, {"process": [{"text_length_filter": {"min_len": 10**6}}, {"document_deduplicator": {}}]})
    assert (done.rows_out, count_rows(done.dataset)) == (0, 0)


def test_options_that_look_into_the_data_work_with_counting(tmp_path):
    options = {
        "op_fusion": True,
        "fusion_strategy": "greedy",
        "adaptive_batch_size": True,
        "open_monitor": True,
        "open_tracer": True,
    }
    done = run(tmp_path, {"process": PROCESS, **options})
    assert done.rows_out == len(expected(rows()))


DIVIDE = {"python_lambda_mapper": {"lambda_str": "lambda row: {**row, 'n': 1 // (row['meta']['n'] - 101)}"}}


def test_an_operator_that_fails_on_one_row_fails_the_run_by_name(tmp_path):
    with pytest.raises(OperatorError) as caught:
        run(tmp_path, {"process": [PROCESS[0], DIVIDE], "skip_op_error": True})
    assert str(caught.value).startswith(
        "process[1].python_lambda_mapper: the operator failed on rows: ZeroDivisionError"
    )
    assert (caught.value.operator, caught.value.index) == ("python_lambda_mapper", 1)
    assert not (tmp_path / "attempt-1" / "out.jsonl").exists()


def test_a_retry_goes_on_after_the_operators_that_were_done(tmp_path):
    raw = {"process": [*PROCESS, DIVIDE]}
    with pytest.raises(OperatorError):
        run(tmp_path, raw)
    mended = {"process": [*PROCESS, {"clean_links_mapper": {}}]}
    done = run(tmp_path, mended, attempt=2)
    assert done.resumed == 3
    assert [operator.index for operator in done.operators] == [0, 1, 2, 3]
    assert [row["text"] for row in read_jsonl(done.dataset)] == expected(rows())
    fresh = run(tmp_path / "fresh", mended)
    timeless = [dataclasses.replace(operator, seconds=0.0) for operator in (*done.operators, *fresh.operators)]
    assert timeless[:4] == timeless[4:]
    assert list((tmp_path / "state").iterdir()) == []


def test_a_changed_recipe_or_input_begins_anew(tmp_path):
    failing = {"process": [*PROCESS, DIVIDE]}
    with pytest.raises(OperatorError):
        run(tmp_path, failing)
    changed = [{"text_length_filter": {"min_len": 20}}, *PROCESS[1:]]
    assert run(tmp_path, {"process": changed}, attempt=2).resumed == 0
    with pytest.raises(OperatorError):
        run(tmp_path, failing, attempt=3)
    assert run(tmp_path, {"process": PROCESS}, rows()[:200], attempt=4).resumed == 0


def test_an_earlier_attempt_that_comes_late_drops_nothing_of_a_newer_one(tmp_path):
    raw = {"process": [*PROCESS, DIVIDE]}
    with pytest.raises(OperatorError):
        run(tmp_path, raw, attempt=5)
    before = sorted(path.name for path in (tmp_path / "state").iterdir())
    with pytest.raises(OperatorError):
        run(tmp_path, {"process": [PROCESS[0], DIVIDE]}, attempt=2)
    assert set(before) < {path.name for path in (tmp_path / "state").iterdir()}
    assert run(tmp_path, {"process": PROCESS}, attempt=2).resumed == 3
    assert [path.name for path in (tmp_path / "state").iterdir()] == before


def test_rows_are_saved_between_long_operators(tmp_path):
    saved = []

    def look(_):
        saved.extend(path.name for path in (tmp_path / "state").glob("a1-op*"))

    run(tmp_path, {"process": PROCESS}, on_operator=look, save_after_seconds=0)
    assert {re.sub(r"-\w+$", "", name) for name in saved} == {"a1-op1", "a1-op2"}


def start(tmp_path: Path, attempt: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("dj_stopped_run.py")
    paths = os.pathsep.join(str(REPOSITORY / folder) for folder in ("crds", "images/runtime"))
    command = [sys.executable, str(script), str(tmp_path / "data.jsonl"), str(tmp_path), str(attempt)]
    log = (tmp_path / f"attempt-{attempt}.log").open("w")
    return subprocess.Popen(
        command, env={**os.environ, **VARIABLES, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=log, text=True
    )


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"ended with {process.returncode} before {path.name}"
        assert time.monotonic() < deadline, f"no {path.name} within {seconds} s"
        time.sleep(0.05)


def test_sigterm_in_the_middle_of_an_operator_loses_only_that_operator(tmp_path):
    content = rows()
    write_jsonl(tmp_path / "data.jsonl", content)
    (tmp_path / "SLOW").touch()
    first = start(tmp_path, 1)
    wait_for(tmp_path / "READY", first)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert first.returncode == 143, (tmp_path / "attempt-1.log").read_text()[-3000:]
    (tmp_path / "SLOW").unlink()
    second = start(tmp_path, 2)
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0, (tmp_path / "attempt-2.log").read_text()[-3000:]
    assert said.splitlines()[-1].startswith("resumed=2 ")
    assert [row["text"] for row in read_jsonl(tmp_path / "attempt-2" / "out.jsonl")] == expected(content)


def test_wrong_requests_are_told(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"export_path: out\.csv must end in one of \.jsonl, \.json, \.parquet"
    ):
        run(tmp_path, {"process": PROCESS}, export="out.csv")
    with pytest.raises(ConfigurationError, match=r"process\[0\]\.text_lenght_filter"):
        run(tmp_path, {"process": [{"text_lenght_filter": None}]})
    with pytest.raises(ConfigurationError, match="text_embd_similarity_filter"):
        run(tmp_path, {"process": [{"text_embd_similarity_filter": {"ebd_dim": "x"}}]})
    with pytest.raises(DatasetError, match="Data-Juicer can't load the rows"):
        run(tmp_path, {"process": PROCESS, "load_dataset_kwargs": {"split": "no_such_split"}})
