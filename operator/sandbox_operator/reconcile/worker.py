# SPDX-License-Identifier: Apache-2.0
"""A worker: takes keys from a queue, has them reconciled, gives them back. One key's error is that key's alone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from ..kube.errors import ApiError, Conflict, NotFound
from ..kube.informer import Key
from ..kube.queue import KeyedQueue, QueueClosed
from .act import Refused
from .logs import about

log = logging.getLogger(__name__)


async def work(
    queue: KeyedQueue[Key],
    kind: Literal["experiment", "hook", "sweep"],
    reconcile: Callable[[Key], Awaitable[None]],
) -> None:
    """Take keys of this kind until the queue is shut down."""
    while True:
        try:
            key = await queue.get()
        except QueueClosed:
            return
        with about(**{"namespace": key[0], kind: key[1]}):
            try:
                await reconcile(key)
                queue.forget(key)
            except (Conflict, NotFound, Refused) as error:  # seen something old, or refused: look again, knowing more
                log.info("%s", error)
                queue.retry(key)
            except ApiError as error:
                log.warning("%s", error)
                queue.retry(key)
            except Exception:  # the outermost loop: a mistake of ours in one object must not stop the others
                log.exception("this operator made a mistake; trying again")
                queue.retry(key)
            finally:
                queue.done(key)
