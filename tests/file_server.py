# SPDX-License-Identifier: Apache-2.0
"""A web server on this machine with the faults of real ones, the routes of hubs and the lists of object stores.

It counts what it sends, so that a test can say what was asked for twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PIECE = 1 << 16
PAGE = 2
"""Keys on one page of a list: more than one page is the rule."""


@dataclass
class Served:
    """One address. Lists are used up, an answer at a time."""

    content: bytes = b""
    etag: str | None = '"v1"'
    modified: str | None = None
    ranges: bool = True
    tells_length: bool = True
    length: int | None = None
    """A length that it claims instead."""
    token: str | None = None
    """The Authorization header that it wants."""
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """After so many bytes of the body the connection is closed."""
    holds: list[int] = field(default_factory=list)
    """After so many bytes of the body nothing comes until the test is over."""
    location: str | None = None


@dataclass(frozen=True)
class Asked:
    path: str
    query: str
    headers: dict[str, str]


class FileServer:
    """Serves `files` by path. `held` is set once an answer stands still."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.sent: Counter[str] = Counter()
        self.asked: list[Asked] = []
        self.held = threading.Event()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, path: str, content: bytes, **more: Any) -> str:
        """Serve bytes; returns their address."""
        self.files[path] = Served(content, **more)
        return f"{self.url}{quote(path)}"

    def ranges(self, path: str) -> list[str | None]:
        """The Range of each request for a path, in order."""
        return [asked.headers.get("range") for asked in self.asked if asked.path == path]

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with contextlib.suppress(ConnectionError):
                    server._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        path = unquote(parts.path)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(path, parts.query, headers))
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if "FilePath" in query:
            path = f"{path}/{query['FilePath']}"
        if query.get("list-type") == "2":
            found: Served | None = Served(self._list(path.strip("/"), query), etag=None)
        else:
            found = self.files.get(path)
        if found is None:
            return _plain(request, 404)
        if found.token is not None and headers.get("authorization") != found.token:
            return _plain(request, 401)
        if found.statuses:
            return _plain(request, found.statuses.pop(0))
        if found.location:
            return _plain(request, 302, location=found.location)
        if headers.get("if-match") not in (None, found.etag):
            return _plain(request, 412)
        return self._give(request, path, found, headers)

    def _give(self, request: BaseHTTPRequestHandler, path: str, found: Served, headers: dict[str, str]) -> None:
        content, size, status, extra = found.content, len(found.content), 200, {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if asked and found.ranges and headers.get("if-range") in (None, found.etag, found.modified):
            start, end = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else size, size)
            if start >= size:
                return _plain(request, 416, content_range=f"bytes */{size}")
            content, status, extra = content[start:end], 206, {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
        request.send_response(status)
        told = {"ETag": found.etag, "Last-Modified": found.modified or "Sun, 01 Nov 2026 10:00:00 GMT", **extra}
        if found.modified is None and found.etag is None:
            del told["Last-Modified"]
        if found.tells_length:
            told["Content-Length"] = str(found.length or len(content))
        else:
            told["Connection"] = "close"
        for name, value in told.items():
            if value is not None:
                request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return None
        cut = found.cuts.pop(0) if found.cuts else None
        hold = found.holds.pop(0) if found.holds else None
        for piece in _pieces(content, cut if cut is not None else hold):
            request.wfile.write(piece)
            self.sent[path] += len(piece)
        if hold is not None:
            self.held.set()
            self._over.wait()
        if cut is not None or hold is not None or not found.tells_length or found.length:
            request.close_connection = True
            with contextlib.suppress(OSError):
                request.connection.shutdown(socket.SHUT_RDWR)
        return None

    def _list(self, bucket: str, query: dict[str, str]) -> bytes:
        """A page of an object store's list (ListObjectsV2)."""
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        start = f"/{bucket}/"
        keys = sorted(path.removeprefix(start) for path in self.files if path.startswith(start + prefix))
        rest = [key for key in keys if key > after]
        page = rest[:PAGE]
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(rest) > PAGE else ""
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-01T10:00:00.000Z</LastModified>"
            f"<ETag>{escape(self.files[start + key].etag or '')}</ETag><Size>{len(self.files[start + key].content)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
            f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
        ).encode()


def _plain(request: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", "0")
    request.end_headers()


def _pieces(content: bytes, until: int | None) -> Iterator[bytes]:
    content = content if until is None else content[:until]
    yield from (content[at : at + PIECE] for at in range(0, len(content), PIECE))


def serve_huggingface(
    server: FileServer, repository: str, files: dict[str, bytes], *, kind: str = "models", token: str | None = None,
    commit: str = "c" * 40, large: int = 1 << 16, branch: str = "main",
) -> None:  # fmt: skip
    """The few routes of the hub that its client asks for: what a revision is, what is in it, its files."""
    tree = []
    header = f"Bearer {token}" if token else None
    for name, content in files.items():
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content)}
        entry["oid"] = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        if len(content) >= large:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        tree.append(entry)
        prefix = "" if kind == "models" else f"/{kind}"
        server.serve(f"{prefix}/{repository}/resolve/{commit}/{name}", content, token=header)
    info = {"id": repository, "sha": commit, "private": False, "tags": [], "downloads": 0, "likes": 0, "siblings": []}
    for route in (
        f"/api/{kind}/{repository}",
        *(f"/api/{kind}/{repository}/revision/{name}" for name in (branch, commit)),
    ):
        server.serve(route, json.dumps(info).encode(), token=header)
    server.serve(f"/api/{kind}/{repository}/tree/{commit}", json.dumps(tree).encode(), token=header)


def serve_modelscope(
    server: FileServer, repository: str, files: dict[str, bytes], *, kind: str = "models", token: str | None = None
) -> None:
    """The few routes of the hub that its client asks for: what is in a revision, its files."""
    header = f"Bearer {token}" if token else None
    entries: list[dict[str, Any]] = [{"Path": "data", "Name": "data", "Type": "tree", "Size": 0, "Sha256": ""}]
    for name, content in files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append({"Path": name, "Name": Path(name).name, "Type": "blob", "Size": len(content), "Sha256": sha256})
        server.serve(f"/api/v1/{kind}/{repository}/repo/{name}", content, token=header)
    listing = json.dumps({"Code": 200, "Data": {"Files": entries}, "Success": True}).encode()
    route = "repo/tree" if kind == "datasets" else "repo/files"
    server.serve(f"/api/v1/{kind}/{repository}/{route}", listing, token=header)
