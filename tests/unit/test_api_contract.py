# SPDX-License-Identifier: Apache-2.0
"""The job contract on its way to the pod, and the identity of what it asks for."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import UID

from sandbox_api.contract import (
    Configs,
    ExperimentRef,
    JobContract,
    JobRef,
    attempt_folder,
    contract_digest,
    decode_contract,
    encode_contract,
    experiment_folder,
)
from sandbox_api.digest import canonical_json, sha256_of


def a_contract(**more: Any) -> JobContract:
    return JobContract(
        **{
            "experiment": ExperimentRef(name="demo", namespace="lab", uid=UID, project="lab", run="demo"),
            "job": JobRef(
                id="anonymous/1/probe/0", pipeline="anonymous", iteration=1, stage="probe", index=0,
                hook="ProbeViaAnalyzerHook", meta_name="probe",
            ),
            "attempt": 1,
            "configs": Configs(dj={"dataset_path": "$(HOME)/$$"}),
        }
        | more
    )  # fmt: skip


def test_the_digest_is_part_of_the_contract() -> None:
    """A golden value: a Job made by another version of the operator is recognised by it."""
    assert contract_digest(a_contract()) == "5ff2d953301144dfe9d0a75ff1e7036d5dfb3a0f64269be15e68a2bbeb777576"


@pytest.mark.parametrize(
    "change", [{"version": 99}, {"attempt": 7}, {"active_seconds_left": 5}, {"tracking": {"wandb": {}}}]
)
def test_what_differs_from_attempt_to_attempt_is_not_in_the_digest(change: dict[str, Any]) -> None:
    assert contract_digest(a_contract(**change)) == contract_digest(a_contract())


def test_a_reader_that_knows_fewer_fields_names_the_contract_as_its_writer_did() -> None:
    told = a_contract(told_digest="d" * 64)
    assert contract_digest(told) == "d" * 64
    assert "d" * 64 not in canonical_json(told.model_dump(mode="json")), "what is told is no part of what is sent"


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 2}, {"seed": 7}, {"outputs": ["a"]}, {"needs": ["m"]}, {"cache_key": "k"},
        {"keep_attempts": True}, {"configs": Configs()}, {"limits": {"gpus": 1}},
        {"inputs": {"probe": {"job": "j", "output": "o", "resultPath": "r", "sha256": "5"}}},
    ],
)  # fmt: skip
def test_everything_else_is(change: dict[str, Any]) -> None:
    assert contract_digest(a_contract(**change)) != contract_digest(a_contract())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(json_values, st.dictionaries(st.text(), json_values, max_size=4))
def test_a_contract_arrives_as_it_was_sent(dj: Any, local: dict[str, Any]) -> None:
    contract = a_contract(configs=Configs(dj=dj, local=local))
    text = encode_contract(contract)

    assert decode_contract(text) == contract
    assert contract_digest(decode_contract(text)) == contract_digest(contract)
    assert text == encode_contract(contract)


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_what_is_no_contract_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_contract(text)


def test_a_contract_that_was_cut_is_a_value_error() -> None:
    text = encode_contract(a_contract())

    for end in range(0, len(text), 4):
        with pytest.raises(ValueError, match=r"."):
            decode_contract(text[:end])


def test_what_a_newer_writer_adds_is_ignored() -> None:
    body = a_contract().model_dump(mode="json")

    assert JobContract.model_validate({**body, "mood": "good"}) == a_contract()


def test_folders_on_the_volume_are_named_by_identity() -> None:
    folder = experiment_folder("demo", UID)

    assert folder == "experiments/demo-1f2e3d4c"
    assert attempt_folder(folder, "anonymous/1/probe/0", 3, "abcdef01-2345") == (
        "experiments/demo-1f2e3d4c/jobs/anonymous/1/probe/0/attempts/3/abcdef01"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.5, None, True]}, '{"a":[1.5,null,true],"b":1}'),
        ("é中", '"é中"'),
        ({}, "{}"),
    ],
)
def test_equal_data_is_equal_text(value: Any, text: str) -> None:
    assert canonical_json(value) == text


def test_a_digest_never_changes() -> None:
    assert sha256_of({"b": 1, "a": "é"}) == "aa58fba8483623bed37c1b02edfccbdd9a53123837c20bfa4cb4049993a2872e"
    with pytest.raises(ValueError, match="JSON"):
        sha256_of(float("nan"))
