# SPDX-License-Identifier: Apache-2.0
"""EvaluateDataHook through the real process, on real files."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from tests.hook_pod import PATHS, Ended, HookPod, job_contract, write_jsonl
from tests.runtime.test_quality import GOLDEN, TEXTS, spark_says

from sandbox_api.contract import Limits
from sandbox_api.result import ABSENT, UNKNOWN
from sandbox_runtime.data_juicer.dataset import ROW_ID, prepare

CLASSIFIER = "dj_text_quality_classifier"
KEYS = {"predicted_value_key": "x", "ground_truth_value_key": "y"}


@pytest.fixture
def pod(tmp_path: Path) -> HookPod:
    pod = HookPod(tmp_path, environ={"OMP_NUM_THREADS": "1"})
    shutil.copytree(GOLDEN, pod.inputs / "models")
    return pod


def evaluate(pod: HookPod, kind: str, extra: dict[str, Any], **more: Any) -> Ended:
    contract = job_contract("EvaluateDataHook", stage="evaluation", meta_name="judge", type=kind, extra=extra, **more)
    return pod.run(contract)


def lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def rows_of_texts() -> list[dict[str, Any]]:
    return [{"text": text, "meta": {"number": number}} for number, text in enumerate([*TEXTS, *TEXTS[:5]])]


def said(ended: Ended) -> str:
    assert ended.message.error is not None, ended.log
    return ended.message.error.message


def test_texts_are_scored_row_by_row(pod: HookPod) -> None:
    data = write_jsonl(pod.inputs / "data.jsonl", rows_of_texts())
    extra = {
        "dataset_path": "inputs/data.jsonl",
        "model": "inputs/models/words",
        "keep_method": "label",
        "export_path": "outputs/scores.jsonl",
    }
    ended = evaluate(pod, CLASSIFIER, extra)
    assert ended.code == 0, ended.log
    scores = np.concatenate([spark_says("words"), spark_says("words")[:5]])
    report = lines(ended.output("report"))
    assert np.abs([row["doc_score"] for row in report] - scores).max() < 1e-12
    assert [row["should_keep"] for row in report] == (scores > 0.5).astype(int).tolist()
    prepared = prepare({"dataset_path": str(data)}, pod.base / "prepared")
    assert [row[ROW_ID] for row in report] == [row[ROW_ID] for row in lines(prepared.path)], (
        "as every other hook names them"
    )
    figures = ended.message.metrics
    assert figures["judge"] == figures["judge.mean"] == pytest.approx(scores.mean(), abs=1e-12)
    assert ended.result.outputs["value"].value == figures["judge"]
    assert figures["judge.50%"] == pytest.approx(np.quantile(scores, 0.5, method="inverted_cdf"), abs=1e-6)
    assert figures["judge.kept_share"] == (scores > 0.5).mean()
    assert figures["judge.rows"] == len(scores)
    assert (pod.experiment / "outputs" / "scores.jsonl").resolve() == ended.output("report").resolve()


def test_every_format_gives_the_same_scores_and_ids_on_one_processor_or_two(pod: HookPod) -> None:
    rows = [{"text": text} for text in TEXTS] * 12  # more than a batch
    plain = write_jsonl(pod.inputs / "plain" / "data.jsonl", rows).read_bytes()
    content = {
        "a.jsonl.gz": gzip.compress(plain),
        "b.jsonl.zst": zstandard.ZstdCompressor().compress(plain),
        "c.json": json.dumps(rows).encode(),
    }
    for name, data in content.items():
        (pod.inputs / name).write_bytes(data)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), pod.inputs / "d.parquet", row_group_size=500)
    reports = []
    for number, name in enumerate(["plain/data.jsonl", *content, "d.parquet", "plain"]):
        extra = {
            "dataset_path": f"inputs/{name}",
            "model": "inputs/models/pieces",
            "tokenizer": "inputs/models/pieces.sp.model",
        }
        ended = evaluate(pod, CLASSIFIER, extra, limits=Limits(cpus=1 + number % 2, memory_bytes=2**31))
        assert ended.code == 0, ended.log
        reports.append(ended.output("report").read_text())
    assert len(set(reports)) == 1
    first = lines(ended.output("report"))
    assert np.abs([row["doc_score"] for row in first] - np.tile(spark_says("pieces"), 12)).max() < 1e-12
    assert len({row[ROW_ID] for row in first}) == len(rows)
    assert 0 < sum(row["should_keep"] for row in first) < len(rows), "pareto, by the rows"


def test_a_published_model_is_found_by_name_with_its_tokenizer(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "data.jsonl", [{"content": {"text": text}} for text in TEXTS])
    extra = {"dataset_path": "inputs/data.jsonl", "model": "chinese", "text_key": "content.text"}
    shelf = pod.root / "cache" / "data_juicer" / "models"
    ended = evaluate(pod, CLASSIFIER, extra)
    assert ended.code == 2
    assert "extraConfigs.model: there is no chinese_quality_model in" in said(ended)
    assert str(shelf) in said(ended)
    shutil.copytree(GOLDEN / "pieces", shelf / "chinese_quality_model")
    shutil.copy(GOLDEN / "pieces.sp.model", shelf / "zh.sp.model")
    ended = evaluate(pod, CLASSIFIER, extra, cache_key="k")
    assert ended.code == 0, ended.log
    found = {Path(name).name: digest for name, digest in ended.result.externals.items()}
    assert {"data.jsonl", "chinese_quality_model", "zh.sp.model"} <= found.keys(), (
        "what a later use must find unchanged"
    )
    assert not {ABSENT, UNKNOWN} & {found[name] for name in ("chinese_quality_model", "zh.sp.model")}
    report = lines(ended.output("report"))
    assert np.abs([row["doc_score"] for row in report] - spark_says("pieces")).max() < 1e-12
    assert [row["should_keep"] for row in report] == (spark_says("pieces") > 0.5).astype(int).tolist(), "by label"


def test_an_unpacked_archive_is_a_model_and_a_row_keeps_its_id(pod: HookPod) -> None:
    shutil.copytree(GOLDEN / "ours", pod.inputs / "fetched" / "my_model")
    write_jsonl(
        pod.inputs / "data.jsonl", [{"text": text, ROW_ID: f"mine-{number}"} for number, text in enumerate(TEXTS)]
    )
    ended = evaluate(pod, CLASSIFIER, {"dataset_path": "inputs/data.jsonl", "model": "inputs/fetched"})
    assert ended.code == 0, ended.log
    report = lines(ended.output("report"))
    assert [row[ROW_ID] for row in report] == [f"mine-{number}" for number in range(len(TEXTS))]
    assert np.abs([row["doc_score"] for row in report] - spark_says("ours")).max() < 1e-12


GOOD = {"text": "the river"}


@pytest.mark.parametrize(
    ("rows", "extra", "words"),
    [
        ([], {}, "extraConfigs.dataset_path: inputs/data.jsonl holds no rows"),
        ([GOOD], {"dataset_path": "inputs/models/make.py"}, "extraConfigs.dataset_path: inputs/models/make.py holds neither JSON nor Parquet"),
        ([GOOD, {"txt": "x"}], {}, "extraConfigs.text_key: inputs/data.jsonl, line 2 has no text under 'text'; its fields are txt"),
        ([GOOD], {"model": "inputs/models/pieces"}, "extraConfigs.tokenizer: is missing; inputs/models/pieces does not cut words itself"),
        ([GOOD], {"tokenizer": "inputs/models/pieces.sp.model"}, "extraConfigs.tokenizer: inputs/models/words cuts words at white space"),
        ([GOOD], {"model": "inputs/models"}, "extraConfigs.model: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(pod: HookPod, rows: list[dict[str, Any]], extra: dict[str, Any], words: str) -> None:
    write_jsonl(pod.inputs / "data.jsonl", rows)
    extra = {"dataset_path": "inputs/data.jsonl", "model": "inputs/models/words", **extra}
    ended = evaluate(pod, CLASSIFIER, extra)
    assert ended.code == 2, ended.log
    assert said(ended).startswith(words)


def test_an_error_in_another_process_is_named_as_well(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "data.jsonl", [*({"text": text} for text in TEXTS * 12), {"text": None}])
    extra = {"dataset_path": "inputs/data.jsonl", "model": "inputs/models/words"}
    ended = evaluate(pod, CLASSIFIER, extra, limits=Limits(cpus=2, memory_bytes=2**31))
    assert ended.code == 2, ended.log
    assert f"line {12 * len(TEXTS) + 1} has no text under 'text'" in said(ended)
    assert said(ended).startswith("extraConfigs.text_key: ")


def test_a_classifier_is_trained_by_command_and_scores(pod: HookPod) -> None:
    good = write_jsonl(pod.inputs / "good.jsonl", [{"text": f"river garden {number % 7}"} for number in range(60)])
    bad = write_jsonl(pod.inputs / "bad.jsonl", [{"text": f"click casino {number % 7}"} for number in range(60)])
    model = pod.inputs / "trained"

    def train(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sandbox_runtime.main", "train-quality-classifier", "--positive", str(good), "--negative", str(bad), *options],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS))}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = train("--output", str(model), "--regularization", "0.01")
    assert done.returncode == 0, done.stderr
    assert "precision 1.0000, recall 1.0000, F1 1.0000" in done.stdout
    write_jsonl(pod.inputs / "data.jsonl", [{"text": "a river and a garden"}, {"text": "casino click"}])
    ended = evaluate(pod, CLASSIFIER, {"dataset_path": "inputs/data.jsonl", "model": "inputs/trained"})
    assert ended.code == 0, ended.log
    first, second = (row["doc_score"] for row in lines(ended.output("report")))
    assert first > 0.7
    assert second < 0.3
    again = train("--output", str(model))
    assert (again.returncode, again.stderr) == (1, f"--output: {model} is not empty; name a new folder\n")
    missing = train("--output", str(model / "b"), "--text-key", "body")
    assert (missing.returncode, missing.stderr) == (1, f"--text-key: row 1 of {good} has no text under 'body'\n")
    for output in (good, good / "model"):
        onto_a_file = train("--output", str(output))
        assert (onto_a_file.returncode, onto_a_file.stderr) == (1, f"--output: {good} is a file; name a new folder\n")
    for value in ("-1", "nan", "inf"):
        wrong = train("--output", str(model / "b"), "--regularization", value)
        told = "--regularization: must be a number that is at least 0\n"
        assert (wrong.returncode, wrong.stderr) == (1, told)


def test_accuracy_is_that_of_upstream(pod: HookPod) -> None:
    write_jsonl(pod.inputs / "a.jsonl", [{"said": {"label": label}} for label in ("cat", "dog", 1, None)])
    write_jsonl(pod.inputs / "b.jsonl", [{"said": {"label": label}} for label in ("cat", "cat", "1", "dog")])
    write_jsonl(pod.inputs / "truth.jsonl", [{"true": label} for label in ("cat", "cat", "1", "x")])
    extra = {
        "predicted_dataset_path": ["inputs/a.jsonl", "inputs/b.jsonl"],
        "ground_truth_dataset_path": ["inputs/truth.jsonl", "inputs/truth.jsonl"],
        "predicted_label_key": "said.label",
        "ground_truth_label_key": "true",
    }
    ended = evaluate(pod, "accuracy", extra)
    assert ended.code == 0, ended.log
    assert ended.result.outputs["value"].value == 0.75
    report = ended.result.outputs["report"].value
    assert [(each["pred_path"], each["gt_path"], each["accuracy"], each["rows"]) for each in report] == [
        ("inputs/a.jsonl", "inputs/truth.jsonl", 0.5, 4),
        ("inputs/b.jsonl", "inputs/truth.jsonl", 0.75, 4),
    ]
    assert ended.message.metrics == {"judge": 0.75, "judge.accuracy": 0.75, "judge.rows": 8}


def test_squared_errors_leave_out_and_count_what_is_no_number(pod: HookPod) -> None:
    rows = [(3, 1), ("2.5", 2), ("about 4", 4), (None, 1), (float("nan"), 1), (1e300, -1e300), (True, 0)]
    write_jsonl(pod.inputs / "graded.jsonl", [{"x": grade, "y": true} for grade, true in rows])
    write_jsonl(pod.inputs / "lost.jsonl", [{"x": "none", "y": 1}] * 3)
    ended = evaluate(pod, "mse", {"predicted_dataset_path": ["inputs/graded.jsonl", "inputs/lost.jsonl"], **KEYS})
    assert ended.code == 0, ended.log
    mean = (4 + 0.25 + 1) / 3
    first, second = ended.result.outputs["report"].value
    assert (first["mse"], first["format_error"], first["rows"]) == (pytest.approx(mean), 4, 3)
    assert (second["mse"], second["format_error"], second["rows"]) == (None, 3, 0)
    figures = ended.message.metrics
    assert figures == {"judge": first["mse"], "judge.mse": first["mse"], "judge.format_error": 7, "judge.rows": 3}
    assert "7 rows without two numbers" in ended.result.message
    alone = evaluate(pod, "mse", {"predicted_dataset_path": "inputs/lost.jsonl", **KEYS})
    assert "none of 3 rows has a number under 'x' and one under 'y'" in said(alone)


def test_pairs_that_are_none_are_named(pod: HookPod) -> None:
    """Every way stands in test_quality.py."""
    write_jsonl(pod.inputs / "p.jsonl", [{"x": 1}] * 2)
    write_jsonl(pod.inputs / "t.jsonl", [{"y": 1}])
    extra = {"predicted_dataset_path": "inputs/p.jsonl", "ground_truth_dataset_path": "inputs/t.jsonl", **KEYS}
    ended = evaluate(pod, "mse", extra)
    assert ended.code == 2, ended.log
    assert said(ended) == (
        "extraConfigs.ground_truth_dataset_path: inputs/t.jsonl ends after 1 row, inputs/p.jsonl goes on; both must have"
        " the same rows in the same order"
    )
