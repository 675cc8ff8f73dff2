# SPDX-License-Identifier: Apache-2.0
"""What the fake API server holds: objects, their history, who owns what, selectors and merge patches.

It knows no HTTP and no faults: those are `fakeapi.py`.
"""

import asyncio
import bisect
import copy
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

Manifest = dict[str, Any]
Kind = tuple[str, str]
"""(group, plural)"""
Name = tuple[str, str]
"""(namespace, name); the namespace of a cluster-wide object is the empty string."""


@dataclass
class Change:
    version: int
    visible_at: float
    kind: Kind
    type: str
    object: Manifest
    before: Manifest | None


class FakeStore:
    """Objects by kind and name, one counter of resourceVersions, and the changes since `oldest`."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[Name, Manifest]] = {}
        self.version = 100
        self.oldest = self.version  # what is older has left the history
        self.history: list[Change] = []
        self.echo_seconds: dict[str | None, float] = {}  # by plural; None is for all others
        self.witnesses: list[Callable[[Change], None]] = []  # are told of each change, whatever watches hear and when
        self.pods_end_gracefully = False  # a deleted pod that runs stays until its kubelet has ended it
        self.collects_orphans = False  # what is made for an owner that has gone already goes too, a moment later
        self.news = asyncio.Event()  # replaced each time it is set, so that each waiter sees each change

    def put(self, group: str, plural: str, body: Manifest) -> Manifest:
        """Store an object as it stands, status included, and tell the watchers; gives it as stored."""
        body = copy.deepcopy(body)
        metadata = body.setdefault("metadata", {})
        key = (metadata.get("namespace", ""), metadata["name"])
        before = self.kind_of(group, plural).get(key)
        if before is None:
            metadata.setdefault("uid", str(uuid4()))
            metadata.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            metadata.setdefault("generation", 1)
        elif before.get("spec") != body.get("spec"):
            metadata["generation"] = before["metadata"].get("generation", 1) + 1
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self.kind_of(group, plural)[key] = body
        self._record((group, plural), "ADDED" if before is None else "MODIFIED", body, before)
        if self.collects_orphans and before is None and metadata.get("ownerReferences"):
            asyncio.get_running_loop().call_later(0.05, self._collect, (group, plural), key, metadata["uid"])
        if "deletionTimestamp" in metadata and not metadata.get("finalizers") and not self._is_kubelets(plural):
            return self.remove(group, plural, *key)
        return copy.deepcopy(body)

    def remove(
        self, group: str, plural: str, namespace: str, name: str, *, propagation: str = "Background", now: bool = False
    ) -> Manifest:
        """Delete an object, and what it owns unless `propagation` is Orphan; finalizers only mark it, and so does the
        grace of a running pod, unless it is to go `now`."""
        body = self.kind_of(group, plural)[(namespace, name)]
        runs = (body.get("status") or {}).get("phase") == "Running"
        if body["metadata"].get("finalizers") or (runs and self._is_kubelets(plural) and not now):
            stamp = {"deletionTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
            marked = {**body, "metadata": stamp | body["metadata"]}
            return body if marked == body else self.put(group, plural, marked)
        del self.kind_of(group, plural)[(namespace, name)]
        self.version += 1
        last = copy.deepcopy(body)
        last["metadata"]["resourceVersion"] = str(self.version)
        self._record((group, plural), "DELETED", last, body)
        for kind, stored in list(self.objects.items()) if propagation != "Orphan" else []:
            for key, child in list(stored.items()):
                owners = child["metadata"].get("ownerReferences", [])
                if key in stored and any(owner["uid"] == body["metadata"]["uid"] for owner in owners):
                    self.remove(*kind, *key)
        return last

    def _collect(self, kind: Kind, key: Name, uid: str) -> None:
        """Remove an object none of whose owners is there."""
        body = self.kind_of(*kind).get(key)
        if body is None or body["metadata"]["uid"] != uid:
            return
        owners = {owner["uid"] for owner in body["metadata"].get("ownerReferences", [])}
        if not any(o["metadata"]["uid"] in owners for stored in self.objects.values() for o in stored.values()):
            self.remove(*kind, *key)

    def _is_kubelets(self, plural: str) -> bool:
        """Whether only a kubelet ends objects of this kind for good."""
        return plural == "pods" and self.pods_end_gracefully

    def kind_of(self, group: str, plural: str) -> dict[Name, Manifest]:
        return self.objects.setdefault((group, plural), {})

    def changes_after(self, kind: Kind, version: int, until: float = math.inf) -> list[Change]:
        """What changed of a kind since `version`, as far as watchers see it at the loop's time `until`."""
        start = bisect.bisect_right(self.history, version, key=lambda change: change.version)
        changes = (change for change in self.history[start:] if change.kind == kind)
        return list(itertools.takewhile(lambda change: change.visible_at <= until, changes))

    def _record(self, kind: Kind, what: str, body: Manifest, before: Manifest | None) -> None:
        loop = asyncio.get_running_loop()
        delay = self.echo_seconds.get(kind[1], self.echo_seconds.get(None, 0.0))
        change = Change(self.version, loop.time() + delay, kind, what, copy.deepcopy(body), before)
        self.history.append(change)
        for witness in self.witnesses:
            witness(change)
        self.tell()
        if delay:
            loop.call_at(change.visible_at + 0.001, self.tell)

    def tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


def merged(into: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396): a null removes a key, a list replaces a list."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(into) if isinstance(into, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def matches_labels(selector: str, labels: dict[str, str]) -> bool:
    """kubectl's syntax: `a=b`, `a==b`, `a!=b`, `a`, `!a`, `a in (b,c)`, `a notin (b,c)`, joined by commas."""
    for term in filter(None, re.split(r",(?![^(]*\))", selector)):
        if among := re.fullmatch(r"\s*(\S+)\s+(in|notin)\s+\((.*)\)\s*", term):
            values = {value.strip() for value in among[3].split(",")}
            good = (labels.get(among[1]) in values) == (among[2] == "in")
        elif equal := re.fullmatch(r"\s*([^=!\s]+)\s*(==|=|!=)\s*(\S*)\s*", term):
            good = (labels.get(equal[1]) == equal[3]) == (equal[2] != "!=")
        else:
            good = (term.strip().lstrip("!") in labels) != term.strip().startswith("!")
        if not good:
            return False
    return True


def matches_fields(selector: str, body: Manifest) -> bool:
    """`metadata.name=x,status.phase!=Running`: any dotted path of strings."""
    for term in filter(None, selector.split(",")):
        path, operator, wanted = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", term).groups()  # type: ignore[union-attr]
        value: Any = body
        for part in path.split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        if (str(value) == wanted) != (operator != "!="):
            return False
    return True
