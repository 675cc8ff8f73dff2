# SPDX-License-Identifier: Apache-2.0
"""What specs mean, by key: known until there is another spec, or its namespace has other hooks of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from sandbox_api.hook import Hook

from ..kube.informer import Key
from ..plan.facts import Snapshot
from .projections import SweepFact

C = TypeVar("C")
Hooks = Mapping[str, Hook | tuple[str, ...]]


class CompileCache(Generic[C]):
    def __init__(self) -> None:
        self._known: dict[Key, tuple[tuple[str, int, Hooks], C]] = {}

    def get(self, key: Key, seen: Snapshot | SweepFact, hooks: Hooks) -> C | None:
        """What was compiled from the spec that was seen and these hooks."""
        what, compiled = self._known.get(key, (None, None))
        return compiled if what == (seen.uid, seen.generation, hooks) else None

    def put(self, key: Key, seen: Snapshot | SweepFact, hooks: Hooks, compiled: C) -> C:
        self._known[key] = (seen.uid, seen.generation, hooks), compiled
        return compiled

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)
