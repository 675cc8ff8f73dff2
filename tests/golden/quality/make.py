# SPDX-License-Identifier: Apache-2.0
"""Makes the golden vectors of this folder with PySpark: what Spark itself says of texts, to check a scorer without Spark.

Run by hand, in an environment with `pyspark` (4.3.0 made these), `sentencepiece` and `numpy`, and a JVM of version 17:

    python tests/golden/quality/make.py [--ours FOLDER]

It writes the model folders `words`, `dense` and `pieces` and the vectors `scores.jsonl`. `--ours` is a folder that
`sandbox-runtime train-quality-classifier` made: Spark loads it, so it is kept as `ours` beside Spark's scores of it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SPARK_2 = "2.4.8"
GOOD = [
    "the",
    "river",
    "of",
    "history",
    "wrote",
    "carefully",
    "about",
    "science",
    "music",
    "and",
    "its",
    "winter",
    "gardens",
    "in",
    "many",
    "quiet",
    "books",
]
BAD = [
    "click",
    "here",
    "buy",
    "now",
    "cheap!!!",
    "casino",
    "$$$",
    "free",
    "win",
    "subscribe",
    "http://x.yz/?a=1",
    "lol",
    "omg",
    "100%",
    "sale",
]
OTHER = [
    "数据",
    "处理质量",
    "naïve",
    "Straße",
    "ÉCOLE",
    "Привет",
    "ΣΊΣΥΦΟΣ",
    "日本語の文章",
    "😀",
    "e\u0301t\u00e9",
    "a\u00a0b",
]


def document(chance: random.Random, words: list[str], length: int) -> str:
    return " ".join(chance.choice(words) for _ in range(length))


def training_rows() -> list[dict[str, Any]]:
    """Texts of two kinds that share some words, so that no coefficient runs away."""
    chance = random.Random(1)
    rows = []
    for number in range(400):
        label = number % 2
        words = (GOOD if label else BAD) if chance.random() < 0.8 else (BAD if label else GOOD)
        mixed = [*words, *words, *OTHER, *chance.sample(GOOD + BAD, 5)]
        rows.append({"text": document(chance, mixed, chance.randint(3, 40)), "label": label})
    return rows


def texts(without: str) -> list[str]:
    """What scorers stumble over, then plain documents. `without`: letters that the JVM does not know yet."""
    chance = random.Random(2)
    codes = (code for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    cased = [chr(code) for code in codes if chr(code).lower() != chr(code) and chr(code) not in without]
    tricky = [
        "", " ", "   \t\n", "a", " a", "a ", "  a  b  ", "\ta\n\nb\r\nc\x0bd\x0ce\x1cf\x1dg\x85h\u2028i\u3000j",
        "A a\u00a0a", "İSTANBUL I\u0307 ı", "ΟΔΥΣΣΕΥΣ ΑΣ Σ ΣΑ ΑΣ. ΑΣ'Α", "the " * 900, "the" * 2000, "数据" * 700,
        "x y" * 500 + " ", "\x00 \x00\x01", "é e\u0301 É", "😀😀 😀", "\ufeffthe river", "the\u200briver",
        " ".join("abcdefgh"[:length] for length in range(9)), " ".join("ÿ" * length for length in range(9)),
        " ".join(cased), *(" ".join(chance.sample(cased, 40)) for _ in range(10)),
    ]  # fmt: skip
    plain = [document(chance, GOOD + BAD + OTHER, chance.randint(1, 60)) for _ in range(100)]
    return tricky + plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", type=Path, help="a folder made by `sandbox-runtime train-quality-classifier`")
    ours = parser.parse_args().ours

    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import HashingTF, Tokenizer
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    tokenizer = train_tokenizer(HERE / "pieces.sp.model")
    rows, every = training_rows(), texts(without=letters_unknown_to(spark))
    written: dict[str, list[float]] = {}

    def frame(of: list[dict[str, Any]]) -> Any:
        """With the pieces of the texts, which upstream cuts before its pipeline."""
        found = [(row["text"], row.get("label", 0), tokenizer.encode_as_pieces(row["text"])) for row in of]
        return spark.createDataFrame(found, "text string, label int, words array<string>")

    def score(model: Any, of: list[str], pieces: bool) -> list[float]:
        data = frame([{"text": text} for text in of])
        found = model.transform(data if pieces else data.drop("words")).select("probability").collect()
        return [float(row.probability[1]) for row in found]

    stages = {
        "words": [Tokenizer(inputCol="text", outputCol="words"), HashingTF(inputCol="words", outputCol="features")],
        "dense": [
            Tokenizer(inputCol="text", outputCol="words"),
            HashingTF(inputCol="words", outputCol="features", numFeatures=1000),
        ],
        "pieces": [HashingTF(inputCol="words", outputCol="features")],
    }
    for name, before in stages.items():
        pieces = name == "pieces"
        data = rows
        if name == "dense":  # every bucket gets a weight, so that each hash of each word counts
            chance = random.Random(3)
            some = [
                {"text": " ".join(f"w{chance.randrange(9000)}" for _ in range(120)), "label": chance.randrange(2)}
                for _ in range(400)
            ]
            data = rows + some
        fitted = frame(data) if pieces else frame(data).drop("words")
        regression = LogisticRegression(regParam=0.01 if name == "dense" else 0.0)
        model = Pipeline(stages=[*before, regression]).fit(fitted)
        save(model, HERE / name)
        written[name] = score(model, every, pieces)
    with tempfile.TemporaryDirectory() as scratch:
        old = Path(scratch, "old")
        shutil.copytree(HERE / "dense", old)
        edit_hashing(old, lambda metadata: metadata | {"sparkVersion": SPARK_2})
        written[f"dense of {SPARK_2}"] = score(PipelineModel.load(str(old)), every, pieces=False)
        binary = Path(scratch, "binary")
        shutil.copytree(HERE / "dense", binary)
        edit_hashing(binary, lambda metadata: metadata | {"paramMap": metadata["paramMap"] | {"binary": True}})
        written["dense binary"] = score(PipelineModel.load(str(binary)), every, pieces=False)
        if ours:
            shutil.rmtree(HERE / "ours", ignore_errors=True)
            shutil.copytree(ours, HERE / "ours")
            written["ours"] = score(PipelineModel.load(str(HERE / "ours")), every, pieces=False)
    with (HERE / "scores.jsonl").open("w", encoding="utf-8") as file:
        for place, text in enumerate(every):
            scores = {name: values[place] for name, values in written.items()}
            file.write(json.dumps({"text": text, "scores": scores}, ensure_ascii=False) + "\n")
    spark.stop()


def save(model: Any, folder: Path) -> None:
    """Without Hadoop's checksums and marks, which say nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    model.write().save(str(folder))
    for path in [*folder.rglob(".*.crc"), *folder.rglob("_SUCCESS")]:
        path.unlink()


def edit_hashing(folder: Path, change: Any) -> None:
    (path,) = folder.glob("stages/*_HashingTF_*/metadata/part-*")
    path.write_text(json.dumps(change(json.loads(path.read_text()))) + "\n")
    for crc in path.parent.glob(".*.crc"):
        crc.unlink()


def train_tokenizer(path: Path) -> Any:
    """A sentencepiece model of a few hundred pieces; without Unicode tables, which would be most of it."""
    import sentencepiece

    corpus = [row["text"] for row in training_rows()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_prefix=str(path.with_suffix("")), vocab_size=100, hard_vocab_limit=False,
        normalization_rule_name="identity", character_coverage=0.98, num_threads=1,
    )  # fmt: skip
    path.with_suffix(".vocab").unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def letters_unknown_to(spark: Any) -> str:
    """Letters that Spark lowers otherwise than this Python: the older of both does not know the newest ones."""
    from pyspark.ml.feature import Tokenizer

    letters = [
        chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Lu", "Ll", "Lt", "Nl", "So")
    ]
    frame = spark.createDataFrame([(letter,) for letter in letters], "text string")
    lowered = Tokenizer(inputCol="text", outputCol="words").transform(frame).collect()
    different = "".join(row.text for row in lowered if row.words != [row.text.lower()])
    print(f"lower case differs for {len(different)} characters: {different!a}", file=sys.stderr)
    return different


if __name__ == "__main__":
    main()
