# SPDX-License-Identifier: Apache-2.0
"""A classifier as a folder: the one that Spark's `PipelineModel.save` writes, read and written with pyarrow alone.

metadata/part-00000                       the pipeline: which stages, in order
stages/0_Tokenizer_<id>/metadata/         only where words are cut at white space
stages/1_HashingTF_<id>/metadata/         length of the vector; which Spark wrote it decides how words are hashed
stages/2_LogisticRegression_<id>/metadata/
stages/2_LogisticRegression_<id>/data/    coefficients and intercept, Parquet
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..files import write_atomic
from .hashing import Tail

TAILS: Mapping[int, Tail] = {2: "bytewise", 3: "standard", 4: "standard"}
"""How words are hashed, by Spark's major version. HashingTF has changed with version 3."""
WRITTEN_BY = "3.5.0"
"""The version whose format is written; later ones read it too."""
FEATURES = 2**18
"""Spark's default length of the vector."""
PIPELINE = "org.apache.spark.ml.PipelineModel"
TOKENIZER = "org.apache.spark.ml.feature.Tokenizer"
HASHING = "org.apache.spark.ml.feature.HashingTF"
REGRESSION = "org.apache.spark.ml.classification.LogisticRegressionModel"


@dataclass(frozen=True, eq=False)
class Classifier:
    """P(good) = sigmoid(intercept + sum over places of coefficient x count)."""

    coefficients: NDArray[np.float64]
    """(features,)"""
    intercept: float
    tail: Tail = "standard"
    cuts_words: bool = True
    """Whether words are cut at white space; else a tokenizer beside the model cuts them."""
    binary: bool = False
    """Whether a word counts once, however often it occurs."""


def read_classifier(folder: Path) -> Classifier:
    """Raises ConfigError, a sentence without its field, where the folder is no such model or not a whole one."""
    pipeline = _metadata(folder)
    _refuse_other(folder, pipeline, PIPELINE)
    stages = [_stage(folder, uid) for uid in pipeline.get("paramMap", {}).get("stageUids", [])]
    told = [_metadata(stage) for stage in stages]
    kinds = [str(each.get("class")) for each in told]
    if kinds not in ([TOKENIZER, HASHING, REGRESSION], [HASHING, REGRESSION]):
        names = ", ".join(kind.rpartition(".")[2] for kind in kinds) or "none"
        raise ConfigError(
            f"the stages of {folder} are {names}; a quality classifier has Tokenizer (or a tokenizer beside it),"
            " HashingTF, LogisticRegressionModel"
        )
    hashing = told[-2]
    settings = {**hashing.get("defaultParamMap", {}), **hashing["paramMap"]}
    coefficients, intercept = _regression(stages[-1])
    features = int(settings.get("numFeatures", FEATURES))
    if not np.isfinite([*coefficients, intercept]).all():
        raise ConfigError(f"{stages[-1]} has coefficients that are no finite numbers")
    if len(coefficients) != features:
        raise ConfigError(
            f"{folder} does not fit together: HashingTF makes vectors of {features}, the regression has"
            f" {len(coefficients)} coefficients"
        )
    return Classifier(
        coefficients, intercept, _tail(stages[-2], hashing), len(stages) == 3, bool(settings.get("binary", False))
    )


def write_classifier(classifier: Classifier, folder: Path, regression: Mapping[str, Any]) -> None:
    """Write the folder as Spark has it. regression: its settings as Spark names them.

    Raises ConfigError for one that newer versions of Spark would not hash so.
    """
    import io

    import pyarrow.parquet

    if classifier.tail != "standard":
        raise ConfigError("only classifiers that hash words as Spark 3 does can be written")
    stages: list[tuple[str, str, Mapping[str, Any]]] = [
        ("HashingTF", HASHING, {"inputCol": "words", "outputCol": "features", "binary": classifier.binary,
                                "numFeatures": len(classifier.coefficients)}),
        ("LogisticRegression", REGRESSION, regression),
    ]  # fmt: skip
    if classifier.cuts_words:
        stages.insert(0, ("Tokenizer", TOKENIZER, {"inputCol": "text", "outputCol": "words"}))
    uids = [f"{name}_{uuid.uuid4().hex[:12]}" for name, _, _ in stages]
    for place, (uid, (_, kind, settings)) in enumerate(zip(uids, stages, strict=True)):
        _write_metadata(folder / "stages" / f"{place}_{uid}", kind, uid, settings)
    table = io.BytesIO()
    pyarrow.parquet.write_table(_table(classifier), table)
    data = folder / "stages" / f"{len(stages) - 1}_{uids[-1]}" / "data" / "part-00000.snappy.parquet"
    write_atomic(data, table.getvalue())
    _write_metadata(folder, PIPELINE, f"PipelineModel_{uuid.uuid4().hex[:12]}", {"stageUids": uids})


def _metadata(folder: Path) -> dict[str, Any]:
    """The first line of `metadata/part-*`."""
    parts = sorted((folder / "metadata").glob("part-*"))
    if not parts:
        raise ConfigError(f"{folder} is no model of Spark: there is no metadata/part-00000 in it")
    try:
        found = json.loads(parts[0].read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, ValueError) as error:
        raise ConfigError(f"{parts[0]} can't be read as metadata of Spark: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("paramMap", {}), dict):
        raise ConfigError(f"{parts[0]} is no metadata of Spark")
    return {"paramMap": {}, **found}


def _refuse_other(folder: Path, metadata: Mapping[str, Any], wanted: str) -> None:
    if metadata.get("class") != wanted:
        raise ConfigError(f"{folder} is a {metadata.get('class')}, where a {wanted} is needed")


def _stage(folder: Path, uid: str) -> Path:
    found = [stage for stage in (folder / "stages").glob("*") if stage.name.partition("_")[2] == uid]
    if not found:
        raise ConfigError(f"{folder} is not whole: there is no stages/*_{uid} in it")
    return found[0]


def _tail(stage: Path, hashing: Mapping[str, Any]) -> Tail:
    version = str(hashing.get("sparkVersion", ""))
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) not in TAILS:
        known = ", ".join(map(str, TAILS))
        raise ConfigError(
            f"{stage} was written by Spark {version or 'of no version'}, and how that hashes words is not known; known"
            f" are the versions {known}. Train it again, or save it with one of those"
        )
    return TAILS[int(major)]


def _regression(stage: Path) -> tuple[NDArray[np.float64], float]:
    """Coefficients and intercept."""
    import pyarrow
    import pyarrow.parquet

    try:
        (row,) = pyarrow.parquet.read_table(stage / "data").to_pylist()
        matrix, intercepts = row["coefficientMatrix"], row["interceptVector"]
        if row["isMultinomial"] or matrix["numRows"] != 1:
            raise ConfigError(f"{stage} is a regression of several classes, where one of two is needed")
        return _row_of(matrix), float((intercepts["values"] or [0.0])[0])
    except (OSError, pyarrow.ArrowException, ValueError, TypeError, KeyError, IndexError) as error:
        raise ConfigError(f"{stage / 'data'} holds no logistic regression of Spark 2.1 or newer: {error}") from error


def _row_of(matrix: Mapping[str, Any]) -> NDArray[np.float64]:
    """The only row of a matrix: all its values, or those that are not zero with their places."""
    values = np.array(matrix["values"], np.float64)
    if matrix["type"] == 1:
        return values
    places = matrix["rowIndices"]
    if not matrix["isTransposed"]:  # by columns: each has one value or none
        places = np.flatnonzero(np.diff(matrix["colPtrs"]))
    row = np.zeros(matrix["numCols"])
    row[np.array(places, np.int64)] = values
    return row


def _write_metadata(folder: Path, kind: str, uid: str, settings: Mapping[str, Any]) -> None:
    told = {
        "class": kind,
        "timestamp": int(time.time() * 1000),
        "sparkVersion": WRITTEN_BY,
        "uid": uid,
        "paramMap": dict(settings),
        "defaultParamMap": {},
    }
    write_atomic(folder / "metadata" / "part-00000", (json.dumps(told, separators=(",", ":")) + "\n").encode())


def _table(classifier: Classifier) -> Any:
    """The regression as Spark's encoders write it: matrix and vector as structures, no field missing."""
    import pyarrow as pa

    def required(name: str, kind: Any) -> Any:
        return pa.field(name, kind, nullable=False)

    integers, numbers = pa.list_(required("element", pa.int32())), pa.list_(required("element", pa.float64()))
    vector = [required("type", pa.int8()), pa.field("size", pa.int32()), pa.field("indices", integers)]
    matrix = [
        required("type", pa.int8()), required("numRows", pa.int32()), required("numCols", pa.int32()),
        pa.field("colPtrs", integers), pa.field("rowIndices", integers), pa.field("values", numbers),
        required("isTransposed", pa.bool_()),
    ]  # fmt: skip
    schema = pa.schema(
        [
            required("numClasses", pa.int32()),
            required("numFeatures", pa.int32()),
            pa.field("interceptVector", pa.struct([*vector, pa.field("values", numbers)])),
            pa.field("coefficientMatrix", pa.struct(matrix)),
            required("isMultinomial", pa.bool_()),
        ]
    )
    places = np.flatnonzero(classifier.coefficients)
    row = {
        "numClasses": 2,
        "numFeatures": len(classifier.coefficients),
        "interceptVector": {"type": 1, "size": None, "indices": None, "values": [classifier.intercept]},
        "coefficientMatrix": {
            "type": 0,
            "numRows": 1,
            "numCols": len(classifier.coefficients),
            "colPtrs": [0, len(places)],
            "rowIndices": places.tolist(),
            "values": classifier.coefficients[places].tolist(),
            "isTransposed": True,
        },
        "isMultinomial": False,
    }
    told = {"type": "struct", "fields": [_spark_field(field, UDTS.get(field.name)) for field in schema]}
    return pa.Table.from_pylist([row], schema).replace_schema_metadata({ROW_METADATA: json.dumps(told)})


UDTS = {"interceptVector": "VectorUDT", "coefficientMatrix": "MatrixUDT"}
ROW_METADATA = "org.apache.spark.sql.parquet.row.metadata"
"""Where a Parquet file says which of its structures are Spark's vectors and matrices; Spark loads no other."""


def _spark_field(field: Any, udt: str | None = None) -> dict[str, Any]:
    """A field of Arrow as Spark writes it down."""
    kind = _spark_type(field.type)
    if udt is not None:
        names = {"class": f"org.apache.spark.ml.linalg.{udt}", "pyClass": f"pyspark.ml.linalg.{udt}"}
        kind = {"type": "udt", **names, "sqlType": kind}
    return {"name": field.name, "type": kind, "nullable": field.nullable, "metadata": {}}


def _spark_type(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {"type": "struct", "fields": [_spark_field(field) for field in kind]}
    if pa.types.is_list(kind):
        return {"type": "array", "elementType": _spark_type(kind.value_type), "containsNull": False}
    return {"int8": "byte", "int32": "integer", "double": "double", "bool": "boolean"}[str(kind)]
