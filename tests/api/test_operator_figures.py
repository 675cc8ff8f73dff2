# SPDX-License-Identifier: Apache-2.0
"""What the real process shows and logs about work that it did: the figures add up, and each line says what it is about."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.api.conftest import Operators, kubeconfig
from tests.api.fakeapi import FakeAPI
from tests.api.lab import Lab, probes, road
from tests.api.played import Pod, disrupted, fails
from tests.ports import free_ports

from sandbox_api.result import Output

PREFIX = "sandbox_operator_"


class Figures:
    """`figures("jobs_total", stage="probe")`: the sum over all series that have these labels."""

    def __init__(self, text: str) -> None:
        self.samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        fitting = [s.value for s in self.samples if s.name == PREFIX + name and labels.items() <= s.labels.items()]
        assert fitting, f"no series {name} {labels}"
        return sum(fitting)


async def figures_of(port: int) -> Figures:
    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            return str(answer.read().decode())

    return Figures(await asyncio.to_thread(read))


async def takes_two_seconds(pod: Pod) -> None:
    await pod.runs()
    await asyncio.sleep(2)
    outputs = {name: Output(kind="path", path=f"{pod.folder}/out/{name}") for name in pod.contract.outputs}
    await pod.ends(0, pod.message(outcome="Succeeded", outputs=outputs))


async def test_the_figures_tell_what_was_done(
    api: FakeAPI, fake_lab: Lab, operators: Operators, tmp_path: Path
) -> None:
    """A road of four hooks; one that is preempted once; one whose hook fails; a mistake in a spec."""
    port = free_ports()
    operator = operators(kubeconfig(api, tmp_path), SANDBOX_METRICS_PORT=str(port))
    fake_lab.kubelet.table |= {
        ("again", "a", 1): disrupted(),
        ("broken", "a"): fails("User", "ValueError", "row 17"),
        ("demo", "process"): takes_two_seconds,
    }
    gpus = {"resources": {"limits": {"nvidia.com/gpu": 4}}}
    demo = road()
    demo["executionJobConfigs"][0] |= gpus
    await fake_lab.apply("demo", demo)
    await fake_lab.apply("again", probes("a"))
    await fake_lab.apply("broken", probes("a", "b"))
    await fake_lab.apply("wrong", probes("a", timeouts={"pending": "soon"}))
    await fake_lab.finished("demo", "again", "broken")
    await fake_lab.reason("wrong", "InvalidSpec")
    await fake_lab.event("demo", "Succeeded")
    await fake_lab.event("broken", "UserError")
    figures = await figures_of(port)
    # Experiments, jobs and attempts.
    assert figures("experiments_finished_total", outcome="Succeeded") == 2
    assert figures("experiments_finished_total", outcome="Failed") == 1
    there = {o: figures("experiments", outcome=o) for o in ("Succeeded", "Failed", "Pending")}
    assert there == {"Succeeded": 2, "Failed": 1, "Pending": 1}
    jobs = {o: figures("jobs_total", outcome=o) for o in ("Succeeded", "Failed", "Skipped", "Cached")}
    assert jobs == {"Succeeded": 5, "Failed": 1, "Skipped": 1, "Cached": 0}
    assert figures("jobs_total", outcome="Succeeded", stage="execution") == 1
    attempts = {o: figures("attempts_total", outcome=o) for o in ("succeeded", "user", "infra", "preempted", "other")}
    assert attempts == {"succeeded": 5, "user": 1, "infra": 0, "preempted": 1, "other": 0}
    assert sum(attempts.values()) == len(fake_lab.made) == figures("api_requests_total", verb="create", resource="jobs")
    # Times.
    assert figures("pending_seconds_count") == len(fake_lab.made)
    assert figures("hand_over_seconds_count") == 3, "the three that follow another one in the road"
    used = figures("gpu_seconds_total", outcome="used")
    assert used == figures("gpu_seconds_total", outcome="used", stage="execution") >= 4 * 1
    assert figures("gpu_seconds_total", outcome="wasted") == 0
    # The operator itself.
    assert figures("leader") == 1
    assert figures("reconciles_total", outcome="done") == figures("reconcile_seconds_count") > 10
    assert figures("reconciles_total", outcome="mistake") == 0
    assert figures("queue_depth") == figures("queue_standstill_seconds") == 0
    assert figures("api_requests_total", verb="watch", resource="pods", code="200") >= 1
    assert figures("status_writes_total") == figures(
        "api_requests_total", verb="update", resource="sandboxexperiments/status", code="200"
    )
    assert figures("events_total", outcome="sent") == figures("api_requests_total", verb="create", resource="events")
    assert figures("watch_restarts_total") == 0
    # Nothing that a user named stands in a label.
    values = {value for sample in figures.samples for value in sample.labels.values()}
    assert not [value for value in values if any(name in value for name in ("demo", "again", "lab", "nvidia"))]
    # Trouble with the API server is told by its code.
    api.fail("update", 503, plural="sandboxexperiments", times=2)
    api.forget_history()  # every watch is told that it is behind
    await fake_lab.apply("late", probes("a"))
    await fake_lab.finished("late")
    figures = await figures_of(port)
    assert figures("api_requests_total", verb="update", code="503") == 2
    assert figures("watch_restarts_total") > 0
    # A restarted operator counts nothing again.
    operator.kill()
    operator.start()
    await fake_lab.log_says(operator, "working; 5 experiments to look at")
    figures = await figures_of(port)
    assert figures("jobs_total") == figures("attempts_total") == figures("experiments_finished_total") == 0


async def test_every_line_about_an_experiment_says_so(
    api: FakeAPI, fake_lab: Lab, operators: Operators, tmp_path: Path
) -> None:
    settings = {"SANDBOX_LOG_FORMAT": "json", "SANDBOX_LOG_LEVEL": "debug"}
    operator = operators(kubeconfig(api, tmp_path), **settings)
    api.fail("create", 500, plural="jobs", times=7)
    await fake_lab.apply("demo", probes("a", "b"))
    await fake_lab.finished("demo")
    await fake_lab.log_says(operator, "Succeeded 2/2")
    lines = [json.loads(line) for line in operator.log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in lines))
    about = [line for line in lines if "experiment" in line]
    assert {(line["namespace"], line["experiment"]) for line in about} == {("lab", "demo")}
    assert not [line for line in lines if "demo" in line["message"] and line not in about]
    jobs = {(line["job"], line["attempt"]) for line in about if "job" in line}
    assert jobs == {("anonymous/1/probe/0", 1), ("anonymous/1/probe/1", 1)}
    (refused, *_) = [line for line in about if line["level"] == "warning"]
    assert "500" in refused["message"]


async def test_sigterm_lets_what_is_under_way_end(
    api: FakeAPI, fake_lab: Lab, operators: Operators, tmp_path: Path
) -> None:
    """A status write is under way when the signal comes: it ends, its Job is made, and no other work is begun."""
    operator = operators(kubeconfig(api, tmp_path))
    under_way, go_on = asyncio.Event(), asyncio.Event()
    writes: list[str] = []

    async def hold_the_first(verb: str, plural: str, moment: str) -> bool:
        if moment == "before":
            writes.append(f"{verb} {plural}")
        if (plural, moment) == ("sandboxexperiments/status", "before") and not under_way.is_set():
            under_way.set()
            await go_on.wait()
        return False

    await fake_lab.make_claim("shared")
    api.on_write = hold_the_first
    await fake_lab.apply("demo", probes("a", "b", claim_name="shared"))
    await asyncio.wait_for(under_way.wait(), 20)
    ending = asyncio.create_task(asyncio.to_thread(operator.stop))
    await fake_lab.log_says(operator, "stopping; what runs in the cluster goes on")
    await fake_lab.apply("other", probes("a", claim_name="shared"))
    go_on.set()
    assert await ending == 0
    assert writes == ["update sandboxexperiments/status", "create jobs"]
    assert "stopping in the middle" not in operator.log
    operator.start()
    await fake_lab.finished("demo", "other")
    fake_lab.assert_no_job_was_made_twice()


async def test_a_busy_operator_ends_within_its_grace_period(
    api: FakeAPI, fake_lab: Lab, operators: Operators, tmp_path: Path
) -> None:
    """An API server that answers nothing any more, workers that all wait for it, and a Prometheus that keeps its line."""
    port = free_ports()
    operator = operators(kubeconfig(api, tmp_path), SANDBOX_METRICS_PORT=str(port))
    hangs, busy = asyncio.Event(), asyncio.Event()

    async def hang(*_: str) -> bool:
        busy.set()
        await hangs.wait()
        return True

    api.on_write = hang
    for number in range(20):
        await fake_lab.apply(f"demo-{number}", probes("a"))
    await asyncio.wait_for(busy.wait(), 20)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await reader.readline()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asyncio.to_thread(operator.stop) == 0
    took = loop.time() - began
    print(f"SIGTERM to the end, with 16 workers that wait: {took:.1f} s")
    assert took < 10, "the chart's terminationGracePeriodSeconds"
    writer.close()
    api.on_write = None
    hangs.set()
    operator.start()
    await fake_lab.finished(*(f"demo-{number}" for number in range(20)), limit=60)
    fake_lab.assert_no_job_was_made_twice()
