# SPDX-License-Identifier: Apache-2.0
"""A small API server in memory, for what a real one does too seldom to be tested: faults, when we choose.

It is no model of Kubernetes: no schemas, defaults, quotas or access control, no controller but a garbage
collector. What real objects look like is tested against the real server. It serves every group and plural:

* get, list (pages, label and field selectors), watch (bookmarks, history, 410), create (generateName), merge
  patch, apply (a merge that creates), the `status` subresource of everything, delete (propagation, uid
  precondition, finalizers), deletecollection, pod logs, `/version`.
* resourceVersions are integers of one counter; `generation` counts changes of spec; a patch that changes
  nothing writes nothing; a stale `metadata.resourceVersion` in a patch is a Conflict.
* `requests` holds (verb, plural[/subresource], namespace, name) of everything asked.
* Faults are the methods under "faults".

In the test's process: `async with FakeAPI() as api: ... api.url`. As its own: `python -m tests.api.fakeapi
[PORT]` prints its address, and `POST /call/<method>` with the arguments as a JSON object calls any method.
The test plays kubelet, scheduler and Job controller by `put` and `remove` (in `fakestore.py`).
"""

import asyncio
import copy
import json
import re
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from aiohttp import web
from tests.api.fakestore import (
    Change,
    FakeStore,
    Kind,
    Manifest,
    Name,
    matches_fields,
    matches_labels,
    merged,
)

PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<subresource>[^/]+))?)?"
)


class Refused(Exception):
    """An answer other than success, as a Status object."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        self.code, self.retry_after = code, retry_after
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
        }


@dataclass
class Fault:
    """For the next `times` requests of a verb: `code` is answered; `cut` does the work and drops the line."""

    verb: str
    plural: str | None
    times: int
    code: int = 0
    retry_after: float | None = None
    cut: bool = False


OnWrite = Callable[[str, str, str], Awaitable[bool]]
"""(verb, plural[/subresource], "before" or "after") -> whether the connection is reset there."""


class FakeAPI(FakeStore):
    """The server. With a `token`, requests that don't bear it get 401."""

    def __init__(
        self,
        *,
        token: str | None = None,
        bookmark_seconds: float = 0.1,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self._tls = tls
        self.token = token
        self.bookmark_seconds = bookmark_seconds
        self.url = ""
        self.requests: list[tuple[str, str, str | None, str | None]] = []
        self.logs: dict[Name, str] = {}
        self.faults: list[Fault] = []
        self.stalled: Callable[[str], bool] = lambda _: False
        self.break_every: int | None = None
        self.watchers = 0
        self.spared = set[str]()  # user agents that meet no faults and are not recorded: who plays the cluster
        self.on_write: OnWrite | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self.tell()
        await self._runner.cleanup()

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("POST", "/call/{method}", self._call)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._tls)
        await site.start()
        self.url = f"{site.name.partition(':')[0]}://127.0.0.1:{self._runner.addresses[0][1]}"

    # faults

    def fail(
        self,
        verb: str,
        code: int,
        *,
        plural: str | None = None,
        times: int = 1,
        retry_after: float | None = None,
    ) -> None:
        """Answer the next `times` requests of this verb with `code`.

        Verbs: get, list, watch, create, patch, delete, deletecollection.
        """
        self.faults.append(Fault(verb, plural, times, code=code, retry_after=retry_after))

    def cut(self, verb: str, *, plural: str | None = None, times: int = 1) -> None:
        """Carry out the next `times` requests of this verb, but reset the connection before the answer."""
        self.faults.append(Fault(verb, plural, times, cut=True))

    def forget_history(self) -> None:
        """As etcd's compaction: older watches get 410 Gone, and so do lists in the middle of their pages."""
        self.version += 1
        self.oldest = self.version
        self.history.clear()
        self.tell()

    def vanish(self, group: str, plural: str, namespace: str, name: str) -> None:
        """Remove an object so that no watch ever tells: its deletion has left the history already."""
        self.kind_of(group, plural).pop((namespace, name))
        self.forget_history()

    def stall(self, on: bool = True, *, plural: str | None = None) -> None:
        """Watches (of one kind, or all) stay open and say nothing, not even bookmarks, until `stall(False)`."""
        self.stalled = lambda watched: on and plural in (None, watched)
        self.tell()

    def break_after(self, events: int | None) -> None:
        """Every watch is cut, in the middle of a line, after this many events; None ends it."""
        self.break_every = events

    # `on_write` (an attribute) is awaited for each write, "before" it is carried out and "after"; when it gives
    # True the connection is reset there.

    def delay_echoes(self, seconds: float) -> None:
        """Watches tell of a change this much later than its writer was answered."""
        self.echo_seconds = seconds

    # HTTP

    async def _call(self, request: web.Request) -> web.Response:
        return web.json_response(getattr(self, request.match_info["method"])(**await request.json()))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0-fake"})
        if request.path in ("/api", "/apis"):  # discovery, which only kopf asks for; it finds nothing
            return web.json_response({"versions": [], "groups": []})
        try:
            match = PATH.fullmatch(request.path)
            if match is None:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            group, plural = match["group"] or "", match["plural"]
            verb = self._verb(request, match["name"])
            told = f"{plural}/{match['subresource']}" if match["subresource"] else plural
            if spared := request.headers.get("User-Agent") in self.spared:
                fault = None
            else:
                self.requests.append((verb, told, match["namespace"], match["name"]))
                fault = next(
                    (f for f in self.faults if f.verb == verb and f.plural in (None, plural) and f.times > 0),
                    None,
                )
            if fault is not None:
                fault.times -= 1
                if fault.code:
                    raise Refused(fault.code, "", "a fault of the test", fault.retry_after)
            if verb == "watch":
                return await self._watch(request, (group, plural), match["namespace"], spared)
            on_write = None if spared or verb in ("get", "list") else self.on_write
            if on_write is not None and await on_write(verb, told, "before"):
                return self._reset(request)
            answer = await self._answer(request, verb, match)
            if fault is not None or (on_write is not None and await on_write(verb, told, "after")):
                return self._reset(request)
            if isinstance(answer, str):
                return web.Response(text=answer)
            return web.json_response(answer, status=201 if verb == "create" else 200)
        except Refused as refused:
            headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
            return web.json_response(refused.status, status=refused.code, headers=headers)

    @staticmethod
    def _reset(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    @staticmethod
    def _verb(request: web.Request, name: str | None) -> str:
        if request.method == "GET" and name is None:
            return "watch" if request.query.get("watch") == "true" else "list"
        if request.method == "DELETE" and name is None:
            return "deletecollection"
        return {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]

    async def _answer(self, request: web.Request, verb: str, match: re.Match[str]) -> Manifest | str:
        group, plural, version = match["group"] or "", match["plural"], match["version"]
        stored = self.kind_of(group, plural)
        key = (match["namespace"] or "", match["name"] or "")
        body: Manifest = json.loads(await request.read() or "{}")
        if verb == "create":
            return self._create(group, plural, match["namespace"] or "", body)
        if verb == "list":
            return self._list(request, group, version, plural, match["namespace"])
        if verb == "deletecollection":
            for found in [k for k, o in stored.items() if self._selected(request, match["namespace"], o)]:
                if found in stored:
                    self.remove(group, plural, *found, propagation=body.get("propagationPolicy", "Background"))
            return {"kind": "Status", "status": "Success"}
        if key not in stored:
            if verb == "patch" and request.content_type == "application/apply-patch+yaml":
                return self._create(group, plural, key[0], body)
            raise Refused(404, "NotFound", f'{plural} "{key[1]}" not found')
        if match["subresource"] == "log":
            return self.logs.get(key, "")
        if verb == "get":
            return stored[key]
        if verb == "delete":
            uid = body.get("preconditions", {}).get("uid")
            if uid not in (None, stored[key]["metadata"]["uid"]):
                raise Refused(409, "Conflict", f"the UID in the precondition ({uid}) does not match the UID in record")
            return self.remove(group, plural, *key, propagation=body.get("propagationPolicy", "Background"))
        return self._patch(group, plural, key, body, match["subresource"])

    def _create(self, group: str, plural: str, namespace: str, body: Manifest) -> Manifest:
        metadata = body.setdefault("metadata", {})
        if namespace:
            metadata["namespace"] = namespace
        metadata.setdefault("name", metadata.get("generateName", "") + uuid4().hex[:5])
        if (namespace, metadata["name"]) in self.kind_of(group, plural):
            raise Refused(409, "AlreadyExists", f'{plural} "{metadata["name"]}" already exists')
        return self.put(group, plural, {k: v for k, v in body.items() if k != "status"})

    def _patch(self, group: str, plural: str, key: Name, body: Manifest, subresource: str | None) -> Manifest:
        current = self.kind_of(group, plural)[key]
        if body.get("metadata", {}).get("resourceVersion") not in (
            None,
            current["metadata"]["resourceVersion"],
        ):
            raise Refused(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {plural} "{key[1]}": the object has been modified',
            )
        whole = merged(current, body)
        whole["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
        if subresource == "status":
            whole = {**current, "status": whole.get("status", {})}
        elif "status" in current:
            whole["status"] = current["status"]
        else:
            whole.pop("status", None)
        return copy.deepcopy(current) if whole == current else self.put(group, plural, whole)

    def _list(self, request: web.Request, group: str, version: str, plural: str, namespace: str | None) -> Manifest:
        found = [o for _, o in sorted(self.kind_of(group, plural).items()) if self._selected(request, namespace, o)]
        start, at = 0, self.version
        if "continue" in request.query:
            start, at = (int(part) for part in request.query["continue"].split("-"))
            if at < self.oldest:
                raise Refused(410, "Expired", "The provided continue parameter is too old")
        limit = int(request.query.get("limit", 0)) or len(found)
        metadata = {"resourceVersion": str(at)} | (
            {"continue": f"{start + limit}-{at}"} if start + limit < len(found) else {}
        )
        api_version = f"{group}/{version}" if group else version
        return {
            "apiVersion": api_version,
            "kind": "List",
            "metadata": metadata,
            "items": found[start : start + limit],
        }

    async def _watch(self, request: web.Request, kind: Kind, namespace: str | None, spared: bool) -> web.StreamResponse:
        sent, told = int(request.query.get("resourceVersion", self.version)), 0
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        loop = asyncio.get_running_loop()
        ends = loop.time() + float(request.query.get("timeoutSeconds", 300))
        self.watchers += 1
        try:
            while not self._closing and loop.time() < ends:
                news, now = self.news, loop.time()
                if not spared and self.stalled(kind[1]):
                    await news.wait()
                    continue
                if sent < self.oldest:
                    gone = Refused(410, "Expired", f"too old resource version: {sent} ({self.oldest})")
                    await self._send(stream, "ERROR", gone.status)
                    break
                for change in self.changes_after(sent, now):
                    sent = change.version
                    event = self._as_seen(request, kind, namespace, change)
                    if event is not None:
                        await self._send(stream, *event)
                        told += 1
                    if told == self.break_every and not spared and request.transport is not None:
                        await stream.write(b'{"type":"MODI')
                        request.transport.abort()
                        return stream
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), self.bookmark_seconds)
                    continue
                if (spared or not self.stalled(kind[1])) and not self.changes_after(sent):
                    sent = max(sent, self.version)
                    await self._send(stream, "BOOKMARK", {"metadata": {"resourceVersion": str(sent)}})
        except ConnectionError:
            pass
        finally:
            self.watchers -= 1
        return stream

    def _as_seen(
        self, request: web.Request, kind: Kind, namespace: str | None, change: Change
    ) -> tuple[str, Manifest] | None:
        """The event as a watch with this selector sees it: what stops matching is DELETED for it."""
        if change.kind != kind:
            return None
        now = change.type != "DELETED" and self._selected(request, namespace, change.object)
        before = change.before is not None and self._selected(request, namespace, change.before)
        what = {(True, True): "MODIFIED", (True, False): "ADDED", (False, True): "DELETED"}.get((now, before))
        return None if what is None else (what, change.object)

    @staticmethod
    async def _send(stream: web.StreamResponse, what: str, body: Manifest) -> None:
        await stream.write(json.dumps({"type": what, "object": body}).encode() + b"\n")

    @staticmethod
    def _selected(request: web.Request, namespace: str | None, body: Manifest) -> bool:
        metadata = body["metadata"]
        return (
            (namespace is None or metadata.get("namespace") == namespace)
            and matches_labels(request.query.get("labelSelector", ""), metadata.get("labels") or {})
            and matches_fields(request.query.get("fieldSelector", ""), body)
        )


async def main() -> None:
    api = FakeAPI()
    await api.start(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(api.url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
