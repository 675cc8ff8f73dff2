# SPDX-License-Identifier: Apache-2.0
"""The story of one look at a sweep, and the worker that tells it again for each key.

One look at a time for each sweep: what its trials tell is decided on in the order in which it arrives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sandbox_api.hook import Hook
from sandbox_api.status import ExperimentStatus, TrialStatus
from sandbox_api.sweep import SweepStatus

from ..build.defaults import Defaults
from ..build.names import LABEL_SWEEP_UID, trial_name
from ..kube.client import Client
from ..kube.errors import ApiError, Conflict, NotFound
from ..kube.informer import Key
from ..kube.queue import KeyedQueue, QueueClosed
from ..plan.sweep_facts import (
    CreateRemoval,
    CreateTrial,
    DecideTrial,
    MarkTrial,
    SweepPlan,
    SweepSnapshot,
    to_be_made,
    unseen,
)
from ..plan.trim import is_trimming, marked, removal_name
from . import projections as project
from .act import Actor, Refused
from .cache import Cache
from .events import EventSender
from .logs import about
from .metrics import Metrics
from .projections import SweepFact
from .reconciler import COALESCE_SECONDS
from .reconciler import status_update as experiment_status_update
from .resources import EXPERIMENTS, JOBS, SWEEPS
from .sweep_cache import Rungs, SweepCache

if TYPE_CHECKING:
    from ..plan.sweep_definition import CompiledSweep
    from ..search.studies import Studies

log = logging.getLogger(__name__)

WORKERS = 4
"""Sweeps that are looked at at the same time."""


class SweepReconciler:
    def __init__(
        self,
        client: Client,
        cache: Cache,
        queue: KeyedQueue[Key],
        events: EventSender,
        metrics: Metrics,
        defaults: Defaults,
        clock: Callable[[], datetime],
        rungs: Rungs = lambda _: (),
    ) -> None:
        self._client = client
        self._cache = cache
        self._sweeps = SweepCache(cache, rungs)
        self._queue = queue
        self._events = events
        self._metrics = metrics
        self._defaults = defaults
        self._clock = clock
        self._actor = Actor(client, cache)
        self._compiled: dict[Key, tuple[tuple[str, int, Mapping[str, Hook | tuple[str, ...]]], CompiledSweep]] = {}
        """With the uid, the generation and the namespace's own hooks that it was compiled from."""
        self._studies: dict[Key, Studies] = {}
        """Of sweeps that go on; caches, in which nothing stands that its trials do not tell."""
        self._gone: dict[tuple[Key, str], set[int]] = {}
        """By key and uid: trials that were asked for and are not there any more."""
        self._listed: set[str] = set()
        """Uids of sweeps of whose trials all decisions are known: since then, this operator makes them."""
        self._written: dict[Key, float] = {}
        """Loop time of the last status write, while a sweep is not finished."""

    async def reconcile(self, key: Key) -> None:
        """Bring one sweep one step closer to what its spec asks for."""
        # 1. Observe; a trial that the status knows and the watch does not is asked for.
        fact = self._sweeps.fact(key)
        if fact is None:  # deleted: its trials go by their owner references
            self._forget(key)
            self._sweeps.forget(key)
            return
        compiled = await self._compile(key, fact)
        snapshot = self._sweeps.observe(fact, compiled)
        if await self._found_after_all(key, snapshot) or await self._listed_after_all(key, snapshot):
            snapshot = self._sweeps.observe(fact, compiled)
        if is_trimming(snapshot, compiled):
            snapshot = await self._with_files(snapshot)

        # 2. Plan. A suggestion may take 50 ms, in which others are to be looked at.
        plan = await asyncio.to_thread(self._plan, key, snapshot, compiled, self._clock())

        # 3. Write the status: it names the trials that are about to be made.
        written = await self._write(key, snapshot, plan)
        if not written and any(isinstance(action, CreateTrial) for action in plan.actions):
            await self._check_newest(snapshot)

        # 4. Act, in order: a trial is made after all that its suggestion saw.
        for action in plan.actions:
            if isinstance(action, DecideTrial):
                await self._decide(snapshot, action)
            elif isinstance(action, MarkTrial):
                await self._mark(snapshot, action)
            else:
                await self._actor.act_for_sweep(snapshot, action)

        # 5. Say what is now true, and come back when time itself will change something.
        self._events.send(snapshot, plan.events, self._clock())
        if plan.actions and not isinstance(plan.actions[-1], CreateRemoval):
            self._queue.add_after(key, 0)
        elif plan.requeue_after is not None:
            self._queue.add_after(key, plan.requeue_after)
        if plan.status.completion_time is not None or snapshot.deleting:
            self._forget(key)

    async def work(self) -> None:
        """Take keys until the queue is shut down."""
        while True:
            try:
                key = await self._queue.get()
            except QueueClosed:
                return
            with about(namespace=key[0], sweep=key[1]):
                await self._look_at(key)

    async def _look_at(self, key: Key) -> None:
        """Reconcile a taken key and give it back. One key's error is that key's alone."""
        try:
            await self.reconcile(key)
            self._queue.forget(key)
        except (Conflict, NotFound, Refused) as error:  # seen something old, or refused: look again, knowing more
            log.info("%s", error)
            self._queue.retry(key)
        except ApiError as error:
            log.warning("%s", error)
            self._queue.retry(key)
        except Exception:  # the outermost loop: a mistake of ours in one sweep must not stop the others
            log.exception("this operator made a mistake; trying again")
            self._queue.retry(key)
        finally:
            self._queue.done(key)

    async def _found_after_all(self, key: Key, snapshot: SweepSnapshot) -> bool:
        """Ask the API server for trials that the status knows and the watch does not; True when one was found.

        Those that are not there are remembered, but for those that are still to be made.
        """
        if snapshot.status.completion_time is not None:
            return False
        gone = self._gone.setdefault((key, snapshot.uid), set())
        scope, found = self._cache.scope(key), False
        for number in unseen(snapshot.status, {trial.number for trial in snapshot.trials} | gone):
            name = trial_name(snapshot.name, number)
            try:
                item = await self._client.get(EXPERIMENTS, name, snapshot.namespace)
            except NotFound:
                if number not in to_be_made(snapshot.status):
                    gone.add(number)
                continue
            scope.put_experiment((key[0], name), project.experiment_fact(item))
            scope.wake((key[0], name), 0)
            found = True
        return found

    async def _listed_after_all(self, key: Key, snapshot: SweepSnapshot) -> bool:
        """Take in all trials as they are before the first decision of early stopping: another operator may have made
        some that the watch does not know yet, and each decision counts those before it."""
        if not snapshot.arrivals or snapshot.uid in self._listed:
            return False
        selector = f"{LABEL_SWEEP_UID}={snapshot.uid}"
        async for page in self._client.pages(EXPERIMENTS, snapshot.namespace, label_selector=selector, page_size=100):
            for item in page.items:
                fact = project.experiment_fact(item)
                self._cache.scope(key).put_experiment((fact.namespace, fact.name), fact)
        self._listed.add(snapshot.uid)
        return True

    async def _with_files(self, snapshot: SweepSnapshot) -> SweepSnapshot:
        """The snapshot with the Job that removes files of trials, if one is to be there and is; else with what there is
        to remove. It is seldom there: nobody watches it."""
        name = removal_name(snapshot)
        if name is not None:
            with suppress(NotFound):
                found = project.job_fact(await self._client.get(JOBS, name, snapshot.namespace)).fact
                if found.owner_uid == snapshot.uid:
                    return replace(snapshot, removal=found)
        return self._sweeps.with_files(snapshot)

    async def _decide(self, snapshot: SweepSnapshot, action: DecideTrial) -> None:
        """Record a decision in a trial's status. Raises Conflict when that has changed: it is decided anew."""
        decision = action.decision

        def decided(old: ExperimentStatus) -> ExperimentStatus:
            trial = old.trial or TrialStatus()
            if any(made.rung >= decision.rung for made in trial.decisions):
                raise Conflict(f"{action.name} was decided on meanwhile", status=409, reason="Conflict")
            pruned = trial.pruned or decision.decision == "Stop"
            update = {"decisions": [*trial.decisions, decision], "pruned": pruned}
            return old.model_copy(update={"trial": trial.model_copy(update=update)})

        if await self._rewrite(snapshot, action.name, decided):
            log.info("%s: %s at %d with %r", action.name, decision.decision, decision.rung, decision.value)

    async def _mark(self, snapshot: SweepSnapshot, action: MarkTrial) -> None:
        """Record in a trial's status what becomes of its files. Raises Conflict as `_decide` does."""
        if await self._rewrite(snapshot, action.name, lambda old: marked(old, action)):
            log.info("%s: its large files: %s", action.name, action.artifacts)

    async def _rewrite(
        self, snapshot: SweepSnapshot, name: str, change: Callable[[ExperimentStatus], ExperimentStatus]
    ) -> bool:
        """Replace the status of a trial's experiment, if nobody has changed it since; whether it is there."""
        key = (snapshot.namespace, name)
        scope = self._cache.scope(key)
        fact = scope.experiments.store.get(key)
        if fact is None or fact.deleting:
            return False
        old = fact.status
        status = change(old).model_copy(update={"revision": (old.revision or 0) + 1})
        body = experiment_status_update(fact, status)
        stored = await self._client.update_status(EXPERIMENTS, body, snapshot.namespace)
        scope.put_experiment(key, project.written(fact, body["status"], stored))
        return True

    async def _compile(self, key: Key, fact: SweepFact) -> CompiledSweep:
        hooks = self._cache.scope(key).hooks_of(fact.namespace)
        what = (fact.uid, fact.generation, hooks)
        known, compiled = self._compiled.get(key, (None, None))
        if compiled is None or known != what:
            compiled = await asyncio.to_thread(_compiled, fact, hooks)
            self._compiled[key] = (what, compiled)
        return compiled

    def _plan(self, key: Key, snapshot: SweepSnapshot, compiled: CompiledSweep, now: datetime) -> SweepPlan:
        from ..plan.sweep import plan_sweep
        from ..search.studies import Studies

        return plan_sweep(snapshot, compiled, self._studies.setdefault(key, Studies(1)), self._defaults, now)

    async def _check_newest(self, snapshot: SweepSnapshot) -> None:
        """Raise Conflict when the status is not the one that stands: what it names may have been made and deleted."""
        fact = project.sweep_fact(await self._client.get(SWEEPS, snapshot.name, snapshot.namespace))
        if fact.resource_version != snapshot.resource_version:
            key = (snapshot.namespace, snapshot.name)
            self._cache.scope(key).sweeps.expect(key, fact, fact.resource_version)
            raise Conflict("it has changed since it was seen last", status=409, reason="Conflict")

    async def _write(self, key: Key, snapshot: SweepSnapshot, plan: SweepPlan) -> bool:
        """Write the planned status, unless it stands already or can wait; whether it was written."""
        if plan.status == snapshot.status:
            return False
        now = asyncio.get_running_loop().time()
        left = self._written.get(key, 0.0) + COALESCE_SECONDS - now
        if not plan.urgent and left > 0:
            self._queue.add_after(key, left)
            return False
        status = plan.status.model_copy(update={"revision": (snapshot.status.revision or 0) + 1})
        body = status_update(snapshot, status)
        stored = await self._client.update_status(SWEEPS, body, snapshot.namespace)
        self._written[key] = now
        self._metrics.sweep_written(snapshot.status, status)
        fact = project.sweep_fact({"metadata": stored["metadata"], "spec": snapshot.spec, "status": body["status"]})
        self._cache.scope(key).sweeps.expect(key, fact, fact.resource_version)
        if plan.urgent:
            ready = next((c.message for c in status.conditions if c.type == "Ready"), "")
            log.info("%s %s %s", status.outcome, status.progress or "", ready)
        return True

    def _forget(self, key: Key) -> None:
        for known in (self._compiled, self._studies, self._written):
            known.pop(key, None)
        for whose in [whose for whose in self._gone if whose[0] == key]:
            del self._gone[whose]


def _compiled(fact: SweepFact, hooks: Mapping[str, Hook | tuple[str, ...]]) -> CompiledSweep:
    # What searches takes more than a second to import, and memory that an operator without a sweep never needs.
    from ..plan.sweep_definition import compile_sweep

    return compile_sweep(fact.spec, name=fact.name, uid=fact.uid, added=hooks)


def status_update(seen: SweepSnapshot, status: SweepStatus) -> dict[str, Any]:
    """The body that replaces the status, if nobody has changed the sweep since."""
    return {
        "apiVersion": SWEEPS.api_version,
        "kind": SWEEPS.kind,
        "metadata": {"name": seen.name, "namespace": seen.namespace, "resourceVersion": seen.resource_version},
        "status": status.model_dump(mode="json", exclude_none=True),
    }
