# SPDX-License-Identifier: Apache-2.0
"""The two routes on the runtime, each from its wheel, through the real process: what their READMEs promise."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.custom import CUSTOM, ROUTES, documents, extra_of, hook_in, wheel
from tests.hook_pod import PATHS, Ended, HookPod, job_contract, write_jsonl

from sandbox_api.extra_schema import NOTES, inlined
from sandbox_api.hook_resource import extra_problems

SOURCES = {"web": 60, "book": 25, "code": 12, "": 3}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {route: wheel(route, tmp_path_factory.mktemp(route)) for route in ("own-image", "entry-point")}


def a_pod(base: Path, wheel: Path) -> HookPod:
    """A pod whose Python finds the wheel as an installed package, with 100 rows of three sources."""
    path = os.pathsep.join([*(str(path) for path in PATHS), str(wheel)])
    pod = HookPod(base, environ={"PYTHONPATH": path})
    sources = [source for source, count in SOURCES.items() for _ in range(count)]
    rows = [
        {"text": f"The {source or 'odd'} row, number {number}", "meta": {"source": source} if source else {}}
        for number, source in enumerate(sources)
    ]
    rows.sort(key=lambda row: hash_of(row["text"]))
    write_jsonl(pod.inputs / "raw" / "demo.jsonl", rows)
    return pod


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode(), "big") % 7919


# own-image


@pytest.fixture
def mixing(tmp_path: Path, wheels: dict[str, Path]) -> HookPod:
    return a_pod(tmp_path, wheels["own-image"])


def mix(pod: HookPod, seed: int = 42, **settings: Any) -> Ended:
    extra = extra_of("own-image", dataset_path="inputs/raw/demo.jsonl", **settings)
    outputs = list(hook_in("own-image").outputs)
    contract = job_contract(
        "mix-by-source", stage="execution", meta_name="mix", extra=extra, outputs=outputs, seed=seed
    )
    return pod.run(contract)


def sources_of(ended: Ended) -> Counter[str]:
    rows = map(json.loads, ended.output("dataset").read_text().splitlines())
    return Counter(row["meta"].get("source", "") for row in rows)


def test_the_sample_has_the_shares_that_were_asked_for(mixing: HookPod) -> None:
    ended = mix(mixing, shares={"web": 2, "book": 1, "code": 1}, export_path="outputs/mixed.jsonl")

    assert ended.code == 0, ended.log
    assert sources_of(ended) == {"web": 24, "book": 12, "code": 12}, "the scarcest source is used whole"
    assert ended.message.metrics == {
        "mix.rows_out": 48, "mix.rows_in": 100,
        "mix.share.web.after": 0.5, "mix.share.web.before": 0.6,
        "mix.share.book.after": 0.25, "mix.share.book.before": 0.25,
        "mix.share.code.after": 0.25, "mix.share.code.before": 0.12,
    }  # fmt: skip
    assert ended.message.message == "48 of 100 rows in the shares asked for"
    published = mixing.experiment / "outputs/mixed.jsonl"
    assert published.is_symlink()
    assert published.resolve() == ended.output("dataset").resolve()
    with ended.output("report").open() as file:
        assert {row["source"]: row["rows_after"] for row in csv.DictReader(file)} == {
            "web": "24", "book": "12", "code": "12", "": "0",
        }  # fmt: skip
    hook = hook_in("own-image")
    assert all(hook.has_figure(name.removeprefix("mix.")) for name in ended.message.metrics)


def test_the_rows_keep_their_order_and_none_is_taken_twice(mixing: HookPod) -> None:
    kept = mix(mixing, shares={"web": 1, "book": 1}, rows=30).output("dataset").read_text().splitlines()
    whole = (mixing.inputs / "raw/demo.jsonl").read_text().splitlines()

    assert len(set(kept)) == 30
    assert kept == [line for line in whole if line in set(kept)]


def test_the_same_seed_gives_the_same_sample_and_another_one_another(mixing: HookPod) -> None:
    first, again, other = (mix(mixing, seed, shares={"web": 1, "book": 1}, rows=20) for seed in (1, 1, 2))

    digests = [ended.result.outputs["dataset"].sha256 for ended in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": {"wiki": 1}}, "extraConfigs.shares: no row is of 'wiki'; the sources are 'web' (60 rows), 'book' (25 rows), 'code' (12 rows), '' (3 rows)"),
        ({"shares": {"web": 1, "code": 1}, "rows": 25}, "extraConfigs.rows: 25 rows in these shares are more than the 24 there are"),
    ],
)  # fmt: skip
def test_what_only_the_data_shows_to_be_wrong_is_a_configuration_error(
    mixing: HookPod, settings: dict[str, Any], message: str
) -> None:
    ended = mix(mixing, **settings)

    assert ended.code == 2
    assert ended.message.error is not None
    assert (ended.message.error.class_, ended.message.error.message) == ("Config", message)


def test_the_schema_of_the_resource_is_the_one_of_the_model() -> None:
    program = "import json, sandbox_mix; print(json.dumps(sandbox_mix.Settings.model_json_schema()))"
    paths = os.pathsep.join([*(str(path) for path in PATHS), str(CUSTOM / "own-image")])
    written = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )

    def bare(schema: Any) -> Any:
        if isinstance(schema, dict):
            return {word: bare(value) for word, value in schema.items() if word not in NOTES or isinstance(value, dict)}
        return [bare(item) for item in schema] if isinstance(schema, list) else schema

    assert bare(hook_in("own-image").schema) == bare(inlined(json.loads(written.stdout)))


# entry-point


@pytest.fixture
def counting(tmp_path: Path, wheels: dict[str, Path]) -> HookPod:
    return a_pod(tmp_path, wheels["entry-point"])


def count(pod: HookPod, **settings: Any) -> Ended:
    extra = extra_of("entry-point", **{"dataset_path": "inputs/raw/demo.jsonl", **settings})
    outputs = list(hook_in("entry-point").outputs)
    return pod.run(job_contract("vocabulary", meta_name="vocabulary", extra=extra, outputs=outputs))


def test_a_wheel_in_an_input_is_all_that_the_hook_needs(counting: HookPod, wheels: dict[str, Path]) -> None:
    """As the example's pod has it: the wheel lies in a read-only input, and PYTHONPATH names it there."""
    code = counting.inputs / "code"
    code.mkdir()
    there = code / wheels["entry-point"].name
    there.write_bytes(wheels["entry-point"].read_bytes())
    counting.environ["PYTHONPATH"] = counting.environ["PYTHONPATH"].replace(str(wheels["entry-point"]), str(there))
    ended = count(counting, top=3)

    assert ended.code == 0, ended.log
    assert ended.message.message == "400 words in 100 rows, 7 different ones"
    assert ended.message.outputs["top"] == ["number", "row", "the"]
    assert ended.output("words").read_text().splitlines() == [
        "word,count", "number,100", "row,100", "the,100", "web,60", "book,25", "code,12", "odd,3",
    ]  # fmt: skip
    assert ended.message.metrics["vocabulary.distinct_share"] == 7 / 400
    hook = hook_in("entry-point")
    assert all(hook.has_figure(name.removeprefix("vocabulary.")) for name in ended.message.metrics)


def test_defaults_and_settings_reach_the_hook(counting: HookPod) -> None:
    told = count(counting, lowercase=False, top=1).message

    assert told.outputs["top"] == ["The"]


def test_a_row_without_text_is_named(counting: HookPod) -> None:
    write_jsonl(counting.inputs / "raw/odd.jsonl", [{"text": "one"}, {"content": "two"}])
    error = count(counting, dataset_path="inputs/raw/odd.jsonl").message.error

    assert error is not None
    assert (error.class_, error.message) == ("User", "odd.jsonl, line 2: has no text under 'text'")


def test_an_image_without_the_wheel_says_what_it_has(tmp_path: Path) -> None:
    pod = HookPod(tmp_path)
    error = pod.run(job_contract("vocabulary")).message.error

    assert error is not None
    assert error.class_ == "Config"
    assert error.message.startswith("hook: this image has no hook named 'vocabulary'; it has: ")


# all routes


@pytest.mark.parametrize("route", ROUTES)
def test_the_example_uses_its_hook_as_its_schema_wants_it(route: str) -> None:
    hook = hook_in(route)
    (spec,) = (document["spec"] for document in documents(route) if document["kind"] == "SandboxExperiment")
    jobs = [job for name, jobs in spec.items() if name.endswith("JobConfigs") for job in jobs]
    (job,) = [job for job in jobs if job["hook"] == hook.name]

    assert extra_problems(hook, job["extraConfigs"]) == []
    assert extra_problems(hook, {**job["extraConfigs"], "dataset": "x"}) == [
        f".extraConfigs.dataset: {hook.name} has no such setting; did you mean 'dataset_path'?"
    ]
