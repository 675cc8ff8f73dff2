# SPDX-License-Identifier: Apache-2.0
"""The story of one reconcile, and the workers that tell it again for each key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from sandbox_api.hook import Hook
from sandbox_api.status import ExperimentStatus

from ..build.defaults import Defaults
from ..kube.client import Client
from ..kube.errors import ApiError, Conflict, NotFound
from ..kube.informer import Key
from ..kube.queue import KeyedQueue, QueueClosed
from ..plan.actions import Plan, made_by
from ..plan.compile import Compiled, compile_spec
from ..plan.doubt import to_ask_before_giving_up, to_ask_for, to_ask_for_pods, to_rule_out, with_all_pods
from ..plan.experiment import plan_experiment
from ..plan.facts import Snapshot
from ..plan.tracking import with_tracking
from . import projections as project
from .act import Actor, Refused
from .cache import Cache
from .events import EventSender
from .logs import about
from .observer import Observer
from .pace import Pace
from .projections import LABEL_POD_JOB, ExperimentFact
from .resources import EXPERIMENTS, JOBS, PODS

log = logging.getLogger(__name__)

COALESCE_SECONDS = 1.0
"""Least time between two status writes of an experiment that decide nothing (Running, why it waits)."""


class ProgressWatch(Protocol):
    """Who writes progress beside the workers, and is told what they do."""

    def decided(self, key: Key) -> None: ...
    def ended(self, key: Key, *, gone: bool) -> None: ...


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
        progress: ProgressWatch | None = None,
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
        self._pace = Pace(queue.add)
        self._compiled: dict[Key, tuple[tuple[str, int, Mapping[str, Hook | tuple[str, ...]]], Compiled]] = {}
        """With the uid, the generation and the namespace's own hooks that it was compiled from."""
        self._written: dict[Key, float] = {}
        """Loop time of the last status write, while an experiment is not finished."""

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
        while True:
            try:
                key = await self._queue.get()
            except QueueClosed:
                return
            with about(namespace=key[0], experiment=key[1]):
                await self._look_at(key)

    async def _look_at(self, key: Key) -> None:
        """Reconcile a taken key and give it back. One key's error is that key's alone."""
        try:
            with self._observer.reconciling():
                await self.reconcile(key)
            self._queue.forget(key)
        except (Conflict, NotFound, Refused) as error:  # seen something old, or refused: look again, knowing more
            log.info("%s", error)
            self._queue.retry(key)
        except ApiError as error:
            log.warning("%s", error)
            self._queue.retry(key)
        except Exception:  # the outermost loop: a mistake of ours in one experiment must not stop the others
            log.exception("this operator made a mistake; trying again")
            self._queue.retry(key)
        finally:
            self._queue.done(key)

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
        self._compiled.pop(key, None)
        self._written.pop(key, None)
        self._pace.forget(key)

    def _compile(self, key: Key, snapshot: Snapshot) -> Compiled:
        hooks = self._cache.scope(key).hooks_of(snapshot.namespace)
        what = (snapshot.uid, snapshot.generation, hooks)
        known, compiled = self._compiled.get(key, (None, None))
        if compiled is None or known != what:
            compiled = compile_spec(snapshot.spec, hooks)
            self._compiled[key] = (what, compiled)
        return compiled

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
        revision = snapshot.status.revision
        if plan.status.model_copy(update={"revision": revision}) == snapshot.status:
            return False
        now = asyncio.get_running_loop().time()
        left = self._written.get(key, 0.0) + COALESCE_SECONDS - now
        if not plan.urgent and left > 0:
            self._queue.add_after(key, left)
            return False
        if not plan.urgent and not self._pace.may_write(key):
            return False
        self._pace.forget(key)
        status = plan.status.model_copy(update={"revision": (revision or 0) + 1})
        body = status_update(snapshot, status)
        stored = await self._client.update_status(EXPERIMENTS, body, snapshot.namespace)
        self._written[key] = now
        if self._progress is not None:
            self._progress.decided(key)
        if plan.urgent:
            self._pace.decided()
        self._observer.written(snapshot, plan, self._compile(key, snapshot), self._clock())
        fact = project.written(snapshot, body["status"], stored)
        self._cache.scope(key).put_experiment(key, fact)
        return True


def status_update(seen: Snapshot | ExperimentFact, status: ExperimentStatus) -> dict[str, Any]:
    """The body that replaces the status, if nobody has changed the experiment since."""
    return {
        "apiVersion": EXPERIMENTS.api_version,
        "kind": EXPERIMENTS.kind,
        "metadata": {
            "name": seen.name,
            "namespace": seen.namespace,
            "resourceVersion": seen.resource_version,
        },
        "status": status.model_dump(mode="json", exclude_none=True),
    }
