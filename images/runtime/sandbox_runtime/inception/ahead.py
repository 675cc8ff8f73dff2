# SPDX-License-Identifier: Apache-2.0
"""Work that is done by threads before somebody asks for it, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item, Made = TypeVar("Item"), TypeVar("Made")


def ahead(work: Callable[[Item], Made], items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Made]]:
    """Each item with what `work` makes of it, in their order; at most two a thread are made before they are asked for.

    What `work` raises is raised here.
    """
    coming: deque[tuple[Item, Future[Made]]] = deque()
    pool = ThreadPoolExecutor(threads, "ahead")
    try:
        for item in items:
            coming.append((item, pool.submit(work, item)))
            if len(coming) > 2 * threads:
                ready, future = coming.popleft()
                yield ready, future.result()
        while coming:
            ready, future = coming.popleft()
            yield ready, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
