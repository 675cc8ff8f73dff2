# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of the real process at any moment of a search: no trial lost, none made twice, every suggestion verified, and of
searches that do not look back the same trials as undisturbed.

Thirty trials on the fake API server; in the deep run a thousand on the real one, with fake nodes and pods that end at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.api.conftest import kubeconfig
from tests.api.played import JOBS
from tests.api.sweep_lab import a_sweep, fake_sweep_lab, outcome_of_sweep, the_sweep
from tests.api.waiting import eventually
from tests.api.warm import Nursery, WarmOperator
from tests.bench.scale.plane import CLAIM, NAMESPACE, raised
from tests.ports import free_ports
from tests.progress import deep_only

from sandbox_operator.build.names import LABEL_TASK
from sandbox_operator.kube.client import Client, Manifest
from sandbox_operator.kube.resources import Resource
from sandbox_operator.plan.sweep_definition import compile_sweep
from sandbox_operator.reconcile.resources import EXPERIMENTS, SWEEPS
from sandbox_operator.search.suggest import suggest
from sandbox_operator.search.verify import Recorded, verify


async def search(
    nursery: Nursery, folder: Path, spec: Manifest, kills: int, seed: int
) -> tuple[Manifest, tuple[str, ...]]:
    """The end of a sweep whose operator is killed so many times, each time when some more trials are there."""
    chance = random.Random(seed)
    async with fake_sweep_lab() as (api, lab):
        operator = WarmOperator(nursery, kubeconfig(api, folder), folder / f"operator-{seed}.log").start()
        try:
            await lab.apply_sweep("demo", spec)
            marks = sorted(chance.sample(range(2, spec["maxTrials"]), kills))
            for mark in marks:
                await lab.until(lambda mark=mark: len(lab.trials("demo")) >= mark, f"{mark} trials", limit=120)  # type: ignore[misc]
                operator.kill()
                operator.start()
            await lab.sweep_ends("demo", limit=120)
            lab.assert_none_lost_none_twice("demo", spec["maxTrials"])
            lab.assert_never_more_at_a_time("demo", spec["parallelism"])
            lab.assert_no_job_was_made_twice()
            return outcome_of_sweep(lab, "demo"), lab.verified("demo")
        finally:
            print(operator.log)
            operator.end()


SIZES = {"TRIALS": 1000, "KILLS": 20, "CHANCE": 1}
MANY, KILLS, CHANCE = (int(os.environ.get(f"SANDBOX_SWEEP_{name}", count)) for name, count in SIZES.items())
PROBE = {
    "hook": "ProbeViaAnalyzerHook", "metaName": "probe",
    "djConfigs": {"dataset_path": "d.jsonl", "process": [{"text_length_filter": {"min_len": 10}}]},
}  # fmt: skip


def of_a_thousand(method: str) -> Manifest:
    return {
        "method": method, "metric": {"name": "probe.score.mean"}, "seed": 7, "maxTrials": MANY, "parallelism": 50,
        "parameters": {
            "probe.text_length_filter.min_len": {"min": 1, "max": 10**6},
            "probe.text_length_filter.max_len": {"distribution": "q_uniform", "min": 1, "max": 10**6, "q": 2},
        },
        "template": {"workspace": {"claimName": CLAIM}, "cache": "Never", "probeJobConfigs": [PROBE]},
    }  # fmt: skip


async def everything(client: Client, resource: Resource, selector: str | None = None) -> list[Manifest]:
    pages = [page async for page in client.pages(resource, NAMESPACE, label_selector=selector, page_size=100)]
    return [item for page in pages for item in page.items]


def as_recorded(item: Manifest) -> Recorded:
    trial, (job,) = item["spec"]["trial"], item["status"]["jobs"]
    return Recorded(
        trial["number"], item["metadata"]["name"], tuple(trial["point"]), trial["parameters"], trial.get("observed", ""),
        "succeeded", job["metrics"]["probe.score.mean"],
    )  # fmt: skip


async def total_of(client: Client, wanted: int, *, ended: bool = False) -> None:
    """Wait until so many trials were begun, or until the sweep has ended."""
    seen, since = (-1, 0), time.monotonic()
    while True:
        status = (await client.get(SWEEPS, "tuned", NAMESPACE)).get("status") or {}
        counts = status.get("counts") or {}
        if counts.get("total", 0) >= wanted and (not ended or status.get("completionTime")):
            return
        if (now := (counts.get("total", 0), counts.get("succeeded", 0))) != seen:
            seen, since = now, time.monotonic()
        assert time.monotonic() - since < 300, f"it does not go on: {counts} {status.get('conditions')}"
        await asyncio.sleep(0.2)


@deep_only
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("method", ["random", "grid", "bayes"])
async def test_a_thousand_trials_and_twenty_kills(method: str, nursery: Nursery, tmp_path: Path) -> None:
    """On the real API server with fake nodes. What a search without memory suggests is known beforehand."""
    spec = of_a_thousand(method)
    if method == "grid":
        spec["parameters"] = {"probe.text_length_filter.min_len": {"values": list(range(MANY))}}
    chance = random.Random(CHANCE)
    async with raised(tmp_path, free_ports(9), "raised") as plane, Client(plane.admin, field_manager="load") as client:
        operator = WarmOperator(nursery, tmp_path / "etc/operator.kubeconfig", tmp_path / "operator.log").start()
        try:
            await client.create(SWEEPS, the_sweep("tuned", spec), NAMESPACE)
            for lives, mark in enumerate(sorted(chance.sample(range(MANY // 50, MANY - 50), KILLS)), 1):
                await total_of(client, mark)
                await eventually(lambda lives=lives: operator.log.count("working; ") == lives, limit=300)  # type: ignore[misc]
                operator.kill()
                operator.start()
            await total_of(client, MANY, ended=True)
            status = (await client.get(SWEEPS, "tuned", NAMESPACE))["status"]
            assert status["counts"] == {"total": MANY, "running": 0, "succeeded": MANY, "failed": 0, "pruned": 0}
            made = await everything(client, EXPERIMENTS)
            jobs = await everything(client, JOBS, f"{LABEL_TASK}=run")
            (tmp_path / "end.json").write_text(json.dumps([status, made, jobs]))  # the plane goes; to look into later
            operator.kill()  # once more: a machine that is starved might cut an orderly end short
        finally:
            operator.end()
    trials = sorted(map(as_recorded, made), key=lambda trial: trial.number)
    assert [trial.number for trial in trials] == list(range(MANY))
    attempts = {item["metadata"]["name"]: [job["attempts"] for job in item["status"]["jobs"]] for item in made}
    assert {name: counts for name, counts in attempts.items() if counts != [1]} == {}
    owners = Counter(job["metadata"]["ownerReferences"][0]["name"] for job in jobs)
    assert {name: count for name, count in owners.items() if count != 1} == {}
    assert len(owners) == MANY
    compiled = compile_sweep(spec, name="tuned", uid="any")
    assert compiled.settings is not None
    assert verify(compiled.settings, trials) == ()
    if method != "bayes":
        undisturbed = [suggest(compiled.settings, number) for number in range(MANY)]
        assert [(t.point, t.parameters) for t in trials] == [(each.point, each.values) for each in undisturbed]


@pytest.mark.parametrize("method", ["random", "bayes"])
async def test_killed_at_any_moment_none_is_lost_none_made_twice_and_all_are_verified(
    method: str, nursery: Nursery, tmp_path: Path
) -> None:
    spec = a_sweep(method=method, maxTrials=30, parallelism=4)
    end, problems = await search(nursery, tmp_path, spec, kills=3, seed=1)
    assert problems == ()
    assert end["counts"] == {"total": 30, "running": 0, "succeeded": 30, "failed": 0, "pruned": 0}
    if method == "random":
        undisturbed, _ = await search(nursery, tmp_path, spec, kills=0, seed=2)
        assert end == undisturbed


async def test_one_at_a_time_ends_the_same_whatever_happens(nursery: Nursery, tmp_path: Path) -> None:
    """bayes too: with one trial at a time each sees all before it, ended."""
    spec = a_sweep(method="bayes", maxTrials=14, parallelism=1)
    end, problems = await search(nursery, tmp_path, spec, kills=3, seed=3)
    undisturbed, _ = await search(nursery, tmp_path, spec, kills=0, seed=4)
    assert problems == ()
    assert end == undisturbed
