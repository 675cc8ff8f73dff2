# SPDX-License-Identifier: Apache-2.0
"""The quality classifier without Spark, against what Spark itself said (tests/golden/quality), and its parts."""

import gzip
import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tests.golden.quality.make import training_rows
from tests.hook_pod import write_jsonl

from sandbox_runtime.components.pairs import pairs
from sandbox_runtime.data_juicer.dataset import ROW_ID, plain_sources
from sandbox_runtime.data_juicer.errors import DatasetError
from sandbox_runtime.errors import ConfigError
from sandbox_runtime.quality.batches import Batch, Work, batches_of, scored
from sandbox_runtime.quality.folder import ROW_METADATA, read_classifier, write_classifier
from sandbox_runtime.quality.hashing import FEW, Tail, murmur3, pieces_as_words, words_of
from sandbox_runtime.quality.score import Scorer, keeps
from sandbox_runtime.quality.tally import Tally
from sandbox_runtime.quality.train import fit

GOLDEN = Path(__file__).parents[1] / "golden" / "quality"
LINES = [json.loads(line) for line in (GOLDEN / "scores.jsonl").open(encoding="utf-8")]
TEXTS = [line["text"] for line in LINES]


def spark_says(name: str) -> Any:
    return np.array([line["scores"][name] for line in LINES])


def edited(folder: Path, copy: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A copy of a model whose HashingTF has other metadata."""
    shutil.copytree(folder, copy)
    (path,) = copy.glob("stages/*_HashingTF_*/metadata/part-*")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return copy


@pytest.mark.parametrize("name", ["words", "dense", "ours", "pieces"])
def test_scores_are_those_of_spark(name: str) -> None:
    scorer = Scorer(read_classifier(GOLDEN / name), GOLDEN / "pieces.sp.model" if name == "pieces" else None)
    together, _ = scorer.scores(TEXTS)
    assert np.abs(together - spark_says(name)).max() < 1e-12
    assert len(set(spark_says(name))) > 90, "they differ enough to tell"
    assert [scorer.scores([text])[0][0] for text in TEXTS] == together.tolist(), "alone as in a batch"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("dense of 2.4.8", lambda metadata: metadata | {"sparkVersion": "2.4.8"}),
        ("dense binary", lambda metadata: metadata | {"paramMap": metadata["paramMap"] | {"binary": True}}),
    ],
)
def test_older_hashes_and_binary_counts_are_those_of_spark(
    name: str, change: Callable[[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    model = read_classifier(edited(GOLDEN / "dense", tmp_path / "model", change))
    scores, _ = Scorer(model).scores(TEXTS)
    assert np.abs(scores - spark_says(name)).max() < 1e-12
    assert np.abs(scores - spark_says("dense")).max() > 0.01


def java_hash(data: bytes, tail: Tail) -> int:
    """MurmurHash3 as Spark's Java has it, word by word: `hashUnsafeBytes2`, or `hashUnsafeBytes`."""

    def mixed(state: int, block: int) -> int:
        state ^= scrambled(block)
        state = (state << 13 | state >> 19) & 0xFFFFFFFF
        return (state * 5 + 0xE6546B64) & 0xFFFFFFFF

    def scrambled(block: int) -> int:
        block = block * 0xCC9E2D51 & 0xFFFFFFFF
        block = (block << 15 | block >> 17) & 0xFFFFFFFF
        return block * 0x1B873593 & 0xFFFFFFFF

    state, whole = 42, len(data) // 4 * 4
    for at in range(0, whole, 4):
        state = mixed(state, int.from_bytes(data[at : at + 4], "little"))
    if tail == "standard":
        state ^= scrambled(int.from_bytes(data[whole:], "little"))
    else:
        for byte in data[whole:]:
            state = mixed(state, (byte - 256 if byte > 127 else byte) & 0xFFFFFFFF)
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    state = (state ^ state >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return state ^ state >> 16


@pytest.mark.parametrize("tail", ["standard", "bytewise"])
def test_words_of_any_length_are_hashed_alike_in_bulk_and_alone(tail: Tail) -> None:
    chance = random.Random(4)
    words = ["".join(chance.choice("aé数😀") for _ in range(chance.randrange(12))) for _ in range(400)]
    words += ["x" * length for length in (200, 1001, 4003)] * (FEW + 1) + ["y" * 50_003]
    chance.shuffle(words)
    assert murmur3(pieces_as_words([words]), tail).tolist() == [java_hash(word.encode(), tail) for word in words]
    assert not len(murmur3(pieces_as_words([[]]), tail))


def java_split(text: str) -> list[str]:
    """`text.toLowerCase().split("\\s")` of Java, by its documentation."""
    words, word = [], ""
    for letter in text.lower():
        if letter in " \t\n\x0b\f\r":
            words.append(word)
            word = ""
        else:
            word += letter
    if not words:
        return [word]
    words.append(word)
    while words and not words[-1]:
        words.pop()
    return words


def test_words_are_cut_as_java_cuts_them() -> None:
    chance = random.Random(5)
    texts = ["".join(chance.choice(" \t\nAb\u00a0é") for _ in range(chance.randrange(9))) for _ in range(500)]
    texts += ["", " ", "\n\n", "a", " a", "a  ", "half \ud800 pair"]
    found = words_of(texts)
    cut: list[list[str]] = [[] for _ in texts]
    for start, length, text in zip(found.starts, found.lengths, found.texts, strict=True):
        cut[text].append(found.blob[start : start + length].tobytes().decode())
    assert cut == [[word.replace("\ud800", "?") for word in java_split(text)] for text in texts]


def test_what_is_written_is_what_spark_would_have_written(tmp_path: Path) -> None:
    """`ours` was written so, and Spark read it: the same columns, types and keys as then, and as in Spark's own."""
    model = read_classifier(GOLDEN / "words")
    write_classifier(model, tmp_path / "model", {"regParam": 0.5})
    again = read_classifier(tmp_path / "model")
    about = [(one.intercept, one.tail, one.cuts_words, one.binary) for one in (again, model)]
    assert about[0] == about[1]
    assert again.coefficients.tolist() == model.coefficients.tolist()

    def schema(folder: Path) -> Any:
        (path,) = folder.glob("stages/2_LogisticRegression_*/data/*.parquet")
        found = pyarrow.parquet.read_schema(path)
        return found.remove_metadata(), json.loads(found.metadata[ROW_METADATA.encode()])

    def metadata(folder: Path) -> list[dict[str, Any]]:
        paths = [folder / "metadata", *sorted(folder.glob("stages/*/metadata"))]
        return [json.loads(next(path.glob("part-*")).read_text()) for path in paths]

    assert schema(tmp_path / "model") == schema(GOLDEN / "ours") == schema(GOLDEN / "words")
    kinds = [
        [(found["class"], sorted(found)) for found in metadata(folder)]
        for folder in (tmp_path / "model", GOLDEN / "ours", GOLDEN / "words")
    ]
    assert kinds[0] == kinds[1] == kinds[2]


def test_training_finds_what_sparks_training_finds() -> None:
    """`words` was trained by Spark on these texts, which can't be told apart without mistakes: there is one optimum."""
    rows = training_rows()
    texts = [row["text"] for row in rows]
    ours = fit(texts, np.array([row["label"] == 1 for row in rows]))
    scores, _ = Scorer(ours).scores(texts)
    theirs, _ = Scorer(read_classifier(GOLDEN / "words")).scores(texts)
    assert np.abs(scores - theirs).max() < 1e-4
    assert theirs.min() < 0.1
    assert theirs.max() > 0.9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda found: found | {"sparkVersion": "5.0.1"},
            r"was written by Spark 5\.0\.1, and how that hashes words is not known",
        ),
        (lambda found: {key: value for key, value in found.items() if key != "sparkVersion"}, "Spark of no version"),
        (
            lambda found: found | {"paramMap": {"numFeatures": 7}},
            "makes vectors of 7, the regression has 1000 coefficients",
        ),
        (
            lambda found: found | {"class": "org.apache.spark.ml.feature.Word2VecModel"},
            "Tokenizer, Word2VecModel, Logistic",
        ),
    ],
)
def test_a_model_that_is_not_known_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_classifier(edited(GOLDEN / "dense", tmp_path / "model", change))


def test_a_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no model of Spark"):
        read_classifier(tmp_path)
    model = shutil.copytree(GOLDEN / "dense", tmp_path / "model")
    (data,) = model.glob("stages/2_*/data/*.parquet")
    data.write_bytes(data.read_bytes()[:500])
    with pytest.raises(ConfigError, match=r"holds no logistic regression of Spark 2\.1 or newer"):
        read_classifier(model)
    shutil.rmtree(data.parents[1])
    with pytest.raises(ConfigError, match=r"is not whole: there is no stages/\*_LogisticRegression"):
        read_classifier(model)


def test_pareto_keeps_as_its_distribution_says_and_by_the_row() -> None:
    rows = [f"row-{number}" for number in range(20_000)]
    for score in (0.05, 0.5, 0.9):
        share = sum(keeps("pareto", score, row, 1) for row in rows) / len(rows)
        expected = (2 - score) ** -9  # P(X > 1 - score)
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / len(rows)) + 1e-9
    assert [keeps("pareto", 0.5, row, 1) for row in rows[:500]] == [keeps("pareto", 0.5, row, 1) for row in rows[:500]]
    assert [keeps("pareto", 0.9, row, 1) for row in rows[:500]] != [keeps("pareto", 0.9, row, 2) for row in rows[:500]]
    assert [keeps("label", score, "a", 1) for score in (0.5, 0.5000001)] == [False, True]


def test_figures_of_batches_are_those_of_all_scores() -> None:
    chance = np.random.default_rng(6)
    scores = np.concatenate([chance.beta(0.3, 2, 5000), [0.0, 1.0], chance.random(777)])
    tally = Tally()
    for part in np.array_split(scores, 9):
        tally.add(part, int((part > 0.5).sum()), 3)
    figures = tally.figures()
    assert figures["mean"] == pytest.approx(scores.mean(), abs=1e-12)
    assert figures["std"] == pytest.approx(scores.std(ddof=1), rel=1e-12)
    for share in (5, 25, 50, 75, 95):
        exact = np.quantile(scores, share / 100, method="inverted_cdf")
        assert figures[f"{share}%"] == pytest.approx(exact, abs=1e-6)
    assert (figures["min"], figures["max"], figures["rows"], figures["tokens"]) == (0, 1, 5779, 27)
    assert figures["kept_share"] == (scores > 0.5).mean()


@pytest.mark.parametrize("processes", [1, 2])
def test_no_more_batches_are_read_than_keep_everybody_busy(processes: int) -> None:
    read = 0

    def endless() -> Iterator[Batch]:
        nonlocal read
        while True:
            read += 1
            yield Batch(Path("a.jsonl"), 1, [b'{"text": "the river"}\n'])

    found = scored(endless(), Work(Scorer(read_classifier(GOLDEN / "words")), "text"), processes)
    for done in range(1, 30):
        next(found)
        assert read <= done + 2 * processes + 1
    found.close()


def problem_of(path: Path, key: str = "text") -> tuple[str, str]:
    """What is said of a file, without the folder, and of which field."""
    work = Work(Scorer(read_classifier(GOLDEN / "words")), key)
    with pytest.raises(DatasetError) as refused:
        list(scored(batches_of(plain_sources({"dataset_path": str(path)}), key), work, 1))
    return refused.value.problem.replace(f"{path.parent}/", ""), refused.value.field


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("number.jsonl", b'{"text": 7.5}\n', "number.jsonl, line 1 holds float, no text, under 'text'"),
        ("null.json", b'[{"text": "a"}, {"text": null}]', "null.json, row 2 has no text under 'text'"),
        ("nan.jsonl", b'{"text": "a"}\n{"text": NaN}\n', "nan.jsonl, line 2: not JSON (NaN is not a JSON value)"),
        ("cut.jsonl", b'{"text": "a"}\n\n{"text": "b', "cut.jsonl, line 3: not JSON"),
        ("bytes.jsonl", b'{"text": "\xff"}\n', "bytes.jsonl, line 1: not JSON"),
        ("list.jsonl", b"[1]\n", "list.jsonl, line 1: a row must be an object with fields, not list"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9, mtime=0)[:-9], "cut.jsonl.gz is not a whole .gz file"),
        ("bad.jsonl.gz", gzip.compress(b"x", mtime=0)[:10] + b"\xff" * 40, "bad.jsonl.gz is not a whole .gz file"),
        ("not.jsonl.gz", b"plain", "not.jsonl.gz is not a whole .gz file"),
        ("not.jsonl.zst", b"plain", "not.jsonl.zst is not a whole .zst file"),
        ("not.parquet", b"PAR1 nothing", "not.parquet is not a Parquet file"),
    ],
)
def test_a_file_that_cant_be_read_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    said, _ = problem_of(tmp_path / name)
    assert said.startswith(words)


def test_a_column_of_parquet_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [text * 3 for text in TEXTS]}), path, compression="gzip")
    assert problem_of(path, "body.text") == ("broken.parquet has no column 'body'; it has text", "text_key")
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)
    assert problem_of(path)[0].startswith("broken.parquet is not a whole Parquet file")


@pytest.mark.parametrize(
    ("predicted", "truth", "words"),
    [
        ([], [{"y": 1}], "ground_truth_dataset_path: p.jsonl ends after 0 rows, t.jsonl goes on"),
        ([{"x": 1}] * 2, [{"y": 1}], "ground_truth_dataset_path: t.jsonl ends after 1 row, p.jsonl goes on"),
        ([{"z": 1}], [{"y": 1}], "predicted_value_key: row 1 of p.jsonl has no 'x'; its fields are z"),
        ([{"x": 1}], [{"z": 1}], "ground_truth_value_key: row 1 of t.jsonl has no 'y'; its fields are z"),
        ([{"x": 1, ROW_ID: "a"}], [{"y": 1, ROW_ID: "b"}], "ground_truth_dataset_path: row 1 of t.jsonl is another one than row 1 of p.jsonl"),
        ([], [], "predicted_dataset_path: p.jsonl holds no rows"),
        (None, [{"y": 1}], "predicted_dataset_path: there is no file p.jsonl"),
        ([{"x": 1}], None, "ground_truth_dataset_path: there is no file t.jsonl"),
    ],
)  # fmt: skip
def test_pairs_that_are_none_are_named(predicted: Any, truth: Any, words: str, tmp_path: Path) -> None:
    for name, rows in (("p.jsonl", predicted), ("t.jsonl", truth)):
        if rows is not None:
            write_jsonl(tmp_path / name, rows)
    inside: Any = SimpleNamespace(workspace=SimpleNamespace(inside=lambda name, _: tmp_path / name))
    with pytest.raises(ConfigError) as refused:
        list(pairs(inside, "p.jsonl", "t.jsonl", ("x", "y"), "value_key"))
    assert str(refused.value).startswith(f"extraConfigs.{words}")
