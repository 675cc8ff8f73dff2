# SPDX-License-Identifier: Apache-2.0
"""What a file of manifests may hold: what JSON can hold, and each key once."""

import pytest
import yaml

from sandbox_operator.cli.documents import documents_in
from sandbox_operator.cli.experiments import Ended


def test_dates_are_text_and_keys_are_text() -> None:
    assert documents_in("a: 2020-01-01\n1: x\n---\n- &b {c: 1}\n- {<<: *b, c: 2}") == [
        {"a": "2020-01-01", "1": "x"},
        [{"c": 1}, {"c": 2}],
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: .inf", "it holds what JSON has no form for: out of range float values"),
        ("a: .nan", "it holds what JSON has no form for: out of range float values"),
        ("a: !!set {b}", "it holds what JSON has no form for: object of type set"),
        ("a: !!binary aGk=", "it holds what JSON has no form for: object of type bytes"),
        ("a: &a {b: *a}", "it holds what JSON has no form for: an anchor in it holds itself"),
        ("[" * 3000 + "]" * 3000, "it is nested too deep to be read"),
    ],
)
def test_what_json_can_not_hold_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(Ended, match=f"^{said}"):
        documents_in(text)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3", "x: {a: 1, a: 1}"])
def test_a_key_stands_once(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"the key 'a' stands here twice\n.*line \d, column \d"):
        documents_in(text)
