# SPDX-License-Identifier: Apache-2.0
"""Which row of a run is which line on the volume, and what a row and a configuration say; no wandb is needed for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.exports import JOB, Volume

from sandbox_api.contract import ExperimentRef
from sandbox_api.export import ExportContract, decode_export, encode_export
from sandbox_runtime.secrets import HIDDEN
from sandbox_runtime.tracking.journal import NAME, Busy, Journal
from sandbox_runtime.tracking.rows import config_of, row_of, rows_of
from sandbox_runtime.tracking.sources import Entry, Sizes, attempt_of, new_entries

CONTRACT = ExportContract(
    experiment=ExperimentRef(name="demo", namespace="lab", uid="1234abcd-1", project="p", run="r"), mode="online"
)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


def source(volume: Volume) -> str:
    return volume.relative(volume.attempt())


def test_a_row_keeps_its_place_whatever_was_added_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([Entry("lines", "a", 0, 3), Entry("lines", "b", 0, 2)])
    journal.append([Entry("lines", "a", 3, 1), Entry("result", "a")])
    journal.close()
    again = Journal(tmp_path)
    assert again.rows == 8  # the first one says that the run has begun
    assert list(again.after(2)) == [
        (2, Entry("lines", "a", 1, 2)), (4, Entry("lines", "b", 0, 2)), (6, Entry("lines", "a", 3, 1)), (7, Entry("result", "a")),
    ]  # fmt: skip
    assert (again.lines, again.results) == ({"a": 4, "b": 2}, {"a"})


def test_an_entry_that_was_cut_off_never_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([Entry("lines", "a", 0, 3)])
    journal.close()
    with (tmp_path / NAME).open("a") as file:
        file.write('{"kind": "lines", "source": "b", "beg')
    again = Journal(tmp_path)
    again.append([Entry("lines", "c", 0, 1)])
    again.close()
    assert [entry.source for entry in Journal(tmp_path).entries] == ["", "a", "c"]


def test_one_exporter_at_a_time(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    with pytest.raises(Busy):
        Journal(tmp_path)
    first.close()
    assert Journal(tmp_path).rows == 1


def test_files_count_as_sent_when_a_session_has_ended_well(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    videos, tables = Entry("videos", "a"), Entry("tables", "a")
    journal.append([Entry("result", "a"), videos, tables])
    assert journal.unsent(2) == []
    assert journal.unsent(4) == [videos, tables]
    journal.files_sent([tables])
    assert journal.unsent(4) == [videos]


def test_lines_are_taken_whole_and_once_and_results_when_they_succeeded(volume: Volume, tmp_path: Path) -> None:
    volume.log([1, 2])
    with (volume.attempt() / "metrics.jsonl").open("a") as file:
        file.write('{"t": 1, "train.lo')
    journal, sizes = Journal(tmp_path), Sizes()

    def found() -> list[Entry]:
        entries = list(new_entries(volume.root, volume.experiment, journal, [], sizes))
        journal.append(entries)
        return entries

    assert found() == [Entry("lines", source(volume), 0, 2)]
    assert found() == []
    with (volume.attempt() / "metrics.jsonl").open("a") as file:
        file.write('ss": 3}\n')
    volume.succeed({"x": 1.0}, {}, [])
    assert found() == [Entry("lines", source(volume), 2, 1), Entry("result", source(volume))]
    assert found() == []


def test_a_result_of_another_experiments_cache_is_told_too(volume: Volume, tmp_path: Path) -> None:
    volume.succeed({"x": 1.0}, {}, [])
    path = volume.relative(volume.attempt() / "result.json")
    mine = volume.root / "experiments" / "other-00000000"
    entries = list(new_entries(volume.root, mine, Journal(tmp_path), [path], Sizes()))
    assert entries == [Entry("result", source(volume))]


def test_a_line_is_a_row_with_its_step_beside_its_figures(volume: Volume) -> None:
    line = {
        "t": 5.25,
        "step": 7,
        "train.loss": 0.5,
        "train.lr": 1,
        "eval.x": 2.0,
        "_values": {"eval.name": "fvd", "b": None},
    }
    assert row_of(line) == {
        "train.step": 7, "eval.step": 7, "train.loss": 0.5, "train.lr": 1, "eval.x": 2.0, "eval.name": "fvd", "_timestamp": 5.25,
    }  # fmt: skip
    volume.log([4])
    with (volume.attempt() / "metrics.jsonl").open("a") as file:
        file.write("no JSON\n")
    first, second, gone = rows_of(volume.root, Entry("lines", source(volume), 0, 3))
    own = {"sandbox.job": JOB, "sandbox.attempt": 1, "sandbox.pod": "pod00001"}
    assert first == {"train.step": 4, "train.loss": 40.0, "_timestamp": 1.7e9 + 4, **own, "sandbox.line": 0}
    assert second == {**own, "sandbox.line": 1}, "what is no line keeps its place"
    assert gone == {**own, "sandbox.line": 2}, "so does one that was removed"


@pytest.mark.parametrize(
    ("job", "folder"),
    [("exps[3]/1/execution/0[2]~1", "exps.3/1/execution/0.2~1"), ("anonymous/1/probe/0", "anonymous/1/probe/0")],
)
def test_a_folder_says_whose_it_is(job: str, folder: str) -> None:
    assert attempt_of(f"experiments/e-1/jobs/{folder}/attempts/12/abcd0123").job == job


def test_the_configuration_is_the_newest_attempts_and_says_whose_where_jobs_differ(volume: Volume) -> None:
    for number, value in ((1, "old"), (2, "new")):
        (volume.attempt(number=number) / "configs.jsonl").write_text(json.dumps({"train.lr": value}) + "\n")
    (volume.attempt(job="exps[1]/1/execution/0") / "configs.jsonl").write_text(json.dumps({"train.lr": "other"}) + "\n")
    found = config_of(
        volume.experiment, CONTRACT.model_copy(update={"parameters": {"op.arg": 3, "op.api_key": "s3cret"}})
    )
    assert found["train.lr"] == "new"
    assert found["train.lr (exps[1]/1/execution/0)"] == "other"
    assert (found["parameters.op.arg"], found["parameters.op.api_key"]) == (3, HIDDEN)


def test_the_export_contract_arrives_as_it_was_written() -> None:
    assert decode_export(encode_export(CONTRACT)) == CONTRACT
    with pytest.raises(ValueError, match="not a compressed export contract"):
        decode_export("bm90IGd6aXA=")
