# SPDX-License-Identifier: Apache-2.0
"""One experiment in several sizes."""

from pathlib import Path
from typing import Any

import pytest

from sandbox_operator.cli.experiments import Ended
from sandbox_operator.cli.values import merged, read_values, with_values

SPEC: dict[str, Any] = {
    "workspace": {"claim": {"size": "2Gi"}},
    "pipelines": [
        {"name": "a", "executionJobConfigs": [{"hook": "TrainModelHook", "metaName": "train", "extraConfigs": {"steps": 2, "rank": 4}}]},
        {"name": "b", "stages": [{"name": "s", "jobConfigs": [{"hook": "TrainModelHook", "metaName": "train"}, {"hook": "FetchHook"}]}]},
    ],
}  # fmt: skip


def test_values_are_merged_into_the_spec_and_into_jobs_by_their_names() -> None:
    values = {
        "spec": {"workspace": {"claim": {"size": "2Ti"}}, "repeats": 3},
        "jobs": {"train": {"nodes": 2, "extraConfigs": {"steps": 2000}}, "FetchHook": {"extraConfigs": {"source": "x"}}},
    }  # fmt: skip
    found = with_values(SPEC, values)

    assert found["workspace"] == {"claim": {"size": "2Ti"}}
    assert found["repeats"] == 3
    first, second = found["pipelines"]
    assert first["executionJobConfigs"] == [
        {"hook": "TrainModelHook", "metaName": "train", "extraConfigs": {"steps": 2000, "rank": 4}, "nodes": 2}
    ]
    assert second["stages"][0]["jobConfigs"] == [
        {"hook": "TrainModelHook", "metaName": "train", "nodes": 2, "extraConfigs": {"steps": 2000}},
        {"hook": "FetchHook", "extraConfigs": {"source": "x"}},
    ]
    assert SPEC["pipelines"][0]["executionJobConfigs"][0]["extraConfigs"]["steps"] == 2, "what is written stays"


def test_lists_are_replaced_and_null_takes_away() -> None:
    assert merged({"a": [1, 2], "b": {"c": 1, "d": 2}, "e": 5}, {"a": [3], "b": {"c": None}, "e": {"f": 1}}) == {
        "a": [3], "b": {"d": 2}, "e": {"f": 1},
    }  # fmt: skip


def test_a_job_that_is_not_there_is_told() -> None:
    with pytest.raises(Ended) as told:
        with_values(SPEC, {"jobs": {"trian": {}}})
    assert str(told.value) == "jobs.trian: no job has that metaName; did you mean 'train'?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "write one document with spec, jobs or both"),
        ("pods: {}", "pods: write spec (fields of the spec) or jobs (fields of jobs by metaName)"),
        ("jobs: [1]", "jobs: write spec (fields of the spec) or jobs (fields of jobs by metaName)"),
        ("a: b: c", "mapping values are not allowed in this context"),
    ],
)
def test_a_file_that_is_none_of_values_is_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text)
    with pytest.raises(Ended) as told:
        read_values(file)
    assert str(told.value).startswith(f"{file}: ")
    assert said in str(told.value)
