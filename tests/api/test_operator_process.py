# SPDX-License-Identifier: Apache-2.0
"""The process itself: what it says when it can't start, its health, its metrics, its end, an API server that comes late."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.api.conftest import Operators, kubeconfig
from tests.api.fakeapi import FakeAPI
from tests.api.lab import OPERATOR, Lab, probes
from tests.api.played import PLAYER
from tests.api.waiting import eventually
from tests.ports import free_ports

from sandbox_operator.kube.config import Connection


def answer(port: int, path: str) -> tuple[int, str]:
    """Status and text; 0 when nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def eventually_answers(port: int, path: str) -> str:
    """What stands there as soon as it is served with 200."""
    for _ in range(400):
        status, text = await asyncio.to_thread(answer, port, path)
        if status == 200:
            return text
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} does not answer: {status} {text}")


async def test_it_tells_its_health_and_its_figures(
    api: FakeAPI, fake_lab: Lab, operators: Operators, tmp_path: Path
) -> None:
    health, metrics = free_ports(), free_ports()
    ports = {"SANDBOX_LIVENESS_PORT": str(health), "SANDBOX_METRICS_PORT": str(metrics)}
    operator = operators(kubeconfig(api, tmp_path), **ports)
    await fake_lab.apply("demo", probes("a"))
    await fake_lab.finished("demo")
    assert await eventually_answers(health, "/healthz") == "ok\n"
    assert await eventually_answers(health, "/readyz") == "ok\n"
    figures = await eventually_answers(metrics, "/metrics")
    assert 'sandbox_operator_api_requests_total{code="201",resource="jobs",verb="create"} 1.0' in figures
    assert 'sandbox_operator_reconciles_total{outcome="mistake"} 0.0' in figures
    assert "demo" not in figures, "no names of experiments in labels"
    assert await asyncio.to_thread(operator.stop) == 0
    assert answer(health, "/healthz")[0] == 0


async def test_it_waits_for_an_api_server_that_comes_late_and_survives_its_absence(
    operators: Operators, tmp_path: Path
) -> None:
    port, health = free_ports(), free_ports()
    server = FakeAPI()
    server.url = f"http://127.0.0.1:{port}"
    operator = operators(kubeconfig(server, tmp_path), SANDBOX_LIVENESS_PORT=str(health))
    await eventually(lambda: "no answer from the API server" in operator.log)
    assert await eventually_answers(health, "/healthz") == "ok\n", "a restart would not bring it"
    status, why = answer(health, "/readyz")
    assert (status, why.startswith("not seen yet: events, jobs, ")) == (503, True), why
    assert "no answer from the API server" in why
    async with _served(server, port), Lab(Connection(server.url), "lab", fake=True) as lab:
        await lab.apply("demo", probes("a"))
        await lab.finished("demo", limit=60)
        assert await eventually_answers(health, "/readyz") == "ok\n"
    await eventually(lambda: operator.log.count("no answer from the API server") > 5)
    assert operator.code is None
    async with _served(server, port), Lab(Connection(server.url), "lab", fake=True) as lab:
        await lab.apply("again", probes("a"))
        await lab.finished("again", limit=60)
    assert operator.code is None


class _served:  # reads as a phrase
    """The fake server on a port of its own for the length of a block; what it holds outlives that."""

    def __init__(self, server: FakeAPI, port: int) -> None:
        self._server, self._port = server, port

    async def __aenter__(self) -> None:
        self._server.spared.add(PLAYER)
        await self._server.start(self._port)

    async def __aexit__(self, *_: object) -> None:
        await self._server._runner.cleanup()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SANDBOX_WORKERS": "many"}, "SANDBOX_WORKERS must be a whole number of at least 1, not 'many'"),
        ({"SANDBOX_IMAGES": "data=x"}, "SANDBOX_IMAGES is not JSON"),
        ({"SANDBOX_IMAGES": '{"data": 1}'}, "SANDBOX_IMAGES must be a JSON object of name: image"),
        ({"SANDBOX_LOG_LEVEL": "loud"}, "SANDBOX_LOG_LEVEL must be one of info, debug, warning, error, not 'loud'"),
        ({"SANDBOX_LEASE": "operator"}, "SANDBOX_LEASE must be NAMESPACE/NAME of a Lease, not 'operator'"),
        ({"SANDBOX_LIVENESS_PORT": "http"}, "SANDBOX_LIVENESS_PORT must be a whole number"),
        ({"KUBECONFIG": "/nowhere/config"}, "there is no kubeconfig at /nowhere/config"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_setting_that_can_not_be_used_ends_it_with_a_sentence(environment: dict[str, str], words: str) -> None:
    ended = _run(environment)
    assert ended.returncode == 1
    assert ended.stderr.startswith("sandbox-operator: ")
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, "no traceback"


@pytest.mark.parametrize("setting", ["SANDBOX_LIVENESS_PORT", "SANDBOX_METRICS_PORT"])
async def test_a_port_that_is_taken_is_named(api: FakeAPI, tmp_path: Path, setting: str) -> None:
    config = kubeconfig(api, tmp_path)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        environment = {"KUBECONFIG": str(config), "SANDBOX_LIVENESS_PORT": str(free_ports()), setting: port}
        ended = await asyncio.to_thread(_run, {"SANDBOX_METRICS_PORT": "0", **environment})
    assert ended.returncode == 1
    assert port in ended.stderr


def _run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SANDBOX_", "KUBE"))}
    command = [OPERATOR, "run"]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=60, check=False)
