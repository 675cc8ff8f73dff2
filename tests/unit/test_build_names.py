# SPDX-License-Identifier: Apache-2.0
"""Names are part of the contract: another version of the operator must find what this one made."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import UID

from sandbox_operator.build.names import claim_name, experiment_labels, helper_name, job_hash, job_name

LONGEST = "a" * 52
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("uid", "job_id", "digits"),
    [
        (UID, "anonymous/1/probe/0", "8601add581"),
        (UID, "anonymous/1/evaluation/63", "d3aa5cf258"),
        ("another-uid", "anonymous/1/probe/0", "dfd913783a"),
        (UID, "exps[3]/1/execution/1~2", "2996f18cea"),
    ],
)
def test_the_hash_of_a_job_never_changes(uid: str, job_id: str, digits: str) -> None:
    assert job_hash(uid, job_id) == digits


@pytest.mark.parametrize(
    ("experiment", "attempt", "name"),
    [
        ("demo", 1, "demo-8601add581-a1"),
        ("demo", 101, "demo-8601add581-a101"),
        (LONGEST, 1, f"{'a' * 40}-8601add581-a1"),
        ("a" * 39 + "-tail", 2, f"{'a' * 39}-8601add581-a2"),
        ("v1.2", 1, "v1.2-8601add581-a1"),
    ],
)
def test_the_name_of_an_attempt_never_changes(experiment: str, attempt: int, name: str) -> None:
    assert job_name(experiment, UID, "anonymous/1/probe/0", attempt) == name


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,50}[a-z0-9]", fullmatch=True), st.integers(1, 10_200))
def test_names_leave_room_for_a_pods_suffix_and_for_an_index(experiment: str, attempt: int) -> None:
    name = job_name(experiment, UID, "anonymous/1/probe/0", attempt)

    assert DNS_LABEL.fullmatch(name)
    assert len(f"{name}-1023") <= 63  # the host name of a pod of an Indexed Job
    if attempt < 1000:
        assert len(f"{name}-abcde") <= 63  # a pod; later ones are cut by Kubernetes itself


def test_two_experiments_of_one_name_have_jobs_of_different_names() -> None:
    assert job_name(LONGEST, "uid-1", "j", 1) != job_name(LONGEST, "uid-2", "j", 1)


def test_jobs_of_experiments_that_differ_only_behind_the_cut_have_different_names() -> None:
    assert job_name("a" * 51 + "x", "uid-1", "j", 1) != job_name("a" * 51 + "y", "uid-2", "j", 1)


def test_the_claim_is_named_after_the_experiment() -> None:
    assert claim_name("demo") == "demo-workspace"
    assert len(claim_name(LONGEST)) <= 63


def test_labels_can_hold_the_longest_name() -> None:
    labels = experiment_labels(LONGEST, UID)

    assert labels == {
        "app.kubernetes.io/managed-by": "sandbox-operator",
        "sandbox.datajuicer.io/experiment": LONGEST,
        "sandbox.datajuicer.io/experiment-uid": UID,
    }
    assert all(len(value) <= 63 for value in labels.values())


def test_numbered_pods_of_a_helper_have_names_that_are_dns_labels() -> None:
    name = job_name("a.name-with.dots." + "x" * 40, "uid", "anonymous/1/probe/0", 100)
    pods = f"{helper_name(name, 'pieces')}-31"

    assert len(pods) <= 63
    assert DNS_LABEL.fullmatch(pods)
    assert helper_name(name, "pieces").endswith(f"-{job_hash('uid', 'anonymous/1/probe/0')}-a100-pieces")
