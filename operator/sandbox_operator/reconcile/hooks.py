# SPDX-License-Identifier: Apache-2.0
"""Says of each SandboxHook whether jobs can use it, in its own status.

Nothing depends on that status: the planner judges the spec itself. It is for those who write the hook, and for
`kubectl wait --for=condition=Ready sbh/<name>`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Literal

from sandbox_api.hook_resource import HookReason, HookStatus
from sandbox_api.status import Condition

from ..kube.client import Client
from ..kube.errors import NotFound
from ..kube.informer import Key
from ..kube.queue import KeyedQueue
from ..plan.clock import stamp
from .projections import HookFact
from .resources import HOOKS
from .worker import work

log = logging.getLogger(__name__)
MESSAGE_LENGTH = 4096


def hook_status(fact: HookFact, now: datetime) -> HookStatus:
    """The status that a hook should have; a condition's time changes only with its truth."""
    known = {condition.type: condition for condition in fact.status.conditions}
    if fact.hook is not None:
        where = fact.hook.image_reference or f"the operator's image {fact.hook.image!r}"
        reason, message = HookReason.VALID, f"jobs can use it as hook: {fact.name}; it runs on {where}"
    else:
        reason, message = HookReason.INVALID_SPEC, "; ".join(fact.problems)

    def condition(kind: str, truth: Literal["True", "False"]) -> Condition:
        before = known.get(kind)
        return Condition(
            type=kind,
            status=truth,
            observed_generation=fact.generation,
            last_transition_time=before.last_transition_time if before and before.status == truth else stamp(now),
            reason=reason,
            message=message[:MESSAGE_LENGTH],
        )

    ready = condition("Ready", "True" if fact.hook is not None else "False")
    stalled = [] if fact.hook is not None else [condition("Stalled", "True")]
    return HookStatus(observed_generation=fact.generation, conditions=[ready, *stalled])


class HookReconciler:
    """Takes keys of SandboxHooks. `find` gives what the informer knows of one, or None when it has gone."""

    def __init__(
        self,
        client: Client,
        find: Callable[[Key], HookFact | None],
        queue: KeyedQueue[Key],
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._find = find
        self._queue = queue
        self._clock = clock

    async def reconcile(self, key: Key) -> None:
        """Write one hook's status where it is not what it should be."""
        fact = self._find(key)
        if fact is None or (status := hook_status(fact, self._clock())) == fact.status:
            return
        body = {"metadata": {"uid": fact.uid}, "status": status.model_dump(mode="json", exclude_none=True)}
        with suppress(NotFound):  # gone meanwhile
            await self._client.patch(HOOKS, fact.name, body, fact.namespace, subresource="status")
            log.info("%s", status.conditions[0].message)

    async def work(self) -> None:
        """Take keys until the queue is shut down."""
        await work(self._queue, "hook", self.reconcile)
