# SPDX-License-Identifier: Apache-2.0
"""Secrets that configurations carry do not reach the files that many read."""

import json
from pathlib import Path

import pytest

from sandbox_runtime.secrets import HIDDEN, without_secrets
from sandbox_runtime.watcher import write_configs

HIDES = (
    "extraConfigs.api_key", "apikey", "x-api-key", "myApiKey", "APIKey", "api_key_2", "openai_key", "OpenAIKey", "hugging_face_key", "private_key",
    "ssh.privateKey", "AccessKeySecret", "access_key_id", "accessKeyId", "aws_secret_access_key", "clientSecret", "secret", "secretKey", "token", "hub.token",
    "a.hf_token", "hftoken", "aws_session_token", "github_token", "modelscope_token", "security_token", "sas_token", "authToken", "PASSWORD", "db_passwd",
    "passphrase", "credentials", "Authorization",
)  # fmt: skip
KEEPS = (
    "key", "keys", "text_key", "image_key", "textKey", "query_key", "response_key", "primary_key", "keyboard", "monkey", "tokenizer", "tokens", "num_tokens",
    "max_tokens", "maxNewTokens", "eos_token", "bosToken", "pad_token", "unk_token", "mask_token", "image_special_token", "eoc_special_token", "eos_token_id",
    "token_num_filter", "author", "id", "secretary", "access", "api", "token.dim", "", "0",
)  # fmt: skip


@pytest.mark.parametrize(("key", "hidden"), [*((key, True) for key in HIDES), *((key, False) for key in KEEPS)])
def test_secrets_are_known_by_their_names(key: str, hidden: bool) -> None:
    assert (without_secrets(key, "value") == HIDDEN) is hidden
    assert without_secrets("x", {"deep": [{key: "value"}]}) == {"deep": [{key: HIDDEN if hidden else "value"}]}


def test_whether_there_is_a_secret_is_none() -> None:
    told = {"use_auth_token": True, "api_key": None, "password": ""}
    assert without_secrets("hub", told) == told


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
