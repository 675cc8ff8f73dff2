# SPDX-License-Identifier: Apache-2.0
"""The operator's process without its shell: start everything in order, work while it is our turn, stop in reverse.

Every replica watches, so that the next one knows everything when its turn comes; only the one that holds the Lease has
a queue, workers and the right to write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from aiohttp import web

from ..kube.client import Client
from ..kube.config import Connection
from ..kube.informer import Informer, Key
from ..kube.lease import FencedClient, Lease, boot_time
from ..kube.queue import KeyedQueue
from ..kube.resources import Resource
from .behind import Place, stay_behind
from .budget import Budget
from .cache import Cache
from .events import EventSender
from .figures import ask_for_figures
from .garbage import collect_when
from .health import LIMITS, Limits, why_not_ready, why_restart
from .hooks import HookReconciler
from .metrics import CONTENT_TYPE, Metrics
from .observer import Observer
from .pages import Pages, VerdictPage, serve, showing
from .progress import ProgressWriter
from .push import Push
from .reconciler import Reconciler
from .reports import Teller
from .resources import EXPERIMENTS, HOOKS, SWEEPS
from .settings import Settings, SettingsError
from .sweeps import WORKERS as SWEEP_WORKERS
from .sweeps import SweepReconciler
from .tokens import TokenVerifier

log = logging.getLogger(__name__)

FIELD_MANAGER = "sandbox-operator"
GRACE_SECONDS = 2.0
"""For so long a stop waits for what is under way. What is cut off then is no harm: an experiment is left between two
writes, where a crash would leave it."""
EVENTS_SECONDS = 1.0
"""The same for Events that have not been sent yet; one that is lost is only a sentence less."""


class Operator:
    """`async with Operator(connection, settings) as operator: await operator.run()`, until cancelled after `stop`."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        limits: Limits = LIMITS,
        budget: Callable[[], Budget] = Budget,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._budget = budget
        self._lease: Lease | None = None
        self._lease_client: Client | None = None
        if settings.lease is not None:
            self._lease_client = Client(connection, field_manager=FIELD_MANAGER)
            self._lease = Lease(self._lease_client, *settings.lease, settings.identity)
            self.client: Client = FencedClient(self._lease, connection, field_manager=FIELD_MANAGER)
        else:
            self.client = Client(connection, field_manager=FIELD_MANAGER)
        self._metrics = Metrics()
        self._observer = Observer(self._metrics)
        self._cache = Cache(
            self.client, settings.namespaces, self._wake, self._observer.pod_changed, self._wake_hook, self._wake_sweep
        )
        self._queue: KeyedQueue[Key] | None = None
        """There while this replica is the one that works, as are the next."""
        self._hook_queue: KeyedQueue[Key] | None = None
        self._sweep_queue: KeyedQueue[Key] | None = None
        self._progress: ProgressWriter | None = None
        self._working: asyncio.Task[None] | None = None
        self._stopping = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Operator:
        """Open the connections and serve the pages. Raises SettingsError when a port can't be had."""
        async with AsyncExitStack() as stack:
            clients = [client for client in (self.client, self._lease_client) if client is not None]
            for client in clients:
                await stack.enter_async_context(client)
            ask_for_figures(self._metrics, clients, self._cache, lambda: self._queue, version("sandbox-operator"))
            health: Pages = {
                "/healthz": VerdictPage("not healthy", self.unhealthy),
                "/readyz": VerdictPage("not ready", self.unready),
            }
            await self._serve(stack, "LIVENESS_PORT", self._settings.liveness_port, showing(health))
            figures = showing({"/metrics": self._figures})
            await self._serve(stack, "METRICS_PORT", self._settings.metrics_port, figures)
            await self._serve(stack, "PROGRESS_PORT", self._settings.progress_port, self._push().application())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Work until cancelled. Raises when a part of the operator ends by itself, which none ever should."""
        async with asyncio.TaskGroup() as group:
            for informer in self._cache.informers:
                group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
            group.create_task(collect_when(self._idle), name="garbage")
            await self._cache.synced()
            where = ", ".join(self._settings.namespaces) or "all namespaces"
            log.info("watching %s; %d experiments are there", where, len(self._keys_of(EXPERIMENTS)))
            while not self._stopping:
                await self._take_a_turn()

    async def stop(self) -> None:
        """Hand out no more work, let what is under way end, give the Lease back. `run` is to be cancelled then."""
        self._stopping = True
        for queue in (self._queue, self._sweep_queue):
            if queue is not None:
                queue.shutdown()
        if self._working is not None:
            _, unfinished = await asyncio.wait({self._working}, timeout=GRACE_SECONDS)
            if unfinished:
                # Whoever takes over now might meet a write that still is on its way: let the Lease run out instead.
                log.warning("stopping in the middle of what an experiment needs; the next operator goes on with it")
                return
        if self._lease is not None:
            await self._lease.release()

    def unhealthy(self) -> str | None:
        """Why this process should be restarted, or None."""
        tried = self._lease.tried_at if self._lease is not None else None
        idle = boot_time() - tried if tried is not None else 0.0
        return why_restart(self._cache.informers, self._queues(), idle, self._limits)

    def unready(self) -> str | None:
        """Why this process could not take over now, or None."""
        return why_not_ready(self._cache.informers)

    async def _take_a_turn(self) -> None:
        """From when the Lease is ours until it no longer is, or until `stop`; without a Lease, all the time."""
        if self._lease is not None:
            await self._lease.acquired()
            if self._stopping:
                return
        working = self._working = asyncio.create_task(self._work(), name="work")
        losing = asyncio.create_task(self._lease.lost() if self._lease is not None else _never(), name="lease")
        try:
            await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, losing):
                task.cancel()
            outcomes = await asyncio.gather(working, losing, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _work(self) -> None:
        """Look at every experiment once, then at what changes; ends when the queue is shut down, with what is begun."""
        queue = self._queue = KeyedQueue()
        events = EventSender(self.client, lambda outcome: self._metrics.events.labels(outcome).inc())
        if self._settings.progress_port:
            wrote = self._metrics.status_writes.labels("live").inc
            self._progress = ProgressWriter(self.client, self._cache, queue, wrote, self._budget(), self._wake_sweep_of)
        reconciler = Reconciler(
            self.client, self._cache, queue, events, self._observer, self._settings.defaults, lambda: datetime.now(UTC),
            self._progress,
        )  # fmt: skip
        hook_queue = self._hook_queue = KeyedQueue()
        hooks = HookReconciler(self.client, self._cache.hook, hook_queue, lambda: datetime.now(UTC))
        sweep_queue = self._sweep_queue = KeyedQueue()
        sweeps = SweepReconciler(
            self.client, self._cache, sweep_queue, events, self._metrics, self._settings.defaults,
            lambda: datetime.now(UTC), self._progress.reports.rungs if self._progress is not None else lambda _: (),
        )  # fmt: skip
        for key in sorted(self._keys_of(EXPERIMENTS), key=self._cache.is_settled):  # what is under way comes first
            queue.add(key)
        for key in self._keys_of(HOOKS):
            hook_queue.add(key)
        for key in self._keys_of(SWEEPS):
            sweep_queue.add(key)
        log.info("working; %d experiments to look at", len(queue))
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(events.run(), name="events")
                group.create_task(hooks.work(), name="hooks")
                beside = [group.create_task(task) for task in self._progress_tasks()]
                workers = [
                    group.create_task(reconciler.work(), name=f"worker-{number}")
                    for number in range(self._settings.workers)
                ]
                workers += [
                    group.create_task(sweeps.work(), name=f"sweeps-{number}") for number in range(SWEEP_WORKERS)
                ]
                await asyncio.wait(workers)
                hook_queue.shutdown()
                for task in beside:
                    task.cancel()
                with suppress(TimeoutError):
                    await asyncio.wait_for(events.drained(), EVENTS_SECONDS)
                sender.cancel()
        finally:
            self._queue = self._hook_queue = self._sweep_queue = self._progress = None

    def _queues(self) -> list[KeyedQueue[Key]]:
        """Of what is to be done; none while this replica stands by."""
        return [queue for queue in (self._queue, self._hook_queue, self._sweep_queue) if queue is not None]

    async def _idle(self) -> None:
        """Wait for a moment in which no key waits and none is in anybody's hands."""
        while busy := [queue for queue in self._queues() if not queue.is_idle]:
            await busy[0].idle()

    def _wake_hook(self, key: Key) -> None:
        """A SandboxHook has changed."""
        if self._hook_queue is not None:
            self._hook_queue.add(key)

    def _wake_sweep(self, key: Key) -> None:
        """A SandboxSweep or one of its trials has changed."""
        if self._sweep_queue is not None:
            self._sweep_queue.add(key)

    def _wake_sweep_of(self, key: Key) -> None:
        """A trial has come to a rung."""
        fact = self._cache.experiment(key)
        if fact is not None and fact.trial is not None:
            self._wake_sweep((fact.namespace, fact.trial.sweep))

    def _wake(self, key: Key, seconds: float) -> None:
        """Something about an experiment has changed. When it is not our turn the cache knows, and that is all."""
        if self._queue is not None:
            self._queue.add_after(key, seconds)

    def _keys_of(self, resource: Resource) -> list[Key]:
        informers: list[Informer[Any]] = [i for i in self._cache.informers if i.resource == resource]
        return [key for informer in informers for key in informer.store]

    def _figures(self) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def _push(self) -> Push:
        """Where pods tell how far they are. Those that come while this replica stands by are sent away."""

        def acknowledged(teller: Teller) -> list[int]:
            fact = self._cache.experiment(teller.key)
            trial = fact.status.trial if fact is not None else None
            return [decision.rung for decision in trial.decisions] if trial is not None else []

        return Push(
            TokenVerifier(self.client.get_raw),
            lambda: self._progress.reports if self._progress is not None else None,
            self._cache.teller,
            acknowledged,
            self._cache.running_pods,
            lambda code: self._metrics.progress_reports.labels(code).inc(),
        )

    def _progress_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What is to run while this replica works, so that progress is heard and written."""
        settings, tasks = self._settings, list[Coroutine[Any, Any, None]]()
        if self._progress is not None:
            tasks.append(self._progress.run())
        if settings.progress_service is not None:
            place = Place(*settings.progress_service, settings.pod_ip, settings.progress_port)
            tasks.append(stay_behind(self.client, place))
        return tasks

    async def _serve(self, stack: AsyncExitStack, setting: str, port: int, application: web.Application) -> None:
        if not port:
            return
        try:
            stack.push_async_callback(await serve(self._settings.listen, port, application))
        except OSError as error:
            raise SettingsError(f"SANDBOX_{setting}: {port}: {error}") from error


async def _never() -> None:
    await asyncio.Event().wait()
