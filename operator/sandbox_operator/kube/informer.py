# SPDX-License-Identifier: Apache-2.0
"""A local view of one kind of object, kept up to date by one list and a watch that never ends.

It holds small projections, never the objects: a tree of Python dicts takes seven times its JSON. It tells
that something changed, not what to do about it.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from types import MappingProxyType
from typing import Generic, TypeVar

from sandbox_operator.kube.backoff import exponential
from sandbox_operator.kube.client import Client, Manifest, WatchEvent
from sandbox_operator.kube.errors import ApiError, Gone, Unreachable
from sandbox_operator.kube.resources import Resource

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-wide object is the empty string."""

T = TypeVar("T")

RELIST_AFTER_FAILURES = 3
"""Failures in a row after which the list is made anew: perhaps it is our version that can't be served."""

REMEMBERED = 10_000
"""Objects that have gone whose version is still known."""
QUIET_SECONDS = 30.0
"""A stream that ends after so long without a word was not refused: nothing happened. (Not every resource has bookmarks:
Events have none.) The list is made anew all the same, it is as quiet."""


class Informer(Generic[T]):
    """List, watch, remember.

    project: what to keep of an object, or None to leave it out. A projection must compare by value: an event
        that leaves it as it was calls nobody. When it raises, the object's name is logged and its last good
        projection stays.
    on_change: called with (key, old, new) after the store changed; old is None for a new object, new is None
        for one that has gone (or is left out now). Objects that vanished while no watch ran are reported too.
        It must not block. What it raises is logged, or ends `run`: the store is right either way.
    group_by: by what `group()` finds projections, for example the owner's key; None leaves one out.
    idle_seconds: silence on the stream, bookmarks included, after which it counts as dead.

    `store` maps key to projection. `synced` is set after the first whole list. `last_activity` is the loop's
    time at which the server last sent something, `last_failure` that of the last failure; `last_error` the sentence of
    the failure that holds us up now, or None; `restarts` counts the failures after which list or watch began anew.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        project: Callable[[Manifest], T | None],
        on_change: Callable[[Key, T | None, T | None], None],
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        group_by: Callable[[T], Hashable] | None = None,
        page_size: int = 100,
        idle_seconds: float = 100,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.last_activity: float | None = None
        self.last_failure: float | None = None
        self.last_error: str | None = None
        self.restarts = 0
        self._client = client
        self._project = project
        self._on_change = on_change
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._group_by = group_by
        self._page_size = page_size
        self.idle_seconds = idle_seconds
        self._store: dict[Key, T] = {}
        self._versions: dict[Key, int] = {}
        self._groups: dict[Hashable, dict[Key, T]] = {}
        self._gone: dict[Key, int] = {}
        """The versions with which objects went since the last list, oldest first."""
        self._listed = 0
        """The version of the last list."""
        self._expected_while_listing: set[Key] | None = None
        self._watch_from: str | None = None
        self._failures = 0

    @property
    def store(self) -> Mapping[Key, T]:
        return MappingProxyType(self._store)

    def group(self, value: Hashable) -> list[T]:
        """The projections for which `group_by` gave `value`."""
        return list(self._groups.get(value, {}).values())

    def expect(self, key: Key, projection: T, resource_version: str) -> None:
        """Put in what we have just written or read, before its echo; older events won't replace it. Calls nobody.

        What has been seen to go since stays gone.
        """
        version = int(resource_version)
        if version > self._versions.get(key, self._gone.get(key, self._listed)):
            self._put(key, projection, version)
            if self._expected_while_listing is not None:
                self._expected_while_listing.add(key)

    async def run(self) -> None:
        """Keep the store up to date until cancelled; no answer of the server ends it."""
        while True:
            try:
                if self._watch_from is None:
                    self._watch_from = await self._list()
                    self.last_error = None
                    self.synced.set()
                heard, began = self.last_activity, asyncio.get_running_loop().time()
                await self._watch(self._watch_from)
                if self.last_activity != heard:
                    continue
                if asyncio.get_running_loop().time() - began >= QUIET_SECONDS:
                    self._watch_from = None
                    continue
                raise Unreachable("the stream ended before it said anything", request=f"WATCH {self.resource.plural}")
            except ApiError as error:
                self._failures += 1
                self.restarts += 1
                self.last_failure = asyncio.get_running_loop().time()
                self.last_error = str(error)
                if isinstance(error, Gone) or self._failures % RELIST_AFTER_FAILURES == 0:
                    self._watch_from = None
                pause = exponential(self._failures, 0.1, 10.0)
                log.warning("%s: %s; going on in %.1f s", self.resource.plural, error, pause)
            await asyncio.sleep(pause)

    async def _list(self) -> str:
        found: dict[Key, tuple[T, int]] = {}
        resource_version = ""
        with self._expectations_kept() as expected:
            async for page in self._client.pages(
                self.resource,
                self._namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                page_size=self._page_size,
            ):
                self.last_activity = asyncio.get_running_loop().time()
                resource_version = page.resource_version
                for item in page.items:
                    with self._malformed_skipped(item):
                        key, version = _identity(item)
                        projection = self._projected(key, item)
                        if projection is not None:
                            found[key] = (projection, version)
        for key in [key for key in self._store if key not in found and key not in expected]:
            self._change(key, None, 0)
        for key, (projection, version) in found.items():
            # The list is the truth, even where its versions are lower (a restored etcd), but for what was
            # written while it was made.
            if key not in expected or version > self._versions[key]:
                self._change(key, projection, version)
        self._listed = int(resource_version)
        return resource_version

    async def _watch(self, resource_version: str) -> None:
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=resource_version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            idle_seconds=self.idle_seconds,
        )
        async with aclosing(events):
            async for event in events:
                self.last_activity = asyncio.get_running_loop().time()
                self._failures, self.last_error = 0, None
                with self._malformed_skipped(event.object):
                    self._watch_from = event.object["metadata"]["resourceVersion"]
                    if event.type != "BOOKMARK":
                        self._take(event)

    def _take(self, event: WatchEvent) -> None:
        key, version = _identity(event.object)
        if event.type == "DELETED":
            self._gone[key] = version
            if len(self._gone) > REMEMBERED:
                del self._gone[next(iter(self._gone))]
            if version >= self._versions.get(key, 0):
                self._change(key, None, version)
        elif version > self._versions.get(key, self._gone.get(key, 0)):
            self._change(key, self._projected(key, event.object), version)

    def _projected(self, key: Key, item: Manifest) -> T | None:
        try:
            return self._project(item)
        except Exception:  # one object that can't be read must not blind us to all others
            log.exception("%s %s/%s can't be read; going on with what was known of it", self.resource.kind, *key)
            return self._store.get(key)

    def _change(self, key: Key, new: T | None, version: int) -> None:
        old = self._store.get(key)
        if new is None:
            self._remove(key)
        else:
            self._put(key, new, version)
        if old != new:
            self._on_change(key, old, new)

    def _put(self, key: Key, projection: T, version: int) -> None:
        self._remove(key)
        self._store[key] = projection
        self._versions[key] = version
        if self._group_by is not None and (value := self._group_by(projection)) is not None:
            self._groups.setdefault(value, {})[key] = projection

    def _remove(self, key: Key) -> None:
        old = self._store.pop(key, None)
        self._versions.pop(key, None)
        if old is not None and self._group_by is not None and (value := self._group_by(old)) in self._groups:
            self._groups[value].pop(key, None)
            if not self._groups[value]:
                del self._groups[value]

    @contextmanager
    def _expectations_kept(self) -> Iterator[set[Key]]:
        self._gone.clear()
        self._expected_while_listing = expected = set[Key]()
        try:
            yield expected
        finally:
            self._expected_while_listing = None

    @contextmanager
    def _malformed_skipped(self, item: object) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            log.error(
                "%s: skipping what is no object (%s: %s): %.200r",
                self.resource.plural,
                type(error).__name__,
                error,
                item,
            )


def _identity(item: Manifest) -> tuple[Key, int]:
    metadata = item["metadata"]
    return (metadata.get("namespace", ""), metadata["name"]), int(metadata["resourceVersion"])
