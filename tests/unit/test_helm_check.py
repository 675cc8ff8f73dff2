# SPDX-License-Identifier: Apache-2.0
"""What `helm test` tells a user, against a small server that answers like the operator and the API server."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import pytest
from tests.unit.charts import OPERATOR

EXPERIMENTS = "/apis/sandbox.datajuicer.io/v1alpha1"


class Server(ThreadingHTTPServer):
    """Answers each path with the status in `answers`, else 404; `seen` holds (path, authorization)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: dict[str, int] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append((path, self.headers.get("Authorization")))
        self.send_response(self.server.answers.get(path, 404))
        self.end_headers()
        self.wfile.write(b"because")

    def log_message(self, *arguments: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", OPERATOR / "files/check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_well_operator_is_no_problem(check: ModuleType, server: Server) -> None:
    server.answers = {"/healthz": 200}
    assert check.health_problem(f"{server.url}/healthz", wait=0) is None


def test_an_unwell_operator_is_quoted(check: ModuleType, server: Server) -> None:
    server.answers = {"/healthz": 500}
    assert "it is not well" in check.health_problem(f"{server.url}/healthz", wait=0)


def test_a_silent_operator_is_told(check: ModuleType) -> None:
    with Server() as closed:
        url = closed.url
    assert "does not answer" in check.health_problem(f"{url}/healthz", wait=0)


def test_rights_are_tried_where_the_operator_needs_them(check: ModuleType, server: Server) -> None:
    everywhere, there = f"{EXPERIMENTS}/sandboxexperiments", f"{EXPERIMENTS}/namespaces/there/sandboxexperiments"
    server.answers = {everywhere: 200, there: 200}
    assert check.list_problem(server.url, "", "secret", None) is None
    assert check.list_problem(server.url, "there", "secret", None) is None
    assert server.seen == [(everywhere, "Bearer secret"), (there, "Bearer secret")]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "install the chart sandbox-operator-crds"),
        (403, "in namespace there: check its Role"),
        (503, "answered 503"),
    ],
)
def test_why_it_cannot_list_is_said(check: ModuleType, server: Server, status: int, words: str) -> None:
    server.answers = {f"{EXPERIMENTS}/namespaces/there/sandboxexperiments": status}
    assert words in check.list_problem(server.url, "there", "secret", None)
