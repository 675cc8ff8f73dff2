# SPDX-License-Identifier: Apache-2.0
"""What `sandboxctl convert` writes is what the API server reads: every golden file, strictly validated, value by value.

kubectl reads YAML with a parser of its own, to which `y` is true; here it meets everything the converter may write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.api.conftest import Plane
from tests.api.lab import REPOSITORY
from tests.progress import DEEP
from typer.testing import CliRunner

from sandbox_operator.cli.convert_tree import Map, tree
from sandbox_operator.cli.convert_write import Document, write
from sandbox_operator.cli.documents import documents_in
from sandbox_operator.cli.main import app

NAMESPACE = "convert"
CASES = sorted((REPOSITORY / "tests/golden/convert").glob("*/expected.yaml"))
WORDS = ["y", "N", "on", "no", "null", "~", "1e3", "0x1F", "0o7", "1_000", "12:30", "2024-09-24", ".5", "-", "=", "<<", "*a", "&a", "!x", "%", "@", "`", "|", ">", "a: b", "a #b", "# a", "", " ", "  a\n b ", "a\n", "a\n\n", "\ta", "{", "]", ",", "'", '"', "\\", "好", "🙂", "\u2028", "\x07", "\x85", "\ufeffa", "Infinity", ".INF", "NaN"]  # fmt: skip


@pytest.fixture(scope="module")
def cluster(plane: Plane) -> Iterator[Plane]:
    """A namespace that lets in restricted pods alone."""
    namespace = {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    plane.kubectl("create", "serviceaccount", "default", "-n", NAMESPACE, check=False)
    yield plane
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def accepted(plane: Plane, text: str) -> list[dict[str, Any]]:
    """The objects as the API server would store them; it fails where the server refuses or warns of one."""
    options = ["--dry-run=server", "--validate=strict", "-n", NAMESPACE, "-o", "json"]
    answer = plane.kubectl("create", "-f", "-", *options, stdin=text)
    assert answer.stderr == ""
    found: list[dict[str, Any]] = []
    rest = answer.stdout.lstrip()
    while rest:
        item, end = json.JSONDecoder().raw_decode(rest)
        found += item["items"] if item["kind"] == "List" else [item]
        rest = rest[end:].lstrip()
    return found


def differences(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """Places where the server's object does not hold what we wrote; what it adds is its own business."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from differences(value, theirs.get(key), f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (mine, their) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(mine, their, f"{where}[{number}]")
    elif ours != theirs or isinstance(ours, bool) is not isinstance(theirs, bool):
        yield f"{where}: {ours!r} is {theirs!r}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_every_golden_file_is_accepted_and_read_as_it_was_meant(cluster: Plane, path: Path) -> None:
    text = path.read_text()
    found = accepted(cluster, text)
    written = [*yaml.safe_load_all(text)]

    assert [item["kind"] for item in found] == [item["kind"] for item in written]
    assert [*differences(written, found)] == []


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 15


def test_the_claim_and_the_pod_to_upload_with_are_accepted_where_only_restricted_pods_are(cluster: Plane) -> None:
    case = REPOSITORY / "tests/golden/convert/text-to-video-eval/in/eval.yaml"
    result = CliRunner().invoke(app, ["convert", str(case), "--upload-pod"])

    assert [item["kind"] for item in accepted(cluster, result.stdout)] == ["PersistentVolumeClaim", "Pod"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15) | st.sampled_from(WORDS) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(values=st.lists(json_values, min_size=40, max_size=40), is_flow=st.booleans())
@settings(max_examples=200 if DEEP else 10, deadline=None, derandomize=not DEEP, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])  # fmt: skip
def test_any_value_is_read_by_kubectl_and_by_pyyaml_as_it_was_written(
    cluster: Plane, values: list[Any], is_flow: bool
) -> None:
    """Four hundred values (eight thousand in `make test-deep`), each in the untyped part of an experiment, as users' configurations are."""
    extra = tree({"words": WORDS, "values": values}, is_flow)
    job = Map({})
    job.put("hook", "ProcessDataHook")
    job.put("extraConfigs", extra)
    spec = {"workspace": {"claim": {"size": "1Gi"}}, "executionJobConfigs": [job]}
    body = tree({"apiVersion": "sandbox.datajuicer.io/v1alpha1", "kind": "SandboxExperiment", "metadata": {"name": "x"}, "spec": spec})  # fmt: skip
    assert isinstance(body, Map)
    text = write([Document(body)])
    (found,) = accepted(cluster, text)

    wanted = {"words": WORDS, "values": values}
    assert yaml.safe_load(text)["spec"]["executionJobConfigs"][0]["extraConfigs"] == wanted
    assert [*differences(wanted, found["spec"]["executionJobConfigs"][0]["extraConfigs"])] == []


PLAIN = [
    "1e-3",
    "1E5",
    "-2e+3",
    "1e3",
    "1.5e3",
    "1.e3",
    ".5",
    "5.",
    "+1",
    "0x1F",
    "0b11",
    "0o7",
    "017",
    "08",
    "1_000",
    "1_000.5",
    "12:30",
    "12:30.5",
    "on",
    "off",
    "yes",
    "no",
    "y",
    "N",
    "Y",
    "~",
    "null",
    "Null",
    "True",
    "TRUE",
    "true",
    "2024-09-24",
    "1e",
    "0xZ",
    "-0",
    ".5e3",
    "1e400",
    "1__0",
    "0_1",
    "+.5",
    "-.5",
    "+0x1F",
    "-0b1",
    "=",
    "tru",
    "nul",
    "1.2.3",
    "-",
]


def test_a_plain_word_is_for_sandboxctl_what_it_is_for_kubectl(cluster: Plane) -> None:
    lines = "".join(f"        w{number}: {word}\n" for number, word in enumerate(PLAIN) if word != "-")
    head = "apiVersion: sandbox.datajuicer.io/v1alpha1\nkind: SandboxExperiment\nmetadata: {name: x}\nspec:\n"
    jobs = (
        "  workspace: {claim: {size: 1Gi}}\n  executionJobConfigs:\n    - hook: ProcessDataHook\n      extraConfigs:\n"
    )
    text = head + jobs + lines
    (found,) = accepted(cluster, text)
    (ours,) = documents_in(text)
    theirs = found["spec"]["executionJobConfigs"][0]["extraConfigs"]
    mine = ours["spec"]["executionJobConfigs"][0]["extraConfigs"]
    told = {PLAIN[int(name[1:])]: value for name, value in mine.items()}
    assert told == {PLAIN[int(name[1:])]: value for name, value in theirs.items()}
    assert [word for word, value in told.items() if isinstance(value, bool)] == (
        ["on", "off", "yes", "no", "y", "N", "Y", "True", "TRUE", "true"]
    )
