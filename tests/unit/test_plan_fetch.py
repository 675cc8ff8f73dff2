# SPDX-License-Identifier: Apache-2.0
"""What the planner knows of a fetch: mistakes before anything starts, and when a result may stand for another."""

from typing import Any

import pytest
from tests.unit.builders import a_spec

from sandbox_api.source import Source, parse_source
from sandbox_operator.plan.cache import has_key
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.spread import spread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "ab" * 32


def fetching(extra: Any, **more: Any) -> Any:
    return compile_spec(a_spec(probes=[], executions=[{"hook": "FetchHook", "extraConfigs": extra, **more}]))


def is_reusable(extra: Any, **more: Any) -> bool:
    compiled = fetching(extra, **more)
    assert compiled.problems == ()
    return has_key(compiled.spec, compiled.jobs[-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://host/a/b%20c.zip?x=1", Source("https", "host", "/a/b c.zip")),
        ("hf://acme/model", Source("hf", "acme/model")),
        (
            "hf://datasets/acme/pool@refs%2Fpr%2F1/a/b.jsonl",
            Source("hf", "acme/pool", "a/b.jsonl", "dataset", "refs/pr/1"),
        ),
        (f"modelscope://acme/m@{COMMIT}/w/", Source("modelscope", "acme/m", "w", "model", COMMIT)),
        ("s3://bucket/a/b", Source("s3", "bucket", "a/b")),
        ("oss://bucket/", Source("oss", "bucket", "")),
    ],
)
def test_sources_are_read(text: str, expected: Source) -> None:
    assert parse_source(text) == expected


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({}, ".source: field required"),
        ({"source": "pool.zip"}, ".source: write https://host/path"),
        ({"source": "ftp://host/x"}, ".source: write https://host/path"),
        ({"source": "https:///x"}, ".source: write https://host/path"),
        ({"source": "https://me:pass@host/x"}, ".source: a user name or password stands in it"),
        ({"source": "hf://model"}, ".source: write hf://[datasets/]owner/name"),
        ({"source": "hf://a/b@"}, ".source: write hf://[datasets/]owner/name"),
        ({"source": "s3:///key"}, ".source: write s3://bucket/key"),
        ({"source": "s3://b"}, ".source: there is no key in it; write s3://bucket/key, or s3://bucket/ for the whole"),
        ({"source": "https://host/a b"}, ".source: there is a space"),
        ({"source": "oss://b/k"}, ".endpoint: oss:// needs the address"),
        ({"source": "https://host/x", "endpoint": "https://m"}, ".endpoint: https:// is one file at one address"),
        ({"source": "https://host/x", "include": ["*"]}, ".include: https:// is one file at one address"),
        ({"source": "s3://b/k", "token_env": "T"}, ".token_env: s3:// takes no token but keys: give AWS_ACCESS_KEY_ID"),
        ({"source": "hf://a/b", "region": "x"}, ".region: only s3:// and oss:// have a region"),
        ({"source": "hf://a/b", "sha256": "abc"}, ".sha256: string should match"),
        ({"source": "hf://a/b", "unzip": True}, ".unzip: FetchHook has no such setting"),
    ],
)
def test_mistakes_are_told_with_their_field(extra: dict[str, Any], said: str) -> None:
    problems = fetching(extra).problems

    assert len(problems) == 1, problems
    assert problems[0].startswith(f"spec.executionJobConfigs[0].extraConfigs{said}")
    assert "pass" not in problems[0].partition(": ")[2].replace("password", "")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"source": "https://host/x", "sha256": DIGEST}, True),
        ({"source": f"hf://acme/pool@{COMMIT}"}, True),
        ({"source": f"modelscope://datasets/acme/pool@{COMMIT}/rows.jsonl"}, True),
        ({"source": "https://host/x"}, False),
        ({"source": "hf://acme/pool"}, False),
        ({"source": "hf://acme/pool@v1.0"}, False),
        ({"source": "s3://bucket/key"}, False),
        ("configs/fetch.yaml", False),
    ],
)
def test_only_what_is_pinned_may_stand_for_another(extra: Any, expected: bool) -> None:
    assert is_reusable(extra) is expected


def test_what_local_or_an_item_says_counts() -> None:
    moving = {"source": "https://host/x"}
    assert is_reusable(moving, local={"extraConfigs.sha256": DIGEST})
    assert not is_reusable({**moving, "sha256": DIGEST}, local={"extraConfigs.sha256": None})


def test_what_another_job_fills_in_is_not_known() -> None:
    jobs = [
        {"hook": "FetchHook", "metaName": "list", "extraConfigs": {"source": "https://host/x"}},
        {
            "hook": "FetchHook",
            "extraConfigs": {"source": f"hf://acme/pool@{COMMIT}"},
            "input": {"extraConfigs.source": "anonymous.list.path"},
        },
    ]
    compiled = compile_spec(a_spec(probes=[], executions=jobs))

    assert compiled.problems == ()
    assert not has_key(compiled.spec, compiled.jobs[-1])


def test_a_source_that_an_item_brings_is_not_missing() -> None:
    each = {
        "item": "pool",
        "in": [{"url": "https://host/a", "sha256": DIGEST}, {"url": "https://host/b", "sha256": DIGEST}],
    }
    compiled = fetching(
        {}, forEach=each, input={"extraConfigs.source": "item.pool.url", "extraConfigs.sha256": "item.pool.sha256"}
    )

    assert compiled.problems == ()
    assert [has_key(compiled.spec, job) for job in spread(compiled.jobs, {})] == [True, True]
