# SPDX-License-Identifier: Apache-2.0
"""What SandboxSweep's schema does on a real API server: words of W&B, rules, columns; and what a trial may carry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.conftest import Plane
from tests.api.lab import experiment, probes
from tests.api.sweep_lab import METRIC, a_sweep, the_sweep

NAMESPACE = "sweep-schema"
WANDB = {
    "program": "train.py", "command": ["${env}", "python"], "name": "mine", "description": "for people", "project": "p",
    "entity": "e", "controller": {"type": "local"}, "run_cap": 40, "early_terminate": {"type": "hyperband", "min_iter": 3},
    "job": "e/p/job:v1", "image_uri": "train:1", "apiVersion": "1", "kind": "sweep", "scheduler": {"engine": "wandb"},
    "launch": {"queue": "q"},
    "metric": {"name": METRIC, "goal": "minimize", "impute": "worst", "impute_while_running": False},
}  # fmt: skip
FROZEN = [
    ("method", {"method": "bayes"}), ("parameters", {"parameters": {"a": {"value": 1}}}), ("seed", {"seed": 8}),
    ("template", {"template": {"cache": "Never"}}), ("goal", {"metric": {"goal": "maximize"}}),
    ("early", {"earlyTerminate": {"type": "median", "min_iter": 1}}), ("overrides", {"overrides": ["a"]}),
]  # fmt: skip
MUTABLE: list[dict[str, Any]] = [
    {"suspend": True}, {"maxTrials": 9}, {"maxFailedTrials": 0}, {"parallelism": 9}, {"run_cap": 3}, {"runCap": 3},
    {"sweep_max_count": 3}, {"metric": {"target": 0.5}}, {"keep": {"checkpoints": 1}},
]  # fmt: skip


@pytest.fixture(scope="module")
def cluster(plane: Plane) -> Iterator[Plane]:
    plane.kubectl("create", "namespace", NAMESPACE)
    yield plane
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def create(plane: Plane, manifest: dict[str, Any], *options: str) -> str:
    """What the server says; empty when it accepts."""
    answer = plane.kubectl("create", "-n", NAMESPACE, "-f", "-", *options, stdin=json.dumps(manifest), check=False)
    return answer.stderr


def patched(plane: Plane, kind: str, name: str, change: dict[str, Any]) -> str:
    options = ("-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": change}), "--dry-run=server")
    return plane.kubectl("patch", kind, name, *options, check=False).stderr


def set_status(plane: Plane, kind: str, name: str, status: dict[str, Any]) -> None:
    options = ("-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    plane.kubectl("patch", kind, name, *options)


@pytest.fixture(scope="module")
def started(cluster: Plane) -> str:
    assert create(cluster, the_sweep("started", a_sweep())) == ""
    set_status(cluster, "sbsw", "started", {"outcome": "Running", "startTime": "2026-01-01T00:00:00Z", "revision": 1})
    return "started"


def test_a_wandb_definition_is_taken_as_it_is_and_a_misspelt_key_is_not(cluster: Plane) -> None:
    strict = ("--dry-run=server", "--validate=strict")
    assert create(cluster, the_sweep("wandb", a_sweep(**WANDB)), *strict) == ""
    assert 'unknown field "spec.paralelism"' in create(cluster, the_sweep("wandb", a_sweep(paralelism=3)), *strict)
    aimless = {key: value for key, value in a_sweep().items() if key != "metric"}
    assert "spec.metric: Required value: every method needs a metric" in create(cluster, the_sweep("a", aimless))
    assert "not both" in create(cluster, the_sweep("both", a_sweep(run_cap=3, runCap=4)), *strict)
    assert "may have at most 46 characters" in create(cluster, the_sweep("a" * 47, a_sweep()), *strict)


@pytest.mark.parametrize("change", [change for _, change in FROZEN], ids=[name for name, _ in FROZEN])
def test_a_sweep_that_has_begun_keeps_what_it_searches_for(
    cluster: Plane, started: str, change: dict[str, Any]
) -> None:
    assert "the sweep has begun: only suspend, maxTrials" in patched(cluster, "sbsw", started, change)


@pytest.mark.parametrize("change", MUTABLE, ids=lambda change: "-".join(change))
def test_how_much_it_does_may_change(cluster: Plane, started: str, change: dict[str, Any]) -> None:
    assert patched(cluster, "sbsw", started, change) == ""


def test_the_columns_say_how_it_stands(cluster: Plane, started: str) -> None:
    best = {"trial": 3, "experiment": "started-0003", "value": 0.25, "parameters": {"a": 1}}
    ready = {"type": "Ready", "status": "False", "reason": "Running", "message": "3 trials running",
             "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    status = {"progress": "4/6", "best": best, "objective": "process.rows_out", "conditions": [ready],
              "counts": {"total": 6, "failed": 1, "pruned": 0}}  # fmt: skip
    set_status(cluster, "sbsw", started, {**status, "revision": 2})
    lines = cluster.kubectl("get", "sbsw", "-n", NAMESPACE).stdout.splitlines()
    assert lines[0].split() == ["NAME", "OUTCOME", "TRIALS", "BEST", "TRIAL", "REASON", "AGE"]
    assert lines[1].split()[:6] == ["started", "Running", "4/6", "0.25", "3", "Running"]
    wide = cluster.kubectl("get", "sbsw", "-n", NAMESPACE, "-o", "wide").stdout
    assert "process.rows_out" in wide
    assert "3 trials running" in wide


def test_a_trial_carries_what_a_suggestion_saw_of_thousands_and_can_still_be_stopped(cluster: Plane) -> None:
    """The rule that freezes a started experiment compares it at each write: its cost must bear 128 KiB."""
    observed = " ".join(f"{number}={number / 7!r}" for number in range(7000))[:131_072]
    trial = {
        "sweep": "s", "number": 5400, "metric": "a.rows", "parameters": {"x": 1}, "point": [0.5] * 64,
        "observed": observed,
    }  # fmt: skip
    assert len(observed) > 120_000
    assert create(cluster, experiment("s-5400", probes("a", trial=trial)), "--validate=strict") == ""
    set_status(cluster, "sbx", "s-5400", {"outcome": "Running", "startTime": "2026-01-01T00:00:00Z", "revision": 1})
    assert patched(cluster, "sbx", "s-5400", {"stop": "Now"}) == ""
    assert patched(cluster, "sbx", "s-5400", {"suspend": True}) == ""
    set_status(cluster, "sbx", "s-5400", {"trial": {"pruned": True}, "revision": 2})
    assert "the experiment has started" in patched(cluster, "sbx", "s-5400", {"trial": {"number": 1}})
    assert "Too long" in create(cluster, experiment("s-5401", probes("a", trial={**trial, "observed": "1" * 131_073})))
