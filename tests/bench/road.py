#!/usr/bin/env -S .venv/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Measures the road on the embedded node and prints a table; nothing is asserted. `make bench-road`.

What is measured: `make demo` cold (cluster and images made anew) and warm; apply to first
Job; the hook's container terminated to the next Job created; the wrapper's overhead; memory, CPU and API writes of the
operator. Times between events are taken on one clock, where both watches end: in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sandbox_operator.build.names import LABEL_EXPERIMENT
from sandbox_operator.kube.client import Client
from sandbox_operator.kube.config import connect
from sandbox_operator.kube.resources import Resource
from sandbox_operator.reconcile.resources import CONFIG_MAPS, EXPERIMENTS, JOBS, PODS

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "cluster" / "cluster"
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NAMESPACE, SYSTEM = "sandbox-bench", "sandbox-system"
METRICS = f"/api/v1/namespaces/{SYSTEM}/services/sandbox-operator:metrics/proxy/metrics"
ROWS = "\n".join(json.dumps({"text": f"An ordinary line of English text, number {n}."}) for n in range(20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--warm", action="store_true", help="leave out the cold demo, which drops the cluster and images"
    )
    parser.add_argument("--experiments", type=int, default=5, help="experiments of four hooks, one after another")
    options = parser.parse_args()
    rows: list[tuple[str, str]] = []
    if not options.warm:
        subprocess.run([CLUSTER, "clean"], check=True)
        subprocess.run(["rm", "-rf", Path(os.environ["SANDBOX_CACHE"]) / "images"], check=True)
        rows.append(("make demo, cluster and images made anew", f"{demo():.0f} s"))
    demo()
    rows.append(("make demo, warm", f"{demo():.0f} s"))
    exports = subprocess.run([CLUSTER, "env"], capture_output=True, text=True, check=True).stdout
    os.environ["KUBECONFIG"] = re.search(r"KUBECONFIG=['\"]?([^'\"\n;]+)", exports)[1]  # type: ignore[index]
    clear = f"kubectl delete namespace {NAMESPACE} --ignore-not-found --wait"
    subprocess.run(["bash", "-c", f"{exports}\n{clear}"], check=True)  # what an interrupted run left
    rows += asyncio.run(measured(options.experiments))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def demo() -> float:
    begin = time.monotonic()
    subprocess.run([REPOSITORY / "configs/demo/run.sh"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


async def measured(count: int) -> list[tuple[str, str]]:
    """Run experiments one after another on an idle operator, and what was seen of them."""
    async with Client(connect(), field_manager="bench") as client:
        await prepare(client)
        before = await figures(client)
        first, handed, wrapper = [], [], []
        for number in range(count):
            seen = await one(client, f"road-{number}")
            first.append(seen["first"])
            handed += seen["handed"]
            wrapper += seen["wrapper"]
        after = await figures(client)
        await client.delete(NAMESPACES, NAMESPACE)
    hooks = count * 4
    writes = after["writes"] - before["writes"]
    decisions, progress = (after[kind] - before[kind] for kind in ("decision", "progress"))
    made = writes["create", "jobs"]
    return [
        ("apply to first Job", spread(first)),
        ("hook's container terminated to next Job", spread(handed)),
        ("wrapper before the hook's first line", spread(wrapper)),
        ("operator's memory", f"{after['memory'] / 2**20:.0f} MiB"),
        ("operator's CPU", f"{(after['cpu'] - before['cpu']) / hooks * 1000:.0f} ms a hook"),
        ("API writes that commit or decide", f"{(decisions + made + writes['create', 'events']) / count:.1f} an experiment of"
         f" four hooks: {decisions / count:.1f} status, {made / count:.1f} Jobs, {writes['create', 'events'] / count:.1f} Events"),
        ("  beside them, coalesced", f"{progress / count:.1f} status (Running, why it waits)"),
        ("  and for the claim", f"{writes['create', 'persistentvolumeclaims'] / count:.1f}"),
    ]  # fmt: skip


async def one(client: Client, name: str) -> dict[str, Any]:
    """One experiment of four hooks: seconds to its first Job, of each hand-over, of each wrapper."""
    jobs = (await client.list(JOBS, NAMESPACE)).resource_version
    pods = (await client.list(PODS, NAMESPACE)).resource_version
    made: list[float] = []
    ended: dict[str, float] = {}

    async def watch_jobs() -> None:
        async for event in client.watch(JOBS, NAMESPACE, resource_version=jobs):
            if event.type == "ADDED" and event.object["metadata"]["labels"][LABEL_EXPERIMENT] == name:
                made.append(time.monotonic())

    async def watch_pods() -> None:
        async for event in client.watch(PODS, NAMESPACE, resource_version=pods):
            states = (event.object.get("status") or {}).get("containerStatuses") or ()
            mine = event.object["metadata"]["labels"].get(LABEL_EXPERIMENT) == name
            if mine and any(state.get("state", {}).get("terminated") for state in states):
                ended.setdefault(event.object["metadata"]["name"], time.monotonic())

    watches = [asyncio.create_task(watch_jobs()), asyncio.create_task(watch_pods())]
    await asyncio.sleep(0.5)
    begin = time.monotonic()
    await client.create(EXPERIMENTS, experiment(name), NAMESPACE)
    while True:
        status = (await client.get(EXPERIMENTS, name, NAMESPACE)).get("status") or {}
        if status.get("completionTime"):
            break
        await asyncio.sleep(0.5)
    for task in watches:
        task.cancel()
    assert status["outcome"] == "Succeeded", status
    handed = [start - end for start, end in zip(made[1:], sorted(ended.values()), strict=False)]
    return {"first": made[0] - begin, "handed": handed, "wrapper": wrappers(status)}


def wrappers(status: dict[str, Any]) -> list[float]:
    """The wrapper's own figure in each result.json, read where the node keeps its volumes."""
    volumes = Path(os.environ["SANDBOX_CACHE"]) / "cluster" / "volumes"
    found = []
    for job in status["jobs"]:
        (path,) = volumes.glob(f"{NAMESPACE}_{status['workspace']['claimName']}_*/{job['result']['path']}")
        found.append(json.loads(path.read_text())["runtime"]["wrapperSeconds"])
    return found


async def prepare(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "raw"}, "data": {"x.jsonl": ROWS}}
    await client.create(CONFIG_MAPS, data, NAMESPACE)


def experiment(name: str) -> dict[str, Any]:
    configs = {"dataset_path": "inputs/raw/x.jsonl", "process": [{"text_length_filter": {}}]}
    probe = {"hook": "ProbeViaAnalyzerHook", "metaName": "probe", "djConfigs": configs}
    return {
        "apiVersion": EXPERIMENTS.api_version,
        "kind": EXPERIMENTS.kind,
        "metadata": {"name": name},
        "spec": {
            "workspace": {"claim": {"size": "1Gi"}, "retention": "Delete"},
            "inputs": [{"name": "raw", "configMapName": "raw"}],
            "probeJobConfigs": [probe],
            "refineRecipeJobConfigs": [{**probe, "hook": "RefineRecipeViaKSigmaHook"}],
            "executionJobConfigs": [{"hook": "ProcessDataHook", "input": {"djConfigs": "-1.recipe"}}],
            "evaluationJobConfigs": [
                {**probe, "metaName": "after", "input": {"djConfigs.dataset_path": "anonymous.process.dataset"}}
            ],
        },
    }


async def figures(client: Client) -> dict[str, Any]:
    """The operator's own figures from its metrics."""
    text = await client.get_raw(METRICS)
    writes: Counter[tuple[str, str]] = Counter()
    for resource, verb, value in re.findall(
        r'sandbox_operator_api_requests_total\{code="[^"]+",resource="([^"]+)",verb="([^"]+)"\} ([0-9.e+]+)', text
    ):
        if verb not in ("get", "list", "watch"):
            writes[verb, resource] += int(float(value))

    def gauge(name: str) -> float:
        return float(re.search(rf"^{name} ([0-9.e+]+)$", text, re.MULTILINE)[1])  # type: ignore[index]

    def written(kind: str) -> float:
        found = re.search(rf'^sandbox_operator_status_writes_total\{{kind="{kind}"\}} ([0-9.e+]+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    return {
        "writes": writes,
        "decision": written("decision"),
        "progress": written("progress"),
        "memory": gauge("process_resident_memory_bytes"),
        "cpu": gauge("process_cpu_seconds_total"),
    }


def spread(values: Iterable[float]) -> str:
    ordered = sorted(values)
    return (
        f"p50 {statistics.median(ordered) * 1000:.0f} ms, min {ordered[0] * 1000:.0f}, max {ordered[-1] * 1000:.0f}"
        f" ({len(ordered)} times)"
    )


if __name__ == "__main__":
    main()
