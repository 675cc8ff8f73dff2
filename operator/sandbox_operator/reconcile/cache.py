# SPDX-License-Identifier: Apache-2.0
"""Everything that is known, and a snapshot of one experiment on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sandbox_api.status import ExperimentStatus, Reason

from ..build.volume import EXPERIMENT
from ..kube.client import Client
from ..kube.informer import Informer, Key
from ..plan.facts import Snapshot
from .projections import ExperimentFact, HookFact
from .refusals import Refusals
from .reports import Teller
from .scope import PodChanged, Scope, Wake, claim_key
from .tokens import PodIdentity


class Cache:
    """All scopes together."""

    def __init__(
        self,
        client: Client,
        namespaces: Iterable[str],
        wake: Wake,
        on_pod: PodChanged,
        wake_hook: Callable[[Key], None],
        wake_sweep: Callable[[Key], None],
    ) -> None:
        names = tuple(namespaces)
        self._scopes: dict[str | None, Scope] = {
            namespace: Scope(client, namespace, wake, on_pod, wake_hook, wake_sweep) for namespace in names or (None,)
        }
        self.refusals = Refusals()

    @property
    def informers(self) -> Iterator[Informer[Any]]:
        return (informer for scope in self._scopes.values() for informer in scope.informers)

    async def synced(self) -> None:
        """Wait until every informer has seen the whole list once: nothing may be decided before that."""
        await asyncio.gather(*(informer.synced.wait() for informer in self.informers))

    def scope(self, key: Key) -> Scope:
        return self._scopes.get(key[0]) or self._scopes[None]

    def is_settled(self, key: Key) -> bool:
        """Whether an experiment has ended, and nothing was asked for since."""
        fact = self.scope(key).experiments.store.get(key)
        return fact is not None and fact.is_settled

    def experiment(self, key: Key) -> ExperimentFact | None:
        """An experiment as it is known, or None when it has gone."""
        return self.scope(key).experiments.store.get(key)

    def running_pods(self) -> int:
        """Pods of ours whose hook runs."""
        return sum(owned.fact.is_running for scope in self._scopes.values() for owned in scope.pods.store.values())

    def teller(self, pod: PodIdentity) -> Teller | None:
        """Who a pod is: one that lives and works at an attempt of an experiment that is here; None for all others."""
        scope = self._scopes.get(pod.namespace) or self._scopes.get(None)
        return scope.teller(pod) if scope is not None else None

    def hook(self, key: Key) -> HookFact | None:
        """A SandboxHook, or None when it has gone."""
        return self.scope(key).hooks.store.get(key)

    def observe(self, key: Key) -> Snapshot | None:
        """Everything known of one experiment, or None when it has gone."""
        scope = self.scope(key)
        fact = scope.look_at(key)
        if fact is None:
            return None
        refusals = self.refusals.of((EXPERIMENT, *key), (fact.uid, fact.generation))
        taken = {name for name, refusal in refusals.items() if refusal.reason == Reason.NAME_TAKEN}
        jobs, pods = scope.children(fact, taken)
        exporters, exporter_pods = scope.exporters(fact)
        warnings = scope.warnings_about(fact, (*jobs, *exporters), (*pods, *exporter_pods))
        return Snapshot(
            name=fact.name,
            namespace=fact.namespace,
            uid=fact.uid,
            generation=fact.generation,
            resource_version=fact.resource_version,
            spec=fact.spec,
            status=fact.status,
            deleting=fact.deleting,
            jobs=jobs,
            pods=pods,
            exporters=exporters,
            exporter_pods=exporter_pods,
            claims=scope.claims_of(fact),
            warnings=warnings,
            cached=scope.steps.done(claim_key(fact)),
            running_keys=scope.steps.running_elsewhere(key, claim_key(fact)),
            claim_is_shared=scope.steps.is_shared(key, claim_key(fact)),
            refusals=refusals,
        )

    @contextmanager
    def planned(self, snapshot: Snapshot, status: ExperimentStatus) -> Iterator[None]:
        """While it is written down, what was decided counts already: others must not begin an equal job."""
        key = (snapshot.namespace, snapshot.name)
        scope = self.scope(key)
        scope.planned[key] = status
        try:
            if (fact := scope.experiments.store.get(key)) is not None:
                for other in scope.steps.update(key, claim_key(fact), status):
                    scope.wake(other, 0)
            yield
        finally:
            del scope.planned[key]

    def forget(self, key: Key, kind: str = EXPERIMENT) -> None:
        """An experiment or a sweep has gone."""
        self.refusals.forget((kind, *key))
