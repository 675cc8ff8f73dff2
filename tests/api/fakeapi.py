# SPDX-License-Identifier: Apache-2.0
"""A small API server in memory, for what a real one does too seldom to be tested: faults, when we choose.

It is no model of Kubernetes: no schemas, defaults, quotas or access control, no controller but a garbage
collector. What real objects look like is tested against the real server. It serves every group and plural:

* get, list (pages, label and field selectors), watch (bookmarks, history, 410), create (generateName), merge
  patch, apply (a merge that creates), the `status` subresource of everything (update too), delete (propagation, uid
  precondition, finalizers), deletecollection, pod logs, `/version`.
* resourceVersions are integers of one counter; `generation` counts changes of spec; a patch that changes
  nothing writes nothing; a stale `metadata.resourceVersion` in a patch is a Conflict.
* `requests` holds (verb, plural[/subresource], namespace, name) of everything asked.
* Faults are the methods under "faults", and what `on_call` decides (`fates.py`).

In the test's process: `async with FakeAPI() as api: ... api.url`. As its own: `python -m tests.api.fakeapi
[PORT]` prints its address, and `POST /call/<method>` with the arguments as a JSON object calls any method.
The test plays kubelet, scheduler and Job controller by `put` and `remove` (in `fakestore.py`).
"""

import asyncio
import copy
import json
import math
import re
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
from tests.api.fates import Call, Fate, Fault, Moment, Refused, reset

PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<subresource>[^/]+))?)?"
)


Stream = tuple[int, str]
"""An open watch of somebody who is not spared: a number of its own, and the plural."""
OnWrite = Callable[[str, str, str], Awaitable[bool]]
"""(verb, plural[/subresource], "before" or "after") -> whether the connection is reset there."""
OnCall = Callable[[Call, Moment], Fate | None]
"""What becomes of a call, reads and watches included, "before" it is carried out or "after", instead of its answer."""


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
        self.longest_watch = 300.0  # seconds, whatever is asked for
        self.url = ""
        self.requests: list[tuple[str, str, str | None, str | None]] = []
        self.logs: dict[Name, str] = {}
        self.faults: list[Fault] = []
        self.stalled: Callable[[str], bool] = lambda _: False
        self.break_every: int | None = None
        self.spared = set[str]()  # user agents that meet no faults and are not recorded: who plays the cluster
        self.on_write: OnWrite | None = None
        self.on_call: OnCall | None = None
        self.streams: set[Stream] = set()
        self.deaf: set[Stream] = set()
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

    @property
    def watchers(self) -> int:
        """Open watches of those who are not spared."""
        return len(self.streams)

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

        Verbs: get, list, watch, create, update, patch, delete, deletecollection.
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
        gone = self.kind_of(group, plural).pop((namespace, name))
        self.forget_history()
        for witness in self.witnesses:
            witness(Change(self.version, 0.0, (group, plural), "VANISHED", gone, gone))

    def stall(self, on: bool = True, *, plural: str | None = None) -> None:
        """Watches (of one kind, or all) stay open and say nothing, not even bookmarks, until `stall(False)`."""
        self.stalled = lambda watched: on and plural in (None, watched)
        self.tell()

    def deafen(self, *plurals: str) -> None:
        """The watches of these kinds that are open now stay open and never say another word; later ones do."""
        self.deaf |= {stream for stream in self.streams if stream[1] in plurals or not plurals}

    def break_after(self, events: int | None) -> None:
        """Every watch is cut, in the middle of a line, after this many events; None ends it."""
        self.break_every = events

    # `on_write` (an attribute) is awaited for each write, "before" it is carried out and "after"; when it gives
    # True the connection is reset there. `on_call` is asked for every call, reads and watches too.

    def delay_echoes(self, seconds: float, *, plural: str | None = None) -> None:
        """Watches (of one kind, or all) tell of a change this much later than its writer was answered; those of who
        is spared do not."""
        self.echo_seconds[plural] = seconds

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
            body = json.loads(await request.read() or "{}")
            if spared := request.headers.get("User-Agent") in self.spared:
                fault = on_call = None
            else:
                self.requests.append((verb, told, match["namespace"], match["name"]))
                fault = next(
                    (f for f in self.faults if f.verb == verb and f.plural in (None, plural) and f.times > 0),
                    None,
                )
                on_call = self.on_call
            call = Call(len(self.requests), verb, told, match["namespace"], match["name"], body)
            if fault is not None:
                fault.times -= 1
                if fault.code:
                    raise Refused(fault.code, "", "a fault of the test", fault.retry_after)
            if on_call is not None and (fate := on_call(call, "before")) is not None:
                return await fate.strike(request)
            if verb == "watch":
                return await self._watch(request, (group, plural), match["namespace"], None if spared else call)
            on_write = None if spared or verb in ("get", "list") else self.on_write
            if on_write is not None and await on_write(verb, told, "before"):
                return reset(request)
            answer = self._answer(request, verb, match, body)
            if on_call is not None and (fate := on_call(call, "after")) is not None:
                return await fate.strike(request, answer)
            if fault is not None or (on_write is not None and await on_write(verb, told, "after")):
                return reset(request)
            if isinstance(answer, str):
                return web.Response(text=answer)
            return web.json_response(answer, status=201 if verb == "create" else 200)
        except Refused as refused:
            return refused.answer

    @staticmethod
    def _verb(request: web.Request, name: str | None) -> str:
        if request.method == "GET" and name is None:
            return "watch" if request.query.get("watch") == "true" else "list"
        if request.method == "DELETE" and name is None:
            return "deletecollection"
        return {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[request.method]

    def _answer(self, request: web.Request, verb: str, match: re.Match[str], body: Manifest) -> Manifest | str:
        group, plural, version = match["group"] or "", match["plural"], match["version"]
        stored = self.kind_of(group, plural)
        key = (match["namespace"] or "", match["name"] or "")
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
            policy, now = body.get("propagationPolicy", "Background"), body.get("gracePeriodSeconds") == 0
            return self.remove(group, plural, *key, propagation=policy, now=now)
        if verb == "update":
            return self._update_status(group, plural, key, body, match["subresource"])
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
        self._check_version(plural, key, current, body)
        whole = merged(current, body)
        whole["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
        if subresource == "status":
            whole = {**current, "status": whole.get("status", {})}
        elif "status" in current:
            whole["status"] = current["status"]
        else:
            whole.pop("status", None)
        return copy.deepcopy(current) if whole == current else self.put(group, plural, whole)

    def _update_status(self, group: str, plural: str, key: Name, body: Manifest, subresource: str | None) -> Manifest:
        current = self.kind_of(group, plural)[key]
        if subresource != "status":
            raise Refused(405, "MethodNotAllowed", "this server updates nothing but a status")
        if (body["metadata"]["name"], body["metadata"].get("namespace", "")) != (key[1], key[0]):
            raise Refused(400, "BadRequest", "the name of the object does not match the name on the URL")
        self._check_version(plural, key, current, body)
        whole = {**current, "status": body.get("status", {})}
        return copy.deepcopy(current) if whole == current else self.put(group, plural, whole)

    @staticmethod
    def _check_version(plural: str, key: Name, current: Manifest, body: Manifest) -> None:
        if body.get("metadata", {}).get("resourceVersion") not in (None, current["metadata"]["resourceVersion"]):
            words = f'Operation cannot be fulfilled on {plural} "{key[1]}": the object has been modified'
            raise Refused(409, "Conflict", words)

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

    async def _watch(
        self, request: web.Request, kind: Kind, namespace: str | None, call: Call | None
    ) -> web.StreamResponse:
        """Stream the changes of a kind. `call` is None for who is spared."""
        sent, told = int(request.query.get("resourceVersion", self.version)), 0
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
        except ConnectionError:  # who asked has died meanwhile
            return response
        if call is not None and self.on_call is not None and (fate := self.on_call(call, "after")) is not None:
            if fate.kind == "refused":  # told inside the stream, as a watch does that began well
                await self._send(response, "ERROR", Refused(fate.code, fate.reason, "a fault of the test").status)
                return response
            return reset(request)
        loop = asyncio.get_running_loop()
        longest = float(request.query.get("timeoutSeconds", 300))
        ends = loop.time() + (longest if call is None else min(longest, self.longest_watch))
        stream: Stream = (call.number if call is not None else 0, kind[1])
        self.streams |= {stream} if call is not None else set()
        try:
            while not self._closing and (loop.time() < ends or stream in self.deaf):
                news, now = self.news, loop.time()
                if call is not None and (self.stalled(kind[1]) or stream in self.deaf):
                    await news.wait()
                    continue
                if sent < self.oldest:
                    gone = Refused(410, "Expired", f"too old resource version: {sent} ({self.oldest})")
                    await self._send(response, "ERROR", gone.status)
                    break
                for change in self.changes_after(kind, sent, now if call is not None else math.inf):
                    sent = change.version
                    event = self._as_seen(request, namespace, change)
                    if event is not None:
                        await self._send(response, *event)
                        told += 1
                    if told == self.break_every and call is not None:
                        await response.write(b'{"type":"MODI')
                        return reset(request)
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), self.bookmark_seconds)
                    continue
                if sent < self.oldest:
                    continue  # history was forgotten since, perhaps with changes that were not told
                if (call is None or not self.stalled(kind[1])) and not self.changes_after(kind, sent):
                    sent = max(sent, self.version)
                    await self._send(response, "BOOKMARK", {"metadata": {"resourceVersion": str(sent)}})
        except ConnectionError:
            pass
        finally:
            self.streams.discard(stream)
            self.deaf.discard(stream)
        return response

    def _as_seen(self, request: web.Request, namespace: str | None, change: Change) -> tuple[str, Manifest] | None:
        """The event as a watch with this selector sees it: what stops matching is DELETED for it."""
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
