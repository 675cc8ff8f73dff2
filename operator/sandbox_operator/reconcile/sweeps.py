# SPDX-License-Identifier: Apache-2.0
"""The story of one look at a sweep, which workers tell again for each key.

One look at a time for each sweep: what its trials tell is decided on in the order in which it arrives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from sandbox_api.status import ExperimentStatus, TrialStatus

from ..build.defaults import Defaults
from ..build.names import LABEL_SWEEP_UID, trial_name
from ..kube.client import Client
from ..kube.errors import Conflict, NotFound
from ..kube.informer import Key
from ..kube.queue import KeyedQueue
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
from .act import Actor
from .cache import Cache
from .compile_cache import CompileCache, Hooks
from .events import EventSender
from .metrics import Metrics
from .projections import SweepFact
from .resources import EXPERIMENTS, JOBS, SWEEPS
from .status import StatusWriter, write_status
from .sweep_cache import Rungs, SweepCache
from .worker import work

if TYPE_CHECKING:
    from ..plan.sweep_definition import CompiledSweep
    from ..search.studies import StudyCache

log = logging.getLogger(__name__)

_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What comes of a spec, and comes again; a thread or memory that is not to be had may be there the next time."""
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
        self._status = StatusWriter(client, SWEEPS, queue)
        self._compiled: CompileCache[CompiledSweep] = CompileCache()
        self._studies: dict[Key, StudyCache] = {}
        """Of sweeps that go on; caches, in which nothing stands that its trials do not tell."""
        self._gone: dict[tuple[Key, str], set[int]] = {}
        """By key and uid: trials that were asked for and are not there any more."""
        self._listed: set[str] = set()
        """Uids of sweeps of whose trials all decisions are known: since then, this operator makes them."""

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
        await work(self._queue, "sweep", self.reconcile)

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
        written = await write_status(self._client, EXPERIMENTS, fact, change(fact.status))
        scope.put_experiment(key, project.experiment_fact(written))
        return True

    async def _compile(self, key: Key, fact: SweepFact) -> CompiledSweep:
        hooks = self._cache.scope(key).hooks_of(fact.namespace)
        known = self._compiled.get(key, fact, hooks)
        return known or self._compiled.put(key, fact, hooks, await asyncio.to_thread(compiled_or_told, fact, hooks))

    def _plan(self, key: Key, snapshot: SweepSnapshot, compiled: CompiledSweep, now: datetime) -> SweepPlan:
        from ..plan.sweep import plan_sweep
        from ..search.studies import StudyCache

        return plan_sweep(snapshot, compiled, self._studies.setdefault(key, StudyCache()), self._defaults, now)

    async def _check_newest(self, snapshot: SweepSnapshot) -> None:
        """Raise Conflict when the status is not the one that stands: what it names may have been made and deleted."""
        fact = project.sweep_fact(await self._client.get(SWEEPS, snapshot.name, snapshot.namespace))
        if fact.resource_version != snapshot.resource_version:
            key = (snapshot.namespace, snapshot.name)
            self._cache.scope(key).sweeps.expect(key, fact, fact.resource_version)
            raise Conflict("it has changed since it was seen last", status=409, reason="Conflict")

    async def _write(self, key: Key, snapshot: SweepSnapshot, plan: SweepPlan) -> bool:
        """Write the planned status, unless it stands already or can wait; whether it was written."""
        written = await self._status.write(key, snapshot, plan.status, urgent=plan.urgent)
        if written is None:
            return False
        self._metrics.sweep_written(snapshot.status, plan.status)
        fact = project.sweep_fact(written)
        self._cache.scope(key).sweeps.expect(key, fact, fact.resource_version)
        if plan.urgent:
            ready = next((c.message for c in plan.status.conditions if c.type == "Ready"), "")
            log.info("%s %s %s", plan.status.outcome, plan.status.progress or "", ready)
        return True

    def _forget(self, key: Key) -> None:
        self._status.forget(key)
        self._compiled.forget(key)
        self._studies.pop(key, None)
        for whose in [whose for whose in self._gone if whose[0] == key]:
            del self._gone[whose]


def compiled_or_told(fact: SweepFact, hooks: Hooks) -> CompiledSweep:
    """What a sweep's spec means. Where reading it ends in a mistake of ours, that is its problem: it would end so again
    and again, and nobody who looks at the sweep would know why nothing begins."""
    # What searches takes more than a second to import, and memory that an operator without a sweep never needs.
    from ..plan.sweep_definition import CompiledSweep, compile_sweep

    try:
        return compile_sweep(fact.spec, name=fact.name, uid=fact.uid, added=hooks)
    except _MISTAKES as error:
        log.exception("this operator made a mistake with the sweep's spec; not trying again before it changes")
        words = f"this operator made a mistake with it ({type(error).__name__}: {error}); please report it with the"
        return CompiledSweep(None, (f"spec: {words} operator's log, and write it otherwise meanwhile",))
