# SPDX-License-Identifier: Apache-2.0
"""The story of one reconcile, which workers tell again for each key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from ..build.defaults import Defaults
from ..kube.client import Client
from ..kube.errors import Conflict, NotFound
from ..kube.informer import Key
from ..kube.queue import KeyedQueue
from ..plan.actions import Plan, made_by
from ..plan.compile import Compiled, compile_spec
from ..plan.doubt import to_ask_before_giving_up, to_ask_for, to_ask_for_pods, to_rule_out, with_all_pods
from ..plan.experiment import plan_experiment
from ..plan.facts import Snapshot
from ..plan.tracking import with_tracking
from . import projections as project
from .act import Actor
from .cache import Cache
from .compile_cache import CompileCache
from .events import EventSender
from .observer import Observer
from .pace import Pace
from .progress import ProgressWriter
from .projections import LABEL_POD_JOB
from .resources import EXPERIMENTS, JOBS, PODS
from .status import StatusWriter
from .worker import work


class Reconciler:
    def __init__(
        self,
        client: Client,
        cache: Cache,
        queue: KeyedQueue[Key],
        events: EventSender,
        observer: Observer,
        defaults: Defaults,
        clock: Callable[[], datetime],
        progress: ProgressWriter | None,
    ) -> None:
        self._progress = progress
        self._client = client
        self._cache = cache
        self._queue = queue
        self._events = events
        self._observer = observer
        self._defaults = defaults
        self._clock = clock
        self._actor = Actor(client, cache)
        self._status = StatusWriter(client, EXPERIMENTS, queue, Pace(queue.add))
        self._compiled: CompileCache[Compiled] = CompileCache()

    async def reconcile(self, key: Key) -> None:
        """Bring one experiment one step closer to what its spec asks for."""
        # 1. Observe.
        snapshot = self._cache.observe(key)
        if snapshot is None:  # deleted: its children go by their owner references
            self._forget(key, gone=True)
            self._cache.forget(key)
            return
        if await self._found_after_all(key, snapshot):
            snapshot = self._cache.observe(key) or snapshot

        # 2. Plan.
        plan = self._plan(key, snapshot)
        if await self._ask_for_pods(key, to_ask_before_giving_up(snapshot.status, plan.status)):
            snapshot = self._cache.observe(key) or snapshot
            plan = self._plan(key, snapshot)
        await self._rule_out(key, snapshot, plan)

        # 3. Write the status: it commits results and names what is about to be made.
        with self._cache.planned(snapshot, plan.status):
            written = await self._write(key, snapshot, plan)
        if not written and (plan.actions or plan.exports):
            await self._check_newest(key, snapshot)

        # 4. Act: creates, then deletes.
        for action in plan.actions:
            with self._observer.acting(snapshot, action):
                await self._actor.act(snapshot, action)

        # 5. Say what is now true, and come back when time itself will change something.
        self._events.send(snapshot, plan.events, self._clock())
        if plan.requeue_after is not None:
            self._queue.add_after(key, plan.requeue_after)
        if plan.status.completion_time is not None or snapshot.deleting:
            self._forget(key)

        # 6. The exporter, last: whatever is refused it, everything else is done.
        for action in plan.exports:
            with self._observer.acting(snapshot, action):
                await self._actor.act(snapshot, action)

    async def work(self) -> None:
        """Take keys until the queue is shut down."""

        async def reconcile(key: Key) -> None:
            with self._observer.reconciling():
                await self.reconcile(key)

        await work(self._queue, "experiment", reconcile)

    def _plan(self, key: Key, snapshot: Snapshot) -> Plan:
        compiled, now = self._compile(key, snapshot), self._clock()
        plan = plan_experiment(snapshot, compiled, self._defaults, now)
        return with_tracking(plan, snapshot, compiled.spec, self._defaults, now)

    async def _found_after_all(self, key: Key, snapshot: Snapshot) -> bool:
        """Ask the API server for what a decision would miss: a watch may be late, or the other ones ahead of it.

        What is in doubt is decided in `plan/doubt.py`. True when something was found.
        """
        jobs, with_pods = {job.name: job for job in snapshot.jobs}, with_all_pods(snapshot)
        found = await self._ask_for_pods(key, to_ask_for_pods(snapshot.status, jobs, with_pods))
        for name in to_ask_for(snapshot.status, jobs, with_pods):
            found |= await self._ask_for_job(key, name)
        return found

    async def _rule_out(self, key: Key, snapshot: Snapshot, plan: Plan) -> None:
        """Raise Conflict when an attempt that is to follow, or to be made again, has left what was not seen."""
        jobs, pods = {job.name for job in snapshot.jobs}, {pod.uid for pod in snapshot.pods}
        names = set(to_rule_out(snapshot.status, plan.status, made_by(plan.actions), with_all_pods(snapshot)))
        await self._ask_for_pods(key, names)
        for name in names - jobs:
            await self._ask_for_job(key, name)
        if names and (now := self._cache.observe(key)) is not None:  # which leaves out what is somebody else's
            found = {pod.job_name for pod in now.pods if pod.uid not in pods} | {job.name for job in now.jobs} - jobs
            if left := names & found:
                words = f"the last attempt's Job {min(left)} has not gone yet"
                raise Conflict(words, status=409, reason="Conflict")

    async def _ask_for_pods(self, key: Key, jobs: Iterable[str]) -> bool:
        """Take in the pods of these Jobs as they are; whether there are any."""
        scope, any_found = self._cache.scope(key), False
        for job in jobs:
            found = (await self._client.list(PODS, key[0], label_selector=f"{LABEL_POD_JOB}={job}")).items
            any_found |= bool(found)
            for pod in found:
                pod_key = (key[0], pod["metadata"]["name"])
                scope.pods.expect(pod_key, project.pod_fact(pod), pod["metadata"]["resourceVersion"])
        return any_found

    async def _ask_for_job(self, key: Key, name: str) -> bool:
        """Take in a Job as it is; whether it is there."""
        try:
            item = await self._client.get(JOBS, name, key[0])
        except NotFound:
            return False
        self._cache.scope(key).jobs.expect((key[0], name), project.job_fact(item), item["metadata"]["resourceVersion"])
        return True

    def _forget(self, key: Key, *, gone: bool = False) -> None:
        if self._progress is not None:
            self._progress.ended(key, gone=gone)
        self._compiled.forget(key)
        self._status.forget(key)

    def _compile(self, key: Key, snapshot: Snapshot) -> Compiled:
        hooks = self._cache.scope(key).hooks_of(snapshot.namespace)
        known = self._compiled.get(key, snapshot, hooks)
        return known or self._compiled.put(key, snapshot, hooks, compile_spec(snapshot.spec, hooks))

    async def _check_newest(self, key: Key, snapshot: Snapshot) -> None:
        """Raise Conflict when the status is not the one that stands: a Job that it names may be over, and gone, and one
        that it does not name may have been begun.

        Asked before something is done that an earlier look, or another leader, has decided: a watch may be behind.
        """
        item = await self._client.get(EXPERIMENTS, snapshot.name, snapshot.namespace)
        fact = project.experiment_fact(item)
        if fact.resource_version != snapshot.resource_version:
            self._cache.scope(key).put_experiment(key, fact)
            raise Conflict("it has changed since it was seen last", status=409, reason="Conflict")

    async def _write(self, key: Key, snapshot: Snapshot, plan: Plan) -> bool:
        """Write the planned status, unless it stands already or can wait; whether it was written."""
        written = await self._status.write(key, snapshot, plan.status, urgent=plan.urgent)
        if written is None:
            return False
        if self._progress is not None:
            self._progress.decided(key)
        self._observer.written(snapshot, plan, self._compile(key, snapshot), self._clock())
        self._cache.scope(key).put_experiment(key, project.experiment_fact(written))
        return True
