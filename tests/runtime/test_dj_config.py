# SPDX-License-Identifier: Apache-2.0
"""Configurations: what is refused before a run and in which words, what the runtime fixes, and that the
generated catalogue is current.
"""

import json
import sys
from pathlib import Path

import pytest
from dj_data import REPOSITORY, VARIABLES

from sandbox_runtime.data_juicer import catalogue, config
from sandbox_runtime.data_juicer.errors import ConfigurationError

assert VARIABLES


def build(tmp_path, raw, **settings):
    places = {
        "work_dir": tmp_path / "work",
        "export_path": tmp_path / "out.jsonl",
        "dataset_path": tmp_path / "in.jsonl",
    }
    return config.build_config(raw, job_id="job", np=2, **places, settings=settings)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"proces": []}, "proces: Data-Juicer has no such key; did you mean process?"),
        ({"checkpoint": {"enable": True}}, "checkpoint.enable: Data-Juicer has no such setting; did you mean enabled?"),
        ({"process": {}}, None),
        ({"process": "text_length_filter"}, "process: must be a list of operators, not str"),
        ({"process": ["text_length_filter"]}, "process[0]: must be one operator with its arguments"),
        ({"process": [{"a": {}, "b": {}}]}, "process[0]: must be one operator"),
        (
            {"process": [{"text_lenght_filter": None}]},
            "process[0].text_lenght_filter: Data-Juicer has no such operator; did you mean text_length_filter",
        ),
        ({"process": [{"text_length_filter": {"min": 1}}]}, "process[0].text_length_filter: unknown parameter 'min'"),
        (
            {"process": [{"text_length_filter": {"min_len": 1.5}}]},
            "process[0].text_length_filter: parameter 'min_len' expects type 'int'",
        ),
        (
            {"process": [{"text_length_filter": [1]}]},
            "process[0].text_length_filter: its arguments must be a mapping, not list",
        ),
        (
            {"executor_type": "ray", "process": [{"document_deduplicator": None}]},
            "does not run with executor_type ray; use ray_document_deduplicator",
        ),
        (
            {"executor_type": "ray", "process": [{"random_selector": None}]},
            "process[0].random_selector: the operator does not run with executor_type ray",
        ),
        (
            {"process": [{"ray_document_deduplicator": None}]},
            "does not run with executor_type default; use document_deduplicator",
        ),
        ({"executor_type": "ray_partitioned"}, "executor_type: this runtime runs the executors default and ray"),
    ],
)
def test_what_is_wrong_is_told_with_its_address(raw, problem):
    if problem is None:
        config.preflight(raw)
        return
    with pytest.raises(ConfigurationError) as caught:
        config.preflight(raw)
    assert problem in str(caught.value)


def test_all_problems_are_told_at_once():
    found = config.problems({"nop": 1, "process": [{"no_such_filter": None}, {"text_length_filter": {"max": 2}}]})
    assert [problem.field for problem in found] == ["nop", "process[0].no_such_filter", "process[1].text_length_filter"]


@pytest.mark.parametrize(
    "raw", [{"percentiles": "half"}, {"np": -1}, {"np": "many"}, {"text_keys": 3}, {"executor_type": "spark"}]
)
def test_wrong_values_are_refused_by_the_library_s_own_parser(tmp_path, raw):
    (key,) = raw
    with pytest.raises(ConfigurationError, match=f"Data-Juicer refuses it: .*{key}"):
        build(tmp_path, raw)


def test_every_key_of_the_library_is_accepted(tmp_path):
    """A configuration with all keys, as the library itself writes it after parsing, goes through again."""
    first = build(tmp_path, {"process": [{"text_length_filter": {"min_len": 3}}], "project_name": "$(HOME) $$"})
    written = {
        key: value
        for key, value in json.loads(json.dumps(first.as_dict(), default=str)).items()
        if key in catalogue.top_level_keys()
    }
    assert len(written) > 60
    again = build(tmp_path, written)
    assert again.project_name == "$(HOME) $$"
    assert again.process[0]["text_length_filter"]["min_len"] == 3


def test_what_the_runtime_decides_is_decided(tmp_path):
    raw = {
        "np": 64,
        "skip_op_error": True,
        "work_dir": "/nowhere",
        "job_id": "mine",
        "export_path": "/x.jsonl",
        "use_cache": True,
        "temp_dir": "/y",
    }
    built = build(tmp_path, raw)
    assert (built.np, built.skip_op_error, built.job_id, built.use_cache, built.temp_dir) == (
        2,
        False,
        "job",
        False,
        None,
    )
    assert Path(built.work_dir) == tmp_path / "work" / "job"
    assert built.export_path == str(tmp_path / "out.jsonl")
    assert build(tmp_path, {"np": 1}).np == 1


def test_an_operator_of_the_user_is_known(tmp_path):
    operator = tmp_path / "my_filters.py"
    operator.write_text(
        "from data_juicer.ops.base_op import OPERATORS, Filter\n"
        "@OPERATORS.register_module('my_test_filter')\n"
        "class MyTestFilter(Filter):\n"
        "    def __init__(self, min_weight: int = 1, **kwargs):\n        super().__init__(**kwargs)\n"
    )
    raw = {"custom_operator_paths": [str(operator)], "process": [{"my_test_filter": {"min_weight": 2}}]}
    try:
        config.preflight(raw)
        config.preflight(raw)
    finally:
        from data_juicer.ops.base_op import OPERATORS

        OPERATORS.modules.pop("my_test_filter", None)
        sys.modules.pop("my_filters", None)
    with pytest.raises(ConfigurationError, match=r"custom_operator_paths: Path '/no/such\.py'"):
        config.preflight({"custom_operator_paths": ["/no/such.py"]})


def test_the_planner_s_catalogue_is_that_of_the_installed_library():
    generated = (REPOSITORY / "crds" / "sandbox_api" / "data_juicer.json").read_text()
    assert generated == catalogue.dump(catalogue.describe())
    assert len(generated) < 100_000
