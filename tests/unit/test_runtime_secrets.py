# SPDX-License-Identifier: Apache-2.0
"""Secrets that configurations carry do not reach the files that many read."""

import json
from pathlib import Path

import pytest

from sandbox_runtime.secrets import HIDDEN, without_secrets
from sandbox_runtime.watcher import write_configs


@pytest.mark.parametrize(
    ("key", "hidden"),
    [("extraConfigs.api_key", True), ("a.hf_token", True), ("PASSWORD", True), ("aws_secret_access_key", True), ("token", True),
     ("text_key", False), ("token_num_filter", False), ("tokenizer", False), ("max_tokens", False), ("eos_token", False)],
)  # fmt: skip
def test_secrets_are_known_by_their_names(key: str, hidden: bool) -> None:
    assert (without_secrets(key, "value") == HIDDEN) is hidden
    assert without_secrets("x", {"deep": [{key: "value"}]}) == {"deep": [{key: HIDDEN if hidden else "value"}]}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("https://me:pw@host:8443/a/b.jsonl?signature=s3cr3t#part", "https://host:8443/a/b.jsonl"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("from http://a/b?x=1 and 'ftp://u@c/d?e'", "from http://a/b and 'ftp://c/d'"),
        ("https://host?token=1", "https://host"),
        ("is it so? mail@example.invalid #1", "is it so? mail@example.invalid #1"),
        (("https://a/b?c",), ["https://a/b"]),
    ],
)
def test_addresses_lose_what_may_let_others_in(value: object, told: object) -> None:
    assert without_secrets("url", value) == told


def test_no_secret_reaches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "configs.jsonl"
    write_configs(path, [({"token": "abc", "url": "https://a/b?sig=abc", "deep": [{"password": "abc"}]}, "job.extra")])
    assert json.loads(path.read_text()) == {
        "job.extra.token": HIDDEN,
        "job.extra.url": "https://a/b",
        "job.extra.deep": [{"password": HIDDEN}],
    }
