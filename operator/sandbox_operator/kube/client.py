# SPDX-License-Identifier: Apache-2.0
"""The verbs: all that anyone here asks of the API server, with objects as plain dicts, as in a manifest.

It keeps nothing: how a request travels and what is sent again stands in `transport.py`, what is watched and
remembered in `informer.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Literal, NamedTuple

import aiohttp

from sandbox_operator.kube.config import Connection
from sandbox_operator.kube.decode import loads
from sandbox_operator.kube.errors import NotFound, Unreachable, error_from
from sandbox_operator.kube.resources import Resource
from sandbox_operator.kube.transport import Transport, lines_of

Manifest = dict[str, Any]
BACKGROUND = {"propagationPolicy": "Background"}

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""Asks for an answer that tells the new version of an object, and not its content, which we sent."""
PATCH_TYPES = {"merge": "application/merge-patch+json", "apply": "application/apply-patch+yaml"}


class Page(NamedTuple):
    """A part of a list, and the resourceVersion of the whole, from which to watch on."""

    items: list[Manifest]
    resource_version: str


class WatchEvent(NamedTuple):
    """`type`: ADDED, MODIFIED, DELETED, or BOOKMARK, whose `object` only has a version to go on from."""

    type: str
    object: Manifest


class Client(Transport):
    """A connection in use: `async with Client(connection, field_manager="...") as client`.

    Every verb raises the classes of `errors.py`. Selectors are in kubectl's syntax. `counts` holds the
    requests sent, repeats included, by (verb, plural), for a subresource (verb, plural/subresource), and
    `answers` the same by HTTP status.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        field_manager: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(connection, user_agent=field_manager, sleep=sleep)
        self._field_manager = field_manager

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest:
        """One object. Raises NotFound."""
        path = resource.path(namespace=namespace, name=name)
        return await self._object(("get", resource.plural), "GET", path)

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = 500,
    ) -> AsyncGenerator[Page, None]:
        """A collection, at most `page_size` objects at a time.

        Raises Gone when the server forgot this list's version between two pages: start again.
        """
        what, path = ("list", resource.plural), resource.path(namespace=namespace)
        query = {"labelSelector": label_selector, "fieldSelector": field_selector, "limit": str(page_size)}
        token: str | None = None
        while token != "":
            answer = await self._object(what, "GET", path, query={**query, "continue": token})
            token = answer["metadata"].get("continue") or ""
            yield Page(answer.get("items") or [], answer["metadata"]["resourceVersion"])

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Page:
        """A collection, whole, in one answer."""
        what, path = ("list", resource.plural), resource.path(namespace=namespace)
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        answer = await self._object(what, "GET", path, query=query)
        return Page(answer.get("items") or [], answer["metadata"]["resourceVersion"])

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: int = 300,
        idle_seconds: float = 100,
    ) -> AsyncGenerator[WatchEvent, None]:
        """What changes after `resource_version`; ends when the server ends the stream, after
        `timeout_seconds` at the latest.

        The server sends a bookmark a minute, so nothing at all for `idle_seconds` means a dead stream. Never
        repeated here: the caller knows from where to go on. Raises Gone (list again), Unreachable (silent,
        broken, cut), and what the server says in the stream.
        """
        path = resource.path(namespace=namespace)
        request = f"WATCH {path}"
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "timeoutSeconds": str(timeout_seconds),
        }
        limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=idle_seconds)
        what = ("watch", resource.plural)
        async with self.answer("GET", path, what=what, query=query, limits=limits) as response:
            async for line in lines_of(response.content):
                try:
                    event = WatchEvent(**loads(line))
                except (ValueError, TypeError) as error:
                    raise Unreachable("the stream broke off inside an event", request=request) from error
                if event.type == "ERROR":
                    raise error_from(int(event.object.get("code") or 500), event.object, request=request)
                yield event

    async def create(
        self,
        resource: Resource,
        body: Manifest,
        namespace: str | None = None,
        *,
        repeatable: bool = False,
        strict: bool = False,
        metadata_only: bool = False,
    ) -> Manifest:
        """Create an object and give it as the server stored it (its metadata, if that is enough). Raises AlreadyExists.

        `repeatable` says that the object's name is ours and always the same, so that a create whose answer
        was lost may be sent again; the AlreadyExists that may follow is then perhaps our own object. Never
        with `generateName`. `strict` has the server refuse (400) a field that it does not know, instead of
        dropping it.
        """
        return await self._object(
            ("create", resource.plural),
            "POST",
            resource.path(namespace=namespace),
            query={"fieldManager": self._field_manager, "fieldValidation": "Strict" if strict else None},
            body=body,
            accept=METADATA_ONLY if metadata_only else "application/json",
            repeatable=repeatable,
        )

    async def update_status(self, resource: Resource, body: Manifest, namespace: str | None = None) -> Manifest:
        """Replace an object's status by the one in `body`; gives the object's metadata as the server stored it.

        `body` needs apiVersion, kind, metadata with name and resourceVersion, and status: the server takes nothing else
        from it. It costs the server less than a patch. Raises Conflict when the object has changed since, and, rarely,
        when our own answer was lost and the update sent again; NotFound.
        """
        return await self._object(
            ("update", f"{resource.plural}/status"),
            "PUT",
            resource.path(namespace=namespace, name=body["metadata"]["name"], subresource="status"),
            query={"fieldManager": self._field_manager},
            body=body,
            accept=METADATA_ONLY,
        )

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Manifest,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        kind: Literal["merge", "apply"] = "merge",
        force: bool = False,
    ) -> Manifest:
        """Change an object (`apply` also creates it) and give it as the server stored it.

        A `metadata.resourceVersion` in a merge patch makes it conditional: raises Conflict when the object
        has changed since, and, rarely, when our own answer was lost and the patch sent again. `force` takes
        fields of an apply from other managers. Raises NotFound.
        """
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        counted = f"{resource.plural}/{subresource}" if subresource else resource.plural
        query = {"fieldManager": self._field_manager, "force": "true" if force else None}
        return await self._object(
            ("apply" if kind == "apply" else "patch", counted),
            "PATCH",
            path,
            query=query,
            body=body,
            content_type=PATCH_TYPES[kind],
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
    ) -> bool:
        """Ask for an object's deletion, and that of what it owns; False when there was none."""
        try:
            path = resource.path(namespace=namespace, name=name)
            await self.request(("delete", resource.plural), "DELETE", path, body=BACKGROUND)
        except NotFound:
            return False
        return True

    async def delete_collection(self, resource: Resource, namespace: str | None, *, label_selector: str) -> None:
        """Ask for the deletion of all objects that match, and of what they own.

        Raises ValueError with an empty selector: that would be everything.
        """
        if not label_selector:
            raise ValueError(
                f"delete_collection of {resource.plural} needs a selector; without one it deletes all of them"
            )
        await self.request(
            ("deletecollection", resource.plural),
            "DELETE",
            resource.path(namespace=namespace),
            query={"labelSelector": label_selector},
            body=BACKGROUND,
        )

    async def get_raw(self, path: str) -> Any:
        """What stands at a path of no resource (`/version`, `/readyz`): parsed if it is JSON, else text."""
        text = await self.request(("get", path), "GET", path, accept="*/*")  # not all JSON calls itself so
        try:
            return loads(text)
        except ValueError:
            return text.decode(errors="replace")

    async def _object(self, what: tuple[str, str], method: str, path: str, **options: Any) -> Manifest:
        answer = await self.request(what, method, path, **options)
        try:
            return dict(loads(answer))
        except (ValueError, TypeError) as error:
            request = f"{method} {self.connection.server}{path}"
            raise Unreachable(f"something else answered: {answer[:100]!r}", request=request) from error
