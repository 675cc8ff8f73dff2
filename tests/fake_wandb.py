# SPDX-License-Identifier: Apache-2.0
"""A stateful server that speaks what wandb 0.31's client asks of one: runs and their resume status, the file stream with
its offsets, files by CreateRunFiles and PUT, artifacts. Written from what the client sends; a real server was never seen.

It fails as it is told to: refuses the key, answers 500 or nonsense, hangs, forgets the answer to what it has taken.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

HISTORY = "wandb-history.jsonl"
SUMMARY = "wandb-summary.json"
Json = dict[str, Any]


@dataclass
class Run:
    """A run as the server has it."""

    name: str
    project: str
    entity: str
    group: str | None = None
    display_name: str | None = None
    config: Json = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    """Of its history, as they came."""
    summary: Json = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    """None: unfinished."""
    upserts: int = 0

    @property
    def history(self) -> list[Json]:
        return [json.loads(line) for line in self.lines]

    def values(self, key: str) -> list[Any]:
        """Every value of a key, in order."""
        return [row[key] for row in self.history if key in row]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    operation: str
    """Of GraphQL, else empty."""
    body: bytes


Answer = tuple[int, bytes] | None
"""Status and body in place of the right answer; None: the right one."""


class FakeWandb:
    """`fault(request)` may answer in the server's place; raising ConnectionError drops the connection before anything is
    done. `after(request)` likewise, when the server has done what was asked: its answer is lost."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Json] = {}
        self.requests: list[Request] = []
        self.keys: list[str] = []
        self.bad_offsets: list[str] = []
        """What would have left a gap in a file of the stream, or replaced a line that stands."""
        self.fault: Callable[[Request], Answer] = lambda _: None
        self.after: Callable[[Request], Answer] = lambda _: None
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer((host, 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[FakeWandb]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def until(self, holds: Callable[[], Any], limit: float = 60) -> Any:
        """Wait for what a request brings about."""
        with self.changed:
            assert self.changed.wait_for(holds, timeout=limit), (
                f"never: {[r.operation or r.path for r in self.requests][-20:]}"
            )
            return holds()

    @property
    def run(self) -> Run:
        (run,) = self.runs.values()
        return run

    def answer(self, request: Request) -> tuple[int, bytes]:
        with self.changed:
            self.requests.append(request)
            try:
                return 200, json.dumps(self._handle(request)).encode()
            finally:
                self.changed.notify_all()

    def _handle(self, request: Request) -> Any:
        if request.operation:
            body = json.loads(request.body)
            return {"data": self._graphql(request.operation, body.get("variables") or {})}
        if found := re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", request.path):
            return self._stream(self.runs[unquote(found[3])], json.loads(request.body or b"{}"))
        if request.method == "PUT" and (found := re.fullmatch(r"/upload/([^/]+)/(.+)", request.path)):
            if found[1] in self.runs:
                self.runs[found[1]].files[unquote(found[2])] = request.body
            else:
                self.artifacts[found[1]].setdefault("files", {})[unquote(found[2])] = request.body
            return {}
        return {}

    def _stream(self, run: Run, body: Json) -> Json:
        for name, part in (body.get("files") or {}).items():
            offset, content = part["offset"], part["content"]
            if name == HISTORY:
                if offset > len(run.lines):
                    self.bad_offsets.append(f"{name}: {offset} after {len(run.lines)} lines")
                run.lines[offset : offset + len(content)] = content
            elif name == SUMMARY:
                run.summary = json.loads(content[-1])
        if body.get("complete"):
            run.exit_code = body.get("exitcode")
        return {}

    def _graphql(self, operation: str, variables: Json) -> Any:
        method = getattr(self, f"_op_{operation}", None)
        return method(variables) if method is not None else {}

    def _op_Viewer(self, _: Json) -> Json:
        return {
            "viewer": {
                "id": "u",
                "entity": "lab",
                "username": "lab",
                "email": "",
                "flags": "{}",
                "teams": {"edges": []},
            }
        }

    def _op_ServerFeaturesQuery(self, _: Json) -> Json:
        return {"serverInfo": {"features": []}}

    def _bucket(self, run: Run) -> Json:
        project = {"id": "p", "name": run.project, "entity": {"id": "e", "name": run.entity}}
        return {
            "id": run.name, "name": run.name, "displayName": run.display_name, "description": "", "sweepName": None,
            "config": json.dumps(run.config), "project": project, "historyLineCount": len(run.lines),
            "eventsLineCount": 0, "logLineCount": 0, "summaryMetrics": json.dumps(run.summary), "tags": [], "notes": None,
            "historyTail": json.dumps(run.lines[-1:]), "eventsTail": "[]", "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip

    def _op_RunResumeStatus(self, v: Json) -> Json:
        run = self.runs.get(v["name"])
        return {
            "model": {
                "id": "p",
                "name": v["project"],
                "entity": {"id": "e", "name": "lab"},
                "bucket": run and self._bucket(run),
            }
        }

    def _op_UpsertBucket(self, v: Json) -> Json:
        inserted = v["name"] not in self.runs
        run = self.runs.setdefault(v["name"], Run(v["name"], v["project"], v.get("entity") or "lab"))
        run.upserts += 1
        run.group = v.get("groupName") or run.group
        run.display_name = v.get("displayName") or run.display_name
        if v.get("config"):
            run.config = json.loads(v["config"])
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def _op_ArtifactType(self, _: Json) -> Json:
        return {"project": None}

    def _op_CreateRunFiles(self, v: Json) -> Json:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{v['run']}/{name}"} for name in v["files"]]
        return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": files}}

    def _op_CreateArtifact(self, v: Json) -> Json:
        id = f"artifact{len(self.artifacts)}"
        given = v.get("input", v)
        self.artifacts[id] = {"name": given.get("artifactCollectionName") or (given.get("artifactCollectionNames") or [""])[0],
                              "type": given.get("artifactTypeName"), "state": "PENDING"}  # fmt: skip
        return {
            "createArtifact": {"artifact": {"id": id, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}}
        }

    def _manifest(self, artifact: str) -> Json:
        url = f"{self.url}/upload/{artifact}/manifest.json"
        return {"artifactManifest": {"id": artifact, "file": {"id": "f", "uploadUrl": url, "uploadHeaders": []}}}

    def _op_CreateArtifactManifest(self, v: Json) -> Json:
        return {"createArtifactManifest": self._manifest(v["artifactID"])}

    def _op_UpdateArtifactManifest(self, v: Json) -> Json:
        return {"updateArtifactManifest": self._manifest(v["artifactManifestID"])}

    def _op_CreateArtifactFiles(self, v: Json) -> Json:
        nodes = []
        for file in v["input"]["artifactFiles"]:
            where = f"{self.url}/upload/{file['artifactID']}/{file['name']}"
            nodes.append({"storagePath": file["name"], "uploadUrl": where, "uploadHeaders": [], "uploadMultipartUrls": None,
                          "artifact": {"id": file["artifactID"]}})  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _op_CommitArtifact(self, v: Json) -> Json:
        self.artifacts[v["artifactID"]]["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": v["artifactID"], "digest": "d"}}}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeWandb
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # a client that was killed
            super().handle()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlparse(self.path).path)
        operation = ""
        if path == "/graphql":
            found = re.search(r"(?:query|mutation)\s+(\w+)", json.loads(body)["query"])
            operation = found[1] if found else "?"
        request = Request(self.command, path, operation, body)
        if (given := self.headers.get("Authorization") or "").startswith("Basic "):
            self.fake.keys.append(base64.b64decode(given.removeprefix("Basic ")).decode().rpartition(":")[2])
        try:
            found = self.fake.fault(request) or self.fake.answer(request)
            found = self.fake.after(request) or found
        except ConnectionError:
            self.close_connection = True
            self.connection.close()
            return
        status, content = found
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # whoever asked has gone
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_HEAD = _serve

    def log_message(self, *_: object) -> None:
        pass
