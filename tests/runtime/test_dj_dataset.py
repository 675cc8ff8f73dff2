# SPDX-License-Identifier: Apache-2.0
"""The prepared input: what is refused and how it is told, stable row ids, and every form of data set that
Data-Juicer knows.
"""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from dj_data import VARIABLES, read_jsonl, rows, write_jsonl

from sandbox_runtime.data_juicer.dataset import ROW_ID, prepare
from sandbox_runtime.data_juicer.errors import ConfigurationError, DatasetError
from sandbox_runtime.data_juicer.rows import count_rows

assert VARIABLES


def ids(prepared):
    if prepared.path.suffix == ".parquet":
        return pyarrow.parquet.read_table(prepared.path).column(ROW_ID).to_pylist()
    return [row[ROW_ID] for row in read_jsonl(prepared.path)]


def test_rows_keep_their_columns_and_get_an_id(tmp_path):
    content = rows()
    source = write_jsonl(tmp_path / "data.jsonl", content)
    prepared = prepare({"dataset_path": str(source)}, tmp_path / "in")
    written = read_jsonl(prepared.path)
    assert prepared.rows == len(content)
    assert [{name: value for name, value in row.items() if name != ROW_ID} for row in written] == content
    assert len(set(ids(prepared))) == len(content)
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["input.jsonl"]


def test_ids_follow_the_row_not_its_place_and_equal_rows_are_numbered(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}, {"text": "y"}, {"text": "x"}])
    second = write_jsonl(tmp_path / "b.jsonl", [{"text": "new"}, {"text": "x"}, {"text": "x"}, {"text": "y"}])
    x0, y, x1 = ids(prepare({"dataset_path": str(first)}, tmp_path / "1"))
    assert ids(prepare({"dataset_path": str(second)}, tmp_path / "2"))[1:] == [x0, x1, y]
    assert x0.rpartition("-")[0] == x1.rpartition("-")[0]
    assert (x0[-2:], x1[-2:]) == ("-0", "-1")


def test_an_id_that_a_row_brings_is_kept(tmp_path):
    source = write_jsonl(tmp_path / "data.jsonl", [{"text": "x", ROW_ID: "mine"}, {"text": "y"}])
    assert ids(prepare({"dataset_path": str(source)}, tmp_path / "in"))[0] == "mine"


def test_every_format_gives_the_same_ids_and_digest(tmp_path):
    content = rows()
    text = "".join(json.dumps(row) + "\n" for row in content).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + text + b"\n\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(text[:5000]) + zstandard.compress(text[5000:]))
    (tmp_path / "d.json").write_text(json.dumps(content, indent=1))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), tmp_path / "e.parquet")
    found = {
        name: prepare({"dataset_path": str(tmp_path / name)}, tmp_path / f"in-{name}")
        for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.json", "e.parquet")
    }
    assert {prepared.digest for prepared in found.values()} == {found["a.jsonl"].digest}
    assert all(ids(prepared) == ids(found["a.jsonl"]) for prepared in found.values())
    assert all(count_rows(tmp_path / name) == len(content) for name in found)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    content = rows()
    write_jsonl(tmp_path / "data" / "part-0.jsonl", content[:100])
    write_jsonl(tmp_path / "data" / "sub" / "part-1.jsonl", content[100:])
    prepared = prepare({"dataset_path": str(tmp_path / "data")}, tmp_path / "in")
    assert [row["meta"]["n"] for row in read_jsonl(prepared.path)] == list(range(len(content)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"text": "a"}\n{"text": "b"\n', "data.jsonl, line 2: not JSON"),
        (b'{"text": "a"}\n\n[1, 2]\n', "line 3: a row must be an object with fields, not list"),
        (b'{"text": "a\xff"}\n', "line 1: not JSON ('utf-8' codec can't decode"),
        (b'{"text": "a", "score": NaN}\n', "line 1: not JSON (NaN is not a JSON value)"),
        (
            b'{"text": "a"}\n{"txt": "b"}\n',
            "row 2 of {path} has no 'text'; name the field with the texts in `text_keys`",
        ),
        (b'{"text": "a"}\n{"text": null}\n', "row 2 of {path} has no 'text'"),
        (b'{"text": "\\ud83d"}\n', "row 1 of {path} holds half of a character pair"),
        (b"", "{path} holds no rows"),
        (b"\n \n", "{path} holds no rows"),
    ],
)
def test_malformed_rows_are_told_with_file_and_line(tmp_path, content, problem):
    source = tmp_path / "data.jsonl"
    source.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        prepare({"dataset_path": str(source)}, tmp_path / "in")
    assert str(caught.value).startswith("dataset_path: ")
    assert problem.replace("{path}", str(source)) in str(caught.value)


def test_broken_archives_and_tables_are_told(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 2000)[:-20])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(DatasetError, match=r"a\.jsonl\.gz is not a whole \.gz file"):
        prepare({"dataset_path": str(tmp_path / "a.jsonl.gz")}, tmp_path / "in")
    with pytest.raises(DatasetError, match=r"b\.parquet is not a Parquet file"):
        prepare({"dataset_path": str(tmp_path / "b.parquet")}, tmp_path / "in")


def test_a_missing_path_an_empty_folder_and_a_mixed_one_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    write_jsonl(tmp_path / "mixed" / "a.jsonl", rows(3))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(3)), tmp_path / "mixed" / "b.parquet")
    with pytest.raises(DatasetError, match="dataset_path: there is no file or folder /no/such"):
        prepare({"dataset_path": "/no/such/data.jsonl"}, tmp_path / "in")
    with pytest.raises(DatasetError, match="holds no data file"):
        prepare({"dataset_path": str(tmp_path / "empty")}, tmp_path / "in")
    with pytest.raises(DatasetError, match=r"mixes \.jsonl, \.parquet; choose with `suffixes`"):
        prepare({"dataset_path": str(tmp_path / "mixed")}, tmp_path / "in")
    assert prepare({"dataset_path": str(tmp_path / "mixed"), "suffixes": ["jsonl"]}, tmp_path / "in").rows == 3
    with pytest.raises(ConfigurationError, match="dataset_path: no data"):
        prepare({"process": []}, tmp_path / "in")


def test_malformed_lines_are_left_out_only_when_asked_and_then_counted(tmp_path):
    source = tmp_path / "data.jsonl"
    source.write_text('{"text": "a"}\nnonsense\n{"text": "b"}\n')
    prepared = prepare({"dataset_path": str(source), "load_jsonl_lenient": True}, tmp_path / "in")
    assert (prepared.rows, prepared.left_out) == (2, 1)


def test_other_forms_are_read_by_data_juicer(tmp_path):
    content = rows(40)
    first = write_jsonl(tmp_path / "a.jsonl", content[:30])
    second = write_jsonl(tmp_path / "b.jsonl", content[30:])
    table = tmp_path / "c.csv"
    table.write_text("text;score\nhello there;1\nand again;2\n")
    mixed = prepare(
        {"dataset": {"configs": [{"type": "local", "path": str(first)}, {"type": "local", "path": str(second)}]}},
        tmp_path / "1",
    )
    assert [row["meta"]["n"] for row in read_jsonl(mixed.path)] == list(range(40))
    assert prepare({"dataset_path": f"1.0 {first} 1.0 {second}"}, tmp_path / "2").rows == 40
    csv = prepare({"dataset_path": str(table), "load_dataset_kwargs": {"delimiter": ";"}}, tmp_path / "3")
    assert [(row["text"], row["score"]) for row in read_jsonl(csv.path)] == [("hello there", 1), ("and again", 2)]
    with pytest.raises(DatasetError, match="Data-Juicer can't load it"):
        prepare({"dataset": {"configs": [{"type": "local", "path": "/no/such.jsonl"}]}}, tmp_path / "4")


def test_relative_media_paths_still_lead_to_the_files(tmp_path):
    source = write_jsonl(tmp_path / "data.jsonl", [{"text": "a", "videos": ["clips/a.mp4", "/b.mp4", "s3://c/d.mp4"]}])
    (row,) = read_jsonl(prepare({"dataset_path": str(source)}, tmp_path / "in").path)
    assert row["videos"] == [str(tmp_path / "clips/a.mp4"), "/b.mp4", "s3://c/d.mp4"]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"text": "a", "images": ["x.png"]}]), tmp_path / "data.parquet"
    )
    prepared = prepare({"dataset_path": str(tmp_path / "data.parquet")}, tmp_path / "in")
    assert pyarrow.parquet.read_table(prepared.path).column("images").to_pylist() == [[str(tmp_path / "x.png")]]
